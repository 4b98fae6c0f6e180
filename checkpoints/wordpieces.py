"""Turn the Unigram vocabulary of `convert.py` into BERT's word pieces, so that the book's `BertTokenizer` reads it.

A piece that begins a word (`▁영화`) becomes a word piece as it is (`영화`), any other (`어요`) goes on inside a word
(`##어요`). BERT cuts off every punctuation mark, so a piece that holds one beside other characters is never used, and
goes. A single character that never begins a word gets a second place, with the same vector. Nine words in ten are cut
as before; the others are cut into pieces that the encoder knows as well.
"""

import json
import unicodedata
from typing import Any

from transformers import BertTokenizer

BEGINS_WORD = "▁"
POSITIONS = 300  # tokens, of 512: a longer text is read in windows


def spell(piece: str) -> str:
    """Return a piece in keyboard letters: the large tokenizer turns `ㅋ` into a jamo that begins a syllable."""
    return "".join(KEYBOARD_LETTERS.get(letter, letter) for letter in piece)


def is_punctuation(letter: str) -> bool:
    """Tell whether BERT makes a word of its own of a character."""
    return unicodedata.category(letter).startswith("P") or letter in "$+<=>^`|~"


def make_word_pieces(tokenizer: Any) -> tuple[BertTokenizer, list[int]]:
    """Return the tokenizer of words cut into pieces, and for each of its pieces the row of the large vocabulary."""
    pieces = [piece for piece, _ in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["vocab"]]
    specials = len(tokenizer.all_special_tokens)
    rows = {piece: row for row, piece in enumerate(pieces[:specials])}
    begins, goes_on = {}, {}
    for row, piece in enumerate(pieces[specials:], start=specials):
        word = spell(piece.removeprefix(BEGINS_WORD))
        if word and (len(word) == 1 or not any(is_punctuation(letter) for letter in word)):
            (begins if piece.startswith(BEGINS_WORD) else goes_on)[word] = row
    rows.update({word: row for word, row in begins.items() if not is_punctuation(word[0])})
    for word, row in goes_on.items():
        if not is_punctuation(word[0]):
            rows[f"##{word}"] = row
        if len(word) == 1:  # a mark follows a word without a space, as a rule: so this is its better vector
            rows.setdefault(word, row)
    for word, row in begins.items():
        rows.setdefault(word, row)
    vocabulary = {word: place for place, word in enumerate(rows)}
    return (
        BertTokenizer(vocab=vocabulary, do_lower_case=False, strip_accents=False, model_max_length=POSITIONS),
        list(rows.values()),
    )


KEYBOARD_LETTERS = {
    unicodedata.normalize("NFKC", letter): letter
    for letter in map(chr, range(0x318E, 0x3130, -1))
    if len(unicodedata.normalize("NFKC", letter)) == 1
}
