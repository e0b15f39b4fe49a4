"""What ADEPT's figures show.

Run: python -m pytest tests/methods/test_adept_figures.py
"""

import json

from matplotlib.colors import to_hex

from adaptbench.contracts import RunFiles
from adaptbench.methods.tuners import adept_figures


def _probed_run(folder, name, placement, importance, chosen, seed=0):
    for stage in ("probe", "expand"):
        (folder / stage).mkdir(parents=True)
    (folder / "probe/importance.json").write_text(json.dumps({"importance": importance}))
    (folder / "expand/chosen.json").write_text(json.dumps(chosen))
    stages_made = {"probe": folder / "probe", "expand": folder / "expand"}
    return RunFiles(name, seed, {"tuner": {"kind": "adept", "placement": placement}}, stages_made, folder)


def test_the_layers_figure_has_every_importance_and_another_colour_for_the_chosen(tmp_path, drawing):
    low = _probed_run(tmp_path / "a", "low", "lowest", [0.5, -0.1, 2.0, 0.2], [1, 3])
    high = _probed_run(tmp_path / "b", "high", "highest", [0.5, -0.1, 2.0, 0.25], [2])
    again = _probed_run(tmp_path / "c", "low", "lowest", [0.5, -0.1, 2.0, 0.2], [1, 3], seed=1)
    blind = RunFiles("suffix", 0, {"tuner": {"kind": "adept", "placement": "suffix"}}, {"expand": tmp_path}, tmp_path)
    figure = adept_figures.layer_importance([blind, low, again, high])
    assert len(figure.axes) == 2
    panels = zip(figure.axes, ("lowest", "highest"), ([0.5, -0.1, 2.0, 0.2], [0.5, -0.1, 2.0, 0.25]), strict=True)
    for (axes, placement, heights), chosen in zip(panels, ({1, 3}, {2}), strict=True):
        assert placement in axes.get_title(loc="left")
        assert [bar.get_height() for bar in axes.patches] == heights
        assert [round(bar.get_x() + bar.get_width() / 2, 9) for bar in axes.patches] == [0, 1, 2, 3]
        colours = {layer: to_hex(bar.get_facecolor()) for layer, bar in enumerate(axes.patches)}
        assert len({colours[layer] for layer in chosen}) == 1
        assert len({colours[layer] for layer in set(range(4)) - chosen}) == 1
        assert len(set(colours.values())) == 2
    figure.savefig(tmp_path / "figure.svg")


def _tuned_run(folder, name, rates, seed=0):
    """A log of eight steps; `rates` by step and unit."""
    folder.mkdir()
    rows = [{"step": step, "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0} for step in range(1, 9)]
    for step, by_unit in rates.items():
        rows[step - 1] |= {f"importance/{unit}": 5.0 for unit in by_unit}
        rows[step - 1] |= {f"multiplier/{unit}": value for unit, value in by_unit.items()}
    (folder / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunFiles(name, seed, {"tuner": {"kind": "adept"}}, {"tune": folder}, folder)


def test_the_rates_figure_has_a_row_for_each_unit_and_a_column_for_each_refresh(tmp_path, drawing):
    names = ["model.layers.12.self_attn.q_proj.weight", "model.layers.12.self_attn.q_proj.bias"]
    names += ["model.layers.12.self_attn.q_norm.weight"]
    values = {3: [0.0, 1.5, 1.0], 6: [2.0, 0.5, 1.25]}
    rates = {step: dict(zip(names, row, strict=True)) for step, row in values.items()}
    run = _tuned_run(tmp_path / "a", "ranked", rates)
    later = _tuned_run(tmp_path / "b", "ranked", {2: dict.fromkeys(names, 1.0)}, seed=1)
    fixed = _tuned_run(tmp_path / "c", "uniform", {})
    short = _tuned_run(tmp_path / "d", "short", {8: dict.fromkeys(names[:2], 2.0)})
    figure = adept_figures.unit_rates([run, later, fixed, short])
    panels = {axes.get_title(): axes for axes in figure.axes if axes.images}
    assert list(panels) == ["ranked", "short"]
    (image,) = panels["ranked"].images
    assert image.get_array().tolist() == [[0.0, 2.0], [1.5, 0.5], [1.0, 1.25]]
    assert [label.get_text() for label in panels["ranked"].get_yticklabels()] == [
        "12 q_proj",
        "12 q_proj.bias",
        "12 q_norm",
    ]
    assert [label.get_text() for label in panels["ranked"].get_xticklabels()] == ["3", "6"]
    assert panels["short"].images[0].get_array().tolist() == [[2.0], [2.0]]
    for axes in panels.values():
        assert axes.images[0].get_clim() == (0, 2)
    figure.savefig(tmp_path / "figure.svg")


def test_rates_measured_before_the_first_step_are_a_column_of_step_0(tmp_path, drawing):
    unit = "model.layers.1.mlp.up_proj.weight"
    later = _tuned_run(tmp_path / "a", "both", {4: {unit: 0.5}})
    alone = _tuned_run(tmp_path / "b", "alone", {})
    for run in (later, alone):
        path = run.stages["tune"] / "training.jsonl"
        first, *rest = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(first) | {f"start/multiplier/{unit}": 1.5}), *rest, ""]))
    figure = adept_figures.unit_rates([later, alone])
    panels = {axes.get_title(): axes for axes in figure.axes if axes.images}
    shown = {name: axes.images[0].get_array().tolist() for name, axes in panels.items()}
    assert shown == {"both": [[1.5, 0.5]], "alone": [[1.5]]}
    assert [label.get_text() for label in panels["both"].get_xticklabels()] == ["0", "4"]
    assert [label.get_text() for label in panels["both"].get_yticklabels()] == ["1 up_proj"]


def test_of_several_stages_the_first_one_s_rates_are_shown(tmp_path, drawing):
    unit = "model.layers.1.mlp.up_proj.weight"
    first = _tuned_run(tmp_path / "a", "team", {4: {unit: 0.5}}).results
    second = _tuned_run(tmp_path / "b", "team", {2: {unit: 1.5}}).results
    (tmp_path / "expand").mkdir()
    stages_made = {"expand": tmp_path / "expand", "global": first, "planner": second}
    figure = adept_figures.unit_rates([RunFiles("team", 0, {"tuner": {"kind": "adept"}}, stages_made, tmp_path)])
    (image,) = next(axes.images for axes in figure.axes if axes.get_title() == "team")
    assert image.get_array().tolist() == [[0.5]]


def test_the_figures_of_runs_that_measured_nothing_are_empty_and_no_mistake(tmp_path, drawing):
    run = _tuned_run(tmp_path / "a", "uniform", {})
    for draw in (adept_figures.layer_importance, adept_figures.unit_rates):
        figure = draw([run])
        assert not any(axes.images or axes.patches for axes in figure.axes)
        figure.savefig(tmp_path / "figure.svg")
