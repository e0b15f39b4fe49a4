"""Parses --config: keeps each option's text as it was written, then converts it to the option's type.

Snakemake drops quotes and parses values as YAML: name="2024" becomes a number, and a name loses what follows a #.
Therefore its entries `key=value` are parsed here. If an option is text, its value stays text; numbers, lists and
mappings are YAML.
"""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from adaptbench.config import yaml_text
from adaptbench.config.preset_model import preset_model
from adaptbench.errors import AdaptbenchError

NULLS = ("", "~", "null", "Null", "NULL")


class Written(str):
    """Text as it was written, without the quotes around it; `quoted` says whether it had some."""

    quoted = False


class _Loader(yaml_text.UniqueKeys, yaml.BaseLoader):
    """YAML whose scalars all stay text."""

    def construct_scalar(self, node: Any) -> Written:
        text = Written(super().construct_scalar(node))
        text.quoted = node.style is not None
        return text


def of_entries(entries: Iterable[str]) -> dict[str, Any]:
    """Parse `key=value` entries into nested texts, for `typed`; later entries override earlier ones of the same key.

    Raises:
        AdaptbenchError: an entry has another form.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        if not equals or not key.strip():
            raise AdaptbenchError(f"--config {entry!r}: must be KEY=VALUE")
        found = merged(found, {key: _structure(text)})
    return found


def _structure(text: str) -> Any:
    """Return a mapping or list of texts, or the text itself without quotes around it; None for an empty text."""
    whole = Written(text.strip())
    try:
        found = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return whole  # the value of an option that is text
    return found if isinstance(found, Mapping | list) or getattr(found, "quoted", False) else whole or None


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `change`; nested mappings are merged."""
    found = dict(base)
    for key, value in change.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return found


def typed(given: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the values of --config to the types of the preset's options.

    Args:
        given: the values; plain text, as in Snakemake's own mapping, is parsed first.
        there: the values that they change.

    Raises:
        AdaptbenchError: a number, list or mapping is not YAML.
    """
    read = {key: _structure(value) if type(value) is str else value for key, value in given.items()}
    values: dict[str, Any] = _typed(read, preset_model(), there)
    return values


def _typed(given: Any, annotation: Any, there: Any) -> Any:
    """Convert a value to an annotated type; a value of no such type is returned as it is, and pydantic rejects it."""
    members = _members(annotation)
    if isinstance(given, Mapping):
        model = _model(members, given, there)
        fields = {name: field.annotation for name, field in model.model_fields.items()} if model else {}
        others = next((get_args(one)[1] for one in members if get_origin(one) is dict), None)
        inside = there if isinstance(there, Mapping) else {}
        known = {key: annotation for key in given if (annotation := fields.get(key, others)) is not None}
        return {**given} | {key: _typed(given[key], annotation, inside.get(key)) for key, annotation in known.items()}
    if isinstance(given, list):
        entries = next((get_args(one)[0] for one in members if get_origin(one) is tuple), None)
        return given if entries is None else [_typed(value, entries, None) for value in given]
    return _scalar(given, members) if isinstance(given, str) else given


def _members(annotation: Any) -> list[Any]:
    """Return the types of a union, without annotations."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for one in get_args(annotation) for member in _members(one)]
    return [annotation]


def _model(members: list[Any], given: Mapping[str, Any], there: Any) -> type[BaseModel] | None:
    """Return the model of a mapping; of several, the one of its kind, or else of the previous value's kind."""
    models = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
    if len(models) < 2:
        return models[0] if models else None
    kind = given.get("kind", there.get("kind") if isinstance(there, Mapping) else None)
    return next((one for one in models if one.model_fields["kind"].default == kind), None)


def _scalar(text: str, members: list[Any]) -> Any:
    """Convert text to one of these types."""
    quoted = getattr(text, "quoted", False)
    if not quoted and text in NULLS and type(None) in members:
        return None
    is_text = any(one is str or get_origin(one) is Literal for one in members)
    if is_text and (quoted or not {int, float, bool} & set(members)):
        return str(text)
    try:
        return yaml_text.parse(text)
    except yaml_text.Ambiguous as error:
        raise AdaptbenchError(f"--config: {error.problem}") from None
    except yaml.YAMLError:
        raise AdaptbenchError(f"--config: {str(text)!r:.80} is not YAML; quote it") from None
