"""A run of the preset is held against the reference cell by cell.

Run: python -m pytest tests/tools/test_verify.py
"""

import json

import pandas as pd
import pytest

from adaptbench.errors import AdaptbenchError
from tools import verify


def _write(folder, name, **means):
    rows = [
        {"run": run, "task": "facts", "metric": "acc", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
        for run, mean in means.items()
    ]
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    pd.DataFrame([*rows, {"run": "odd", "skipped": "needs a GPU"}]).to_csv(folder / f"tables/{name}.csv", index=False)


def test_every_cell_is_inside_outside_or_missing(tmp_path):
    _write(tmp_path / "kept", "domain", full=0.5, lora=0.7, adept=0.9)
    _write(tmp_path / "kept", "ablation", full=0.5)
    _write(tmp_path / "ours", "domain", full=0.59, lora=0.81, new=0.1)
    told = verify.write(tmp_path / "ours", tmp_path / "kept")
    assert told.splitlines() == [
        "domain: 1 inside, 1 outside, 1 missing",
        "  lora, facts, acc: 0.810, reference 0.700 [0.600, 0.800]",
        "  adept, facts, acc: missing",
        "ablation: not made",
    ]
    table = pd.read_csv(tmp_path / "ours/verify.csv").set_index("run")["status"]
    assert table.to_dict() == {"full": "inside", "lora": "outside", "adept": "missing"}


def test_verdicts_are_alike_undecided_or_reversed(tmp_path):
    for folder, verdicts in (("kept", ["better", "worse", "tie", "better", None]),
        ("ours", ["better", "better", "untestable", None, None])):  # fmt: skip
        _write(tmp_path / folder, "domain", a=0.5, b=0.5, c=0.5, d=0.5, base=0.5)
        path = tmp_path / folder / "tables/domain.csv"
        pd.read_csv(path).assign(verdict=[*verdicts, None]).to_csv(path, index=False)
    assert verify.write(tmp_path / "ours", tmp_path / "kept").splitlines() == [
        "domain: 5 inside",
        "  verdicts: 1 of 3 alike, 1 reversed",
        "  b, facts, acc: better, reference worse",
    ]


def test_runs_of_other_options_are_another_experiment(tmp_path):
    for folder in ("kept", "ours"):
        _write(tmp_path / folder, "domain", full=0.5)
    theirs = {"full/seed0": "a", "full/seed1": "b", "lora/seed0": "c", "gone/seed0": "d"}
    ours = {"full/seed0": "a", "full/seed1": "other", "lora/seed0": "c", "new/seed0": "e"}
    (tmp_path / "kept/provenance.json").write_text(
        json.dumps({"runs": {f"domain/{run}": digest for run, digest in theirs.items()}})
    )
    runs = [
        {"key": {"track": "domain", "run": run, "seed": int(seed)}, "hash": digest}
        for (run, seed), digest in ((path.split("/seed"), digest) for path, digest in ours.items())
    ]
    (tmp_path / "ours/collected").mkdir()
    (tmp_path / "ours/collected/runs.json").write_text(json.dumps(runs))
    assert verify.write(tmp_path / "ours", tmp_path / "kept").splitlines() == [
        "domain: 1 of 2 runs have other options than the reference's, and need not agree with it: full",
        "domain: 1 inside",
    ]
    runs[1]["hash"] = "b"
    (tmp_path / "ours/collected/runs.json").write_text(json.dumps(runs))
    assert verify.write(tmp_path / "ours", tmp_path / "kept") == "domain: 1 inside"


def test_without_tables_it_says_so(tmp_path):
    with pytest.raises(AdaptbenchError, match="no tables with scores; make them first"):
        verify.write(tmp_path, tmp_path)
