"""Reads and writes JSON and JSON lines.

JSON is read more strictly than by Python's parser. Input that Python accepts silently, or that would fail only when it
is written again, is an error with its file and line.
"""

import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench.contracts import Record
from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text

_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)|\\.", re.DOTALL)
"""JSON's escapes. The group is a lone surrogate: one of the two halves of a character beyond U+FFFF."""


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, atomically."""
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def read_jsonl(path: Path, *, require: Sequence[str] = ()) -> list[Record]:
    """Read the records of a file of JSON lines.

    Raises:
        AdaptbenchError: no such file, no records in it, or a line that is no JSON object with the fields `require` as
            text.
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
    """Yield the records of a file of JSON lines, each with its place, `file:line`.

    A byte order mark and blank lines are skipped.

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
    """Yield the lines of a text file without line breaks, numbered from 1. A byte order mark is dropped.

    Raises:
        AdaptbenchError: no such file, or a line that is not UTF-8 text.
    """
    with plain(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            yield number, _decoded(path, line, number).rstrip("\r\n")


def plain(path: Path) -> Path:
    """Return the path if it is a regular file.

    Raises:
        AdaptbenchError: there is no such file, or it is a folder, a pipe or a device.
    """
    if path.is_file():
        return path
    raise AdaptbenchError(f"{path}: {'no plain file' if path.exists() else 'no such file'}")


def read_json(path: Path, *, strict: bool = True) -> Any:
    """Read a JSON file.

    If not `strict`, whatever Python's parser accepts is accepted: duplicate keys, NaN, lone surrogates.

    Raises:
        AdaptbenchError: no such file, or not JSON.
    """
    return _parsed(path, _decoded(path, plain(path).read_bytes(), 1), 1, strict=strict)


def check_text(where: str, key: str, value: Any) -> str:
    """Return a record's field as text.

    Raises:
        AdaptbenchError: it is no text, or blank; the message begins with `where`.
    """
    if not isinstance(value, str):
        raise AdaptbenchError(
            f"{where}: field {key!r} must be text, not {'null' if value is None else repr(value)[:40]}"
        )
    if not value.strip():
        raise AdaptbenchError(f"{where}: field {key!r} is empty")
    return value


def _decoded(path: Path, content: bytes, number: int) -> str:
    """Decode UTF-8 text that begins in the line `number` of the file."""
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
    """An error for a value that Python's parser would accept."""


def _parsed(path: Path, text: str, first: int, *, strict: bool = True) -> Any:
    """Parse JSON text that begins in the line `first` of the file."""

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
