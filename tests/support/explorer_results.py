"""Made-up results for the explorer's tests, collected as real ones are."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adaptbench.io import results
from adaptbench.latent.text import LATENT
from adaptbench.report.explorer import page
from adaptbench.statistics import collect, comparison_table

DOCUMENTS = 30
METRICS = {"domain_facts": "acc", "general_facts": "acc", "agent_live": "success", "multiplication": "exact_match"}
EPISODE = {
    "stopped": "answer",
    "steps": [
        {"thought": "I need the sum.", "decision": "caller", "action": "add", "arguments": '{"a": "1"}',
         "observation": "error: no tool", "answer": ""},
        {"thought": "I know it.", "decision": "summarizer", "action": "", "arguments": "", "observation": "",
         "answer": "It is 3."},
    ],
}  # fmt: skip
TRACE = f" 4 3 {LATENT}{LATENT} 0 #### 4"


def row(task: str, document: int, value: float, **more: Any) -> dict[str, Any]:
    """One document's answer."""
    empty = {
        "task": task, "document": document, "group": document, "document_hash": f"{task}{document}",
        "prompt_hash": f"p{document}",
        "metric": METRICS[task], "value": value, "weight": 1.0, "prompt": f"Question {document}?",
        "prediction": f"answer {document}", "target": f"target {document}",
    }  # fmt: skip
    return empty | more


def answers(
    share: float, tasks: Iterable[str] = ("domain_facts", "general_facts"), **more: Any
) -> list[dict[str, Any]]:
    """The first share of every task's documents is right."""
    return [row(task, i, float(i < share * DOCUMENTS), **more) for task in tasks for i in range(DOCUMENTS)]


def run(
    root: Path, name: str, rows: Sequence[dict[str, Any]], *, track: str = "domain", seed: int = 0, tuner: str = "full",
    **more: Any
) -> Path:  # fmt: skip
    """Write a run and return its run.json."""
    folder = root / "runs" / track / name / f"seed{seed}"
    config = None if name == "base" else configured(tuner)
    costs = {
        "steps": 10,
        "tokens": 1000,
        "trained_tokens": 900,
        "flops": 2e9,
        "train_seconds": 2.5,
        "wall_seconds": 3.5,
        "peak_bytes": 4e8,
    }
    stage = {
        "kind": "train",
        "name": "tune",
        "parameters": {"total": 10, "trained": 5000},
        "cost": costs,
        "seconds": {"all": 3.5},
    }
    values = pd.DataFrame(rows, columns=results.SAMPLE_COLUMNS).groupby(["task", "metric"])["value"].mean()
    content = {
        "key": {"preset": "toy", "track": track, "run": name, "seed": seed},
        "config": config,
        "status": "done",
        "metrics": {task: {"metric": metric, "value": value} for (task, metric), value in values.items()},
        "evaluation": {"split": "test", "limit": None},
        "model": {"directory": "stages/x", "bytes": 1_500_000, "decode": {"kind": "plain"},
        "parameters": {"total": 386240}},
        "cost": costs | {"stages": {} if name == "base" else {"tune-0123": stage}},
        "seconds": {"evaluation": 1.5, "all": 2.0},
        "evaluation_peak_bytes": 3e8,
        "provenance": {
            "git": {"commit": "c0ffee" * 6, "dirty": False},
            "versions": {"python": "3.11.7", "torch": "2.13.0"},
            "hardware": {"processor": "A Processor", "cores": 2},
            "base": {"architecture": {"num_hidden_layers": 6}},
            "data": {"domain": {"options": {"config": {"kind": "world"}}}},
        },
    }  # fmt: skip
    frame = pd.DataFrame(
        [{"track": track, "run": name, "seed": seed} | one for one in rows], columns=results.SAMPLE_COLUMNS
    )
    results.write_run(folder, content | more, frame)
    return folder / "run.json"


def configured(tuner: str = "full") -> dict[str, Any]:
    return {
        "curriculum": {"kind": "cpt"},
        "tuner": {"kind": tuner},
        "training": {"learning_rate": 0.003, "steps": 20},
        "posthoc": None,
    }


def report(root: Path, tables: dict[str, tuple[str, list[str]]], part: str = "main") -> Path:
    """The plan's report of tables, each a track and its runs."""
    path = root / f"report-{part}.json"
    shown = {
        name: {"track": track, "runs": runs, "figures": {}, "episodes": track == "agent", "baseline": runs[0]}
        for name, (track, runs) in tables.items()
    }
    order = [(track, name) for track, names in tables.values() for name in names]
    described = [
        {"key": {"track": track, "run": name}, "config": None if name == "base" else configured()} for track,
         name in order
    ]  # fmt: skip
    path.write_text(json.dumps({"runs": [], "tables": shown, "figures": {}, "order": described}))
    return path


def make(root: Path) -> tuple[Path, Path]:
    """Three tracks; "lora" answers half of what "full" does and has only one of its two seeds, "moved" was asked other
    questions.
    """
    paths = [run(root, "base", answers(0.2))]
    paths += [run(root, "full", answers(0.9), seed=seed) for seed in (0, 1)]
    paths += [run(root, "lora", answers(0.5), tuner="lora"), root / "runs/domain/lora/seed1/run.json"]
    paths += [run(root, "moved", answers(0.4))]
    live = [row("agent_live", i, float(i % 2), prediction=json.dumps(EPISODE)) for i in range(4)]
    paths += [run(root, name, live, track="agent") for name in ("base", "single")]
    thought = [row("multiplication", i, 1.0, prediction=TRACE) for i in range(4)]
    thought += [one | {"metric": "latent_tokens", "value": 2.0} for one in thought]
    paths += [run(root, name, thought, track="reasoning") for name in ("base", "lt-tuning")]
    collect.run(paths, root / "collected")
    tables = {"domain": ("domain", ["base", "full", "lora", "moved"]), "agent": ("agent", ["base", "single"]),
        "reasoning": ("reasoning", ["base", "lt-tuning"])}  # fmt: skip
    plan = report(root, tables)
    comparison_table.write(root / "collected", plan)
    # `collect` takes no run that was asked something else than the base; parts made at different times may hold such.
    samples = results.read_samples(root / "collected/samples.parquet")
    samples.loc[(samples["run"] == "moved") & (samples["document"] < 10), "prompt_hash"] = "other"
    results.write_samples(root / "collected/samples.parquet", samples)
    return root / "collected", plan


def write(root: Path) -> Path:
    """The page of `make`."""
    page.write([make(root)], root / "index.html")
    return root / "index.html"
