"""Makes data: a benchmark's splits, lm-eval task files, the tokenizer."""

from pathlib import Path
from typing import Any

from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data, tokenizer
from adaptbench.io.jsonl import read_jsonl
from adaptbench.stages.inputs import Spec, input_folders


def build_data(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Make a benchmark's splits."""
    benchmark_data.build(spec["options"], StageContext(spec["options"]["seed"], input_folders(spec)), out)
    return {}


def lay_tasks(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Make a benchmark's lm-eval tasks."""
    benchmark_data.lay_tasks(spec["options"], input_folders(spec)["data"], out)
    return {}


def train_tokenizer(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Train the tokenizer on the training splits of all benchmarks."""
    texts = []
    for folder in input_folders(spec).values():
        for split in ("pretrain", "train"):
            path = folder / "splits" / f"{split}.jsonl"
            if path.exists():
                texts += [record["text"] for record in read_jsonl(path, require=("text",))]
    tokenizer.train(texts, spec["options"]["vocabulary"], out)
    return {}
