"""Finds benchmarks and methods by file name: a new file in the folder is a new choice in the presets."""

import importlib
import importlib.util
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType

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
        except (Exception, SystemExit) as error:
            raise AdaptbenchError(f"{source_of(package, info.name)}: {type(error).__name__}: {error}") from error
        if contract_checks.check(package, info.name, module, project_root()):
            found[info.name] = module
    return found


def source_of(package: str, name: str) -> str:
    """The path of a module's file, relative to the project's root."""
    return f"{package.replace('.', '/')}/{name}.py"


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
