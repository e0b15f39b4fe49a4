"""Figures of latents: what they draw is what the runs' files say.

Run: python -m pytest tests/latent/test_latent_figures.py
"""

import json

import matplotlib as mpl
import pandas as pd
import pytest

from adaptbench.contracts import RunFiles
from adaptbench.latent.stage import INSERTION
from adaptbench.methods.curricula import lt_figures

mpl.use("Agg")
RIGHT = {0: [1, 0, 0, 0], 2: [1, 1, 0, 0], 8: [1, 1, 1, 0]}


def _run(folder, name, seed, decode, right, stages=None, latents=(1, 0, 2, 0)):
    """A finished run whose answers are right or wrong as given, with so many latents."""
    results = folder / name / str(seed)
    results.mkdir(parents=True)
    rows = [
        {"track": "reasoning", "run": name, "seed": seed, "task": "chains", "document": i, "group": i,
         "document_hash": str(i), "prompt_hash": str(i), "metric": metric, "value": float(value), "weight": 1.0}
        for i, (one, count) in enumerate(zip(right, latents, strict=False))
        for metric, value in (("exact_match", one), ("passes", 9), ("latent_tokens", count))
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(results / "samples.parquet")
    config = {"name": name, "track": "reasoning", "curriculum": {"kind": "lt_tuning"}, "decode": decode}
    return RunFiles(name, seed, config, stages or {}, results)


def test_accuracy_by_budget(tmp_path):
    runs = [_run(tmp_path, "lt", 0, {}, [1, 1, 1, 1])]
    for budget, right in RIGHT.items():
        runs += [_run(tmp_path, f"lt-budget-{budget}", seed, {"budget": budget}, right) for seed in (0, 1)]
    (axes,) = lt_figures.budget(runs).axes
    (line,) = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert line.get_xdata().tolist() == [0, 2, 8]
    assert line.get_ydata().tolist() == pytest.approx([0.25, 0.5, 0.75])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["lt-budget"]


def test_probes_stand_beside_the_run_left_alone(tmp_path):
    runs = [_run(tmp_path, "lt", 0, {}, [1, 1, 1, 0]), _run(tmp_path, "lt-zero", 0, {"probe": "zero"}, [0, 0, 1, 0])]
    runs.append(_run(tmp_path, "lt-budget-2", 0, {"budget": 2}, [1, 1, 1, 1]))
    figure = lt_figures.probes(runs)
    for axes, right in zip(figure.axes, ([0.75, 0.25], [1.0, 0.5]), strict=True):
        marked = [line for line in axes.get_lines() if line.get_marker() == "o"]
        assert [float(line.get_xdata()[0]) for line in marked] == pytest.approx(right)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["latents as they are", "zeros"]
    assert figure.axes[1].get_xlabel() == "right among answers with latents"


def test_where_nothing_thought_a_probe_shows_nothing_of_it(tmp_path):
    runs = [_run(tmp_path, name, 0, {"probe": name}, [1, 0], latents=(0, 0)) for name in ("", "zero")]
    figure = lt_figures.probes(runs)
    assert [
        float(line.get_xdata()[0]) for line in figure.axes[1].get_lines() if line.get_marker() == "o"
    ] == pytest.approx([float("nan")] * 2, nan_ok=True)


def test_insertion_shows_tokens_on_their_confidence_and_a_dot_for_each_latent(tmp_path):
    shown = {"tokens": ["Q", " 2", " =", " 4"], "trained": [False, True, True, True], "confidence": [1, 0.9, 0.1, 0.8],
             "latents": {"2": 2}}  # fmt: skip
    record = {"options": {"tau": 0.3}, "samples": 4, "latents": 6, "shown": [shown]}
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / INSERTION).write_text(json.dumps(record))
    run = _run(tmp_path, "lt", 0, {}, [1], {"hidden": tmp_path / "hidden"})
    axes = lt_figures.insertion([run]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["2", "=", "4"]
    places = {text.get_text(): text.get_position()[0] for text in axes.texts}
    dots = [float(line.get_xdata()[0]) for line in axes.get_lines()]
    assert len(dots) == 2
    assert all(places["2"] < dot < places["="] for dot in dots)
    assert "1.5 latents a sample" in axes.get_title(loc="left")
