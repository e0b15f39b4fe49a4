"""Finds benchmarks and methods by file name: a new file in a folder is a new choice in presets."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path
from types import ModuleType

from adaptbench import contract_checks
from adaptbench.errors import AdaptbenchError

METHOD_AXES = ("tuners", "curricula", "posthoc")
DECODINGS = {
    "agent": "adaptbench.agent.language_model",
    "latent": "adaptbench.latent.language_model",
    "plain": "adaptbench.evaluate.plain",
    "policy": "adaptbench.evaluate.policy",
}
"""Modules by kind of decoding.

Each has `language_model(directory, *, batch_size, tasks, **options)`, which returns the lm-eval model that answers.
"""


@cache
def discover(package: str) -> dict[str, ModuleType]:
    """Return the modules of a package that have a `Config`, by kind, in alphabetical order.

    Raises:
        AdaptbenchError: a file cannot be imported or breaks the contract (contract_checks.py).
    """
    parent = importlib.import_module(f"adaptbench.{package}")
    names = sorted(info.name for info in pkgutil.iter_modules(parent.__path__))
    return {name: module for name in names if (module := _opened(package, name))}


@cache
def _opened(package: str, name: str) -> ModuleType | None:
    """Return the module of a file, None if there is none or it holds no `Config`; raises as `discover` does."""
    full_name = f"adaptbench.{package}.{name}"
    try:
        module = importlib.import_module(full_name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == full_name:
            return None
        raise AdaptbenchError(f"{source_of(package, name)}: {type(error).__name__}: {error}") from error
    return module if contract_checks.check(package, name, module, project_root()) else None


def source_of(package: str, name: str) -> str:
    """Return the path of a module's file, relative to the project's root."""
    return f"{package.replace('.', '/')}/{name}.py"


def tracks() -> tuple[str, ...]:
    """Return the folders of benchmarks/ with at least one benchmark."""
    benchmarks = importlib.import_module("adaptbench.benchmarks")
    folders = (info.name for info in pkgutil.iter_modules(benchmarks.__path__) if info.ispkg)
    return tuple(name for name in sorted(folders) if discover(f"benchmarks.{name}"))


def method(axis: str, kind: str) -> ModuleType:
    """Return a method's module; no other is imported, as a job needs one."""
    return _of_kind(f"methods.{axis}", kind)


def benchmark(track: str, kind: str) -> ModuleType:
    """Return a benchmark's module; no other is imported, as a job needs one."""
    return _of_kind(f"benchmarks.{track}", kind)


def _of_kind(package: str, kind: str) -> ModuleType:
    if (module := _opened(package, kind)) is None:
        raise KeyError(kind)
    return module


def decoding(kind: str) -> ModuleType:
    """Import and return the module of a kind of decoding."""
    return importlib.import_module(DECODINGS[kind])


@cache
def project_root() -> Path:
    """Return the folder that holds the package."""
    return Path(__file__).resolve().parent.parent
