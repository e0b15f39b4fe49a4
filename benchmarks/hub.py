"""Public sets from the hub, or from a folder that holds what the hub's repository does: by `datasets` either way.

Without a network `datasets` takes what it has cached of a set last, of whatever revision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from adaptbench.contracts import AdaptbenchError, Record


def load(name: str, source: Mapping[str, Any], *config: str, splits: Sequence[str]) -> list[Sequence[Record]]:
    """These splits of the public set `name`, of its only configuration or the one named; `source` is what data.<name> says.

    Raises:
        AdaptbenchError: it cannot be had, or lacks a split, in one line.
    """
    from datasets import load_dataset

    place = source["path"] or source["hub_id"]
    # A folder has no revisions.
    options = {"revision": source["revision"]} if source["path"] is None else {}
    try:
        found = load_dataset(place, *config, **options)
    except Exception as error:  # `datasets`, pyarrow and the hub's client each raise their own
        reason = " ".join(str(error).split())[:200]
        hint = f"; or set data.{name}.path to a local folder" if source["path"] is None else ""
        raise AdaptbenchError(f"data.{name}: {place}: {reason}{hint}") from None
    missing = [split for split in splits if split not in found]
    if missing:
        raise AdaptbenchError(f"data.{name}: {place}: no split {missing[0]!r}; there are {', '.join(sorted(found))}")
    return [found[split] for split in splits]
