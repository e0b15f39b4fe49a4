"""Made-up runs whose right answers are known, and the plan's report of them."""

import json
from pathlib import Path

import pandas as pd

from adaptbench.io import results

DOCUMENTS = 40


def make_run(
    root: Path, run: str, seed: int, accuracy: float, *, bits: float = 1.0, posthoc=None, split="test"
) -> Path:
    """A run that got the first share of documents right."""
    folder = root / "runs/domain" / run / f"seed{seed}"
    tasks = (
        {"domain_facts": accuracy, "general_facts": 1 - accuracy / 2}
        if split == "test"
        else {"domain_validation": accuracy}
    )
    rows = [
        {
            "track": "domain", "run": run, "seed": seed, "task": task, "document": i, "group": i,
            "document_hash": f"{task}{i}",
            "prompt_hash": f"{task}{i}", "metric": "acc", "value": float(i < share * DOCUMENTS), "weight": 1.0,
            "prompt": "p", "prediction": "x", "target": "y",
        }
        for task, share in tasks.items() for i in range(DOCUMENTS)
    ]  # fmt: skip
    if split == "test":
        rows += [rows[0] | {"task": "general_text", "document": i, "group": i, "document_hash": f"t{i}",
            "metric": "bits_per_byte", "value": bits * (i + 1),
            "weight": float(i + 1)} for i in range(DOCUMENTS)]  # fmt: skip
    config = None
    if run != "base":
        config = {"curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}, "training": {}, "posthoc": posthoc}
    stages = (
        {"s": {"kind": "train", "name": "tune", "parameters": {"total": 10, "trained": 5}, "cost": {}, "seconds": {}}}
        if run != "base"
        else {}
    )
    content = {
        "key": {"preset": "toy", "track": "domain", "run": run, "seed": seed}, "config": config, "status": "done",
        "metrics": {"domain_facts": {"documents": 8}},
        "evaluation": {"split": split}, "model": {"directory": str(root / "stages/none"), "bytes": 1},
        "cost": {
            "steps": 1, "tokens": 1, "trained_tokens": 1, "flops": 2, "train_seconds": 2.0, "wall_seconds": 3.0,
            "peak_bytes": 4,
            "stages": stages,
        },
        "seconds": {"evaluation": 1.0}, "evaluation_peak_bytes": 1,
    }  # fmt: skip
    results.write_run(folder, content, pd.DataFrame(rows))
    return folder / "run.json"


def described(name: str, *, tuner: str = "full", posthoc=None) -> dict:
    """A run as the plan describes it."""
    config = {"curriculum": {"kind": "cpt"}, "tuner": {"kind": tuner}, "training": {}, "posthoc": posthoc}
    return {"key": {"track": "domain", "run": name}, "config": None if name == "base" else config}


def report_of(folder: Path, **more) -> Path:
    shown = {"domain": {"track": "domain", "runs": ["base", "full", "line-0.25", "line-0.5", "odd_one"]}}
    path = folder / "report.json"
    order = [described(name) for name in ("base", "full")]
    order += [described(f"line-{a}", posthoc={"kind": "wise_ft", "alpha": a}) for a in (0.25, 0.5)]
    tables = {
        name: {"figures": {}, "episodes": False, "baseline": "full"} | table for name, table in (shown | more).items()
    }
    path.write_text(
        json.dumps({"part": "main", "sweep": None, "runs": [], "tables": tables, "figures": {}, "order": order})
    )
    return path
