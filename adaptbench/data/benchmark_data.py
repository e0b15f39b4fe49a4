"""Builds a benchmark's two directories: its splits, with the proof that they do not overlap, and its lm-eval tasks.

    data/<id>/splits/<name>.jsonl    everything, training and test documents
    tasks/<id>/splits/<name>.jsonl   test documents
    tasks/<id>/tasks/*.yaml          the lm-eval tasks that read them, ready for `lm-eval --include_path`

Both hold a manifest.json with options, revisions, numbers of documents, and the published records that were left out,
if any. A tasks directory needs nothing else: it can be moved and used with lm-eval. It is a separate node, so that an
edited task file leads to new scores, not to new training.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.contracts import Record, StageContext
from adaptbench.data.leakage import check_disjoint
from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text
from adaptbench.io.jsonl import read_jsonl, write_jsonl

TRAINED = ("pretrain", "train", "replay", "probe")
"""Splits that a model may learn from or be probed on; every other split is a test or a validation set."""


def build(spec: Mapping[str, Any], context: StageContext, out: Path) -> None:
    """Make one benchmark's directory.

    Raises:
        AdaptbenchError: the benchmark's data are missing or malformed, or a test document is also trained on.
    """
    track, options = spec["track"], spec["config"]
    module = registry.benchmark(track, options["kind"])
    config = module.Config.model_validate(options)
    splits: dict[str, list[Record]] = module.build(config, spec["seed"], spec["public"])
    left_out = getattr(splits, "left_out", {})
    for source, reasons in left_out.items():
        for reason, numbers in reasons.items():
            print(f"data.{track}: {source}: {len(numbers)} left out: {reason}", file=sys.stderr)
    for name, records in splits.items():
        if not records:
            raise AdaptbenchError(f"data.{track}: the split {name!r} is empty")
        write_jsonl(out / "splits" / f"{name}.jsonl", records)
    _check_leakage(splits, {name: read_splits(path) for name, path in context.data.items()})
    counts = {name: len(records) for name, records in splits.items()}
    manifest = {"options": dict(spec), "documents": counts} | ({"left_out": left_out} if left_out else {})
    write_text(out / "manifest.json", json.dumps(manifest, indent=1) + "\n")


def read_splits(directory: Path) -> dict[str, list[Record]]:
    """Return the records of each split in a data directory."""
    return {path.stem: read_jsonl(path) for path in sorted((directory / "splits").glob("*.jsonl"))}


def _check_leakage(splits: Mapping[str, list[Record]], others: Mapping[str, Mapping[str, list[Record]]]) -> None:
    """Check that no training split, of this or another benchmark of the graph, shares a document with a test split."""
    everything = {("", name): records for name, records in splits.items()}
    for benchmark, its_splits in others.items():
        everything |= {(f"{benchmark}'s ", name): records for name, records in its_splits.items()}
    trained = {owner + name: records for (owner, name), records in everything.items() if name in TRAINED}
    tested = {owner + name: records for (owner, name), records in everything.items() if name not in TRAINED}
    check_disjoint(trained, tested)
    validation = {name: records for name, records in tested.items() if name.endswith("validation")}
    check_disjoint(validation, {name: records for name, records in tested.items() if name not in validation})


def lay_tasks(options: Mapping[str, Any], data: Path, out: Path) -> None:
    """Make a benchmark's tasks directory from its data directory.

    Raises:
        AdaptbenchError: a task has no lm-eval file.
    """
    benchmarks = registry.project_root() / "benchmarks"
    (out / "tasks").mkdir()
    (out / "splits").mkdir()
    for name in options["tasks"]:
        file = benchmarks / options["track"] / "tasks" / f"{name}.yaml"
        if not file.is_file():
            raise AdaptbenchError(f"{file}: the task {name!r} has no lm-eval file")
        shutil.copyfile(file, out / "tasks" / file.name)
    for file in options["files"]:
        shutil.copyfile(registry.project_root() / file, out / "tasks" / Path(file).name)
    for split in sorted((data / "splits").glob("*.jsonl")):
        if split.stem not in TRAINED:
            shutil.copyfile(split, out / "splits" / split.name)
    shutil.copyfile(data / "manifest.json", out / "manifest.json")
