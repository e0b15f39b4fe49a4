"""The unfolding of a preset into stages: what is shared, what changes what, and that planning is cheap.

Run: pytest tests/graph/test_graph.py
"""

import copy
import importlib.util
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaptbench.config import load, yaml_text
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import plan_files, rules, surroundings, targets, unfolding
from adaptbench.graph.nodes import Graph, Node
from adaptbench.jobs import warm
from tests.support.presets import preset_values
from tests.support.project import PROJECT


def unfold(values: dict) -> Graph:
    return unfolding.unfold(load.validate(values, "toy.yaml"))


def changed(path: tuple, value) -> dict:
    values = copy.deepcopy(preset_values())
    place = values
    for part in path[:-1]:
        place = place.setdefault(part, {}) if isinstance(place, dict) else place[part]
    place[path[-1]] = value
    return values


def models(values: dict) -> dict[str, str]:
    return {e.run: e.model for e in unfold(values).evaluations}


def test_equal_stages_of_different_runs_are_one_node():
    values = preset_values()
    for alpha in (0.25, 0.75):
        posthoc = {"kind": "wise_ft", "alpha": alpha}
        values["runs"].append(values["runs"][0] | {"name": f"line-{alpha}", "posthoc": posthoc})
    values["runs"].append(values["runs"][0] | {"name": "full-again"})
    unfolded = unfold(values)
    trained = [node for node in unfolded.nodes.values() if node.kind == "train"]
    assert len(trained) == 3
    by_run = {e.run: e.model for e in unfolded.evaluations}
    assert by_run["full"] == by_run["full-again"]
    assert by_run["line-0.25"] != by_run["line-0.75"]
    assert unfolded.nodes[by_run["line-0.25"]].parents["end"] == by_run["full"]


def test_a_preparation_without_a_seed_is_shared_between_seeds():
    unfolded = unfold(preset_values() | {"seeds": [0, 1, 2]})
    assert len([node for node in unfolded.nodes.values() if node.kind == "prepare"]) == 1
    assert len([node for node in unfolded.nodes.values() if node.kind == "train"]) == 9


def test_an_option_changes_its_own_run_alone():
    before, after = models(preset_values()), models(changed(("runs", 2, "tuner", "rank"), 5))
    assert {run for run in before if before[run] != after[run]} == {"lora"}


def test_a_change_of_the_base_changes_every_model():
    before, after = models(preset_values()), models(changed(("base", "seed"), 7))
    assert all(before[run] != after[run] for run in before)


def test_a_base_for_each_seed():
    values = preset_values() | {"seeds": [3, 5]}
    shared = unfold(values)
    own = unfold(values | {"base": values.get("base", {}) | {"per_seed": True}})
    base = {e.seed: e.model for e in own.evaluations if e.run == "base"}
    assert [e.seed for e in shared.evaluations if e.run == "base"] == [0]
    assert {seed: own.nodes[node].options["seed"] for seed, node in base.items()} == {3: 3, 5: 5}
    for graph_, bases in ((own, base), (shared, dict.fromkeys((3, 5), models(values)["base"]))):
        for evaluation in graph_.evaluations:
            if evaluation.run != "base":
                kinds = [one for one in graph_.ancestors(evaluation.model) if graph_.nodes[one].kind == "base"]
                assert kinds == [bases[evaluation.seed]]


def test_each_bases_layers_are_probed_for_themselves():
    values = preset_values() | {"seeds": [3, 5]}
    own = unfold(values | {"base": values.get("base", {}) | {"per_seed": True}})
    prepared = [node for node in own.nodes.values() if node.kind == "prepare"]
    assert len({node.parents["base"] for node in prepared}) == len(prepared) == 2


def test_names_and_housekeeping_change_nothing():
    before = models(preset_values())
    renamed = changed(("runs", 0, "name"), "all-weights")
    assert models(renamed)["all-weights"] == before["full"]
    assert models(changed(("checkpoint_seconds",), 5.0)) == before


def test_data_and_seed_are_in_the_identity():
    before = models(preset_values())
    assert models(changed(("data", "seed"), 1))["full"] != before["full"]
    assert models(changed(("data", "domain", "entities"), 40))["full"] != before["full"]
    assert models(changed(("seeds",), [1]))["full"] != before["full"]


def test_a_named_base_is_not_pretrained(tmp_path):
    unfolded = unfold(preset_values() | {"base": {"model": "owner/name"}})
    kinds = {node.kind for node in unfolded.nodes.values()}
    assert "imported_base" in kinds
    assert not kinds & {"base", "tokenizer"}


def test_scores_read_the_tasks_of_the_preset():
    unfolded = unfold(preset_values())
    tasks = {node.id for node in unfolded.nodes.values() if node.kind == "tasks"}
    for evaluated in unfolded.evaluations:
        assert set(evaluated.tasks.values()) <= tasks


@pytest.mark.parametrize(
    ("track", "curriculum", "more", "decoding"),
    [
        ("domain", "cpt", {}, "plain"),
        ("domain", "cpt", {"posthoc": {"kind": "wise_ft", "alpha": 0.5}}, "plain"),
        ("domain", "cpt", {"decode": {"kind": "agent"}}, "agent"),
        ("agent", "single", {}, "agent"),
        ("agent", "glpft", {}, "agent"),
        ("agent", "glpft", {"tuner": {"kind": "lora"}}, "agent"),
        ("reasoning", "no_cot", {}, "latent"),
        ("reasoning", "lt_tuning", {"decode": {"probe": "zero"}}, "latent"),
    ],
)
def test_how_a_run_decodes_is_known_before_it_is_trained(track, curriculum, more, decoding):
    values = preset_values()
    values["data"] |= {"agent": {"kind": "world"}, "reasoning": {"kind": "chains"}}
    run = {"name": "it", "track": track, "curriculum": {"kind": curriculum}, "tuner": {"kind": "full"}}
    values["runs"].append(run | more)
    unfolded = unfold(values)
    found = {(one.track, one.run): unfolded.decoding(one) for one in unfolded.evaluations}
    assert found[track, "it"] == decoding
    assert found["domain", "base"] == "plain"
    assert found.get((track, "base")) in (decoding, "plain")
    assert {one for (_, run), one in found.items() if run in ("majority", "always-call")} <= {"policy"}


def test_a_skipped_run_needs_no_model_and_keeps_its_reason(monkeypatch):
    from adaptbench.methods.tuners import lora

    monkeypatch.setattr(lora, "skip_reason", lambda config: "peft is not installed")
    unfolded = unfold(preset_values())
    skipped = next(e for e in unfolded.evaluations if e.run == "lora")
    assert skipped.model is None
    assert skipped.skipped == "lora: peft is not installed"
    assert not any("lora" in node for node in unfolded.nodes)


def test_the_plan_holds_what_a_stage_needs_and_a_second_plan_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfolded = unfold(preset_values())
    folder = plan_files.write(unfolded)
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert (
        len(stamps) == len(unfolded.nodes) + len(unfolded.evaluations) + 4
    )  # report-main.json, paper.json, between.json, runs.json
    trained = next(node for node in unfolded.nodes.values() if node.kind == "train")
    spec = json.loads((folder / f"{trained.id}.json").read_text())
    assert spec["options"] == json.loads(json.dumps(trained.options))
    assert set(spec["inputs"]) == set(trained.parents)
    plan_files.write(unfold(preset_values()))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_runs_are_shown_in_the_tables_that_they_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = preset_values()
    values["runs"][1]["tables"] = ["domain", "ablation"]
    values["runs"][2]["tables"] = ["ablation"]
    unfolded = unfold(values)
    shown = {name: (table["track"], table["runs"]) for name, table in plan_files.tables(unfolded, "main").items()}
    assert shown == {"domain": ("domain", ["base", "full", "pro"]), "ablation": ("domain", ["base", "pro", "lora"])}
    assert "results/toy/tables/ablation.tex" in targets.reports(unfolded, "main")
    assert "results/toy/figures/ablation_scores.svg" in targets.reports(unfolded, "main")
    # Where a run is shown changes no stage and no evaluation.
    assert models(values) == models(preset_values())
    assert [e.digest for e in unfolded.evaluations] == [e.digest for e in unfold(preset_values()).evaluations]


def test_an_ablation_has_tables_of_its_own_and_is_not_part_of_the_main_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = preset_values()
    values["runs"][1]["tables"] = ["domain", "ablation_pro"]
    values["ablation"] = [
        values["runs"][1] | {"name": "pro-3", "tuner": {"kind": "llama_pro", "layers": 3}, "tables": ["ablation_pro"]}
    ]
    unfolded = unfold(values)
    assert plan_files.parts(unfolded) == ("main", "ablation")
    assert list(plan_files.tables(unfolded, "main")) == ["domain"]
    assert {name: table["runs"] for name, table in plan_files.tables(unfolded, "ablation").items()} == {
        "ablation_pro": ["base", "pro", "pro-3"]
    }
    shown = {
        part: {path.split("/")[4] for path in plan_files.runs(unfolded, part)} for part in plan_files.parts(unfolded)
    }
    assert shown == {"main": {"base", "full", "pro", "lora"}, "ablation": {"base", "pro", "pro-3"}}
    assert not set(targets.reports(unfolded, "main")) & set(targets.reports(unfolded, "ablation"))
    tables, figures = (targets.by_name(unfolded, names) for names in (targets.table_names, targets.figure_names))
    assert tables["domain"] == figures["domain_loss"] == "main"
    assert tables["ablation_pro"] == figures["ablation_cost"] == "ablation"


def test_figures_of_a_method_are_planned_where_one_of_its_runs_is(tmp_path, monkeypatch):
    from adaptbench.methods.tuners import adept_figures, llama_pro, lora

    monkeypatch.setattr(llama_pro, "FIGURES", {"depth": adept_figures.unit_rates}, raising=False)
    monkeypatch.setattr(lora, "FIGURES", {"ranks": adept_figures.unit_rates}, raising=False)
    monkeypatch.setattr(lora, "skip_reason", lambda config: "peft is not installed")
    unfolded = unfold(preset_values())
    assert plan_files.method_figures(unfolded, "main") == {
        "llama_pro_depth": {"axis": "tuners", "kind": "llama_pro", "name": "depth"}
    }
    assert "results/toy/figures/llama_pro_depth.svg" in targets.reports(unfolded, "main")
    assert rules.drawing(unfolded) == {"llama_pro_depth": ["adaptbench.methods.tuners.llama_pro.FIGURES[depth]"]}


@pytest.mark.parametrize(
    ("decode", "figures"), [({}, set()), ({"budget": 4}, {"budget"}), ({"probe": "zero"}, {"probes"})]
)
def test_a_figure_is_planned_only_where_a_run_sets_the_option_that_it_shows(decode, figures):
    values = preset_values()
    values["data"]["reasoning"] = {"kind": "chains"}
    run = {"name": "latents", "track": "reasoning", "curriculum": {"kind": "lt_tuning"}, "tuner": {"kind": "full"}}
    values["runs"].append(run | {"decode": decode})
    always = {"lt_tuning_insertion", "lt_tuning_geometry"}
    assert set(plan_files.method_figures(unfold(values), "main")) == always | {f"lt_tuning_{name}" for name in figures}


def test_a_benchmark_that_is_only_asked_adds_its_tasks_and_trains_nothing():
    values = preset_values()
    values["data"]["domain_tests"] = [{"kind": "gsm8k"}]
    unfolded = unfold(values)
    assert models(values) == models(preset_values())
    asked = unfolded.evaluations[-1].tasks
    assert list(asked) == ["general", "domain", "domain-gsm8k"]
    made = unfolded.nodes[unfolded.nodes[asked["domain-gsm8k"]].parents["data"]]
    assert made.options["config"]["kind"] == "gsm8k"
    assert set(made.parents) == {"general", "domain"}


def test_the_default_preset_unfolds_fast():
    preset = load.load(PROJECT / "config" / "tiny.yaml")
    started = time.process_time()
    unfolding.unfold(preset)
    assert time.process_time() - started < 0.5


def test_what_compiling_needs_once_is_done_for_stages_that_compile():
    unfolded = surroundings.load_graph({}, [PROJECT / "config/tiny.yaml"])
    compiles = [name for name, node in unfolded.nodes.items() if node.options.get("training", {}).get("compile")]
    kinds = {unfolded.nodes[name].kind for name in compiles}
    assert kinds == {"base", "train"}
    assert rules.modules_to_preload(unfolded, compiles[:1]) == warm.PRELOAD_COMPILER
    assert all(importlib.util.find_spec(name.partition(":")[0]) for name in warm.PRELOAD_COMPILER)
    assert rules.modules_to_preload(unfolded, unfolded.nodes.keys() - compiles) == ()
    assert rules.modules_to_preload(unfolded, ()) == ()


def test_models_that_are_to_go_soon_are_not_made_before_what_reads_them():
    preset = load.load(PROJECT / "config" / "tiny.yaml")
    unfolded = unfolding.unfold(preset.model_copy(update={"keep": "scored"}))
    first = rules.job_priorities(unfolded)
    assert set(first.values()) == {1}
    assert sorted(name[:-11] for name in first) == [
        "agent",
        "base-seed0",
        "base-seed1",
        "base-seed2",
        "general",
        "tokenizer",
    ]


def test_a_base_of_unknown_size_gives_no_order():
    values = yaml_text.parse((PROJECT / "config" / "tiny.yaml").read_text())
    values["base"] = {"model": "somebody/something"}
    values.pop("tokenizer")
    assert rules.job_priorities(unfolding.unfold(load.validate(values, "tiny.yaml"))) == {}


def test_reading_and_planning_a_preset_in_a_new_process_is_quick(project_copy):
    """In processor time, which a busy machine doubles all the same; a second is usual. What takes seconds to import is
    not imported.
    """
    code = (
        "from adaptbench.graph import surroundings; surroundings.load_graph({}, []); import sys; assert not "
        "{'torch', 'transformers', 'pandas', 'datasets'} & sys.modules.keys()"
    )
    command = [sys.executable, "-c", code, str(project_copy)]
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=project_copy, check=True, timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 2.0


def test_an_unreadable_method_file_is_one_line(project_copy: Path):
    (project_copy / "methods" / "tuners" / "broken.py").write_text("import nowhere_to_be_found\n")
    code = "from adaptbench.graph import surroundings; surroundings.load_graph({}, [])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project_copy, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip()
        == "error: methods/tuners/broken.py: ModuleNotFoundError: No module named 'nowhere_to_be_found'"
    )


def test_a_phase_of_another_curriculum_is_shared_with_it(monkeypatch):
    """What GLPFT's global stage and LT-Tuning's explicit stage need: one node for both curricula."""
    from adaptbench.contracts import Phase
    from adaptbench.methods.curricula import cpt

    def two_stages(curriculum, track, training):
        first = Phase("tune", data=(track,), curriculum=cpt.Config())
        return (
            (first, Phase("more", parent="tune", data=(track,)))
            if curriculum.replay
            else (Phase("tune", data=(track,)),)
        )

    monkeypatch.setattr(cpt, "phases", two_stages)
    values = preset_values()
    values["runs"].append(values["runs"][0] | {"name": "twice", "curriculum": {"kind": "cpt", "replay": 0.5}})
    unfolded = unfold(values)
    by_run = {e.run: e.model for e in unfolded.evaluations}
    assert unfolded.nodes[by_run["twice"]].parents["model"] == by_run["full"]


def test_a_tuner_gets_the_data_and_the_preparations_that_it_declares(monkeypatch):
    """What ADEPT's probe and its refresh of unit rates need."""
    from adaptbench.contracts import Preparation
    from adaptbench.methods.tuners import full

    steps = (Preparation("probe", makes_model=False, data=("general",)), Preparation("expand"))
    monkeypatch.setattr(full, "preparations", lambda config: steps, raising=False)
    monkeypatch.setattr(full, "data", lambda config: ("general",), raising=False)
    unfolded = unfold(preset_values())
    trained = unfolded.nodes[next(e.model for e in unfolded.evaluations if e.run == "full")]
    assert set(trained.parents) == {"model", "data.domain", "data.general", "prepared.probe", "prepared.expand"}
    assert trained.parents["model"] == trained.parents["prepared.expand"]
    expand = unfolded.nodes[trained.parents["prepared.expand"]]
    assert set(expand.parents) == {"base", "probe"}


def test_how_a_model_decodes_can_be_changed_without_training_again():
    values = preset_values()
    values["runs"].append(values["runs"][0] | {"name": "other-decoding", "decode": {"kind": "agent", "max_turns": 4}})
    found = {e.run: e for e in unfold(values).evaluations}
    assert found["other-decoding"].model == found["full"].model
    assert found["other-decoding"].options["decode"] == {"kind": "agent", "max_turns": 4}
    assert found["other-decoding"].digest != found["full"].digest


def test_a_lineage_may_be_longer_than_the_interpreters_stack():
    long = 5 * sys.getrecursionlimit()
    nodes = {str(n): Node(str(n), "train", {}, {"model": str(n - 1)} if n else {}) for n in range(long)}
    assert Graph(load.validate(preset_values(), "toy.yaml"), nodes, ()).ancestors(str(long - 1)) == tuple(nodes)


def test_a_run_that_the_preset_does_not_have_is_named():
    with pytest.raises(AdaptbenchError, match="domain/ful/seed0: preset 'toy' has no such run or seed"):
        unfold(preset_values()).evaluation("domain/ful/seed0")


def test_several_phases_are_assembled_into_one_directory(monkeypatch):
    """What a team of three models needs."""
    from adaptbench.contracts import Phase
    from adaptbench.methods.curricula import cpt

    roles = ("planner", "caller")
    monkeypatch.setattr(cpt, "phases", lambda config, track, training: tuple(Phase(r, data=(track,)) for r in roles))
    monkeypatch.setattr(cpt, "assemble", lambda *arguments: {}, raising=False)
    unfolded = unfold(preset_values())
    end = unfolded.nodes[next(e.model for e in unfolded.evaluations if e.run == "full")]
    assert end.kind == "assemble"
    assert set(end.parents) == {"start", *roles}
