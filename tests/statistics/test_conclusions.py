"""Who is compared with whom, and which corrections belong together.

Run: python -m pytest tests/statistics/test_conclusions.py
"""

import numpy as np
import pytest

from adaptbench.graph import known_tasks
from adaptbench.statistics import Answers, comparison_table, family, holm, paired
from adaptbench.tasks import Task

DOCUMENTS = 2000


def _answers(run, share, seed, task="domain_facts", seeds=3):
    rights = np.random.default_rng(seed).random((seeds, DOCUMENTS)) < share
    asked = tuple((d, f"h{d}", f"p{d}") for d in range(DOCUMENTS))
    ones = np.ones(DOCUMENTS)
    return Answers(rights.astype(float), ones, np.arange(DOCUMENTS), run, task, "m", tuple(range(seeds)), asked)


@pytest.fixture(scope="module")
def table():
    shares = {"full": 0.8, "near": 0.8, "low": 0.4}
    tasks = ("domain_facts", "domain_answers", "general_facts")
    return {
        task: {run: _answers(run, share, 7 * n + m, task) for m, (run, share) in enumerate(shares.items())}
        for n, task in enumerate(tasks)
    }


def test_every_other_run_is_held_against_the_baseline_on_the_tracks_own_tasks(table):
    rows = [row for row in comparison_table.of_table(table, "full") if row["kind"] == "baseline"]
    assert [(row["task"], row["run"]) for row in rows] == [
        (task, run) for task in ("domain_facts", "domain_answers") for run in ("near", "low")
    ]
    assert {row["against"] for row in rows} == {"full"}
    assert [row["verdict"] for row in rows] == ["tie", "worse"] * 2


def test_p_values_are_corrected_over_all_comparisons_with_the_baseline(table):
    rows = [row for row in comparison_table.of_table(table, "full") if row["kind"] == "baseline"]
    pairs = [
        paired(table[task][run], table[task]["full"])
        for task in ("domain_facts", "domain_answers")
        for run in ("near", "low")
    ]
    plain = [one for one, _ in family(pairs)]
    assert [row["p"] for row in rows] == [one.p for one in plain]
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([one.p for one in plain]))
    assert [row["detectable"] for row in rows] == [one.detectable for one in plain]


def test_the_first_place_is_shared_by_all_that_are_not_worse_than_its_leader(table):
    for task in table:
        rows = {
            row["run"]: row["verdict"]
            for row in comparison_table.of_table(table, "full")
            if row["kind"] == "leader" and row["task"] == task
        }
        assert set(rows) == {"full", "near", "low"}
        assert sorted(rows[run] for run in ("full", "near")) == ["leads", "tie"]
        assert rows["low"] == "worse"


def test_where_lower_is_better_the_lowest_leads():
    task = "general_text"
    bits = {run: _answers(run, share, 1, task) for run, share in (("full", 0.9), ("low", 0.1))}
    rows = [row for row in comparison_table.of_table({task: bits}, "full") if row["kind"] == "leader"]
    assert [(row["run"], row["verdict"]) for row in rows] == [("low", "leads"), ("full", "worse")]


def test_what_is_kept_of_the_general_tasks_is_a_family_of_its_own(table):
    rows = [row for row in comparison_table.of_table(table, "full") if row["kind"] == "kept"]
    assert [(row["task"], row["run"], row["verdict"]) for row in rows] == [
        ("general_facts", "near", "tie"),
        ("general_facts", "low", "worse"),
    ]
    pairs = [paired(table["general_facts"][run], table["general_facts"]["full"]) for run in ("near", "low")]
    assert [row["p_holm"] for row in rows] == [p for _, p in family(pairs)]


def test_a_task_is_general_by_its_benchmark_and_not_by_its_name(table, monkeypatch):
    known = known_tasks.known_tasks()
    assert {name for name, task in known.items() if task.general} >= {"general_facts", "general_corpus_text"}
    assert not known["domain_facts"].general
    named = known_tasks.Tasks(known, general_x=Task("general_x", "acc", "x", "accuracy"))
    monkeypatch.setattr(comparison_table, "known_tasks", lambda: named)
    answers = {"general_x": table["domain_facts"], "general_facts": table["general_facts"]}
    kinds = {row["task"]: row["kind"] for row in comparison_table.of_table(answers, "full") if row["kind"] != "leader"}
    assert kinds == {"general_x": "baseline", "general_facts": "kept"}


def test_of_a_task_that_is_not_known_any_more_the_name_tells_it():
    tasks = known_tasks.known_tasks()
    assert tasks.or_unknown("general_of_before", "acc").general
    assert not tasks.or_unknown("of_before", "acc").general


def test_where_no_run_is_whole_nothing_leads(table):
    lacking = dict.fromkeys(table["domain_facts"], "1 of 3 seeds")
    rows = comparison_table.of_table({"domain_facts": table["domain_facts"]}, "full", lacking)
    assert {row["kind"] for row in rows} == {"baseline"}
    assert {row["verdict"] for row in rows} == {"untestable"}


def test_without_the_baseline_there_are_leaders_alone(table):
    assert {row["kind"] for row in comparison_table.of_table(table, "lost")} == {"leader"}


def test_a_run_that_answered_something_else_is_said_to_be_so_and_the_others_are_compared(table):
    import dataclasses

    strange = dataclasses.replace(table["domain_facts"]["low"], questions=())
    rows = comparison_table.of_table({"domain_facts": table["domain_facts"] | {"low": strange}}, "full")
    of_baseline = {row["run"]: row for row in rows if row["kind"] == "baseline"}
    assert of_baseline["low"]["verdict"] == "untestable"
    assert "did not answer the same documents" in of_baseline["low"]["note"]
    assert of_baseline["near"]["verdict"] == "tie"
    assert of_baseline["near"]["p_holm"] == of_baseline["near"]["p"]


def test_a_run_that_lacks_seeds_leads_nothing_and_gets_no_verdict(table):
    few = {"best": _answers("best", 0.95, 99, seeds=1), **table["domain_facts"]}
    rows = comparison_table.of_table({"domain_facts": few}, "full", {"best": "1 of 3 seeds"})
    leaders = {row["run"]: row for row in rows if row["kind"] == "leader"}
    assert leaders["best"]["verdict"] == "untestable"
    assert leaders["best"]["note"] == "best: 1 of 3 seeds"
    assert leaders["best"]["seeds"] == 1
    assert sorted(leaders[run]["verdict"] for run in ("full", "near")) == ["leads", "tie"]
    against = {row["run"]: row for row in rows if row["kind"] == "baseline"}
    assert against["best"]["verdict"] == "untestable"
    assert against["best"]["effect"] > 0.1
    assert against["low"]["verdict"] == "worse"


def test_what_is_missing_is_counted_by_run():
    keys = [("full", seed, "done") for seed in (0, 1)] + [("low", 0, "done"), ("low", 1, "left out")]
    runs = [{"key": {"track": "domain", "run": r, "seed": seed}, "status": status} for r, seed, status in keys]
    missing = comparison_table.seeds_missing(runs)
    assert missing == {"low": "1 of 2 seeds"}
    assert comparison_table.lacks(("full", "low"), missing) == "low: 1 of 2 seeds"
    assert comparison_table.lacks(("full", "full"), missing) == ""
