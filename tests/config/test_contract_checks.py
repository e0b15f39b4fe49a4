"""Files of methods and benchmarks that do not keep the contract: one line when they are found, before anything is
trained.

Run: pytest tests/config/test_contract_checks.py
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from adaptbench import contract_checks, registry
from adaptbench.config import contract_answers
from adaptbench.config.training import Training
from adaptbench.errors import AdaptbenchError
from tests.support.presets import preset_values
from tests.support.processes import finished
from tests.support.project import PROJECT

IMPORTS = """
from typing import Any, ClassVar, Literal
from pydantic import Field
from adaptbench.contracts import BenchmarkConfig, CurriculumConfig, Phase, PosthocConfig, Preparation, TunerConfig
from adaptbench.tasks import Task
"""
TUNER = """
class Config(TunerConfig):
    kind: Literal["mine"] = "mine"
    layers: int = 2
def adapt(config, model, context): ...
"""
CURRICULUM = """
class Config(CurriculumConfig):
    kind: Literal["mine"] = "mine"
    rate: float = 0.5
def phases(config, track, training): ...
def examples(config, phase, model, context): ...
"""
POSTHOC = """
class Config(PosthocConfig):
    kind: Literal["mine"] = "mine"
def apply(config, start, end, out): ...
"""
BENCHMARK = """
class Config(BenchmarkConfig):
    kind: Literal["mine"] = "mine"
TASKS = (Task("domain_facts", metric="acc", label="x", unit="y"),)
def build(config, seed, public): ...
"""
GOOD = {
    "methods.tuners": TUNER,
    "methods.curricula": CURRICULUM,
    "methods.posthoc": POSTHOC,
    "benchmarks.domain": BENCHMARK,
}


@pytest.fixture
def opened(tmp_path):
    """Opens a file with the source that it is given, as if it were in the package's folder."""

    def open_(package: str, source: str) -> ModuleType:
        (tmp_path / "mine.py").write_text(IMPORTS + source)
        spec = importlib.util.spec_from_file_location(f"adaptbench.{package}.mine", tmp_path / "mine.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return open_


@pytest.fixture
def checked(opened):
    """Checks such a file."""
    return lambda package, source: contract_checks.check(package, "mine", opened(package, source), PROJECT)


@pytest.fixture
def refused(checked):
    """The same, and returns what is said of the file."""

    def check(package: str, source: str) -> str:
        with pytest.raises(AdaptbenchError) as caught:
            checked(package, source)
        assert len(str(caught.value).splitlines()) == 1
        file = f"{package.replace('.', '/')}/mine.py: "
        assert str(caught.value).startswith(file)
        return str(caught.value).removeprefix(file)

    return check


@pytest.mark.parametrize(("package", "source"), GOOD.items())
def test_a_whole_file_is_taken_and_a_file_without_a_config_is_none(checked, package, source):
    assert checked(package, source)
    assert not checked(package, "def helper(x): ...")
    further = source + "def helper(config, other): ...\ndef step(x): ...\ndef _merge(a): ...\nFILES = {}\n"
    assert checked(package, further)


@pytest.mark.parametrize(
    "package",
    [f"methods.{axis}" for axis in registry.METHOD_AXES] + [f"benchmarks.{track}" for track in registry.tracks()],
)
def test_every_file_of_the_project_keeps_the_contract(package):
    assert registry.discover(package)


def test_the_hooks_are_those_that_the_documents_list():
    """docs/method-functions.md has a table of each axis."""
    text = (PROJECT / "docs/method-functions.md").read_text()
    for hooks in (contract_checks.TUNER, contract_checks.CURRICULUM):
        for name, parameters in hooks.items():
            assert name == "skip_reason" or f"`{name}({', '.join(parameters)})`" in text
    guide = (PROJECT / "docs/adding-a-method.md").read_text()
    assert all(f"`{name}`" in guide for name in contract_checks.TUNER | contract_checks.CURRICULUM)


@pytest.mark.parametrize(
    ("package", "old", "new", "said"),
    [
        ("methods.tuners", "def adapt(config, model, context): ...", "", "no function adapt(config, model, context)"),
        ("methods.tuners", "def adapt(", "def adpt(", "adpt is no function that is known; is adapt meant?"),
        ("methods.tuners", "def adapt(", "def Adapt(", "Adapt is no function that is known; is adapt meant?"),
        ("methods.tuners", "(config, model, context)", "(config, model)",
         "adapt must take (config, model, context), not (config, model)"),
        ("methods.tuners", "(config, model, context)", "(config: Config, model) -> Any",
         "adapt must take (config, model, context), not (config, model)"),
        ("methods.tuners", "(config, model, context)", "(model, config, context)",
         "adapt must take (config, model, context) in this order, not (model, config, context)"),
        ("methods.tuners", "(config, model, context)", "(config, model, context, more)",
         "adapt must take (config, model, context), not (config, model, context, more)"),
        ("methods.tuners", "(config, model, context)", "(config, model, *, context)",
         "adapt must take (config, model, context), not (config, model, *, context)"),
        ("methods.tuners", "def adapt(config, model, context): ...", "adapt = None",
         "adapt must be a function, not None"),
        ("methods.tuners", "(TunerConfig)", "(CurriculumConfig)", "Config must be a subclass of TunerConfig"),
        ("methods.tuners", "class Config(TunerConfig):", "class Config:", "Config must be a subclass of TunerConfig"),
        ("methods.tuners", "class Config(", "class Confg(", "has adapt, but no Config"),
        ("methods.tuners", 'Literal["mine"]', "str",
         "Config.kind must be 'mine', the file's name: kind: Literal[\"mine\"] = \"mine\""),
        ("methods.tuners", '= "mine"', "",
         "Config.kind must be 'mine', the file's name: kind: Literal[\"mine\"] = \"mine\""),
        ("methods.tuners", "mine", "other",
         "Config.kind must be 'mine', the file's name: kind: Literal[\"mine\"] = \"mine\""),
        ("methods.curricula", "def examples(config, phase, model, context): ...", "",
         "no function examples(config, phase, model, context)"),
        ("methods.curricula", "def examples(config, phase,", "def examples(config,",
         "examples must take (config, phase, model, context), not (config, model, context)"),
        ("methods.curricula", "class Config(", "class config(", "has phases and examples, but no Config"),
        ("methods.posthoc", "def apply(config, start, end, out)", "def apply(config, end, start, out)",
         "apply must take (config, start, end, out) in this order, not (config, end, start, out)"),
        ("methods.posthoc", "def apply(", "def aply(", "aply is no function that is known; is apply meant?"),
        ("benchmarks.domain", "def build(config, seed, public)", "def build(config, seed)",
         "build must take (config, seed, public), not (config, seed)"),
        ("benchmarks.domain", "def build(", "def built(", "built is no function that is known; is build meant?"),
        ("benchmarks.domain", 'TASKS = (Task("domain_facts", metric="acc", label="x", unit="y"),)', "",
         "TASKS must be a tuple of Task, at least one"),
        ("benchmarks.domain", 'y"),)', 'y"))', "TASKS must be a tuple of Task, at least one"),
        ("benchmarks.domain", "domain_facts", "domain_fact",
         "the task 'domain_fact' has no lm-eval file benchmarks/domain/tasks/domain_fact.yaml"),
        ("benchmarks.domain", 'unit="y"', 'unit="y", general=True',
         "the task 'domain_facts' must not set general=True, as tasks of benchmarks/general do"),
        ("benchmarks.domain", "(BenchmarkConfig)", "(TunerConfig)", "Config must be a subclass of BenchmarkConfig"),
    ],
)  # fmt: skip
def test_what_every_file_must_have(refused, package, old, new, said):
    assert old in GOOD[package]
    assert refused(package, GOOD[package].replace(old, new)) == said


def test_a_task_of_a_general_benchmark_says_that_it_is_general(refused, checked):
    source = BENCHMARK.replace("domain_facts", "general_facts")
    said = "the task 'general_facts' must set general=True, as tasks of benchmarks/general do"
    assert refused("benchmarks.general", source) == said
    assert checked("benchmarks.general", source.replace('unit="y"', 'unit="y", general=True'))


@pytest.mark.parametrize(
    ("package", "more", "said"),
    [
        ("methods.tuners", "def merge_(config, model): ...", "merge_ is no function that is known; is merge meant?"),
        ("methods.tuners", "def optimiser(config, model, training): ...",
         "optimiser is no function that is known; is optimizer meant?"),
        ("methods.tuners", "def callbacks(config, model, optimizers, context): ...",
         "callbacks is no function that is known; is callback meant?"),
        ("methods.tuners", "def merge(model): ...", "merge must take (config, model), not (model)"),
        ("methods.tuners", "def callback(config, model, context): ...",
         "callback must take (config, model, optimizers, context), not (config, model, context)"),
        ("methods.tuners", "def optimizer(config, model, context): ...",
         "optimizer must take (config, model, training), not (config, model, context)"),
        ("methods.tuners", "def skip_reason(): ...", "skip_reason must take (config), not ()"),
        ("methods.tuners", "def data(config, track): ...", "data must take (config), not (config, track)"),
        ("methods.tuners", "ADAPTERS = 1", "ADAPTERS must be True or False"),
        ("methods.tuners", 'ROLES = ("planner")', "ROLES must be a tuple of text, not 'planner'"),
        ("methods.tuners", "FIGURES = [print]", "FIGURES must be a mapping"),
        ("methods.tuners", 'FIGURES = {"a": 5}', "FIGURES['a'] must be a function"),
        ("methods.tuners", 'FIGURES = {"a": lambda: 5}', "FIGURES['a'] must take (runs), not ()"),
        ("methods.tuners", 'FIGURE_NEEDS = {"a": "budget"}', "FIGURE_NEEDS['a'] is none of FIGURES"),
        ("methods.tuners", 'EXAMPLE = {"layers": "x"}\ndef preparations(config): ...',
         "EXAMPLE: Input should be a valid integer"),
        ("methods.tuners", 'def preparations(config): return (Preparation("expand"),)',
         "no function expand(config, inputs, out, context), which preparations names"),
        ("methods.tuners", 'def preparations(config): return (Preparation("expand"),)\ndef expand(config, out): ...',
         "expand must take (config, inputs, out, context), not (config, out)"),
        ("methods.tuners", 'def preparations(config): return ("expand",)',
         "preparations must name Preparation objects, not 'expand'"),
        ("methods.tuners", "def preparations(config): return config.none",
         "preparations: AttributeError: 'Config' object has no attribute 'none'"),
        ("methods.tuners",
         'def preparations(config): return (Preparation("p", options=("rank",)),)\ndef p(config, inputs, out, '
         'context): ...', "the preparation 'p' reads 'rank', which is no option of Config"),
        ("methods.curricula", "def assemble(config, phases, out): ...",
         "assemble must take (config, members, out, context), not (config, phases, out)"),
        ("methods.curricula", "def colate(config, phase, context): ...",
         "colate is no function that is known; is collate meant?"),
        ("methods.curricula", "def step(config, phase, training, model, context): ...",
         "step is no function that is known; is steps meant?"),
        ("methods.curricula", "def decode(config): ...", "decode must take (config, phase), not (config)"),
        ("methods.curricula", 'ROLES = "planner"', "ROLES must be a tuple of text, not 'planner'"),
        ("methods.curricula", "SWEPT = 5", 'SWEPT must be ("option", (value, ...))'),
        ("methods.curricula", 'SWEPT = ("rate", 0.5)', 'SWEPT must be ("option", (value, ...))'),
        ("methods.curricula", 'SWEPT = ("rates", (0.5, 1.0))', "SWEPT: Config has no option 'rates'"),
        ("methods.curricula", 'SWEPT = ("rate", ())', "SWEPT has no values"),
        ("benchmarks.domain", "BASELINES = {'a': lambda: 5}", "BASELINES['a'] must take (train), not ()"),
        ("benchmarks.domain", "BASELINES = ('a',)", "BASELINES must be a mapping"),
        ("benchmarks.domain", "FIGURES = {'a': lambda answered: 5}",
         "FIGURES['a'] must take (answered, look), not (answered)"),
        ("benchmarks.domain", "PUBLIC_DATA = {'my set': 'owner/set'}",
         "PUBLIC_DATA['my set'] must be the id of a data set of the hub, under a name of letters, digits and _"),
        ("benchmarks.domain", "PUBLIC_DATA = {'mine': None}",
         "PUBLIC_DATA['mine'] must be the id of a data set of the hub, under a name of letters, digits and _"),
        ("benchmarks.domain", "READS = ('a.jsonl')", "READS must be a tuple of text, not 'a.jsonl'"),
        ("benchmarks.domain", "FILE = ('a.jsonl',)", "FILE must be text"),
        ("benchmarks.domain", "EVALUATION_ONLY = 'yes'", "EVALUATION_ONLY must be True or False"),
        ("benchmarks.domain", "TASK_FILES = ('benchmarks/none.py',)",
         "TASK_FILES: benchmarks/none.py: no such file of the project"),
    ],
)  # fmt: skip
def test_what_a_file_may_have(refused, package, more, said):
    assert refused(package, GOOD[package] + more) == said


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("    def problem(self, run): ...", "Config.problem must take (self, run, base_layers), not (self, run)"),
        ("    def sharded_problem(self): ...", "Config.sharded_problem must take (self, run), not (self)"),
        ("    def needs(self, run): ...", "Config.needs must take (self), not (self, run)"),
        ("    def shares(self, layers): ...", "Config.shares is no function that is known; is share meant?"),
        (
            "    def problems(self, run, base_layers): ...",
            "Config.problems is no function that is known; is problem meant?",
        ),
        ("    needs: ClassVar[Any] = property(lambda self: ())", "Config.needs must be a method that takes (self)"),
        ("    def moves_base_weights(self): ...", "Config.moves_base_weights must be a property"),
        ("    tracks: ClassVar[Any] = 'domain'", "Config.tracks must be a tuple of text, not 'domain'"),
    ],
)
def test_what_a_config_may_have(refused, member, said):
    assert refused("methods.tuners", TUNER.replace("    layers: int = 2", f"    layers: int = 2\n{member}")) == said


@pytest.mark.parametrize("name", ["my method", "a'b", "{x}", "m\u00e9thode", "$(x)"])
def test_a_files_name_is_one_for_every_system_and_shell(opened, name):
    """It is part of its stages' folders, which commands and Snakemake's wildcards name."""
    module = opened("methods.tuners", TUNER.replace("mine", name))
    with pytest.raises(AdaptbenchError, match="is named by letters, digits, - and _"):
        contract_checks.check("methods.tuners", name, module, PROJECT)


PHASES = "def phases(config, track, training): ..."
FAILS = "mine.py:10: ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("package", "old", "new", "said"),
    [
        ("methods.curricula", PHASES, "def phases(config, track, training): return 1 / 0", FAILS),
        ("methods.curricula", PHASES, "def phases(config, track, training): return ()",
         "phases must return a tuple of Phase, at least one, not ()"),
        ("methods.curricula", PHASES, "def phases(config, track, training): return ('tune',)",
         "phases must return a tuple of Phase, at least one, not ('tune',)"),
        ("methods.curricula", PHASES, PHASES, "phases must return a tuple of Phase, at least one, not None"),
        ("methods.curricula", PHASES,
         "def phases(config, track, training): return (Phase('a', parent='b'), Phase('b'))",
         "phases: 'b', the parent of 'a', is no phase before it"),
        ("methods.curricula", PHASES, "def phases(config, track, training): return (Phase('a'), Phase('a'))",
         "phases: 'a' must be a name of letters, digits, - and _ that no other phase has"),
        ("methods.curricula", PHASES, "def phases(config, track, training): return (Phase('a/b'),)",
         "phases: 'a/b' must be a name of letters, digits, - and _ that no other phase has"),
        ("methods.curricula", PHASES, "def phases(config, track, training): return (Phase(data=('agent',)),)",
         "the phase 'tune' reads 'agent', and the preset has no data.agent"),
        ("methods.curricula", PHASES, "def phases(config, track, training): return (Phase(training=5),)",
         "phases: training of 'tune' must be a Mapping, not 5"),
        ("methods.curricula", PHASES, "def phases(config, track, training): return (Phase(tuner='lora'),)",
         "phases: tuner of 'tune' must be a TunerConfig, not 'lora'"),
        ("methods.tuners", "layers: int = 2", "layers: int = 2\n    def needs(self): return ('latnet',)",
         "Config.needs: 'latnet' is none of causal, packing"),
        ("methods.tuners", "layers: int = 2", "layers: int = 2\n    def problem(self, run, base_layers): ...",
         "Config.problem must return text, not None"),
        ("methods.tuners", "layers: int = 2", "layers: int = 2\n    def share(self, layers): return 3",
         "Config.share must return a pair, not 3"),
        ("methods.tuners", "def adapt(", "def data(config): return 'general'\ndef adapt(",
         "data reads 'g', and the preset has no data.g"),
        ("methods.tuners", "def adapt(",
         "def preparations(config): return (Preparation('p', data=('none',)),)\ndef adapt(",
         "the preparation 'p' reads 'none', and the preset has no data.none"),
        ("methods.posthoc", "def apply(", "def skip_reason(config): import nosuch\ndef apply(",
         "ModuleNotFoundError: No module named 'nosuch'"),
    ],
)  # fmt: skip
def test_what_a_file_says_before_anything_runs_is_checked(opened, package, old, new, said):
    assert old in GOOD[package]
    module = opened(package, GOOD[package].replace(old, new))
    run = SimpleNamespace(track="domain", training=Training(steps=1))
    with pytest.raises(AdaptbenchError) as caught:
        contract_answers.check(package, module, module.Config(), run, base_layers=4, tracks=("general", "domain"))
    assert str(caught.value).startswith(f"{package.replace('.', '/')}/mine.py:")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "the task 'domain_facts' is one of benchmarks/domain/world.py already"),
        ('TASKS = ()\nPUBLIC_DATA = {"gsm8k": "me/other"}', "PUBLIC_DATA['gsm8k']: the name is taken, by openai/gsm8k"),
        ('TASKS = ()\nPUBLIC_DATA = {"seed": "me/other"}',
         "PUBLIC_DATA['seed']: the name is taken, by an option of every preset"),
    ],
)  # fmt: skip
def test_names_that_benchmarks_share_are_given_once(opened, more, said):
    """Else tables would show one benchmark's task as the other's, and a run would read the other's data."""
    theirs = dict(registry.discover("benchmarks.domain"))
    contract_checks.check_names({"benchmarks.domain": theirs}, ("seed",))
    mine = opened("benchmarks.domain", BENCHMARK + more)
    with pytest.raises(AdaptbenchError) as caught:
        contract_checks.check_names({"benchmarks.domain": theirs | {"zzz": mine}}, ("seed",))
    assert str(caught.value) == f"benchmarks/domain/zzz.py: {said}"


def test_parameters_may_have_other_names_and_defaults(checked):
    adapt = "def adapt(cfg, net, where, more=1): ..."
    assert checked("methods.tuners", TUNER.replace("def adapt(config, model, context): ...", adapt))
    assert checked("methods.tuners", TUNER.replace("(config, model, context)", "(*arguments)"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (IMPORTS + TUNER.replace("def adapt(", "def adopt("), "adopt is no function that is known; is adapt meant?"),
        ("import sys\nsys.exit()", "SystemExit: "),
    ],
)
def test_a_broken_file_ends_the_check_of_a_preset_in_one_line(project_copy, source, said):
    """Also where the preset does not name it: the choices are all files."""
    (project_copy / "methods/tuners/mine.py").write_text(source)
    values = preset_values()
    (project_copy / "toy.yaml").write_text(json.dumps(values))
    done = finished(
        [sys.executable, "-m", "adaptbench", "check", "toy.yaml"], project_copy, environment=_alone(project_copy)
    )
    assert done.returncode == 1
    assert done.stderr == f"error: methods/tuners/mine.py: {said}\n"


def _alone(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(folder)}
