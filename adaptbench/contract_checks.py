"""Checks that a method's or benchmark's file keeps the contract of docs/method-functions.md, when the file is found.

Otherwise a function that is missing, misspelt or takes other parameters would fail only when it is called, after the
bases are trained.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from adaptbench.contracts import (
    NAME_PATTERN,
    BenchmarkConfig,
    CurriculumConfig,
    MethodConfig,
    PosthocConfig,
    Preparation,
    StrictModel,
    TunerConfig,
)
from adaptbench.errors import AdaptbenchError
from adaptbench.tasks import Task

Parameters = tuple[str, ...]
TUNER: Mapping[str, Parameters] = {
    "adapt": ("config", "model", "context"),
    "preparations": ("config",),
    "data": ("config",),
    "optimizer": ("config", "model", "training"),
    "callback": ("config", "model", "optimizers", "context"),
    "merge": ("config", "model"),
    "skip_reason": ("config",),
}
CURRICULUM: Mapping[str, Parameters] = {
    "phases": ("config", "track", "training"),
    "examples": ("config", "phase", "model", "context"),
    "steps": ("config", "phase", "training", "model", "context"),
    "objective": ("config", "phase", "model", "context"),
    "collate": ("config", "phase", "context"),
    "extend": ("config", "phase", "model", "tokenizer"),
    "assemble": ("config", "members", "out", "context"),
    "decode": ("config", "phase"),
    "skip_reason": ("config",),
}
POSTHOC: Mapping[str, Parameters] = {"apply": ("config", "start", "end", "out"), "skip_reason": ("config",)}
BENCHMARK: Mapping[str, Parameters] = {"build": ("config", "seed", "public")}
PREPARATION: Parameters = ("config", "inputs", "out", "context")
OF_HOOKS = frozenset(chain(PREPARATION, *TUNER.values(), *CURRICULUM.values(), *POSTHOC.values()))
"""Names that mean the same in every hook: a parameter with another's name would get the wrong argument."""
CONFIG_METHODS: Mapping[str, Parameters] = {
    "problem": ("run", "base_layers"),
    "sharded_problem": ("run",),
    "share": ("layers",),
    "forward_passes": ("batch_size", "longest", "lacks"),
    "needs": (),
}
TEXT_TUPLES = ("READS", "TASK_FILES", "ROLES")
FLAGS = ("ADAPTERS", "EVALUATION_ONLY", "PRETRAINS")
MAPPINGS = ("FIGURES", "FIGURE_NEEDS", "BASELINES", "DECODE", "PUBLIC_DATA", "EXAMPLE")


def check(package: str, name: str, module: ModuleType, root: Path) -> bool:
    """Check a module of `package` (methods.tuners, benchmarks.domain, ...); return whether it is a method or benchmark.

    `root` is the project's folder. If it is no checkout, the existence of files that a module names is not checked.

    Raises:
        AdaptbenchError: the module breaks the contract.
    """
    file = f"{package.replace('.', '/')}/{name}.py"
    required, hooks, base = _contract(package)
    config = getattr(module, "Config", None)
    if config is None:
        if all(callable(getattr(module, one, None)) for one in required):
            raise AdaptbenchError(f"{file}: has {' and '.join(required)}, but no Config")
        return False
    problems = chain(
        _config_problems(config, name, base),
        _function_problems(module, required, hooks),
        _constant_problems(module, root),
        _benchmark_problems(module, package.replace(".", "/"), root)
        if base is BenchmarkConfig
        else _preparation_problems(module),
    )
    for problem in problems:
        raise AdaptbenchError(f"{file}: {problem}")
    return True


def _contract(package: str) -> tuple[Parameters, Mapping[str, Parameters], type[StrictModel]]:
    """Return the required functions of a package's files, all functions with parameters, and the base of Config."""
    if package == "methods.tuners":
        return ("adapt",), TUNER, TunerConfig
    if package == "methods.curricula":
        return ("phases", "examples"), CURRICULUM, CurriculumConfig
    if package == "methods.posthoc":
        return ("apply",), POSTHOC, PosthocConfig
    return ("build",), BENCHMARK, BenchmarkConfig


def _config_problems(config: Any, name: str, base: type[StrictModel]) -> Iterator[str]:
    if not isinstance(config, type) or not issubclass(config, base):
        yield f"Config must be a subclass of {base.__name__}"
        return
    if not re.fullmatch(NAME_PATTERN, name):
        yield "a method's or benchmark's file is named by letters, digits, - and _"
    kind = config.model_fields["kind"]
    if get_origin(kind.annotation) is not Literal or get_args(kind.annotation) != (name,) or kind.default != name:
        yield f'Config.kind must be {name!r}, the file\'s name: kind: Literal["{name}"] = "{name}"'
    if not issubclass(config, MethodConfig):
        return
    own = {one: value for one, value in vars(config).items() if inspect.isfunction(value)}
    for one, parameters in CONFIG_METHODS.items():
        if one in config.model_fields or isinstance(inspect.getattr_static(config, one, None), property):
            yield f"Config.{one} must be a method that takes ({', '.join(('self', *parameters))})"
        if one in own and (said := _signature_problem(own[one], ("self", *parameters))):
            yield f"Config.{one} {said}"
    if issubclass(config, TunerConfig) and not isinstance(
        inspect.getattr_static(config, "moves_base_weights"), property
    ):
        yield "Config.moves_base_weights must be a property"
    yield from _misspellings(own, {one: ("self", *taken) for one, taken in CONFIG_METHODS.items() if taken}, "Config.")
    tracks = getattr(config, "tracks", None)
    if tracks is not None and (isinstance(tracks, str) or not isinstance(tracks, tuple | list)):
        yield f"Config.tracks must be a tuple of text, not {tracks!r:.60}"


def _function_problems(module: ModuleType, required: Parameters, hooks: Mapping[str, Parameters]) -> Iterator[str]:
    own = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__
    }
    yield from _misspellings(own, {name: taken for name, taken in hooks.items() if not hasattr(module, name)})
    for name, parameters in hooks.items():
        function = getattr(module, name, None)
        if name in required and not hasattr(module, name):
            yield f"no function {name}({', '.join(parameters)})"
        elif hasattr(module, name) and not callable(function):
            yield f"{name} must be a function, not {function!r:.60}"
        elif callable(function) and (said := _signature_problem(function, parameters)):
            yield f"{name} {said}"


def _misspellings(own: Mapping[str, Any], missing: Mapping[str, Parameters], owner: str = "") -> Iterator[str]:
    """Yield functions with the parameters of a missing function and nearly its name."""
    for name in own:
        for meant in get_close_matches(name.strip("_").lower(), missing, cutoff=0.8):
            if meant not in own and not _signature_problem(own[name], missing[meant]):
                yield f"{owner}{name} is no function that is known; is {meant} meant?"


def _signature_problem(function: Callable[..., Any], parameters: Parameters) -> str:
    """Return why a function cannot be called with these positional arguments; empty if it can."""
    wanted = f"must take ({', '.join(parameters)})"
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function that is not written in Python
        return ""
    plain = [one.replace(annotation=one.empty) for one in signature.parameters.values()]
    signature = signature.replace(parameters=plain, return_annotation=signature.empty)
    try:
        bound = signature.bind(*parameters).arguments
    except TypeError:
        return f"{wanted}, not {signature}"
    moved = {name for name, given in bound.items() if given != name and isinstance(given, str)}
    order = " in this order" if moved.intersection(parameters) else ""
    return f"{wanted}{order}, not {signature}" if moved.intersection(OF_HOOKS.union(parameters)) else ""


def _constant_problems(module: ModuleType, root: Path) -> Iterator[str]:
    for name in TEXT_TUPLES:
        value = getattr(module, name, ())
        if (
            isinstance(value, str)
            or not isinstance(value, tuple | list)
            or not all(isinstance(one, str) for one in value)
        ):
            yield f"{name} must be a tuple of text, not {value!r:.60}"
        elif name == "TASK_FILES" and (gone := [one for one in value if _is_missing(root, one)]):
            yield f"{name}: {gone[0]}: no such file of the project"
    for name in FLAGS:
        if not isinstance(getattr(module, name, False), bool):
            yield f"{name} must be True or False"
    for name in MAPPINGS:
        if not isinstance(getattr(module, name, {}), Mapping):
            yield f"{name} must be a mapping"
            return
    is_benchmark = hasattr(module, "TASKS")
    called = {"FIGURES": ("answered", "look") if is_benchmark else ("runs",), "BASELINES": ("train",)}
    for name, parameters in called.items():
        for key, function in getattr(module, name, {}).items():
            if not callable(function):
                yield f"{name}[{key!r}] must be a function"
            elif said := _signature_problem(function, parameters):
                yield f"{name}[{key!r}] {said}"
    for key in getattr(module, "FIGURE_NEEDS", {}):
        if key not in getattr(module, "FIGURES", {}):
            yield f"FIGURE_NEEDS[{key!r}] is none of FIGURES"
    yield from _swept_problems(module)


def _swept_problems(module: ModuleType) -> Iterator[str]:
    swept = getattr(module, "SWEPT", None)
    if swept is None:
        return
    if (
        not isinstance(swept, tuple)
        or len(swept) != 2
        or isinstance(swept[1], str)
        or not isinstance(swept[1], Sequence)
    ):
        yield 'SWEPT must be ("option", (value, ...))'
    elif swept[0] not in module.Config.model_fields:
        yield f"SWEPT: Config has no option {swept[0]!r}"
    elif not swept[1]:
        yield "SWEPT has no values"


def _preparation_problems(module: ModuleType) -> Iterator[str]:
    """Yield problems of the functions that a tuner's preparations name, as far as its options have defaults."""
    if not callable(getattr(module, "preparations", None)) or _signature_problem(module.preparations, ("config",)):
        return
    try:
        config = module.Config.model_validate(getattr(module, "EXAMPLE", {}))
    except ValidationError as error:
        if hasattr(module, "EXAMPLE"):
            yield f"EXAMPLE: {error.errors()[0]['msg']}"
        return
    try:
        named = list(module.preparations(config))
    except Exception as error:  # whatever that file does wrong
        yield f"preparations: {type(error).__name__}: {error}"
        return
    for one in named:
        if not isinstance(one, Preparation):
            yield f"preparations must name Preparation objects, not {one!r:.60}"
            continue
        function = getattr(module, one.name, None)
        if not callable(function):
            yield f"no function {one.name}({', '.join(PREPARATION)}), which preparations names"
        elif said := _signature_problem(function, PREPARATION):
            yield f"{one.name} {said}"
        for option in one.options or ():
            if option not in module.Config.model_fields:
                yield f"the preparation {one.name!r} reads {option!r}, which is no option of Config"


def _is_missing(root: Path, file: str) -> bool:
    return not (root / file).is_file() and (root / "Snakefile").is_file()


def _benchmark_problems(module: ModuleType, folder: str, root: Path) -> Iterator[str]:
    tasks = getattr(module, "TASKS", None)
    if not isinstance(tasks, tuple | list) or not tasks or not all(isinstance(task, Task) for task in tasks):
        yield "TASKS must be a tuple of Task, at least one"
        return
    for task in tasks:
        if _is_missing(root, f"{folder}/tasks/{task.name}.yaml"):
            yield f"the task {task.name!r} has no lm-eval file {folder}/tasks/{task.name}.yaml"
        if task.general != (folder == "benchmarks/general"):
            must = "must not" if task.general else "must"
            yield f"the task {task.name!r} {must} set general=True, as tasks of benchmarks/general do"
    if not isinstance(getattr(module, "FILE", ""), str):
        yield "FILE must be text"
    for name, hub_id in getattr(module, "PUBLIC_DATA", {}).items():
        if not isinstance(hub_id, str) or not str(name).isidentifier():
            wanted = "the id of a data set of the hub, under a name of letters, digits and _"
            yield f"PUBLIC_DATA[{name!r}] must be {wanted}"


def check_names(benchmarks: Mapping[str, Mapping[str, ModuleType]], fixed: Iterable[str]) -> None:
    """Check that names of tasks are unique over all benchmarks, and that a name of public data has one hub id.

    Args:
        benchmarks: the modules by package and kind.
        fixed: the options of `data` that are no public data.

    Raises:
        AdaptbenchError: a file uses a name that is taken.
    """
    tasks: dict[str, str] = {}
    public = dict.fromkeys(fixed, "an option of every preset")
    for package, kinds in benchmarks.items():
        for kind, module in kinds.items():
            file = f"{package.replace('.', '/')}/{kind}.py"
            for task in module.TASKS:
                if task.name in tasks:
                    raise AdaptbenchError(f"{file}: the task {task.name!r} is one of {tasks[task.name]} already")
                tasks[task.name] = file
            for name, hub_id in getattr(module, "PUBLIC_DATA", {}).items():
                if public.setdefault(name, hub_id) != hub_id:
                    raise AdaptbenchError(f"{file}: PUBLIC_DATA[{name!r}]: the name is taken, by {public[name]}")
