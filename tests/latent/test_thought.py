"""What is said of the answers that hold latents alone.

Run: python -m pytest tests/latent/test_thought.py
"""

import math

import numpy as np
import pandas as pd
import pytest

from adaptbench import statistics
from adaptbench.benchmarks.reasoning import chains
from adaptbench.evaluate import metrics
from adaptbench.latent.thought import RIGHT_OF_THOUGHT, THOUGHT
from adaptbench.statistics import collect

(TASK,) = (task for task in chains.TASKS if task.split == "test")
RIGHT = [[1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 0]]
LATENTS = [[2, 0, 1, 0, 0, 3], [2, 0, 0, 0, 1, 3]]


def _samples(run, seeds=(0, 1), **values):
    return pd.DataFrame(
        {
            "track": "reasoning", "run": run, "seed": seed, "task": TASK.name, "document": i, "group": i,
            "document_hash": str(i), "prompt_hash": str(i), "metric": metric, "value": float(value), "weight": 1.0,
        }
        for metric, of_seeds in values.items() for seed in seeds for i, value in enumerate(of_seeds[seed])
    )  # fmt: skip


def test_answers_that_thought_are_counted_one_by_one():
    held = [
        (right, latents)
        for rights, its in zip(RIGHT, LATENTS, strict=True)
        for right, latents in zip(rights, its, strict=True)
    ]
    thought = [right for right, latents in held if latents]
    arrays = [np.array(one, dtype=float) for one in (RIGHT, LATENTS)]
    share = statistics.interval_of_sums(THOUGHT.counts(arrays[1]), THOUGHT.combine)
    right = statistics.interval_of_sums(RIGHT_OF_THOUGHT.counts(*arrays), RIGHT_OF_THOUGHT.combine)
    assert share.mean == pytest.approx(len(thought) / len(held)) == 0.5
    assert right.mean == pytest.approx(sum(thought) / len(thought)) == 0.5
    assert right.mean != np.mean(RIGHT)
    nothing = statistics.interval_of_sums(RIGHT_OF_THOUGHT.counts(arrays[0], 0 * arrays[1]), RIGHT_OF_THOUGHT.combine)
    assert math.isnan(nothing.mean)


def test_tables_and_run_json_show_them_where_there_are_any():
    samples = pd.concat(
        [
            _samples("lt", exact_match=RIGHT, latent_tokens=LATENTS),
            _samples("cot", exact_match=RIGHT, latent_tokens=[[0] * 6] * 2),
            _samples("guess", exact_match=RIGHT),  # a baseline takes nothing
        ]
    )
    runs = [{"key": {"track": "reasoning", "run": run}, "status": "done"} for run in ("lt", "cot", "guess")]
    scores = collect.scores(runs, collect.answers(samples)).set_index(["run", "metric"])["mean"]
    assert scores["lt", "thought"] == scores["lt", "exact_match_of_thought"] == pytest.approx(0.5)
    assert scores["cot", "thought"] == 0
    assert not {("cot", "exact_match_of_thought"), ("guess", "thought"), ("guess", "exact_match_of_thought")} & set(
        scores.index
    )
    of_seed = samples[samples["seed"] == 0]
    kept = {run: metrics.metric(of_seed[of_seed["run"] == run], TASK).get("more", {}) for run in ("lt", "cot", "guess")}
    assert kept["lt"] == {"latent_tokens": 1.0, "thought": 0.5, "exact_match_of_thought": pytest.approx(1 / 3)}
    assert kept["cot"] == {"latent_tokens": 0.0, "thought": 0.0}
    assert kept["guess"] == {}
    assert {"thought", "exact_match_of_thought"} <= dict(TASK.shown).keys()
