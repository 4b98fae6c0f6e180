"""What do columns and values of a file say? Texts, labels, nothing; and are these labels classes?"""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from itertools import chain, product
from typing import Any

logger = logging.getLogger(__name__)

# Number of texts → what their columns are usually called.
USUAL_COLUMNS: dict[int, list[tuple[str, ...]]] = {
    1: [*zip(["document", "sentence", "text", "review", "comment", "문장", "내용", "리뷰", "댓글", "제목"])],
    2: [("premise", "hypothesis"), ("sentence1", "sentence2"), ("text_a", "text_b"), ("전제", "가설")],
}
FIRST = (
    "; a table's first line has to name its columns, with a comma, a semicolon, a tab or a bar between them: "
    "add that line, or delete what stands above it"
)
SPACED = ": delete the spaces before quote marks, which are part of the text there"
QUOTED = ": these quotes enclose texts: read the file with quoting=True (without --no-quoting)"
MAX_INFERRED_LABELS = 1_000  # a column with more different values holds texts or numbers, not labels
# As programs write that there is none, or a worksheet that it has failed.
MISSING_LABEL = re.compile(
    r"|-?nan|nat|[<(]?(?:null|none|n/?a)[>)]?|\(blank\)|undefined|nil|missing|n\.a\.|[-._?]{2,}|\\n|#n/?a|#[a-z0/]+[!?]",
    re.I,
)
PLAIN_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d{0,17})(?:\.\d{0,18})?(?:e[+-]?\d\d?|E[+-]\d\d?)?")  # 007, 1E1 are codes
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
DECIMAL = re.compile(r"(?<=\d),(?=\d\d$)")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
UNHEARD = re.compile(r"^0+(?=\d)|[\s_,'\"‘’“”]|(?<=[^\W\d])[-.]")  # of a label that is read aloud
DATE = re.compile(r"\d{4}([-./])\d\d?\1\d\d?\b.*|(-?\d+ days?, )?\d\d?:\d\d(:\d\d)?(\.\d+)?")
AMOUNT = re.compile(r"([+-]?\d[\d.,]*)\s*([^\W\d_]{1,4})")  # with its unit
SIGN = re.compile("[-.?–—]")
NUMBERED = re.compile(r"[^\W\d_]{,5}[-_]?\d+")  # as rows are
GARBLED = "garbled (Korean that was read in another encoding and saved so: write the file again)"
NO_VALUE = "words for a missing value (nan, NULL …)"
CODED = "written in HTML's codes (&quot; …)"
UNKNOWN = "mostly unknown to the tokenizer"
HTML_CODE = re.compile(r"&(?:[lg]t|amp|quot|nbsp|apos|#\d{2,5});")
LONE_JOINER = re.compile(r"(?<=[\w\s])\u200d|\u200d(?=[\w\s]|$)")  # which joins no symbols
HANGUL = re.compile("[가-힣]")
LOST = re.compile(r"\?{2,}\s+\?{2,}")  # words of which a database's connection has left the lengths
MULTI_HOT = re.compile(r"[01]([\s,;|]+[01])+")
SEPARATOR = re.compile(r"\s*[|;,/+&·ㆍ・、_]\s*")
MULTI_LABEL = (
    "several labels a text are multi-label classification (transformers' problem_type). Leave one a row, or "
    "give labels=[…] (--labels) where it is the name of one class"
)
# Letters and marks by name, but nothing to see: Hangul fillers, an empty Braille cell, joiners, variation selectors.
UNSEEN = {*"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0", *map(chr, range(0xFE00, 0xFE10))}


class CorpusError(ValueError):
    """A corpus file is missing, empty or malformed; the message names file and line."""


class MissingColumnsError(CorpusError):
    """A file lacks a column that was asked for; `columns` are its own, `asked` all that were, a label's the last."""

    def __init__(self, place: str, missing: Sequence[str], columns: Sequence[str], asked: Sequence[str] = ()) -> None:
        usual, others = set(chain(*chain(*USUAL_COLUMNS.values()))), [name for name in columns if name not in asked]
        texts = [name for name in others if name.lower() in usual]
        has_texts = len(asked) > 1 and [*missing] == [asked[-1]]
        is_header = has_texts or usual & {*map(str.lower, columns)}
        likely = (not has_texts and texts) or others
        remedy = f"name those to read, perhaps {likely}" if likely else "add it, or name another"
        remedy += "" if is_header else FIRST
        super().__init__(f"{place}: expected columns {missing}, found {columns}: {remedy}")
        self.columns = list(columns)


def normalize_text(text: str) -> str:
    """Compose what macOS writes in pieces (NFC): to a tokenizer, a syllable in pieces is unknown."""
    return unicodedata.normalize("NFC", text)


def is_blank(text: str) -> bool:
    """Say whether there is nothing to see: white space, control and zero-width characters and fillers only."""
    return all(char in UNSEEN or unicodedata.category(char) in ("Cc", "Cf", "Zs", "Zl", "Zp") for char in text)


def is_garbled(text: str) -> bool:
    """Say whether Korean was read in another encoding before: "Á¤¸»" was "정말", and � or ?? ?? is lost."""
    if not text.isascii() and not HANGUL.search(text):
        for read_as, meant in product(("latin-1", "cp1252"), ("utf-8", "cp949")):
            with suppress(UnicodeError):
                if 4 * len(HANGUL.findall(text.encode(read_as).decode(meant))) > len("".join(text.split())):
                    return True
    return "\ufffd" in text or LOST.search(text) is not None


def find_doubt(texts: Sequence[str], is_unknown: bool = False) -> str:
    """Say what stands where somebody's words should; "" if nothing is odd."""
    if any(text.strip() and MISSING_LABEL.fullmatch(text.strip()) for text in texts):
        return NO_VALUE
    kinds = {GARBLED: any(map(is_garbled, texts)), CODED: any(map(HTML_CODE.search, texts)), UNKNOWN: is_unknown}
    return next((kind for kind, is_so in kinds.items() if is_so), "")


def normalize_label(value: Any) -> str:
    """Return a label as it is compared: without what cannot be seen, in one Unicode form, 1.0 as 1; "" for none."""
    return _normalize_label(_read_label(value))


def show_label(value: Any) -> str:
    """Return a label as it is shown and compared with the file's own: as it was written, less stray white space."""
    text = _read_label(value)
    shown = _clean("".join(map(_narrow, normalize_text(text))), kept="\ufe0f")
    return _normalize_label(text) if NUMBER.fullmatch(shown.replace("\N{MINUS SIGN}", "-")) else shown


def _read_label(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1:  # so annotation tools write one label
        (value,) = value
    if isinstance(value, list | dict):
        remedy = MULTI_LABEL if isinstance(value, list) else "write the label itself"
        raise CorpusError(f"expected one label, got {value!r}: {remedy}")
    with suppress(UnicodeError):
        text = "" if value is None else value.decode() if isinstance(value, bytes) else str(value)
        text.encode()
        return text
    got = f"bytes that are not in the file's encoding, {ascii(value)}"
    raise CorpusError(f"expected a label, got {got}: save the whole file as UTF-8, or name its encoding (encoding=…)")


@lru_cache(maxsize=MAX_INFERRED_LABELS)  # there are few labels and many rows
def _normalize_label(text: str) -> str:
    # NFKC: a label may be typed in full width, a text's form is a matter of its tokenizer
    label = _clean(unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-"))
    if PLAIN_NUMBER.fullmatch(label) and (number := Decimal(label)) == int(number):
        return str(int(number))
    return label


def _narrow(char: str) -> str:
    """Return a letter in the width of a keyboard's other mode; ㄱ and ① stay what they are."""
    is_wide = unicodedata.decomposition(char).startswith(("<wide>", "<narrow>"))
    return unicodedata.normalize("NFKC", char) if is_wide else char


def _clean(text: str, kept: str = "") -> str:
    """Drop what cannot be seen, but for joiners between symbols, and white space that says nothing."""
    kept += "\u200d"
    seen = "".join(char for char in text if char.isspace() or char in kept or not is_blank(char))
    return LONE_JOINER.sub("", " ".join(seen.split()))


def check_that_classes(place: str, counts: Counter[str]) -> None:
    """Refuse what is no class: values to be estimated, several labels in one, texts."""
    if counts and all(label[0] == label[-1] and label[0] in "\"'" and len(label) > 1 for label in counts):
        remedy = "delete the marks, or the spaces before them"
        raise CorpusError(f"{place}: expected labels, got {[*counts][:3]} in quote marks: {remedy}")
    amounts = {label: found for label in counts if (found := AMOUNT.fullmatch(label))}
    has_unit = len(amounts) == len(counts) and len({found[2] for found in amounts.values()}) == 1  # 0.5kg, 26kg
    bare = {label: amounts[label][1] if has_unit else label for label in counts}
    plain = {label: DECIMAL.sub(".", THOUSANDS.sub("", text)).strip("%$€₩ ") for label, text in bare.items()}
    dates = [label for label in counts if DATE.fullmatch(label)]
    numbers = dates + [label for label in counts if NUMBER.fullmatch(plain[label])]
    fractions = dates + [label for label in numbers[len(dates) :] if not float(plain[label]).is_integer()]
    is_rare = 10 < len(counts) > counts.total() / 5
    # so many different numbers are amounts, unless each stands in several rows
    if len(numbers) > 0.9 * len(counts) and (fractions or is_rare):
        kind, some = "dates" if dates else "numbers", (fractions or numbers)[:3]
        got = f"got {len(counts):,} {kind} such as {some}: to estimate them is regression"
        raise CorpusError(
            f"{place}: expected a few classes, {got} (transformers' problem_type); round them, or give labels=[…]"
        )
    if not 2 <= len(counts) <= MAX_INFERRED_LABELS or is_rare and len(counts) > counts.total() / 2:
        got = "more" if len(counts) > MAX_INFERRED_LABELS else f"{len(counts):,}"
        expected = f"expected 2 to {MAX_INFERRED_LABELS:,} different labels, in several rows each, got {got}"
        raise CorpusError(f"{place}: {expected}: choose another label_column, or give labels=[…]")
    if len(numbers) > max(10, 0.9 * len(counts)):
        remedy = "where they are amounts, to estimate them is regression: round them, or choose another label_column"
        logger.warning("%s: %s numbers are classes of their own; %s", place, f"{len(counts):,}", remedy)
    signs = {label: HTML_CODE.sub("", plain[label]) for label in counts}  # HTML's codes separate nothing
    parts = {label: [*filter(None, SEPARATOR.split(signs[label].strip("[](){}")))] for label in counts}
    holders = Counter(part for found in parts.values() for part in set(found))
    is_multi_hot = all(map(MULTI_HOT.fullmatch, counts))
    names = {label.strip("# ") for label in counts}
    for label, found in parts.items():
        is_list = (
            label[0] + label[-1] in ("[]", "{}") or len(found) > 1 and ("|" in signs[label] or ";" in signs[label])
        )
        # a slash, a comma or a space may be part of a name ("IT/과학"), unless its parts are labels themselves
        is_joined = len(found) > 1 and all(holders[part] > 1 for part in found)
        if all(map(str.isdecimal, found)):  # "5/5" is a rating, unless 5 is a class too
            is_joined = len(found) > 1 and counts.keys() >= set(found)
        words = [*filter(None, re.split(r"[\s#]+", label))]
        if is_multi_hot or is_list or is_joined or len(words) > 1 and names >= set(words):
            raise CorpusError(f"{place}: expected one label a row, got {label!r}: {MULTI_LABEL}")


def warn_of_odd(place: str, counts: Counter[str]) -> None:
    """List labels that nearly nothing has, such as a sum below a table, and those that may be meant to be one.

    Alike are labels that differ in letter case, leading zeros or punctuation alone, and `true` and 1 of JSON.
    """
    if rare := {label: count for label, count in counts.items() if count < 3 and counts.total() >= 10 * len(counts)}:
        remedy = "correct or delete those that are mistakes, no class can be learned from so few"
        logger.warning("%s: labels that stand in one or two rows only: %s; %s", place, rare, remedy)
    if signs := {label: count for label, count in counts.items() if SIGN.fullmatch(label)}:
        remedy = "where that means that there is none, delete those rows, or give labels=[…] and skip_bad_rows"
        logger.warning("%s: signs are classes of their own: %s; %s", place, signs, remedy)
    amounts = {label: found[1] for label in counts if (found := AMOUNT.fullmatch(label))}  # 5점 and 5
    folded = {label: UNHEARD.sub("", amounts.get(label, label).casefold()) or label for label in counts}
    folded = {label: {"true": "1", "false": "0"}.get(heard, heard) for label, heard in folded.items()}
    times = Counter(folded.values())
    if alike := {label: count for label, count in counts.items() if times[folded[label]] > 1}:
        logger.warning(
            "%s: labels that look alike are classes of their own: %s; merge them if they are one", place, alike
        )


def sort_numbers_first(label: str) -> tuple[bool, float, str]:
    """Sort -1 before 0, "2" before "10", and numbers before words."""
    return (False, float(label), label) if NUMBER.fullmatch(label) else (True, 0.0, label)


def get_short_names(label_name: str) -> tuple[str, str]:
    """Split "긍정 (positive)" into ("긍정", "positive"); a name without English in brackets is both."""
    found = re.fullmatch(r"(.*?) \(([\x00-\x7f]*)\)", label_name)
    return (found[1], found[2]) if found else (label_name, label_name)
