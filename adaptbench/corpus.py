"""Plain text of the hub or of a folder, as benchmarks are made of it: read as a stream, mixed, its tests set apart.

A corpus may be larger than the disk: of the hub only the shards are fetched that hold the documents asked for.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from adaptbench import hub, plain_files
from adaptbench.contracts import AdaptbenchError, BenchmarkConfig, Record
from adaptbench.documents import normalise, without_tested

READERS = {".jsonl": "json", ".parquet": "parquet", ".txt": "text"}
READS = tuple(f"*{suffix}" for suffix in READERS)
"""Of a folder's files, those that are read."""
TEST_CHARACTERS = 4000  # of a test document: most models read that much at once


class CorpusConfig(BenchmarkConfig):
    """Where a corpus's documents are."""

    subset: str | None = Field(None, min_length=1, description="of the data set on the hub (its configuration)")
    split: str = Field("train", min_length=1, description="of the data set on the hub")
    text_field: str = Field("text", min_length=1, description="the column that holds a document's text")


def read(config: CorpusConfig, source: Mapping[str, Any], count: int, *, seed: int, name: str) -> list[str]:
    """The first `count` different documents of the data set `data.<name>`, mixed by the seed.

    Raises:
        AdaptbenchError: they cannot be had, or there are fewer.
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


def _texts(config: CorpusConfig, source: Mapping[str, Any], name: str) -> Iterable[str]:
    from datasets import load_dataset

    if source["path"] is not None:
        files = sorted(path for pattern in READS for path in Path(source["path"]).glob(pattern))
        if not files:
            raise AdaptbenchError(f"data.{name}.path: {source['path']} has no file of {', '.join(READERS)}")
        patterns = plain_files.checked(name, Path(source["path"]), files)
        streams = [_file(pattern, config) for pattern in patterns]
    else:
        try:
            hub.check_id(source["hub_id"])
        except AdaptbenchError as error:
            raise hub.or_a_folder(name, error) from None
        streams = [
            load_dataset(
                source["hub_id"], config.subset, split=config.split, revision=source["revision"], streaming=True
            )
        ]
    for stream in streams:
        for record in stream:
            text = record.get(config.text_field)
            if not isinstance(text, str):
                raise AdaptbenchError(
                    f"data.{name}: no text in column {config.text_field!r}; there are {', '.join(record)}"
                )
            if text.strip():
                yield text.strip()


def _file(pattern: str, config: CorpusConfig) -> Iterable[Mapping[str, Any]]:
    """A file's records; each line of a .txt is a document."""
    from datasets import load_dataset

    suffix = Path(pattern).suffix
    lines = load_dataset(READERS[suffix], data_files=pattern, split="train", streaming=True)
    return ({config.text_field: line["text"]} for line in lines) if suffix == ".txt" else lines


def set_apart(texts: Sequence[str], *sizes: int) -> tuple[list[Record], ...]:
    """Tests of `sizes` documents, cut to TEST_CHARACTERS, and last the rest, without what begins as a test does."""
    remaining = iter(texts)
    tests = [[{"text": text[:TEST_CHARACTERS]} for text in islice(remaining, size)] for size in sizes]
    rest = [{"text": text} for text in remaining]
    return (*tests, without_tested(rest, [record for test in tests for record in test]))
