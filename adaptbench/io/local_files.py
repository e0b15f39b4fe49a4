"""Reads records from the files of a user's data folder.

Only regular files in that folder are read, and not by a library that would unpack them or follow links. Every mistake
in a file is one line with the file and its line or row.
"""

import csv
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from adaptbench.contracts import Record
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import lines, numbered, read_json

Numbered = Iterator[tuple[str, Record]]
"""Pairs of a place (the file and its line, row or record number) and its record."""


def folder_problem(path: str) -> str:
    """Return why a preset's path is no readable folder; empty if it is."""
    # os.path returns False for a name that is too long; Path raises an error.
    if os.path.isdir(path):
        return "" if os.access(path, os.R_OK | os.X_OK) else "cannot be read; ask for the right to"
    if os.path.exists(path):
        return "no such folder but a file; name the folder that it is in"
    if "://" in path:
        return "no such folder; an address is not read, download it into one"
    return "no such folder" + ("; ~ is not expanded here, write it out" if path.startswith("~") else "")


def check(name: str, folder: Path, files: Sequence[Path]) -> None:
    """Check that files of the folder in data.<name>.path may be read.

    Raises:
        AdaptbenchError: a file is no regular file, is outside of the folder, or is compressed.
    """
    places = _places(folder)
    for file in files:
        if problem := _problem(file.resolve(), places):
            raise AdaptbenchError(f"data.{name}.path: {file}: {problem}")


def records(name: str, file: Path) -> Numbered:
    """Yield the records of a file of the folder in data.<name>.path; the suffix, one of READERS, gives the format.

    Raises:
        AdaptbenchError: it has another format, or no records.
    """
    key = f"data.{name}.path"
    empty = True
    try:
        for where, record in READERS[file.suffix](file):
            empty = False
            yield f"{key}: {where}", record
    except AdaptbenchError as error:
        raise AdaptbenchError(f"{key}: {error}") from None
    if empty:
        raise AdaptbenchError(f"{key}: {file}: holds no records")


def _problem(file: Path, places: Sequence[Path]) -> str:
    """Return why a file with its links resolved may not be read; empty if it may."""
    from datasets.utils.extract import Extractor  # recognises compressed files by their first bytes

    if not any(file.is_relative_to(place) for place in places):
        return f"a link to {file}, which is outside of the folder; copy it there"
    if not file.is_file():
        return "no plain file; leave it out of the folder"
    if packed := Extractor.infer_extractor_format(file):
        return f"packed ({packed}), and nothing is unpacked here; unpack it first"
    return ""


def _places(folder: Path) -> list[Path]:
    """Return the folders that files may be in: the folder itself, and the blobs of a snapshot in the hub's cache."""
    whole = folder.resolve()
    parents = [whole, *whole.parents]
    repositories = [
        one.parent for one in parents if one.name == "snapshots" and one.parent.name.startswith("datasets--")
    ]
    return [whole, *(repository / "blobs" for repository in repositories)]


def _json(path: Path) -> Numbered:
    """Yield the objects of a JSON list, or of JSON lines if the file does not begin with a list."""
    first = next((line.strip() for _, line in lines(path) if line.strip()), "")
    if not first.startswith("["):
        yield from numbered(path)
        return
    for number, record in enumerate(read_json(path), 1):
        if not isinstance(record, dict):
            raise AdaptbenchError(f"{path}: record {number}: must be a JSON object")
        yield f"{path}: record {number}", record


def _text(path: Path) -> Numbered:
    """Yield each non-blank line as a record's `text`."""
    for number, line in lines(path):
        if line.strip():
            yield f"{path}:{number}", {"text": line}


def _csv(path: Path) -> Numbered:
    """Yield the rows under the file's headings, with every field as text."""
    reader = csv.reader((f"{line}\n" for _, line in lines(path)), strict=True)
    headings: list[str] = []
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not row:
                continue
            if not headings:
                headings = row
                if len(set(headings)) < len(headings):
                    raise AdaptbenchError(f"{where}: a heading twice")
            elif len(row) != len(headings):
                raise AdaptbenchError(f"{where}: {len(row)} fields under {len(headings)} headings")
            else:
                yield where, dict(zip(headings, row, strict=True))
    except csv.Error as error:
        raise AdaptbenchError(f"{path}:{reader.line_num}: not CSV: {error}") from None


def _parquet(path: Path) -> Numbered:
    """Yield the rows of a Parquet file."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    number = 0
    try:
        with ParquetFile(path) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise AdaptbenchError(f"{path}: a column twice")
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", record
    except (ArrowException, ArithmeticError, LookupError, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]  # also a date that Python cannot represent, or an unknown time zone
        raise AdaptbenchError(f"{path}: no Parquet file, or a damaged one: {said}") from None


READERS: Mapping[str, Callable[[Path], Numbered]] = {
    ".jsonl": numbered,
    ".json": _json,
    ".parquet": _parquet,
    ".csv": _csv,
    ".txt": _text,
}
