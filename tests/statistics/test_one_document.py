"""Few documents, or documents that are all alike: no table, figure or page shows a number that is none.

Run: pytest tests/statistics/test_one_document.py
"""

import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptbench.report import overall, table_text, tables
from adaptbench.report.explorer import page
from adaptbench.report.figures import draw
from adaptbench.report.paper import claims, numbers
from adaptbench.report.paper import tables as paper_tables
from adaptbench.statistics import Answers, collect, compare, comparison_table, family, holm
from tests.support import explorer_results as made

RUNS = ("base", "full", "lora")
VALUES = {
    "mixed": lambda run, seed, document: float(len(run) + seed + document) % 2,
    "all right": lambda run, seed, document: 1.0,
    "all wrong": lambda run, seed, document: 0.0,
    "of every run its own": lambda run, seed, document: len(run) / 3,
}


def answered(values) -> Answers:
    values = np.asarray(values, float)
    return Answers(values, np.ones(values.shape[1]), np.arange(values.shape[1]), "run", "task", "acc")


def reported(root: Path, documents: int, seeds: int, value) -> Path:
    """Three runs, collected, concluded, and all that is made of them."""
    paths = []
    for name in RUNS:
        for seed in range(1 if name == "base" else seeds):
            rows = [
                made.row(task, i, value(name, seed, i)) for task in ("domain_facts",
                    "general_facts") for i in range(documents)
            ]  # fmt: skip
            counted = {task: {"metric": "acc", "value": 0.5, "documents": documents} for task in ("domain_facts",
                "general_facts")}  # fmt: skip
            paths.append(made.run(root, name, rows, seed=seed, metrics=counted))
    collect.run(paths, root / "collected")
    report = made.report(root, {"domain": ("domain", list(RUNS))})
    planned = json.loads(report.read_text()) | {"part": "main", "sweep": None}
    planned["tables"]["domain"]["baseline"] = "full"
    report.write_text(json.dumps(planned))
    comparison_table.write(root / "collected", report)
    tables.write(root / "collected", report, root / "tables")
    overall.write(root / "collected", report, root / "tables")
    draw.draw(root / "collected", report, root / "figures")
    page.write([(root / "collected", report)], root / "index.html")
    return root


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize(("documents", "seeds"), [(1, 1), (1, 2), (1, 3), (2, 1), (2, 3)])
def test_nothing_that_is_shown_is_nan(tmp_path, documents, seeds, values, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        reported(tmp_path, documents, seeds, VALUES[values])
    shown = [*tmp_path.glob("tables/*"), *tmp_path.glob("figures/*.svg"), *tmp_path.glob("collected/*.csv")]
    assert {path.suffix for path in shown} == {".csv", ".md", ".tex", ".svg"}
    for path in shown:
        assert not re.search(r"\b(nan|inf)\b", path.read_text(), re.IGNORECASE), path
    assert "not a number" not in capsys.readouterr().err
    table = (tmp_path / "tables/domain.md").read_text()
    assert table.count("| untestable (fewer than 20 documents) |") == 4  # two runs, two tasks
    assert not re.search(r"\| (better|worse|tie)", table)


def test_one_document_has_an_effect_and_no_test(tmp_path):
    reported(tmp_path, 1, 3, VALUES["mixed"])
    rows = pd.read_csv(tmp_path / "collected/comparisons.csv")
    tested = rows[rows["effect"].notna()]
    assert len(tested) > 3
    assert set(tested["verdict"]) == {"untestable"}
    assert set(tested["note"]) == {"fewer than 20 documents"}
    assert tested[["low", "high", "p", "p_holm", "detectable"]].isna().all(axis=None)


@pytest.mark.parametrize("values", [[[0.0]], [[1.0]], [[0.3]], [[0.3], [0.4]], [[1.0], [0.0], [1.0]]])
def test_of_one_document_only_the_effect_is_known(values):
    found = compare(answered(values))
    assert found.effect == pytest.approx(np.mean(values))
    assert all(math.isnan(one) for one in (found.low, found.high, found.p, found.detectable))
    assert found.verdict(found.p, True, 0.1) == "untestable"


def test_documents_of_one_problem_are_one_document():
    one = Answers(np.array([[1.0, 0.0, 1.0]]), np.ones(3), np.zeros(3, int), "run", "task", "acc")
    assert math.isnan(compare(one).p)


def test_what_is_not_tested_costs_the_others_nothing():
    """In Holm's correction it would count as one comparison more."""
    rng = np.random.default_rng(0)
    whole = [answered(rng.choice([-1.0, 0.0, 0.0, 1.0, 1.0], (3, 60))) for _ in range(4)]
    alone = [p for _, p in family(whole)]
    among = [p for _, p in family([answered([[0.3], [0.1], [0.2]]), *whole[:2], answered([[1.0]]), *whole[2:]])]
    assert among[1:3] + among[4:] == alone
    assert math.isnan(among[0])
    assert math.isnan(among[3])
    assert holm([math.nan]) != []
    assert holm([]) == []


def test_cells_of_what_was_not_tested_are_empty():
    assert table_text.p_value(math.nan) == table_text.detectable(math.nan, 0.1) == ""
    assert table_text.with_interval(0.5, math.nan, math.nan, sign=True) == "+0.500"


def test_a_papers_number_and_claim_beside_one_document_are_untestable():
    claim = claims.Row("domain/x", "t", "domain", "m", "s", "a", "b", "acc", 1.0, 1, 1)
    found = compare(answered([[1.0], [0.0]]))
    row = claims.judged(claim, answered([[1.0], [1.0]]), found, math.nan)
    assert row.verdict == "untestable"
    assert not any("nan" in cell for cell in paper_tables._claim(row))
    number = numbers.Row(
        "p", "t", "domain", "m", "s", "a", "acc", 50.0, ours=100.0, difference=50.0, verdict="untestable"
    )
    assert paper_tables._number(number)[3] == "100.0"
