"""Reads plain text of the hub or of a folder as a stream, mixes it and sets tests apart, for benchmarks.

A corpus may be larger than the disk: only those shards of the hub are fetched that hold the wanted documents. Documents
without text are skipped there, as nobody here can remove them. In a folder one is an error, with its file and line.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.data.leakage import normalise, without_tested
from adaptbench.errors import AdaptbenchError
from adaptbench.io import hub, local_files
from adaptbench.io.jsonl import check_text

SUFFIXES = (".jsonl", ".parquet", ".txt")
READS = tuple(f"*{suffix}" for suffix in SUFFIXES)
"""Patterns of the files of a folder that are read."""
TEST_CHARACTERS = 4000  # longest test document: most models read that much at once


class CorpusConfig(BenchmarkConfig):
    """The source of a corpus's documents."""

    subset: str | None = Field(None, min_length=1, description="of the data set on the hub (its configuration)")
    split: str = Field("train", min_length=1, description="of the data set on the hub")
    text_field: str = Field("text", min_length=1, description="the column that holds a document's text")


def read(config: CorpusConfig, source: Mapping[str, Any], count: int, *, seed: int, name: str) -> list[str]:
    """Return the first `count` different documents of the data set `data.<name>`, shuffled by the seed.

    Raises:
        AdaptbenchError: the data set cannot be read, or it has fewer.
    """
    found: dict[str, str] = {}
    try:
        for text in _texts(config, source, name):
            found.setdefault(normalise(text), text)
            if len(found) == count:
                break
    except AdaptbenchError:
        raise
    except Exception as error:
        raise hub.unavailable(name, source, error) from None
    if len(found) < count:
        raise AdaptbenchError(f"data.{name}: {count} documents are asked for, there are {len(found)} different ones")
    texts = list(found.values())
    random.Random(f"{seed}/{name}").shuffle(texts)
    return texts


def _texts(config: CorpusConfig, source: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the documents, of a folder or of the hub."""
    return _of_hub(config, source, name) if source["path"] is None else _of_folder(config, Path(source["path"]), name)


def _of_folder(config: CorpusConfig, folder: Path, name: str) -> Iterator[str]:
    files = sorted(path for pattern in READS for path in folder.glob(pattern))
    if not files:
        raise AdaptbenchError(f"data.{name}.path: {folder} has no file of {', '.join(SUFFIXES)}")
    local_files.check(name, folder, files)
    for file in files:
        field = "text" if file.suffix == ".txt" else config.text_field
        for where, record in local_files.records(name, file):
            _check_column(where, field, record)
            yield check_text(where, field, record[field]).strip()


def _of_hub(config: CorpusConfig, source: Mapping[str, Any], name: str) -> Iterator[str]:
    from datasets import load_dataset

    place, revision = source["hub_id"], source["revision"]
    try:
        hub.check_id(place)
    except AdaptbenchError as error:
        raise hub.with_folder_hint(name, error) from None
    records = load_dataset(place, config.subset, split=config.split, revision=revision, streaming=True)
    for number, record in enumerate(records, 1):
        where, text = f"data.{name}: {place}: record {number}", record.get(config.text_field)
        _check_column(where, config.text_field, record)
        if text is not None and not isinstance(text, str):
            raise AdaptbenchError(f"{where}: column {config.text_field!r} is {type(text).__name__}, not text")
        if text and text.strip():
            yield text.strip()


def _check_column(where: str, field: str, record: Mapping[str, Any]) -> None:
    if field not in record:
        raise AdaptbenchError(f"{where}: no column {field!r}; there are {', '.join(map(str, record)) or 'none'}")


def set_apart(texts: Sequence[str], *sizes: int) -> tuple[list[Record], ...]:
    """Return tests of `sizes` documents, cut to TEST_CHARACTERS, and last the documents that begin as no test does."""
    remaining = iter(texts)
    tests = [[{"text": text[:TEST_CHARACTERS]} for text in islice(remaining, size)] for size in sizes]
    rest = [{"text": text} for text in remaining]
    return (*tests, without_tested(rest, [record for test in tests for record in test]))
