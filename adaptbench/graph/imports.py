"""Parses one file of the project without importing it: its definitions, the names that each uses, and a digest.

A use is a dotted name. `:name.attribute` begins with a name of the file itself, `adaptbench.module.name` with an import
inside a function. `import adaptbench.module` is an import without a further use. A name that a function binds itself is
no use.
"""

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adaptbench.errors import AdaptbenchError

PACKAGE = "adaptbench"
FILE = re.compile(r"(?:[\w.-]*/)*[\w.-]*\.\w+|\*\.\w+")
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
INNER = (*Function.__args__, *Comprehension.__args__, ast.ClassDef)


@dataclass
class Uses:
    """The names that a piece of code uses.

    Attributes:
        mentions: dotted names.
        attributes: names of attributes of any object.
        files: texts that may name a file.
    """

    mentions: set[str] = field(default_factory=set)
    attributes: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


class Module:
    """A parsed file.

    Attributes:
        folder: the file's folder.
        digest: a digest of the syntax tree. Comments, docstrings and layout do not change it.
        names: name -> uses of the statements that define it, each with a key if the name is a dictionary, else with "".
        imports: name -> the imported module or definition; "" if it is outside of the project.
        always: uses of the statements that run whenever the module is imported.
    """

    def __init__(self, name: str, file: Path) -> None:
        """Parse `file`, which contains the module `name`.

        Raises:
            AdaptbenchError: it is no valid Python.
        """
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError) as error:
            raise AdaptbenchError(f"{file}: {type(error).__name__}: {error}") from None
        text: list[str] = []
        _write(tree, text)
        self.digest = hashlib.sha256("\0".join(text).encode("utf-8", "surrogatepass")).hexdigest()
        self.folder = file.parent
        self.names: dict[str, list[tuple[str, Uses]]] = {}
        self.imports: dict[str, str] = {}
        self.always = Uses()
        self._package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for statement in tree.body:
            self._add(statement)
        for one in (one for one in tree.body if isinstance(one, Definition)):
            firsts = (re.split(r"\W", ast.unparse(decorator))[0] for decorator in one.decorator_list)
            if any(first in self.names or self.imports.get(first) for first in firsts):
                self.always.mentions.add(f":{one.name}")  # the project's decorator may register it

    def _add(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            self._import(statement)
        elif isinstance(statement, Definition):
            self._define(statement.name, [("", statement)])
        elif pairs := _assigned(statement):
            annotation = getattr(statement, "annotation", None)
            for name, value in pairs:
                self._define(name, [*([("", annotation)] if annotation else []), *_entries(value)])
        elif not _for_types(statement):
            self._read(statement, self.always)
            for one in ast.walk(statement):
                if isinstance(one, ast.Import | ast.ImportFrom):
                    self._import(one)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        self.imports |= _imported(statement, self._package)
        if whole := self.imports.pop("*", ""):
            self.always.mentions.add(whole.removesuffix(".*"))

    def _define(self, name: str, pieces: Iterable[tuple[str, ast.AST]]) -> None:
        self.names.setdefault(name, []).extend((key, self._read(piece, Uses())) for key, piece in pieces)

    def _read(self, node: ast.AST, uses: Uses) -> Uses:
        _Reader(self._package, uses).visit(node)
        return uses


class _Reader(ast.NodeVisitor):
    """A visitor that collects the uses of code.

    `local` maps the names that enclosing functions bind to what they import, or to "" if they are no imports.
    """

    def __init__(self, package: str, uses: Uses) -> None:
        self.package, self.uses = package, uses
        self.local: Mapping[str, str] = {}
        self.in_function = False

    def visit_Name(self, node: ast.Name) -> None:
        self._mention(node, [])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and FILE.fullmatch(node.value):
            self.uses.files.add(node.value)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            chain.insert(0, base.attr)
            base = base.value
        self.uses.attributes.update(chain)
        if isinstance(base, ast.Name):
            self._mention(base, chain)
        else:
            self.visit(base)

    def _mention(self, name: ast.Name, chain: list[str]) -> None:
        base = self.local.get(name.id, f":{name.id}")
        if base:
            self.uses.mentions.add(".".join([base, *chain]))

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            self.uses.attributes.update(str(one.value) for one in node.args[1:2] if isinstance(one, ast.Constant))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: Function) -> None:
        """Visit a function without its annotations, which no call evaluates."""
        for one in (*getattr(node, "decorator_list", ()), *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(one)
        around, self.in_function = self.in_function, True
        self._inside(_body(node), _bound(node, self.package))
        self.in_function = around

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ListComp(self, node: Comprehension) -> None:
        self.visit(node.generators[0].iter)  # the comprehension's own names are not bound there
        targets = (one for each in node.generators for one in ast.walk(each.target))
        self._inside(ast.iter_child_nodes(node), {one.id: "" for one in targets if isinstance(one, ast.Name)})

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp

    def _inside(self, nodes: Iterable[ast.AST], names: Mapping[str, str]) -> None:
        around, self.local = self.local, {**self.local, **names}
        for one in nodes:
            self.visit(one)
        self.local = around

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not self.in_function:  # a class's fields, which pydantic reads
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        whole = [one.name for one in node.names if one.name.partition(".")[0] == PACKAGE]
        parts = [one for one in _imported(node, self.package).values() if one]
        self.uses.mentions.update(f"import {one}" for one in (whole if isinstance(node, ast.Import) else parts))

    visit_ImportFrom = visit_Import

    def visit_If(self, node: ast.If) -> None:
        for one in node.orelse if _for_types(node) else ast.iter_child_nodes(node):
            self.visit(one)


def _assigned(statement: ast.stmt) -> list[tuple[str, ast.expr]]:
    """Return the names that an assignment binds, with their values; nothing for other statements."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [(statement.target.id, statement.value)] if statement.value else []
    if not isinstance(statement, ast.Assign):
        return []
    pairs: list[tuple[str, ast.expr]] = []
    for target in statement.targets:
        value = statement.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            each = list(zip(target.elts, value.elts, strict=True))
        else:
            each = [(one, value) for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
        if not all(isinstance(one, ast.Name) for one, _ in each):
            return []
        pairs += [(one.id, its) for one, its in each if isinstance(one, ast.Name)]
    return pairs


def _entries(value: ast.expr) -> list[tuple[str, ast.AST]]:
    """Return the values of a dictionary with text keys by key; any other expression is one value without a key."""
    keys = [getattr(key, "value", None) for key in value.keys] if isinstance(value, ast.Dict) else [None]
    if not isinstance(value, ast.Dict) or not all(isinstance(key, str) for key in keys):
        return [("", value)]
    return [(str(key), its) for key, its in zip(keys, value.values, strict=True)]


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> dict[str, str]:
    """Return the names that an import binds, with their targets in the project; "" for other packages."""
    if isinstance(statement, ast.Import):
        found = {}
        for one in statement.names:
            first = one.name.partition(".")[0]
            found[one.asname or first] = one.name if one.asname else first
    else:
        parts = package.split(".")
        above = parts[: len(parts) - statement.level + 1] if statement.level else []
        source = ".".join([*above, *filter(None, [statement.module])])
        found = {one.asname or one.name: f"{source}.{one.name}" for one in statement.names}
    return {name: target if target.partition(".")[0] == PACKAGE else "" for name, target in found.items()}


def _bound(function: Function, package: str) -> dict[str, str]:
    """Return the names that a function binds, with the targets of those that it imports, else ""."""
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
    bound = {one.arg: "" for one in every if one is not None}
    elsewhere: set[str] = set()
    for node in _in_scope(_body(function)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound |= _imported(node, package)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound[node.id] = ""
        elif isinstance(node, ast.Global):
            elsewhere.update(node.names)
        elif not isinstance(node, ast.alias) and isinstance(name := getattr(node, "name", None), str):
            bound[name] = ""  # a definition, an exception, a part of a pattern
    return {name: target for name, target in bound.items() if name not in elsewhere}


def _in_scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yield the nodes of a function's scope, without the inside of nested functions, classes and comprehensions."""
    waiting = [*nodes]
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, INNER):
            waiting += ast.iter_child_nodes(node)


def _body(function: Function) -> list[ast.AST]:
    return [function.body] if isinstance(function, ast.Lambda) else [*function.body]


def _for_types(node: ast.AST) -> bool:
    """Return whether a statement is `if TYPE_CHECKING`."""
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _write(node: ast.AST, text: list[str]) -> None:
    """Append a syntax tree to `text`, without positions and docstrings.

    Empty fields are left out, so that all versions of Python give the same text.
    """
    text.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        if value is None or name == "ctx":
            continue
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, ast.AST):
                text += name, repr(one)
            elif not (
                isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str)
            ):
                text.append(name)
                _write(one, text)
    text.append("")
