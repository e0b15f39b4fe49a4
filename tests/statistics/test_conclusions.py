"""Who is compared with whom, and which corrections belong together.

Run: python -m pytest tests/statistics/test_conclusions.py
"""

import numpy as np
import pytest

from adaptbench import conclusions
from adaptbench.statistics import Answers, compare, holm, paired

DOCUMENTS = 2000


def _answers(run, share, seed, task="domain_facts", seeds=3):
    rights = np.random.default_rng(seed).random((seeds, DOCUMENTS)) < share
    asked = tuple((d, f"h{d}", f"p{d}") for d in range(DOCUMENTS))
    ones = np.ones(DOCUMENTS)
    return Answers(rights.astype(float), ones, np.arange(DOCUMENTS), run, task, tuple(range(seeds)), asked)


@pytest.fixture(scope="module")
def table():
    shares = {"full": 0.8, "near": 0.8, "low": 0.4}
    tasks = ("domain_facts", "domain_answers", "general_facts")
    return {
        task: {run: _answers(run, share, 7 * n + m, task) for m, (run, share) in enumerate(shares.items())}
        for n, task in enumerate(tasks)
    }


def test_every_other_run_is_held_against_the_baseline_on_the_tracks_own_tasks(table):
    rows = [row for row in conclusions.of_table(table, "full") if row["kind"] == "baseline"]
    assert [(row["task"], row["run"]) for row in rows] == [
        (task, run) for task in ("domain_facts", "domain_answers") for run in ("near", "low")
    ]
    assert {row["against"] for row in rows} == {"full"}
    assert [row["verdict"] for row in rows] == ["tie", "worse"] * 2


def test_p_values_are_corrected_over_all_comparisons_with_the_baseline(table):
    rows = [row for row in conclusions.of_table(table, "full") if row["kind"] == "baseline"]
    plain = [
        compare(paired(table[task][run], table[task]["full"]), 4)
        for task in ("domain_facts", "domain_answers")
        for run in ("near", "low")
    ]
    assert [row["p"] for row in rows] == [one.p for one in plain]
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([one.p for one in plain]))
    assert [row["detectable"] for row in rows] == [one.detectable for one in plain]


def test_the_first_place_is_shared_by_all_that_are_not_worse_than_its_leader(table):
    for task in table:
        rows = {
            row["run"]: row["verdict"]
            for row in conclusions.of_table(table, "full")
            if row["kind"] == "leader" and row["task"] == task
        }
        assert set(rows) == {"full", "near", "low"}
        assert sorted(rows[run] for run in ("full", "near")) == ["leads", "tie"]
        assert rows["low"] == "worse"


def test_where_lower_is_better_the_lowest_leads():
    task = "general_text"
    bits = {run: _answers(run, share, 1, task) for run, share in (("full", 0.9), ("low", 0.1))}
    rows = conclusions.of_table({task: bits}, "full")
    assert [(row["run"], row["verdict"]) for row in rows] == [("low", "leads"), ("full", "worse")]


def test_without_the_baseline_there_are_leaders_alone(table):
    assert {row["kind"] for row in conclusions.of_table(table, "lost")} == {"leader"}


def test_a_run_that_answered_something_else_is_said_to_be_so_and_the_others_are_compared(table):
    import dataclasses

    strange = dataclasses.replace(table["domain_facts"]["low"], asked=())
    rows = conclusions.of_table({"domain_facts": table["domain_facts"] | {"low": strange}}, "full")
    of_baseline = {row["run"]: row for row in rows if row["kind"] == "baseline"}
    assert of_baseline["low"]["verdict"] == "untestable"
    assert "did not answer the same documents" in of_baseline["low"]["note"]
    assert of_baseline["near"]["verdict"] == "tie"
    assert of_baseline["near"]["p_holm"] == of_baseline["near"]["p"]
