"""What a job depends on: found from imports, whole where it must be, and nothing more.

Run: pytest tests/graph/test_sources.py
"""

import ast
import importlib
import inspect
import json
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from adaptbench import registry
from adaptbench.config import load
from adaptbench.evaluate import score
from adaptbench.graph import plan_files, rules, sources, targets, unfolding
from adaptbench.graph.imports import Module
from adaptbench.graph.nodes import Graph
from adaptbench.stages.job import KINDS
from tests.support.project import PROJECT

FOLDERS = ("adaptbench", "benchmarks", "kernels", "methods")
EVERY = sorted(path.relative_to(PROJECT).as_posix() for folder in FOLDERS for path in (PROJECT / folder).rglob("*.py"))
OTHERS = targets.files_of_project("adaptbench/**/*.*", "benchmarks/*/tasks/*", "benchmarks/*/papers/*")
RUNS = (("domain", "lora"), ("domain", "llama-pro"), ("agent", "glpft"), ("reasoning", "lt-tuning"))
TRAINED, SCORED = ("base", "train"), ("evaluation",)


@pytest.fixture(scope="module")
def smoke_graph() -> Graph:
    return unfolding.unfold(load.load(PROJECT / "config/smoke.yaml"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of the code, to edit."""
    root = tmp_path_factory.mktemp("code")
    for name in {*EVERY, *OTHERS}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((PROJECT / name).read_bytes())
    return root


@pytest.fixture(scope="module")
def digests(smoke_graph, copy):
    """Gives the digest of every stage and every run of the smoke preset, and of its reports, by the copy's code as it
    is.
    """

    def taken() -> dict[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            code = sources.Code(copy)
            patch.setattr(sources, "project_code", lambda: code)
            patch.setattr(sources, "Module", lambda name, file: read(name, file, file.read_bytes()))
            found = {node: rules.stage_code(smoke_graph, node) for node in smoke_graph.nodes}
            found |= {one.key: rules.evaluation_code(smoke_graph, one.key) for one in smoke_graph.evaluations}
            drawing = rules.drawing(smoke_graph)
            figures = targets.figure_names(smoke_graph, "main")
            drawn = [rules.report_code("figures", drawing.get(name, ())) for name in figures]
            commands = ("collect", "conclude", "tables", "paper", "transcripts", "explorer")
            return found | {name: rules.report_code(name) for name in commands} | {"figures": " ".join(drawn)}

    return taken


@cache
def read(name: str, file: Path, text: bytes) -> Module:
    """A file of the copy, read once as long as it is the same."""
    return Module(name, file)


@pytest.fixture(scope="module")
def before(digests) -> dict[str, str]:
    return digests()


@pytest.fixture
def changed(copy, digests, before):
    """Gives the jobs that run again after more text at the end of a file."""

    def after(name: str, more: str) -> set[str]:
        text = (PROJECT / name).read_text()
        (copy / name).write_text(text + more)
        try:
            return {job for job, digest in digests().items() if digest != before[job]}
        finally:
            (copy / name).write_text(text)

    return after


def lineage(unfolded: Graph, track: str, run: str) -> dict[str, set[str]]:
    """The jobs of a run: its evaluation, and the stages that its model comes from, by kind."""
    found: dict[str, set[str]] = {"evaluation": {f"{track}/{run}/seed0"}}
    for node in unfolded.ancestors(unfolded.evaluation(f"{track}/{run}/seed0").model):
        found.setdefault(unfolded.nodes[node].kind, set()).add(node)
    return found


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("adaptbench/train/loop.py", TRAINED),
        ("adaptbench/data/packing.py", TRAINED),
        ("adaptbench/train/checkpoint.py", TRAINED),
        ("kernels/masked_linear_cross_entropy.py", TRAINED),
        ("adaptbench/stages/job.py", (*TRAINED, "prepare", "assemble", "tokenizer", "data")),
        ("adaptbench/data/benchmark_data.py", ("data",)),
        ("adaptbench/model/storage.py", (*TRAINED, *SCORED, "prepare", "assemble")),
        ("adaptbench/train/cost.py", (*TRAINED, *SCORED)),
        ("adaptbench/evaluate/score.py", SCORED),
        ("adaptbench/io/results.py", SCORED),
        ("adaptbench/errors.py", (*TRAINED, *SCORED, "prepare", "assemble", "tokenizer", "data")),
    ],
)
def test_an_edit_of_the_machinery_makes_again_what_runs_it_and_nothing_else_in_every_track(
    changed, smoke_graph, name, kinds
):
    again = changed(name, "\nEDITED = 1\n")
    for track, run in RUNS:
        for kind, jobs in lineage(smoke_graph, track, run).items():
            jobs = {job for job in jobs if "-probe-" not in job}  # ADEPT's, which is a test below
            assert jobs <= again if kind in kinds else not jobs & again, (run, kind)


@pytest.mark.parametrize(
    ("name", "tracks"),
    [
        ("adaptbench/evaluate/plain.py", {"domain"}),
        ("adaptbench/agent/language_model.py", {"agent"}),
        ("adaptbench/agent/episodes.py", {"agent"}),
        ("adaptbench/agent/memory.py", {"agent"}),
        ("benchmarks/agent/measures.py", {"agent"}),
        ("adaptbench/latent/language_model.py", {"reasoning"}),
        ("adaptbench/latent/decode.py", {"reasoning"}),
        ("adaptbench/latent/fusion.py", {"reasoning"}),
        ("kernels/latent_fusion.py", {"reasoning"}),
        ("benchmarks/reasoning/measures.py", {"reasoning"}),
        ("benchmarks/domain/world.py", {"domain"}),
        ("benchmarks/general/world.py", {"domain", "agent", "reasoning"}),
        ("adaptbench/graph/stock_tasks.py", {"domain", "agent", "reasoning"}),
        ("adaptbench/train/loop.py", set()),
        ("methods/tuners/lora.py", set()),
    ],
)
def test_scores_depend_on_the_decoding_and_the_benchmarks_of_their_track(changed, smoke_graph, name, tracks):
    again = changed(name, "\nEDITED = 1\n")
    found = {one.track for one in smoke_graph.evaluations if one.key in again and one.run == "base"}
    assert found == tracks
    for one in smoke_graph.evaluations:
        if one.track not in tracks:
            assert one.key not in again


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("methods/tuners/lora.py", "-lora-"),
        ("methods/tuners/llama_pro.py", "llama_pro"),
        ("methods/posthoc/wise_ft.py", "wise_ft"),
        ("methods/curricula/coconut.py", "-coconut-"),
        ("benchmarks/reasoning/problems.py", "reasoning-"),
        ("benchmarks/shared/words.py", ("general-", "domain-", "agent-")),
    ],
)
def test_an_edited_method_or_benchmark_makes_its_own_stages_again_alone(changed, smoke_graph, name, part):
    parts = (part,) if isinstance(part, str) else part
    again = changed(name, "\nEDITED = 1\n") & smoke_graph.nodes.keys()
    assert again
    assert {node for node in again if not any(one in node for one in parts)} == set()
    if name.startswith("methods"):
        assert {node for node in smoke_graph.nodes if part in node} == again
    else:
        assert {smoke_graph.nodes[node].kind for node in again} == {"data"}


@pytest.mark.parametrize(
    "name",
    [
        "adaptbench/latent/geometry.py",
        "adaptbench/report/figures/draw.py",
        "adaptbench/report/figures/layout.py",
        "adaptbench/report/figures/effects.py",
        "methods/curricula/lt_figures.py",
        "methods/tuners/adept_figures.py",
        "benchmarks/agent/figures.py",
        "benchmarks/reasoning/figures.py",
    ],
)
def test_code_that_draws_is_of_figures_and_of_no_stage_and_no_evaluation(changed, name):
    again = changed(name, "\nEDITED = 1\n")
    assert "figures" in again
    assert again <= {"figures", *({"explorer"} if name == "adaptbench/report/figures/draw.py" else ())}


@pytest.mark.parametrize(
    ("name", "reports"),
    [
        ("adaptbench/report/explorer/page.py", {"explorer"}),
        ("adaptbench/report/transcripts.py", {"transcripts"}),
        ("adaptbench/report/paper/claims.py", {"paper"}),
        ("adaptbench/report/latex.py", {"tables", "paper"}),
        ("adaptbench/statistics/comparisons.py", {"conclude", "paper"}),
        ("adaptbench/report/explorer/page.css", {"explorer"}),
        ("adaptbench/report/explorer/scripts/plot.js", {"explorer"}),
        ("adaptbench/report/transcripts.html", {"transcripts"}),
        ("benchmarks/domain/papers/adept.yaml", {"paper"}),
        ("adaptbench/report/explorer/page.html", {"explorer"}),
        ("adaptbench/cli.py", set()),
        ("adaptbench/contract_checks.py", set()),
        ("adaptbench/graph/estimate.py", set()),
        ("adaptbench/jobs/warm.py", set()),
    ],
)
def test_code_that_reports_or_starts_jobs_is_of_no_stage_and_no_evaluation(changed, name, reports):
    assert changed(name, "\nEDITED = 1\n") == reports


@pytest.mark.parametrize("name", EVERY[::8])
def test_comments_docstrings_and_layout_change_no_digest(name, tmp_path):
    text = (PROJECT / name).read_text()
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = "Another docstring."
    written = tmp_path / "written.py"
    written.write_text(f"# A remark.\n{ast.unparse(tree)}\n# Another.\n")
    assert Module("m", written).digest == Module("m", PROJECT / name).digest
    written.write_text(f"{text}\nEDITED = 1\n")
    assert Module("m", written).digest != Module("m", PROJECT / name).digest


def test_a_comment_makes_nothing_again(changed):
    for name in ("adaptbench/latent/geometry.py", "adaptbench/train/loop.py", "benchmarks/splits.py"):
        assert changed(name, "\n# a remark\n") == set()


def test_each_preparation_of_a_tuner_depends_on_what_it_calls(changed, smoke_graph):
    again = {
        smoke_graph.nodes[job].options.get("function")
        for job in changed("adaptbench/data/packing.py", "\nEDITED = 1\n")
    }
    assert again == {"probe", None}
    for name in ("adaptbench/model/units.py", "methods/tuners/adept_units.py"):
        again = {smoke_graph.nodes[job].options.get("function") for job in changed(name, "\nEDITED = 1\n")}
        assert again == {None}


def test_a_table_beside_a_module_counts_where_it_is_read(changed, smoke_graph):
    again = changed("adaptbench/config/architectures.json", " ")
    assert {smoke_graph.nodes[job].kind for job in again if "-probe-" not in job} == {"base", "train"}


def test_tasks_depend_on_the_files_that_they_copy(changed, smoke_graph):
    kinds = {smoke_graph.nodes[job].kind for job in changed("benchmarks/splits.py", "\nEDITED = 1\n")}
    assert kinds == {"tasks"}
    again = changed("benchmarks/domain/tasks/domain_facts.yaml", "\nnumber: 1\n")
    assert [job.rpartition("-")[0] for job in again] == ["domain"]
    assert {smoke_graph.nodes[job].kind for job in again} == {"tasks"}


def test_reading_all_code_is_quick(smoke_graph):
    seconds = []
    for _ in range(3):
        started = time.process_time()
        code = sources.Code(PROJECT)
        for node in smoke_graph.nodes.values():
            code.of_stage(node.kind, node.options)
        for command in ("evaluate", "collect", "figures", "paper", "explorer"):
            code.digest([sources.command(command)])
        seconds.append(time.process_time() - started)
    assert min(seconds) < 2.0  # a third of a second on a quiet machine


@pytest.mark.graph
def test_whatever_a_stage_or_an_evaluation_runs_it_depends_on(smoke_run, smoke_graph, tmp_path, monkeypatch):
    """The stages of a run of each track, but for the base, are made again, and every function of the project that runs
    is noted.
    """
    monkeypatch.chdir(smoke_run)
    for name in EVERY:  # so that nothing that runs when a module is imported is taken for its use
        module = name if name.startswith("adaptbench/") else f"adaptbench/{name}"
        importlib.import_module(module.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    code = sources.project_code()
    nodes = {node for track, run in RUNS for jobs in lineage(smoke_graph, track, run).values() for node in jobs}
    nodes |= {node for one in smoke_graph.evaluations for node in one.tasks.values()}
    for node in (smoke_graph.nodes[name] for name in sorted(nodes & smoke_graph.nodes.keys())):
        if node.kind == "base":
            continue
        spec = json.loads(plan_files.stage_file(smoke_graph, node.id).read_text())
        out, work = tmp_path / node.id, tmp_path / f"{node.id}-work"
        out.mkdir()
        ran = ran_by(KINDS[node.kind], spec, out, work)
        assert KINDS[node.kind].__module__ in ran
        assert ran <= set(code.modules(sources.stage(node.kind, node.options))), node.id
    for one in (smoke_graph.evaluation(f"{track}/{run}/seed0") for track, run in (*RUNS, ("agent", "majority"))):
        tasks = [smoke_graph.nodes[node].options for node in one.tasks.values()]
        ran = ran_by(score.run, plan_files.evaluation_file(smoke_graph, one.key), tmp_path / one.key)
        assert registry.DECODINGS[smoke_graph.decoding(one)] in ran
        assert ran <= set(code.modules(sources.evaluation(smoke_graph.decoding(one), tasks))), one.key


def ran_by(function: Callable[..., Any], *arguments: Any) -> set[str]:
    """The modules of the project of which some function runs."""
    files: set[str] = set()

    def called(frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_flags & inspect.CO_OPTIMIZED:  # of functions, not of a module or a class that is defined
            files.add(frame.f_code.co_filename)

    sys.setprofile(called)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    loaded = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "adaptbench"}
    return {name for name, module in loaded.items() if getattr(module, "__file__", None) in files}
