"""From runs to scores, tables and figures, on made-up runs whose right answers are known.

Run: pytest tests/report/test_report.py
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptbench.errors import AdaptbenchError
from adaptbench.io import results
from adaptbench.report import tables
from adaptbench.report.figures import draw, palette
from adaptbench.statistics import collect, comparison_table
from tests.support.made_up_runs import DOCUMENTS, described, make_run, report_of
from tools import sweep


def _tables(collected: Path, report: Path, out: Path) -> None:
    comparison_table.write(collected, report)
    tables.write(collected, report, out)


def _figures(collected: Path, report: Path, out: Path) -> None:
    comparison_table.write(collected, report)
    draw.draw(collected, report, out)


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    made = [make_run(tmp_path, "base", 0, 0.25)]
    for seed in (0, 1, 2):
        made.append(make_run(tmp_path, "full", seed, 0.75, bits=2.0))
        made += [
            make_run(tmp_path, f"line-{a}", seed, 0.25 + a / 2, posthoc={"kind": "wise_ft", "alpha": a})
            for a in (0.25, 0.5)
        ]
    return made


def test_scores_are_means_and_paired_changes(runs, tmp_path):
    collect.run(runs, tmp_path / "collected")
    scores = pd.read_csv(tmp_path / "collected/scores.csv").set_index(["run", "task"])
    full = scores.loc[("full", "domain_facts")]
    assert (full["mean"], full["seeds"], full["documents"]) == (0.75, 3, DOCUMENTS)
    assert full["change"] == pytest.approx(0.5)
    assert full["low"] < 0.75 < full["high"]
    assert np.isnan(scores.loc[("base", "domain_facts")]["change"])
    # A ratio: the documents' bits per byte weighted by their bytes, sum(b * b) / sum(b) for value = weight = b.
    b = np.arange(1, DOCUMENTS + 1)
    assert scores.loc[("base", "general_text")]["mean"] == pytest.approx((b * b).sum() / b.sum())
    assert scores.loc[("full", "general_text")]["change"] == pytest.approx((b * b).sum() / b.sum())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "two"}, "damaged"),
        ({"schema_version": "99"}, "schema version 99 is newer"),
        ({"cost": None}, "has no 'cost'"),
        ({"key": None}, "has no 'key.track'"),
        ({"key": "domain/full"}, "has no 'key.track'"),
        ({"key": {"track": "domain", "run": "other", "seed": 1}}, "has the key domain/other/1, not that of its folder"),
        ({"cost": {"stages": {}}}, "has no 'cost.steps'"),
        ({"evaluation_peak_bytes": float("nan")}, "damaged"),
        ({"evaluation_peak_bytes": "much"}, "'much' is no 'evaluation_peak_bytes'"),
    ],
)
def test_a_run_that_lacks_something_is_named_and_the_rest_collected(runs, tmp_path, capsys, change, said):
    content = json.loads(runs[1].read_text()) | change
    runs[1].write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    collect.run(runs, tmp_path / "out")
    line, *rest = capsys.readouterr().err.splitlines()
    assert line.startswith(f"left out: {runs[1]}: ")
    assert said in line
    assert rest == []
    statuses = [run["status"] for run in json.loads((tmp_path / "out/runs.json").read_text())]
    assert statuses.count("left out") == 1


def test_conclusions_of_damaged_answers_are_one_line(collected, tmp_path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/samples.parquet").write_bytes((collected / "samples.parquet").read_bytes()[:500])
    with pytest.raises(AdaptbenchError, match=r"samples\.parquet: damaged"):
        comparison_table.write(tmp_path / "damaged", report_of(tmp_path))


def test_a_missing_or_damaged_run_is_named_and_the_rest_collected(runs, tmp_path, capsys):
    runs[1].unlink()
    runs[2].write_text("{")
    runs[3].with_name("samples.parquet").write_bytes(runs[3].with_name("samples.parquet").read_bytes()[:100])
    future = json.loads(runs[4].read_text()) | {"schema_version": 99}
    runs[4].write_text(json.dumps(future))
    collect.run(runs, tmp_path / "collected")
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line.split(": ", 1)[0] for line in lines] == ["left out"] * 4
    assert "missing" in lines[0]
    assert "damaged" in lines[1]
    assert "damaged" in lines[2]
    assert "newer" in lines[3]
    collected = json.loads((tmp_path / "collected/runs.json").read_text())
    assert [run["status"] for run in collected].count("left out") == 4
    assert len(collected) == len(runs)
    report = report_of(tmp_path)
    _tables(tmp_path / "collected", report, tmp_path / "tables")
    _figures(tmp_path / "collected", report, tmp_path / "figures")
    text = (tmp_path / "tables/domain.md").read_text()
    assert "| full (1 of 3 seeds) |" in text
    assert "| line-0.25 (2 of 3 seeds) |" in text
    assert "Left out, missing or damaged: full seed 0, line-0.25 seed 0, line-0.5 seed 0, full seed 1." in text


def test_runs_that_were_all_skipped_make_a_table_of_reasons(tmp_path):
    key = {"preset": "toy", "track": "domain", "run": "full", "seed": 0}
    skipped = {
        "key": key,
        "status": "skipped",
        "reason": "needs a GPU",
        "config": None,
        "evaluation": {"split": "test"},
    }
    folder = tmp_path / "runs/domain/full/seed0"
    results.write_run(folder, skipped, pd.DataFrame(columns=results.SAMPLE_COLUMNS))
    collect.run([folder / "run.json"], tmp_path / "collected")
    _tables(tmp_path / "collected", report_of(tmp_path), tmp_path / "tables")
    assert "| full | skipped: needs a GPU |" in (tmp_path / "tables/domain.md").read_text()


def _spoil(run: Path, **changed) -> None:
    path = run.with_name("samples.parquet")
    pd.read_parquet(path).assign(**changed).to_parquet(path)


def test_a_run_whose_seeds_answered_other_documents_is_left_out(runs, tmp_path, capsys):
    _spoil(runs[1], document_hash="other")
    collect.run(runs, tmp_path / "collected")
    lines = capsys.readouterr().err.strip().splitlines()
    reason = "full, domain_facts: the seeds did not answer the same documents; run them again"
    assert lines == [f"left out: {reason}"] * 3
    collected = json.loads((tmp_path / "collected/runs.json").read_text())
    assert {run["reason"] for run in collected if run["key"]["run"] == "full"} == {reason}
    assert "full" not in set(pd.read_csv(tmp_path / "collected/scores.csv")["run"])


def test_a_run_of_that_name_on_another_track_stays(runs, tmp_path):
    other = tmp_path / "runs/agent/full/seed0"
    shutil.copytree(runs[1].parent, other)
    content = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(content | {"key": content["key"] | {"track": "agent"}}))
    _spoil(other / "run.json", track="agent")
    _spoil(runs[1], document_hash="other")
    collect.run([*runs, other / "run.json"], tmp_path / "collected")
    scores = pd.read_csv(tmp_path / "collected/scores.csv")
    assert set(scores[scores["run"] == "full"]["track"]) == {"agent"}


def test_runs_that_answered_other_documents_are_not_compared(runs, tmp_path, capsys):
    for run in runs[1], runs[4], runs[7]:
        _spoil(run, document_hash=lambda t: t["document_hash"] + "'")
    collect.run(runs, tmp_path / "collected")
    assert "domain_facts: full and base did not answer the same documents" in capsys.readouterr().err
    scores = pd.read_csv(tmp_path / "collected/scores.csv").set_index(["run", "task"])
    assert np.isnan(scores.loc[("full", "domain_facts"), "change"])
    assert scores.loc[("line-0.5", "domain_facts"), "change"] == pytest.approx(0.25)
    _tables(tmp_path / "collected", report_of(tmp_path), tmp_path / "tables")
    effects = (tmp_path / "tables/domain.md").read_text().split("run against full")[1]
    assert "untestable: domain_facts: base and full did not answer the same documents; run both again" in effects


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_named(runs, tmp_path, capsys, value):
    _spoil(runs[1], value=lambda t: [value, *t["value"][1:]])
    collect.run(runs, tmp_path / "collected")
    named = f"left out: {runs[1].with_name('samples.parquet')}: domain_facts, document 0: the metric is {value}"
    assert capsys.readouterr().err.strip() == named


@pytest.mark.parametrize(
    ("column", "value", "said"), [("weight", float("nan"), "weight is nan"), ("value", "x", "metric is x")]
)
def test_a_weight_or_a_text_that_is_no_number_is_named(runs, tmp_path, capsys, column, value, said):
    _spoil(
        runs[1],
        **{
            column: lambda t: (
                [str(value) if column == "value" else value]
                + [str(one) if column == "value" else one for one in t[column][1:]]
            )
        },
    )
    collect.run(runs, tmp_path / "collected")
    assert capsys.readouterr().err.strip().endswith(f"document 0: the {said}")


def test_what_is_right_or_wrong_in_every_run_has_an_interval_at_its_end(runs, tmp_path):
    for path in runs:
        _spoil(
            path,
            value=lambda t: [
                1.0 if task == "domain_facts" else v for task, v in zip(t["task"], t["value"], strict=True)
            ],
        )
    collect.run(runs, tmp_path / "collected")
    found = pd.read_csv(tmp_path / "collected/scores.csv").query("task == 'domain_facts'")
    assert (found["mean"] == 1).all()
    assert (found["low"] < 1).all()


def test_two_runs_with_one_key_are_named(runs, tmp_path, capsys):
    copy = tmp_path / "runs/domain/full/seed9"
    shutil.copytree(runs[1].parent, copy)
    collect.run([*runs, copy / "run.json"], tmp_path / "collected")
    assert (
        capsys.readouterr().err.strip()
        == f"left out: {copy / 'run.json'}: has the key of {runs[1]}; delete one of both"
    )
    assert pd.read_csv(tmp_path / "collected/scores.csv").query("run == 'full'")["seeds"].max() == 3


def test_a_metric_that_is_not_a_number_is_refused():
    with pytest.raises(AdaptbenchError, match="domain_facts, document 3: the metric is nan"):
        results.finite(float("nan"), "domain_facts, document 3")


@pytest.fixture
def collected(runs, tmp_path) -> Path:
    skipped = {
        "key": {"preset": "toy", "track": "domain", "run": "odd_one", "seed": 0},
        "status": "skipped",
        "reason": "needs a GPU",
    }
    skipped |= {"config": None, "evaluation": {"split": "test"}}
    folder = tmp_path / "runs/domain/odd_one/seed0"
    results.write_run(folder, skipped, pd.DataFrame(columns=results.SAMPLE_COLUMNS))
    collect.run([*runs, folder / "run.json"], tmp_path / "collected")
    return tmp_path / "collected"


def test_tables_show_every_run_with_interval_and_a_skipped_one_with_its_reason(collected, tmp_path):
    _tables(collected, report_of(tmp_path), tmp_path / "tables")
    text = (tmp_path / "tables/domain.md").read_text()
    lines = text.splitlines()
    scored, against = text.split("\n\n")[:2]
    for block in (scored, against):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    full = next(line for line in lines if line.startswith("| full |"))
    assert "**0.750 [" in full  # the best
    assert "domain facts (accuracy, n = 40)" in lines[0]
    # 10 of 40 documents fewer are right half-way to the base.
    half = next(line for line in against.splitlines() if line.startswith("| line-0.5 |"))
    assert [cell.strip() for cell in half.split("|")[2:5]] == ["-0.250 [-0.390, -0.110]", "< 0.001", "worse"]
    # Forgotten: the base had 0.875, full has 0.625.
    assert "0.250 [" in full
    assert any(line.startswith("| odd_one | skipped: needs a GPU |") for line in lines)
    assert "3 seeds" in lines[-1]
    numbers = pd.read_csv(tmp_path / "tables/domain.csv")
    assert set(numbers["run"]) == {"base", "full", "line-0.25", "line-0.5", "odd_one"}
    assert numbers.loc[numbers["run"] == "odd_one", "skipped"].item() == "needs a GPU"
    assert numbers.loc[numbers["run"] == "full", "stage_seconds"].iloc[0] == 3.0


def test_a_run_group_has_a_table_and_figures_of_its_own_and_a_run_that_is_missing_a_row(collected, tmp_path):
    group = {"track": "domain", "runs": ["base", "line-0.5", "lost"]}
    report = report_of(tmp_path, ablation=group, other={"track": "agent", "runs": ["base", "full"]})
    _tables(collected, report, tmp_path / "tables")
    _figures(collected, report, tmp_path / "figures")
    assert set(pd.read_csv(tmp_path / "tables/ablation.csv")["run"]) == {"base", "line-0.5"}
    lines = (tmp_path / "tables/ablation.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:5]] == group["runs"]
    assert lines[4].startswith("| lost | missing |")
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {
        f"{table}_{name}" for table in ("domain", "ablation") for name in ("forgetting", "scores", "loss", "effects")
    } | {"cost"}
    # A track of which nothing is done has no table.
    assert not list((tmp_path / "tables").glob("other*"))


def test_a_figure_of_some_runs_gives_them_the_colours_that_they_have_among_all(collected, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(draw, "score_bars", lambda scores, look: seen.append(look) or _empty_figure())
    part = {"track": "domain", "runs": ["base", "line-0.5"]}
    _figures(collected, report_of(tmp_path, part=part), tmp_path / "figures")
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert seen[0]["line-0.5"] != seen[0]["full"]


def _empty_figure():
    import matplotlib.pyplot as plt

    return plt.figure()


def test_without_the_base_there_are_scores_but_nothing_is_forgotten(runs, tmp_path):
    collect.run(runs[1:], tmp_path / "collected")
    _tables(tmp_path / "collected", report_of(tmp_path), tmp_path / "tables")
    _figures(tmp_path / "collected", report_of(tmp_path), tmp_path / "figures")
    lines = (tmp_path / "tables/domain.md").read_text().splitlines()
    assert lines[2].startswith("| base | missing |")
    assert "nan" not in "".join(lines)
    full = next(line for line in lines if line.startswith("| full |"))
    assert "0.750 [" in full
    assert full.split("|")[4].strip() == ""


def test_a_method_draws_its_own_figures_from_the_files_of_its_runs(collected, tmp_path, monkeypatch):
    from adaptbench import registry

    seen = []

    def drawing(files):
        import matplotlib.pyplot as plt

        seen.extend(files)
        return plt.figure()

    monkeypatch.setattr(registry.method("posthoc", "wise_ft"), "FIGURES", {"curve": drawing}, raising=False)
    report = report_of(tmp_path)
    figure = {"wise_ft_curve": {"axis": "posthoc", "kind": "wise_ft", "name": "curve"}}
    report.write_text(json.dumps(json.loads(report.read_text()) | {"figures": figure}))
    _figures(collected, report, tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").glob("wise_ft_*")} == {
        f"wise_ft_curve.{s}" for s in ("svg", "pdf", "png")
    }
    assert {(one.name, one.seed) for one in seen} == {(f"line-{a}", seed) for a in (0.25, 0.5) for seed in (0, 1, 2)}
    assert seen[0].stages == {"tune": tmp_path / "stages/s"}
    assert seen[0].results == tmp_path / f"runs/domain/{seen[0].name}/seed{seen[0].seed}"
    assert seen[0].config["posthoc"]["kind"] == "wise_ft"


def test_a_figure_that_lacks_a_file_says_so_and_the_others_are_drawn(collected, tmp_path, monkeypatch, capsys):
    from adaptbench import registry

    def drawing(files):
        return (files[0].stages["tune"] / "lost.json").read_text()

    monkeypatch.setattr(registry.method("posthoc", "wise_ft"), "FIGURES", {"curve": drawing}, raising=False)
    report = report_of(tmp_path)
    figure = {"wise_ft_curve": {"axis": "posthoc", "kind": "wise_ft", "name": "curve"}}
    report.write_text(json.dumps(json.loads(report.read_text()) | {"figures": figure}))
    _figures(collected, report, tmp_path / "figures")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("wise_ft_curve is not drawn: FileNotFoundError: ")
    assert "lost.json" in said[0]
    assert said[0].endswith("; run that stage again")
    assert "is not drawn" in (tmp_path / "figures/wise_ft_curve.svg").read_text()
    assert (tmp_path / "figures/cost.svg").exists()


def test_a_figure_with_a_mistake_names_its_line_and_asks_for_no_stage(collected, tmp_path, monkeypatch, capsys):
    from adaptbench import registry

    def drawing(files):
        return files[0].stages["long"]

    monkeypatch.setattr(registry.method("posthoc", "wise_ft"), "FIGURES", {"curve": drawing}, raising=False)
    report = report_of(tmp_path)
    figure = {"wise_ft_curve": {"axis": "posthoc", "kind": "wise_ft", "name": "curve"}}
    report.write_text(json.dumps(json.loads(report.read_text()) | {"figures": figure}))
    _figures(collected, report, tmp_path / "figures")
    line = drawing.__code__.co_firstlineno + 1
    assert capsys.readouterr().err == f"wise_ft_curve is not drawn: KeyError: 'long' (test_report.py:{line})\n"


def test_figures_are_the_same_bytes_for_the_same_numbers(collected, tmp_path):
    for folder in ("one", "two"):
        _figures(collected, report_of(tmp_path), tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 15
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_a_run_has_one_colour_everywhere_and_a_curve_shares_it():
    line = [described(f"line-{alpha}", posthoc={"kind": "wise_ft", "alpha": alpha}) for alpha in (0.25, 0.5)]
    loras = [described("lora-8", tuner="lora"), described("lora-16", tuner="lora")]
    look = palette.styles([described("base"), *loras, *line])
    assert look["line-0.25"] == look["line-0.5"]
    assert look["lora-8"] != look["lora-16"]
    probe = described("lora-8-probe", tuner="lora")
    probe["config"]["decode"] = {"probe": "zero"}
    asked = palette.styles([described("base"), loras[0], probe])
    assert asked["lora-8-probe"]["color"] == asked["lora-8"]["color"]
    assert asked["lora-8-probe"]["markerfacecolor"] == "white"
    many = palette.styles([described(f"run-{i}", tuner=str(i)) for i in range(40)])
    assert len({tuple(style.values()) for style in many.values()}) == 40


def test_the_sweep_takes_the_best_rate_and_of_equal_ones_the_lowest(tmp_path):
    made = [make_run(tmp_path, "base", 100, 0.25, split="validation")]
    for rate, accuracy in ((1e-2, 0.9), (3e-4, 0.5), (1e-3, 0.875), (3e-3, 0.9)):
        made.append(make_run(tmp_path, f"full-{rate:g}", 100, accuracy, split="validation"))
    for rate, accuracy in ((1e-5, 0.1), (3e-4, 0.9)):
        made.append(make_run(tmp_path, f"lora-r8-{rate:g}", 100, accuracy, split="validation"))
    collect.run(made, tmp_path / "collected")
    sweep.choose(tmp_path / "collected", tmp_path / "rates.csv")
    table = pd.read_csv(tmp_path / "rates.csv")
    chosen = table[table["chosen"]].set_index("run")["value"]
    assert dict(chosen) == {"full": 3e-3, "lora-r8": 3e-4}
    assert set(table["run"]) == {"full", "lora-r8"}
    assert set(table["option"]) == {"learning_rate"}


@pytest.mark.parametrize("name", ["norms-slow", "norms", "0.003", "norms-3e", "norms-1.2.3"])
def test_a_run_of_a_sweep_that_is_not_named_by_its_rate_is_refused(tmp_path, name):
    made = [make_run(tmp_path, "base", 100, 0.25, split="validation")]
    made += [make_run(tmp_path, one, 100, 0.5, split="validation") for one in ("norms-0.003", name)]
    collect.run(made, tmp_path / "collected")
    with pytest.raises(AdaptbenchError, match=rf"the run '{name}' must be named <name>-<value>"):
        sweep.choose(tmp_path / "collected", tmp_path / "rates.csv")
    assert not (tmp_path / "rates.csv").exists()


def test_a_sweep_without_trained_runs_is_refused(tmp_path):
    collect.run([make_run(tmp_path, "base", 100, 0.25, split="validation")], tmp_path / "collected")
    with pytest.raises(AdaptbenchError, match="no scores of trained runs"):
        sweep.choose(tmp_path / "collected", tmp_path / "rates.csv")


def test_a_rate_is_never_chosen_by_two_tasks_at_once(tmp_path):
    made = [make_run(tmp_path, "base", 100, 0.25, split="validation")]
    made += [make_run(tmp_path, f"full-{rate:g}", 100, 0.5, split="validation") for rate in (1e-3, 1e-2)]
    for run in made:
        path = run.with_name("samples.parquet")
        rows = results.read_samples(path)
        other = rows.assign(task="gsm8k_validation", metric="bits_per_byte")
        pd.concat([rows, other], ignore_index=True).to_parquet(path)
    collect.run(made, tmp_path / "collected")
    with pytest.raises(AdaptbenchError, match="domain/full has several primary tasks"):
        sweep.choose(tmp_path / "collected", tmp_path / "rates.csv")


def test_the_caption_says_what_the_numbers_rest_on(runs, tmp_path):
    one = [run for run in runs if "seed0" in str(run)]
    for run in one:
        content = json.loads(run.read_text())
        run.write_text(json.dumps(content | {"evaluation": {"split": "validation", "limit": 7}}))
    collect.run(one, tmp_path / "collected")
    _tables(tmp_path / "collected", report_of(tmp_path), tmp_path / "tables")
    caption = (tmp_path / "tables/domain.md").read_text().splitlines()[-1]
    assert "over the documents, 1 seed" in caption
    assert "Only the first 7 documents of each task. On validation." in caption


def test_rates_are_never_chosen_on_a_test(collected, tmp_path):
    with pytest.raises(AdaptbenchError, match="never chosen on a test"):
        sweep.choose(collected, tmp_path / "rates.csv")


def test_the_sweep_of_a_preset_is_a_preset_on_validation_under_a_seed_of_its_own():
    from adaptbench.config import load
    from tests.support.project import PROJECT

    tiny = load.load(PROJECT / "config/tiny.yaml")
    made = load.validate(sweep.values(tiny), "sweep")
    assert made.evaluation.split == "validation"
    assert not set(made.seeds) & set(tiny.seeds)
    trained = [run for run in tiny.runs if run.posthoc is None]
    assert len(made.runs) == len(trained) * len(sweep.GRID), "every method has as many tries"
    found = {run.name: run for run in made.runs}
    for run in trained:
        (section, option), grid = sweep.swept(run.curriculum.kind)
        for value in grid:
            assert getattr(getattr(found[f"{run.name}-{value:g}"], section), option) == value


def test_what_begins_with_another_methods_stage_keeps_that_stages_rate_in_the_sweep():
    from adaptbench.config import load
    from tests.support.project import PROJECT

    tiny = load.load(PROJECT / "config/tiny.yaml")
    made = load.validate(sweep.values(tiny), "sweep")
    rates = {run.name: run.training.learning_rate for run in tiny.runs}
    of_glpft = [run for run in made.runs if run.curriculum.kind == "glpft"]
    assert len({run.curriculum.local_rate_ratio for run in of_glpft}) == len(of_glpft) == len(sweep.GRID)
    assert {run.training.learning_rate for run in of_glpft} == {rates["single"]}


def test_the_default_preset_uses_the_rates_that_the_committed_sweep_chose():
    from adaptbench.config import load
    from tests.support.project import PROJECT

    table = pd.read_csv(PROJECT / "results/reference/sweep/tiny.csv")
    chosen = table[table["chosen"]].set_index("run")
    tiny = load.load(PROJECT / "config/tiny.yaml")
    for run in tiny.runs:
        # A post-hoc step trains nothing: its model is that of the run whose name its tuner has.
        row = chosen.loc[run.name if run.posthoc is None else run.tuner.kind]
        (section, option), tried = sweep.swept(run.curriculum.kind)
        assert row["option"] == option
        assert getattr(getattr(run, section), option) == row["value"], run.name
        assert set(table[table["run"] == row.name]["value"]) == set(tried)
