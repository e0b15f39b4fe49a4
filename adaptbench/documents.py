"""Documents as JSON lines, and the check that what is trained on is not what is tested on."""

import json
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from adaptbench.contracts import AdaptbenchError, Record
from adaptbench.files import write_text


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_jsonl(path: Path, *, require: Sequence[str] = ()) -> list[Record]:
    """The records of a file.

    Raises:
        AdaptbenchError: no such file, or a line that is not a JSON object with the required fields as text.
    """
    records = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    records.append(_record(path, number, line, require))
    except (FileNotFoundError, NotADirectoryError):
        raise AdaptbenchError(f"{path}: no such file") from None
    return records


def read_json(path: Path) -> Any:
    """What a file holds.

    Raises:
        AdaptbenchError: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError):
        raise AdaptbenchError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise AdaptbenchError(f"{path}: not UTF-8 text (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise AdaptbenchError(f"{path}:{error.lineno}: not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise AdaptbenchError(f"{path}: not JSON: nested too deeply") from None


def _record(path: Path, number: int, line: bytes, require: Sequence[str]) -> Record:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise AdaptbenchError(f"{path}:{number}: not UTF-8 text (byte {error.start + 1} of the line)") from None
    except json.JSONDecodeError as error:
        raise AdaptbenchError(f"{path}:{number}: not JSON: {error.msg} (column {error.colno})") from None
    if not isinstance(record, dict):
        raise AdaptbenchError(f"{path}:{number}: must be a JSON object")
    for key in require:
        if not isinstance(record.get(key), str):
            raise AdaptbenchError(f"{path}:{number}: field {key!r} must be text")
    return record


# A hyphen or a dash is a minus before a number or a name of one letter, and punctuation elsewhere.
_MINUS = re.compile(r"[-\u2010-\u2013](?=[\s(\[{]*(?:\d|[a-z\u03b1-\u03c9]\b))")
_SIGNS = frozenset("#%&*/@\\\u00a7\u00b7\u2020\u2021\u2030\u2032\u2033\u066a")  # Unicode counts them as punctuation


class _Kept(dict[int, str | None]):
    """What becomes of each character: letters, marks and numbers stay, symbols and brackets are words, other punctuation is space."""

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
    """Return the words, numbers, symbols and brackets of a text: what two copies share whatever their case, spacing and punctuation.

    Composed and decomposed characters are the same. A text without any of these stays as it is, but for spacing.
    """
    composed = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(_MINUS.sub("\u2212", composed).translate(_KEPT).split()) or " ".join(text.split())


def full_text(record: Record) -> str:
    """What a record says: its text, or its prompt with the right answer."""
    if "text" in record:
        return str(record["text"])
    answer = record["choices"][record["gold"]] if "choices" in record else record["target"]
    return f"{record['prompt']} {answer}"


def document_hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def check_disjoint(trained: Mapping[str, Iterable[Record]], tested: Mapping[str, Iterable[Record]]) -> None:
    """No test document is a training document or the beginning of one, by normalised text, word by word.

    Raises:
        AdaptbenchError: names the two splits and the document.
    """
    asked: dict[str, tuple[str, str]] = {}
    for split, records in tested.items():
        for record in records:
            asked.setdefault(normalise(full_text(record)), (split, full_text(record)))
    lengths = sorted({len(text) for text in asked})
    for split, records in trained.items():
        for record in records:
            for text in _beginnings(record, lengths):
                if text in asked:
                    owner, shared = asked[text]
                    raise AdaptbenchError(f"{owner} and {split} share a document: {shared[:100]!r}")


def without_tested(trained: Iterable[Record], tested: Iterable[Record]) -> list[Record]:
    """`trained` without the documents that are a tested one or begin with it."""
    asked = {normalise(full_text(record)) for record in tested}
    lengths = sorted({len(text) for text in asked})
    return [record for record in trained if asked.isdisjoint(_beginnings(record, lengths))]


def _beginnings(record: Record, lengths: Sequence[int]) -> Iterator[str]:
    """What a document begins with, up to its whole, as normalised text of these rising lengths that ends with a word."""
    text = normalise(full_text(record)) + " "
    return (text[:end] for end in lengths[: bisect_left(lengths, len(text))] if text[end] == " ")
