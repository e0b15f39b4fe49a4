"""Finds benchmarks and methods by file name: a new file in the folder is a new choice in the presets."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from adaptbench import contract_checks
from adaptbench.contracts import AdaptbenchError

METHOD_AXES = ("tuners", "curricula", "posthoc")


@cache
def discover(package: str) -> dict[str, ModuleType]:
    """The modules of a package that hold a `Config`, by kind, in alphabetical order.

    Raises:
        AdaptbenchError: a file cannot be imported, or does not keep the contract (contract_checks.py).
    """
    parent = importlib.import_module(f"adaptbench.{package}")
    found = {}
    for info in sorted(pkgutil.iter_modules(parent.__path__), key=lambda info: info.name):
        try:
            module = importlib.import_module(f"adaptbench.{package}.{info.name}")
        except Exception as error:
            raise AdaptbenchError(f"{source_of(package, info.name)}: {type(error).__name__}: {error}") from error
        if contract_checks.check(package, info.name, module, project_root()):
            found[info.name] = module
    return found


def source_of(package: str, name: str) -> str:
    """The path of a module's file, relative to the project's root."""
    return f"{package.replace('.', '/')}/{name}.py"


def method_sources(axis: str, kind: str) -> tuple[str, ...]:
    """The code that a method is: its file, and what the file names in `SOURCES`."""
    return (source_of(f"methods.{axis}", kind), *getattr(method(axis, kind), "SOURCES", ()))


def benchmark_sources(track: str, kind: str) -> tuple[str, ...]:
    """The code that a benchmark's splits come from: its file, what it shares with its track, what all tracks share, and what it names in
    `SOURCES`; not the files of the functions that draw its figures.
    """
    folder, modules = project_root() / "benchmarks", discover(f"benchmarks.{track}")
    kinds = {f"{name}.py" for name in modules}
    shared = [path for path in sorted(folder.glob("*.py")) if path.name not in ("__init__.py", "splits.py")]
    shared += [path for path in sorted((folder / track).glob("*.py")) if path.name not in kinds | {"__init__.py"}]
    drawing = {code_of(function) for module in modules.values() for function in getattr(module, "FIGURES", {}).values()}
    names = [path.relative_to(project_root()).as_posix() for path in shared]
    code = (name for name in names if name not in drawing)
    return (source_of(f"benchmarks.{track}", kind), *code, *getattr(modules[kind], "SOURCES", ()))


def code_of(function: Callable[..., Any]) -> str:
    """The path of the file that a function stands in, relative to the project's root."""
    return source_of(*function.__module__.removeprefix("adaptbench.").rsplit(".", 1))


def tracks() -> tuple[str, ...]:
    """The folders of benchmarks/ that hold at least one benchmark."""
    import adaptbench.benchmarks as benchmarks

    folders = (info.name for info in pkgutil.iter_modules(benchmarks.__path__) if info.ispkg)
    return tuple(name for name in sorted(folders) if discover(f"benchmarks.{name}"))


def method(axis: str, kind: str) -> ModuleType:
    return discover(f"methods.{axis}")[kind]


def benchmark(track: str, kind: str) -> ModuleType:
    return discover(f"benchmarks.{track}")[kind]


@cache
def project_root() -> Path:
    return Path(__file__).resolve().parent.parent
