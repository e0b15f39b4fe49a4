"""Write the reference of a preset's keys from its JSON schema, between two markers of a page.

Run: python -m tools preset-keys docs/presets.md; `make lint` checks that the page is up to date.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptbench.config.preset_model import preset_model
from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text

BEGIN, END = "<!-- preset keys -->\n", "<!-- end -->"
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
FAMILIES = {"tuners": "tuner", "curricula": "curriculum", "posthoc": "posthoc"}
ALIASES = {"TrainingOverrides": "Training"}
"""Models that have the keys of another one, each optional."""
Schema = Mapping[str, Any]


def write(page: Path, check: bool = False) -> None:
    """Write the keys into the page; with `check` only compare.

    Raises:
        AdaptbenchError: the page has no markers, or is not up to date.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise AdaptbenchError(f"{page}: no lines {BEGIN.strip()!r} and {END!r}")
    new = before + begin + tables(preset_model().model_json_schema()) + end + after
    if check and new != text:
        raise AdaptbenchError(f"{page}: not up to date; run `make schema`")
    if not check:
        write_text(page, new)


def tables(schema: Schema) -> str:
    """Return a table for the preset, then one for each model that a key refers to, in the order of first use."""
    definitions: Schema = schema["$defs"]
    order = ["Preset"]
    models = {"Preset": schema, **definitions}
    for name in order:  # grows while it is read
        order += [one for one in dict.fromkeys(_references(models[name])) if one not in order and one not in ALIASES]
    return "\n".join(_table(name, models[name], definitions) for name in order if models[name].get("properties"))


def heading(name: str) -> str:
    """Return the heading of a model: `tuner: lora` for a method, `data.domain: world` for a benchmark."""
    name = ALIASES.get(name, name)
    if found := re.fullmatch(r"adaptbench__(methods|benchmarks)__(\w+?)__(\w+)__Config", name):
        family = FAMILIES[found[2]] if found[1] == "methods" else f"data.{found[2]}"
        return f"{family}: {found[3]}"
    return name


def _table(name: str, model: Schema, definitions: Schema) -> str:
    rows = [
        f"| `{key}` | {_type(one, definitions)} | {_default(key, one, model)} | {_purpose(one, definitions)} |"
        for key, one in model["properties"].items()
    ]
    purpose = _purpose({"description": model.get("description", "").split("\n\n")[0]}, definitions)
    lines = [f"### {heading(name)}", "", *([purpose, ""] if purpose else [])]
    return "\n".join([*lines, "| key | type | default | description |", "| --- | --- | --- | --- |", *rows]) + "\n"


def _purpose(one: Schema, definitions: Schema) -> str:
    """Return what a key is for: its description, or the first sentence of the model that it refers to."""
    referred = definitions[one["$ref"].rpartition("/")[2]].get("description", "") if "$ref" in one else ""
    text = one.get("description") or referred.partition(". ")[0].split("\n\n")[0]
    return text.replace("\n", " ").replace("|", r"\|").replace("<", "&lt;")


def _default(key: str, one: Schema, model: Schema) -> str:
    if key in model.get("required", ()):
        return "required"
    default = one.get("default")
    if default is None or (isinstance(default, dict) and default):  # a mapping's own defaults are in its table
        return ""
    return f"`{json.dumps(default, ensure_ascii=False)}`"


def _type(one: Schema, definitions: Schema) -> str:
    """Return a type as text, with its bounds and a link to the table of a model."""
    if "$ref" in one:
        title = heading(one["$ref"].rpartition("/")[2])
        anchor = re.sub(r"[^a-z0-9_ -]", "", title.lower()).replace(" ", "-")
        return f"[{title.rpartition(': ')[2]}](#{anchor})"
    for key in ("anyOf", "oneOf"):
        if key in one:
            return " or ".join(dict.fromkeys(_type(choice, definitions) for choice in one[key]))
    if "const" in one:
        return f"`{one['const']}`"
    if "enum" in one:
        return ", ".join(f"`{value}`" for value in one["enum"])
    if one.get("type") == "array":
        entries = one.get("prefixItems") or [one.get("items", {})]
        return "list of " + ", ".join(_type(entry, definitions) for entry in entries)
    if one.get("type") == "object":
        return f"mapping to {_type(one['additionalProperties'], definitions)}"
    bounds = " and ".join(f"{sign} {one[key]}" for key, sign in BOUNDS.items() if key in one)
    return " ".join(filter(None, [one.get("type", "any"), bounds]))


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for key, one in value.items():
            if key not in ("$defs", "default", "discriminator"):
                yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)
