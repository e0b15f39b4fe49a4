"""Load public sets from the hub by `datasets`, or from a folder with the files of the hub's repository.

Without a network `datasets` takes the last cached revision of a set. If the cache names another revision than the
requested one, it is refused. From a folder only plain files of records are read whose names begin with a split's name:
`datasets` would unpack archives, and follow any path that a README names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptbench.contracts import Record
from adaptbench.errors import AdaptbenchError
from adaptbench.io import hub, local_files

SUFFIXES = (".jsonl", ".json", ".parquet", ".csv")


def patterns(*splits: str) -> tuple[str, ...]:
    """Return the patterns of the files in a folder that are read for these splits."""
    return tuple(f"**/{split}*{suffix}" for split in splits for suffix in SUFFIXES)


def load(name: str, source: Mapping[str, Any], *config: str, splits: Sequence[str]) -> list[Sequence[Record]]:
    """Return these splits of the public set `name`, of its only configuration or the one named.

    Args:
        source: the preset's data.<name>.

    Raises:
        AdaptbenchError: the set cannot be loaded, or lacks a split.
    """
    place = source["path"] or source["hub_id"]
    try:
        found = (
            _of_hub(name, source, config, splits)
            if source["path"] is None
            else _of_folder(name, Path(source["path"]), splits)
        )
    except AdaptbenchError:
        raise
    except Exception as error:  # `datasets`, pyarrow and the hub's client each raise their own
        raise hub.unavailable(name, source, error) from None
    missing = [split for split in splits if split not in found]
    if missing:
        raise AdaptbenchError(
            f"data.{name}: {place}: no split {missing[0]!r}; there are {', '.join(sorted(found)) or 'none'}"
        )
    return [found[split] for split in splits]


def _of_hub(name: str, source: Mapping[str, Any], config: Sequence[str], splits: Sequence[str]) -> Mapping[str, Any]:
    from datasets import load_dataset

    place, revision = source["hub_id"], source["revision"]
    try:
        hub.check_id(place)
        found = load_dataset(place, *config, revision=revision)
        for file in (file for split in splits if split in found for file in found[split].cache_files):
            hub.check_commit(place, revision, Path(file["filename"]).parent.name)
    except AdaptbenchError as error:
        raise hub.with_folder_hint(name, error) from None
    return found


def _of_folder(name: str, folder: Path, splits: Sequence[str]) -> Mapping[str, Any]:
    """Return those of the splits that the folder has."""
    found: dict[str, list[Record]] = {}
    for split in splits:
        files = sorted(path for pattern in patterns(split) for path in folder.glob(pattern))
        same = [path for path in files if path.suffix == files[0].suffix]
        local_files.check(name, folder, same)
        if same:
            found[split] = [record for path in same for _, record in local_files.records(name, path)]
    return found
