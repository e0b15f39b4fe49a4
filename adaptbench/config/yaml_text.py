"""Reads YAML strictly: unique keys, plain data, no ambiguous numbers."""

import re
from pathlib import Path
from typing import Any

import yaml

from adaptbench.errors import AdaptbenchError

AMBIGUOUS = re.compile(r"[-+]?0\d[\d_]*|.*\d:\d.*")
"""Numbers that YAML 1.1 reads as octal or sexagesimal: 010 is 8, 1:30 is 90."""


class Ambiguous(yaml.constructor.ConstructorError):
    """An error for a number that YAML reads as another than it seems to be."""


class UniqueKeys(yaml.constructor.BaseConstructor):
    """A YAML constructor that rejects duplicate keys; PyYAML silently uses the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):  # not `!!map x`
            keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Loader(UniqueKeys, yaml.SafeLoader):
    """A YAML loader for plain data, whose only errors are YAMLErrors."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # PyYAML's constructors raise these if a value is invalid for its type: 2020-99-99, `!!int x`.
            what = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if plain and type(value) in (int, float) and AMBIGUOUS.fullmatch(node.value):
            what = f"{node.value[:80]!r} would be read as {value}; write the number that is meant"
            raise Ambiguous(None, None, what, node.start_mark)
        return value


def parse(text: str) -> Any:
    """Parse YAML of plain data.

    Raises:
        yaml.YAMLError: the text is not YAML, or not plain data.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def read(path: Path) -> dict[str, Any]:
    """Return the values in a preset file, unchecked.

    Raises:
        AdaptbenchError: there is no such file, or it is no YAML or no mapping.
    """
    if path.exists() and not path.is_file():
        raise AdaptbenchError(f"{path}: no plain file; write the preset into one")
    try:
        values = parse(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise AdaptbenchError(f"{path}: no such preset") from None
    except UnicodeDecodeError:
        raise AdaptbenchError(f"{path}: not UTF-8 text") from None
    except Ambiguous as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise AdaptbenchError(f"{path}:{line}: {error.problem}, or text in quotes") from None
    except yaml.YAMLError as error:
        raise AdaptbenchError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise AdaptbenchError(f"{path}: must be a mapping of options")
    return values
