"""The figures of conclusions show what the numbers say.

Run: python -m pytest tests/report/test_effects.py
"""

import matplotlib as mpl
import pandas as pd
import pytest

from adaptbench.report.figures import effects


def test_the_front_holds_whatever_no_other_point_beats():
    points = [(0.1, 0.9), (0.5, 0.5), (0.4, 0.5), (0.5, 0.4), (0.9, 0.1), (0.2, 0.2), (0.5, 0.5)]
    beaten = {p for p in points for q in points if q != p and q[0] >= p[0] and q[1] >= p[1]}
    assert effects.pareto(points) == sorted(set(points) - beaten)


@pytest.mark.parametrize("verdict", ["better", "tie"])
def test_the_forest_has_the_effects_and_fills_what_differs(verdict):
    mpl.use("Agg")
    row = {
        "kind": "baseline",
        "task": "domain_facts",
        "run": "lora",
        "against": "full",
        "effect": 0.2,
        "low": 0.1,
        "high": 0.35,
    }
    compared = pd.DataFrame([row | {"verdict": verdict}, row | {"kind": "leader", "run": "other", "verdict": "tie"}])
    figure = effects.forest(compared, ["full", "lora", "other"], {"lora": {"color": "#0072B2"}})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["lora"]
    (errors,) = axes.containers
    data, _, (bar,) = errors.lines
    assert data.get_xdata().tolist() == [0.2]
    assert (data.get_markerfacecolor() == "white") == (verdict == "tie")
    assert bar.get_segments()[0][:, 0].tolist() == pytest.approx([0.1, 0.35])
    # the title lies within the figure: one that sticks out makes saved images wider than their panels
    figure.canvas.draw()
    (title,) = figure.texts
    assert title.get_window_extent().x1 <= figure.bbox.width


def test_a_table_without_comparisons_has_an_empty_forest():
    mpl.use("Agg")
    empty = pd.DataFrame(columns=["kind", "task", "run", "against", "effect", "low", "high", "verdict"])
    assert len(effects.forest(empty, ["full"], {}).axes) == 1
