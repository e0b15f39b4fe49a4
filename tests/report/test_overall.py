"""The tables over all tracks: gains, losses and costs as counted by hand, and what is missing.

Run: python -m pytest tests/report/test_overall.py
"""

import json

import pandas as pd
import pytest

from adaptbench.graph import targets
from adaptbench.report import latex, overall, table_text
from adaptbench.statistics import collect, comparison_table
from tests.support.made_up_runs import make_run, report_of


@pytest.fixture
def written(tmp_path):
    """The tables of the base and `full` under two seeds, of which the second is damaged."""
    made = [make_run(tmp_path, "base", 0, 0.25), *(make_run(tmp_path, "full", seed, 0.75, bits=2.0) for seed in (0, 1))]
    made[2].write_text("{")
    collect.run(made, tmp_path / "collected")
    sweep = tmp_path / "sweep.csv"
    sweep.write_text("track,run,value\n" + "domain,full,1\n" * 4 + "domain,other,1\n")
    report = json.loads(report_of(tmp_path).read_text())
    tables = {"domain": report["tables"]["domain"] | {"runs": ["base", "full", "lost"]}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report | {"tables": tables, "part": "main", "sweep": str(sweep)}))
    comparison_table.write(tmp_path / "collected", path)
    overall.write(tmp_path / "collected", path, tmp_path / "tables")
    return tmp_path / "tables"


def test_a_gain_is_counted_up_and_a_loss_too(written):
    full = pd.read_csv(written / "overall.csv").set_index("run").loc["full"]
    assert full["task"] == "domain facts"
    assert full["gain"] == pytest.approx(0.5)
    assert full["gain low"] < 0.5 < full["gain high"]
    # The base had 0.875 of the general facts, full has 0.625; bits per byte rose from 27 to 54.
    assert full["general facts forgotten"] == pytest.approx(0.25)
    assert full["general text forgotten"] == pytest.approx(27.0)
    assert full["general text forgotten low"] <= 27.0 <= full["general text forgotten high"]


def test_a_run_is_tested_against_its_tables_baseline_as_in_that_table(tmp_path):
    shares = {"base": 0.25, "full": 0.5, "best": 0.9}
    made = [make_run(tmp_path, name, seed, share) for name, share in shares.items() for seed in (0, 1, 2)]
    collect.run(made, tmp_path / "collected")
    report = json.loads(report_of(tmp_path).read_text())
    domain = report["tables"]["domain"] | {"runs": list(shares), "baseline": "full"}
    other = domain | {"baseline": "base"}  # a run of two tables has what the first says
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report | {"tables": {"domain": domain, "other": other}, "part": "main", "sweep": None}))
    comparison_table.write(tmp_path / "collected", path)
    overall.write(tmp_path / "collected", path, tmp_path / "tables")
    rows = pd.read_csv(tmp_path / "tables/overall.csv").set_index("run")
    said = pd.read_csv(tmp_path / "collected/comparisons.csv").set_index(["table", "kind", "task", "run"])
    of_best = said.loc[("domain", "baseline", "domain_facts", "best")]
    assert rows.loc["best", "n"] == 40
    assert rows.loc["best", "against"] == "full"
    assert rows.loc["best", "difference"] == pytest.approx(0.4)
    assert rows.loc["best", ["p", "detectable"]].tolist() == pytest.approx(of_best[["p_holm", "detectable"]].tolist())
    assert rows.loc["best", "verdict"] == of_best["verdict"] == "better"
    assert rows.loc["base", "difference"] == pytest.approx(-0.25)
    assert pd.isna(rows.loc["full", "verdict"])
    text = (tmp_path / "tables/overall.md").read_text()
    assert "| domain | best | domain facts (n = 40) | **+0.650" in text
    assert "| full | +0.400 [" in text


def test_the_card_has_the_costs_and_the_tries_of_the_kept_sweep(written):
    card = pd.read_csv(written / "fairness.csv").set_index("run")
    full = card.loc["full"]
    assert (full["trained parameters"], full["tokens"], full["training seconds"], full["job seconds"]) == (5, 1, 2, 3)
    assert full["TFLOP"] == pytest.approx(2e-12)
    assert full["tries"] == 4
    asked = json.loads((written.parent / "collected/runs.json").read_text())
    evaluated, base = (
        [run for run in asked if run["key"]["run"] == name and run["status"] == "done"] for name in ("full", "base")
    )
    seconds = sum(run["seconds"]["evaluation"] for run in evaluated) / len(evaluated)
    assert full["evaluation seconds"] == pytest.approx(seconds)
    assert full["times the base's"] == pytest.approx(seconds / base[0]["seconds"]["evaluation"])
    assert full["ms a document"] == pytest.approx(1000 * seconds / 8)
    assert pd.isna(card.loc["base", "tries"])


def test_seeds_and_runs_that_are_missing_are_named(written):
    notes = pd.read_csv(written / "overall.csv").set_index("run")["note"]
    assert notes["full"].startswith("seed 1 left out: ")
    assert notes["lost"] == "missing"
    text = (written / "overall.md").read_text()
    assert "nan" not in text
    assert "| lost |" in text
    assert "+0.500 [" in text
    latex = (written / "overall.tex").read_text()
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") > 0
    assert r"domain & lost" in latex


def test_an_ablation_has_tables_of_its_own():
    assert targets.overall_tables("main") == ["overall", "fairness"]
    assert targets.overall_tables("ablation") == ["ablation_overall", "ablation_fairness"]


@pytest.mark.parametrize("mark", [table_text.Bold, table_text.Italic])
def test_an_empty_cell_has_no_marks(mark):
    shown = table_text.markdown([(["run", "gain"], [["base", mark("")], ["full", mark("1")]])], "caption")
    assert "| base |  |\n" in shown
    assert "| full | *" in shown
    shown = latex.tables([(["run", "gain"], [["base", mark("")], ["full", mark("1")]])], "caption")
    assert r"base &  \\" in shown
    assert r"{1} \\" in shown
