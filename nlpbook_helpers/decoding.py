"""In which encoding is a file written, or is it no text at all? What is likely is said, and not assumed."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nlpbook_helpers.values import CorpusError

SAMPLE_BYTES = 2**16  # of a file's beginning, to see what it is
WORKBOOK = "a workbook, expected text: save it as 'CSV UTF-8' in Excel (an archive: unpack it)"
PACKED, NO_TABLE = "an archive, expected text: unpack it", "no table, expected text: save it as 'CSV UTF-8'"
BINARY = (b"\x80\4", b"\x80\5", b"\x93numpy", b"\x89hdf", b"$fl2", b"fea1", b"arrow1", b"obj\1", b"orc")
USUAL = re.compile("[ㄱ-ㅣ가-힣]")
NO_TEXT = {  # how files begin that are none, in lower case, and the way out
    b"pk\3\4": WORKBOOK,
    b"\xd0\xcf\x11\xe0": WORKBOOK,
    b"<stata": NO_TABLE,
    b"<": "a web page or XML, expected text: save it as 'CSV UTF-8', or download it again",
    b"par1": "a Parquet file, expected text: end its name with .parquet, and unpack it if it is packed",
    b"version https://git-lfs": "a pointer of Git LFS, expected text: fetch the file with git lfs pull",
    **dict.fromkeys((b"bzh", b"\xfd7zxz", b"7z\xbc\xaf", b"rar!", b"(\xb5/\xfd"), PACKED),
    **dict.fromkeys((b"%pdf", b"{\\rtf", b"\x89png", b"sqlite format", *BINARY), NO_TABLE),
}


def decode(path: Path, file: io.BufferedReader, encoding: str) -> Iterator[str]:
    """Yield lines; refuse a file that is no text or surely in another encoding. What is likely is said, not assumed."""
    if not (sample := file.peek(SAMPLE_BYTES)):
        raise CorpusError(f"{path} is empty: write it again; if it was downloaded, delete it, and it is fetched anew")
    begin = sample.lstrip(codecs.BOM_UTF8 + b" \r\n\t").lower()
    if found := next((what for mark, what in NO_TEXT.items() if begin.startswith(mark)), None):
        raise CorpusError(f"{path} is {found}")
    try:
        "a".encode(encoding)  # also knows which codecs are none of texts
        name = codecs.lookup(encoding).name
    except (LookupError, ValueError, TypeError):
        raise CorpusError(f"encoding: expected a name like 'utf-8' or 'cp949', got {encoding!r}") from None
    # what is called EUC-KR is Windows' superset of it, to browsers too (https://encoding.spec.whatwg.org)
    name, likely = {"utf-8": "utf-8-sig", "euc_kr": "cp949"}.get(name, name), guess_encoding(sample)
    fits = likely and _decode_sample(sample, name) == _decode_sample(sample, likely)
    # UTF can be told from others; what else a reader names is believed, since many encodings take any byte
    if not fits and (name == "utf-8-sig" or str(likely).startswith("utf")):
        found = f"it looks like {likely}: encoding={likely!r} (--encoding {likely})" if likely else "encoding=…"
        raise CorpusError(f"{path} is not in the encoding {encoding!r}; {found} names its own, or save it as UTF-8")
    yield from io.TextIOWrapper(file, name, errors="surrogateescape", newline="")


def guess_encoding(sample: bytes) -> str | None:
    """Return the encoding that bytes are most likely in; None if it is none that Korean files usually have."""
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-32" if sample.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    for name, first, second in (("utf-32-be", 0, 1), ("utf-32-le", 3, 2)):  # which of four bytes are 0 there
        if any(sample) and not any(sample[first::4]) and sample[second::4].count(0) > len(sample) / 8:
            return name
    text, zeros = _decode_sample(sample, "utf-8"), sample.count(0) / max(1, len(sample))
    is_utf8 = 2 * text.count("\ufffd") <= sum(not char.isascii() for char in text)  # single bad bytes are a row's fault
    if zeros > (0.3 if is_utf8 else 0.02):
        likely = "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    else:  # or Korean in 7 bits, as in old mails
        likely = "iso2022_kr" if b"\x1b$" in sample else "utf-8" if is_utf8 else "cp949"
        # bytes of one of these are often some of another too, but rare syllables and signs there
        rivals = ("utf-8", "utf-7") if sample.isascii() and b"+" in sample else ("cp949", "johab")
        if likely in rivals:
            likely = max(rivals, key=lambda name: _count_usual(_decode_sample(sample, name)))
    # a character of value 0 stands in what is no text, such as an archive
    return None if likely != "utf-8" and {"\ufffd", "\0"} & {*_decode_sample(sample, likely)} else likely


def _count_usual(text: str) -> float:
    """Return the share of letters and the 2,350 usual syllables of Korean (KS X 1001) in what is no ASCII."""
    others = "".join(char for char in text if not char.isascii())
    return len(USUAL.findall(others.encode("euc_kr", "ignore").decode("euc_kr"))) / max(5, len(others))


def _decode_sample(sample: bytes, encoding: str) -> str:
    decoder = codecs.getincrementaldecoder(encoding)("replace")  # leaves out a character that is cut at the end
    with suppress(UnicodeError):  # UTF-16 and UTF-32 begin with a mark
        return decoder.decode(sample).lstrip("\ufeff")
    return ""
