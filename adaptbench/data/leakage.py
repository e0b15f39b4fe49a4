"""Checks that documents used for training are not among those used for testing."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256

from adaptbench.contracts import Record
from adaptbench.errors import AdaptbenchError

# A hyphen or a dash is a minus before a number or a name of one letter, and punctuation elsewhere.
_MINUS = re.compile(r"[-\u2010-\u2013](?=[\s(\[{]*(?:\d|[a-z\u03b1-\u03c9]\b))")


_SIGNS = frozenset("#%&*/@\\\u00a7\u00b7\u2020\u2021\u2030\u2032\u2033\u066a")  # Unicode counts them as punctuation


class _Kept(dict[int, str | None]):
    """Maps characters: letters, marks and numbers stay, symbols and brackets become words, other punctuation spaces."""

    def __missing__(self, code: int) -> str | None:
        sign = chr(code)
        kind = unicodedata.category(sign)
        if kind[0] == "S" or kind in ("Ps", "Pe") or unicodedata.normalize("NFKC", sign) in _SIGNS:
            kept: str | None = f" {sign} "
        elif kind[0] in "LMN" or kind in ("Pc", "Cs", "Co", "Cn"):
            kept = sign
        else:
            kept = None if kind == "Cf" else " "  # joiners and soft hyphens are in words
        self[code] = kept
        return kept


_KEPT = _Kept()


def normalise(text: str) -> str:
    """Return the words, numbers, symbols and brackets of a text, without its case, spacing and other punctuation.

    Composed and decomposed characters are equal. Of a text without any of these only the spacing is normalised.
    """
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(_MINUS.sub("\u2212", composed).translate(_KEPT).split()) or " ".join(text.split())


def full_text(record: Record) -> str:
    """Return a record's text, or its prompt with the right answer."""
    if "text" in record:
        return str(record["text"])
    answer = record["choices"][record["gold"]] if "choices" in record else record["target"]
    return f"{record['prompt']} {answer}"


def document_hash(text: str) -> str:
    """Return 16 hexadecimal digits of the text's SHA-256."""
    return sha256(text.encode()).hexdigest()[:16]


def check_disjoint(trained: Mapping[str, Iterable[Record]], tested: Mapping[str, Iterable[Record]]) -> None:
    """Check that no test document is a training document or the beginning of one, by normalised text, word by word.

    Raises:
        AdaptbenchError: names the two splits and the document.
    """
    tests: dict[str, tuple[str, str]] = {}
    for split, records in tested.items():
        for record in records:
            tests.setdefault(normalise(full_text(record)), (split, full_text(record)))
    lengths = sorted({len(text) for text in tests})
    for split, records in trained.items():
        for record in records:
            for text in _beginnings(record, lengths):
                if text in tests:
                    owner, shared = tests[text]
                    raise AdaptbenchError(f"{owner} and {split} share a document: {shared[:100]!r}")


def without_tested(trained: Iterable[Record], tested: Iterable[Record]) -> list[Record]:
    """Return `trained` without the documents that equal or begin with a tested one."""
    tests = {normalise(full_text(record)) for record in tested}
    lengths = sorted({len(text) for text in tests})
    return [record for record in trained if tests.isdisjoint(_beginnings(record, lengths))]


def _beginnings(record: Record, lengths: Sequence[int]) -> Iterator[str]:
    """Yield the normalised document and its beginnings of these rising lengths, if they end with a word."""
    text = normalise(full_text(record)) + " "
    return (text[:end] for end in lengths[: bisect_left(lengths, len(text))] if text[end] == " ")
