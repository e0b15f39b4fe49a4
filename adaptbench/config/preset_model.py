"""Builds the preset's model with all benchmarks and methods that exist, and its JSON schema."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast

from pydantic import Field, create_model

from adaptbench import contract_checks
from adaptbench.config.preset import Preset
from adaptbench.config.schema import HUB_PATTERN, Data, HubData, Run
from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import write_text
from adaptbench.registry import METHOD_AXES, discover, tracks


def _union(package: str) -> Any:
    """Return the discriminated union over the Configs of a package's files."""
    configs = tuple(module.Config for module in discover(package).values())
    return Annotated[Union[configs], Field(discriminator="kind")] if len(configs) > 1 else configs[0]  # noqa: UP007


@cache
def preset_model() -> type[Preset]:
    """Return `Preset` with a field for every track and a union over all methods that exist."""
    tuner, curriculum, posthoc = (_union(f"methods.{axis}") for axis in METHOD_AXES)
    names = tracks()
    fixed = (*Data.model_fields, *names, *(f"{track}_tests" for track in names))
    contract_checks.check_names({f"benchmarks.{track}": discover(f"benchmarks.{track}") for track in names}, fixed)
    run: Any = create_model(
        "Run",
        __base__=Run,
        track=(cast(Any, Literal[names]), ...),
        tuner=(tuner, ...),
        curriculum=(curriculum, ...),
        posthoc=(posthoc | None, None),
    )
    benchmarks: Any = {
        track: (_union(f"benchmarks.{track}"), ...)
        if track == "general"
        else (_union(f"benchmarks.{track}") | None, None)
        for track in names
    }
    benchmarks |= {
        f"{track}_tests": (tuple[_union(f"benchmarks.{track}"), ...], Field((), strict=False))  # type: ignore[misc]
        for track in names
        if track != "general"
    }
    public: Any = {name: _hub_data(name, hub_id) for name, hub_id in _public_data(names).items()}
    data: Any = create_model("Data", __base__=Data, **benchmarks, **public)
    return create_model(
        "Preset",
        __base__=Preset,
        data=(data, ...),
        runs=(tuple[run, ...], Field(min_length=1, strict=False)),
        ablation=(tuple[run, ...], Field((), strict=False, description=Preset.model_fields["ablation"].description)),
    )


def _public_data(tracks: tuple[str, ...]) -> dict[str, str]:
    """Return the names of the public data sets in benchmarks' `PUBLIC_DATA`, with their hub ids."""
    modules = [module for track in tracks for module in discover(f"benchmarks.{track}").values()]
    return {name: hub_id for module in modules for name, hub_id in getattr(module, "PUBLIC_DATA", {}).items()}


def _hub_data(name: str, hub_id: str) -> tuple[type[HubData], HubData]:
    """Return a model of a public data set whose default is this hub id, and its default value."""
    model = create_model(name, __base__=HubData, hub_id=(str, Field(hub_id, pattern=HUB_PATTERN)))
    return model, model.model_validate({})


def json_schema() -> str:
    """Return the JSON schema with which editors check presets."""
    return json.dumps(preset_model().model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schema(file: Path, check: bool = False) -> None:
    """Write the schema; with `check`, only check that the file is up to date.

    Raises:
        AdaptbenchError: it is not.
    """
    if not check:
        write_text(file, json_schema())
    elif not file.exists() or file.read_text() != json_schema():
        raise AdaptbenchError(f"{file}: not up to date; run `make schema`")
