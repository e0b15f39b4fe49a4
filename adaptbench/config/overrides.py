"""What --config sets: each option's text as it was written, and from it the value that the option's type asks for.

Snakemake drops quotes and reads a value by rules of YAML before it hands it over: name="2024" is a number then, and a name loses what
follows a #. So its entries `key=value` are read here. Text stays text where an option is text; numbers, lists and mappings are YAML.
"""

from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from adaptbench.config import preset, yaml_text
from adaptbench.errors import AdaptbenchError

NULLS = ("", "~", "null", "Null", "NULL")


class Written(str):
    """Text as it was written, without the quotes around it."""

    quoted = False


class _Loader(yaml_text.UniqueKeys, yaml.BaseLoader):
    """YAML whose scalars all stay text."""

    def construct_scalar(self, node: Any) -> Written:
        text = Written(super().construct_scalar(node))
        text.quoted = node.style is not None
        return text


def of_entries(entries: Iterable[str]) -> dict[str, Any]:
    """Return the structure of `key=value` entries, each as `typed` takes it; a later entry of the same key changes an earlier one.

    Raises:
        AdaptbenchError: an entry is not of that form.
    """
    found: dict[str, Any] = {}
    for entry in entries:
        key, equals, text = entry.partition("=")
        if not equals or not key.strip():
            raise AdaptbenchError(f"--config {entry!r}: must be KEY=VALUE")
        found = merged(found, {key: _structure(text)})
    return found


def _structure(text: str) -> Any:
    """Return a mapping or list of texts, or the text itself, whole unless it is in quotes; None for no text."""
    whole = Written(text.strip())
    try:
        found = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return whole  # where an option is text, that is what it is
    return found if isinstance(found, Mapping | list) or getattr(found, "quoted", False) else whole or None


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `change`, mappings merged key by key."""
    found = dict(base)
    for key, value in change.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(value, Mapping) and isinstance(old, Mapping) else value
    return found


def typed(given: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of --config as the preset's options ask for them; `there` are the values that they change.

    Text in `given` that was not read yet, as in Snakemake's own mapping, is read first.

    Raises:
        AdaptbenchError: a number, list or mapping is not YAML.
    """
    read = {key: _structure(value) if type(value) is str else value for key, value in given.items()}
    values: dict[str, Any] = _typed(read, preset.preset_model(), there)
    return values


def _typed(given: Any, annotation: Any, there: Any) -> Any:
    """Return a value of --config as an annotation asks for it; what fits none stays as it is, for pydantic to refuse."""
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
    """Return the types of a union, without what is annotated."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [member for one in get_args(annotation) for member in _members(one)]
    return [annotation]


def _model(members: list[Any], given: Mapping[str, Any], there: Any) -> type[BaseModel] | None:
    """Return the model that a mapping is for: of several, the one of the kind that it names, or that is there already."""
    models = [one for one in members if isinstance(one, type) and issubclass(one, BaseModel)]
    if len(models) < 2:
        return models[0] if models else None
    kind = given.get("kind", there.get("kind") if isinstance(there, Mapping) else None)
    return next((one for one in models if one.model_fields["kind"].default == kind), None)


def _scalar(text: str, members: list[Any]) -> Any:
    """Return what the text means where an option has one of these types."""
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
