"""Documents as JSON lines, and the check that what is trained on is not what is tested on.

JSON from elsewhere is read more strictly than Python's reader does it: what it would take silently and what would fail only later, when
it is written again, is an error with its file and line.
"""

import codecs
import json
import math
import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from adaptbench.contracts import AdaptbenchError, Record
from adaptbench.files import write_text

_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\.", re.DOTALL)
"""JSON's escapes; the group is half a character, one of the two that together are a character beyond U+FFFF."""


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_jsonl(path: Path, *, require: Sequence[str] = ()) -> list[Record]:
    """Read the records of a file.

    Raises:
        AdaptbenchError: no such file, no records in it, or a line that is not a JSON object with the required fields as text.
    """
    records = []
    for where, record in numbered(path):
        for key in require:
            if key not in record:
                raise AdaptbenchError(f"{where}: no field {key!r}; there are {', '.join(record) or 'none'}")
            check_text(where, key, record[key])
        records.append(record)
    if not records:
        raise AdaptbenchError(f"{path}: holds no records")
    return records


def numbered(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the records of a file of JSON lines, each with its place, `file:line`. A byte order mark and blank lines are passed over.

    Raises:
        AdaptbenchError: no such file, or a line that is not a JSON object.
    """
    for number, line in lines(path):
        if not line.strip():
            continue
        record = _parsed(path, line, number)
        if not isinstance(record, dict):
            raise AdaptbenchError(f"{path}:{number}: must be a JSON object")
        yield f"{path}:{number}", record


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file without their ends, with their numbers from 1. A byte order mark is dropped.

    Raises:
        AdaptbenchError: no such file, or a line that is not UTF-8 text.
    """
    with plain(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, _decoded(path, line, number).rstrip("\r\n")


def plain(path: Path) -> Path:
    """Return the path, where it is a file that can be read to its end.

    Raises:
        AdaptbenchError: there is none, or it is a folder, a pipe or a device.
    """
    if path.is_file():
        return path
    raise AdaptbenchError(f"{path}: {'no plain file' if path.exists() else 'no such file'}")


def read_json(path: Path, *, strict: bool = True) -> Any:
    """Read a file's JSON. If not `strict`, what Python's reader takes beyond JSON is taken: keys twice, NaN, half a character.

    Raises:
        AdaptbenchError: no such file, or not JSON.
    """
    return _parsed(path, _decoded(path, plain(path).read_bytes(), 1), 1, strict=strict)


def check_text(where: str, key: str, value: Any) -> str:
    """Return a record's field as text.

    Raises:
        AdaptbenchError: it is not text, or blank, with `where` it is.
    """
    if not isinstance(value, str):
        raise AdaptbenchError(
            f"{where}: field {key!r} must be text, not {'null' if value is None else repr(value)[:40]}"
        )
    if not value.strip():
        raise AdaptbenchError(f"{where}: field {key!r} is empty")
    return value


def _decoded(path: Path, content: bytes, number: int) -> str:
    """Return text that begins in the line `number` of the file."""
    if number == 1 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise AdaptbenchError(f"{path}: UTF-16 text; save it as UTF-8")
    if (nul := content.find(0)) >= 0:
        line = number + content.count(b"\n", 0, nul)
        raise AdaptbenchError(f"{path}:{line}: holds a NUL character; no text file, or not UTF-8")
    try:
        return content.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        number += before.count(b"\n")
        byte = error.start - before.rfind(b"\n")
        raise AdaptbenchError(f"{path}:{number}: not UTF-8 text (byte {byte} of the line)") from None


class _Refused(ValueError):
    """A value that Python's reader would take."""


def _parsed(path: Path, text: str, first: int, *, strict: bool = True) -> Any:
    """Return the JSON in a text that begins in the line `first` of the file."""

    def at(place: int) -> str:
        return f"{path}:{first + text.count(chr(10), 0, place)}"

    where = path if "\n" in text else at(0)
    refusing: Mapping[str, Any] = (
        {"parse_constant": _no_constant, "parse_float": _finite, "object_pairs_hook": _unique} if strict else {}
    )
    try:
        value = json.loads(text, **refusing)
    except json.JSONDecodeError as error:
        raise AdaptbenchError(f"{at(error.pos)}: not JSON: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise AdaptbenchError(f"{where}: not JSON: nested too deeply") from None
    except _Refused as error:
        raise AdaptbenchError(f"{where}: not JSON: {error}") from None
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        digits = re.search(r"\d{4300}", text)
        raise AdaptbenchError(f"{at(digits.start() if digits else 0)}: holds a number of too many digits") from None
    half = next((escape.start() for escape in _ESCAPE.finditer(text) if escape[1]), None) if strict else None
    if half is not None:
        raise AdaptbenchError(f"{at(half)}: holds half a character (a lone surrogate), which no text can")
    return value


def _no_constant(name: str) -> Any:
    raise _Refused(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused(f"{digits:.40} is too large a number")
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> Record:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Refused(f"key {next(key for key in keys if keys.count(key) > 1)!r} twice in one object")
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
