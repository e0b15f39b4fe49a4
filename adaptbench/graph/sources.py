"""Finds the code that a job runs and computes its digest, which tells Snakemake and a killed stage of changes.

A job runs what its function mentions, then what that mentions, and so on. An import whose name no such code mentions
does not count. A stage therefore depends on what its kind needs, not on everything that adaptbench/stages/job.py
imports. It depends on whole modules, as adaptbench/graph/imports.py parses them: comments, docstrings and layout do not
count. A file beside or below a module counts by its bytes if the code that runs contains its name, such as a table in
JSON. If the code contains only a suffix, all files beside the module with that suffix count.

The plan chooses methods, benchmarks and decodings by name. From such a module, only the attributes count that the code
uses, such as a method's `adapt` or a benchmark's `build`. `FIGURES` is therefore code of the job that draws, and of no
stage or evaluation. The start of a job (adaptbench/cli.py, `stages.run`: locks, processes, records) does not count,
and neither do the checks of all methods and benchmarks when one is looked up.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from adaptbench import registry
from adaptbench.commands import COMMANDS
from adaptbench.graph.imports import PACKAGE, Module, Uses

DISCOVERY = (f"{PACKAGE}.registry", "_opened")
HASH_LENGTH = 10


class Code:
    """The project's files below `root`. Each is parsed once, when it is reached; all of them take half a second."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._modules: dict[str, Module | None] = {}
        self._splits: dict[str, tuple[str, str]] = {}
        self._beside: dict[tuple[Path, str], list[Path]] = {}
        self._digests: dict[tuple[tuple[str, ...], tuple[str, ...]], str] = {}

    def of_stage(self, kind: str, options: Mapping[str, Any]) -> str:
        """Return the digest of the code that makes a node of this kind with these options."""
        return self.digest(stage(kind, options), _copied(options) if kind == "tasks" else ())

    def digest(self, starts: Iterable[str], files: Iterable[str] = ()) -> str:
        """Return the digest of the modules that `starts` run (see `modules`) and of `files`, relative to `root`.

        Raises:
            AdaptbenchError: a file is no valid Python.
        """
        key = tuple(starts), tuple(files)
        if key not in self._digests:
            reach = _Reach(self, key[0])
            parts = [f"{name} {module.digest}" for name in sorted(reach.modules) if (module := self.module(name))]
            beside = sorted(file.relative_to(self.root).as_posix() for file in reach.files)
            parts += [f"{file} {self._of_file(self.root / file)}" for file in (*beside, *key[1])]
            self._digests[key] = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:HASH_LENGTH]
        return self._digests[key]

    def modules(self, starts: Iterable[str]) -> list[str]:
        """Return the names of the modules that run, in alphabetical order.

        Args:
            starts: definitions as `module.name`, entries of a dictionary as `module.name[key]`, and modules that are
                chosen by name, from which the attributes count that other code uses.
        """
        return sorted(_Reach(self, starts).modules)

    def module(self, name: str) -> Module | None:
        """Return a parsed module; None if the project has none of that name."""
        if name not in self._modules:
            files = (file for place in self._places(name) for file in (place / "__init__.py", place.with_suffix(".py")))
            found = next((file for file in files if file.is_file()), None)
            self._modules[name] = Module(name, found) if found else None
        return self._modules[name]

    def split(self, dotted: str) -> tuple[str, str]:
        """Return the module or package that a dotted name begins with, and the next name in it, or ""."""
        if dotted not in self._splits:
            parts = dotted.split(".")
            names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
            there = next(
                (one for one in names if self.module(one) or any(map(Path.is_dir, self._places(one)))), parts[0]
            )
            self._splits[dotted] = there, ".".join(parts).removeprefix(there).strip(".").partition(".")[0]
        return self._splits[dotted]

    def beside(self, folder: Path, text: str) -> list[Path]:
        """Return the files that a text in a module of this folder may name: by name below it, or by suffix in it."""
        if (folder, text) not in self._beside:
            name = text.rpartition("/")[2]
            found = (
                folder.glob(f"*.{name.rpartition('.')[2]}")
                if name.rpartition(".")[0] in ("", "*")
                else folder.rglob(name)
            )
            self._beside[folder, text] = [file for file in found if file.suffix != ".py" and file.is_file()]
        return self._beside[folder, text]

    def _places(self, name: str) -> list[Path]:
        """Return where a module may be.

        In a checkout, kernels/, methods/ and benchmarks/ are beside the package (adaptbench/__init__.py).
        """
        inside = name.removeprefix(PACKAGE).strip(".").replace(".", "/")
        return [self.root / PACKAGE / inside, self.root / inside]

    @staticmethod
    def _of_file(file: Path) -> str:
        return Module("", file).digest if file.suffix == ".py" else hashlib.sha256(file.read_bytes()).hexdigest()


class _Reach:
    """A search from `starts` over what code mentions. `modules` and `files` (named by code) are those reached."""

    def __init__(self, code: Code, starts: Iterable[str]) -> None:
        self.code = code
        self.modules: set[str] = set()
        self.files: set[Path] = set()
        self.attributes: set[str] = set()
        self.seen: set[tuple[str, str, str]] = set()
        self.waiting: list[tuple[str, Uses]] = []
        wanted = [(*code.split(name), key.rstrip("]")) for name, _, key in (one.partition("[") for one in starts)]
        self.tables = {(module, name) for module, name, key in wanted if key}
        for module, name, key in wanted:
            self._reach(module, name, key)
        chosen = [(module, found) for module, name, _ in wanted if not name and (found := code.module(module))]
        while self.waiting:
            self._follow()
            for module, found in chosen:
                for name in self.attributes.intersection([*found.names, *found.imports]):
                    self._reach(module, name)

    def _follow(self) -> None:
        while self.waiting:
            module, uses = self.waiting.pop()
            self.attributes |= uses.attributes
            if uses.files and (own := self.code.module(module)):
                self.files.update(file for name in uses.files for file in self.code.beside(own.folder, name))
            for mention in uses.mentions:
                self._mention(module, mention)

    def _mention(self, module: str, mention: str) -> None:
        if mention.startswith("import "):
            self._reach(*self.code.split(mention.removeprefix("import ")))
        elif not mention.startswith(":"):
            self._reach_whole(*self.code.split(mention))
        elif own := self.code.module(module):
            name, _, rest = mention[1:].partition(".")
            if name in own.names:
                self._reach(module, name)
            elif target := own.imports.get(name):
                self._reach_whole(*self.code.split(f"{target}.{rest}".rstrip(".")))

    def _reach_whole(self, module: str, name: str) -> None:
        """Reach a name in a module, or without a name all of it: code may use any attribute of a module."""
        found = None if name else self.code.module(module)
        for one in found.names if found else [name]:
            self._reach(module, one)

    def _reach(self, module: str, name: str, key: str = "") -> None:
        if (module, name, key) in self.seen:
            return
        self.seen.add((module, name, key))
        parts = module.split(".")
        for length in range(1, len(parts) + 1):  # importing a module imports the packages around it
            package = ".".join(parts[:length])
            if package not in self.modules and (found := self.code.module(package)):
                self.modules.add(package)
                self.waiting.append((package, found.always))
        found = self.code.module(module)
        if not found or (module, name) == DISCOVERY or (not key and (module, name) in self.tables):
            return
        self.waiting += [(module, uses) for one, uses in found.names.get(name, ()) if not key or one in ("", key)]
        if target := found.imports.get(name):
            self._reach(*self.code.split(target))


@cache
def project_code() -> Code:
    """Return the code of this project, as it is at the first call."""
    return Code(registry.project_root())


def stage(kind: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the code that makes a node of the graph, for `Code.modules`.

    Args:
        kind: the node's kind.
        options: the node's options.
    """
    yield f"{PACKAGE}.stages.job.KINDS[{kind}]"
    for axis, option in (("tuners", "tuner"), ("curricula", "curriculum"), ("posthoc", "posthoc")):
        if option in options:
            yield f"{PACKAGE}.methods.{axis}.{options[option]['kind']}"
    if kind == "prepare":
        yield f"{PACKAGE}.methods.tuners.{options['tuner']['kind']}.{options['function']}"
    if kind == "data":
        yield f"{PACKAGE}.benchmarks.{options['track']}.{options['config']['kind']}"


def evaluation(decoding: str, tasks: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the code that scores a run, for `Code.modules`.

    Args:
        decoding: the kind of decoding (registry.DECODINGS), "" for none.
        tasks: the options of its tasks' nodes.
    """
    yield command("evaluate")
    if decoding:
        yield registry.DECODINGS[decoding]
    yield from (f"{PACKAGE}.benchmarks.{options['track']}.{options['kind']}" for options in tasks)


def command(name: str) -> str:
    """Return the function of a command, for `Code.modules`."""
    return COMMANDS[name].function.replace(":", ".")


def _copied(options: Mapping[str, Any]) -> list[str]:
    """Return the files that a node of tasks copies."""
    return [*(f"benchmarks/{options['track']}/tasks/{task}.yaml" for task in options["tasks"]), *options["files"]]
