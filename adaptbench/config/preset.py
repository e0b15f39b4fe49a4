"""The preset: one strict, frozen model of everything that a user can set, with a union over all methods and benchmarks found."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, cast

from pydantic import Field, ValidationError, create_model, model_validator

from adaptbench import contract_checks, registry
from adaptbench.config.schema import HUB_PATTERN, Base, Data, Devices, Evaluation, HubData, Run, Tokenizer
from adaptbench.config.training import Training, merge_training
from adaptbench.contracts import (
    NAME_PATTERN,
    BenchmarkConfig,
    Real,
    StrictModel,
)
from adaptbench.errors import AdaptbenchError, reason
from adaptbench.io.files import write_text
from adaptbench.registry import METHOD_AXES, discover, tracks

OWN_TABLES = {"paper": "what papers report", "overall": "all tracks' runs", "fairness": "all tracks' runs"}
"""Tables that every preset has, one for its runs and one for its ablation."""


class Preset(StrictModel):
    """Everything that `snakemake` needs to know."""

    name: str = Field(pattern=NAME_PATTERN, description="results go to results/<name>")
    data: Data = Data()
    tokenizer: Tokenizer = Tokenizer()
    base: Base = Base()
    training: Training = Training(steps=200)
    evaluation: Evaluation = Evaluation()
    devices: Devices = Devices()
    checkpoint_seconds: Real = Field(60.0, ge=0, description="time between checkpoints of a stage; 0: after every step")
    keep: Literal["all", "scored"] = Field(
        "all",
        description="models that stay on disk: all, or those that runs are scored on; then one that lies between is removed as soon as "
        "nothing in the graph reads it, and a run added later makes it again, with all that came of it",
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field((0, 1, 2), min_length=1, strict=False)
    runs: tuple[Run, ...] = Field(min_length=1, strict=False)
    ablation: tuple[Run, ...] = Field((), strict=False, description="further runs, made by `make ablation` alone")
    sweep: str | None = Field(
        None, min_length=1, description="the kept sweep by which rates were chosen, for the card of costs"
    )

    def every_run(self) -> tuple[tuple[str, Run], ...]:
        """All runs with their keys in the preset."""
        groups = {"runs": self.runs, "ablation": self.ablation}
        return tuple((f"{name}.{i}", run) for name, runs in groups.items() for i, run in enumerate(runs))

    def training_of(self, run: Run) -> Training:
        """Return the options of training that the run's first stage has.

        Raises:
            ValidationError: the run's changes do not fit the preset's.
        """
        return merge_training(self.training, run.training.model_dump(exclude_unset=True))

    def benchmark(self, track: str) -> Any:
        """Return the options of the track's benchmark, None where the preset has none."""
        return getattr(self.data, track, None)

    def further_tests(self, track: str) -> tuple[Any, ...]:
        """Return the options of benchmarks that test the track besides."""
        return getattr(self.data, f"{track}_tests", ())

    @model_validator(mode="after")
    def _names_are_free(self) -> "Preset":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: each seed once")
        if self.name.casefold() == "reference":
            raise ValueError("name: results/reference holds what is kept; choose another")
        seen: set[tuple[str, str]] = set()
        for key, run in self.every_run():
            name = run.track, run.name.casefold()
            if name in seen:
                raise ValueError(f"{key}.name: {run.name!r} names another {run.track} run already")
            of_track = self.benchmark(run.track)
            policies = getattr(registry.benchmark(run.track, of_track.kind), "BASELINES", {}) if of_track else {}
            if run.name.casefold() in ("base", *policies):
                raise ValueError(f"{key}.name: {run.name!r} is a baseline that every {run.track} table has")
            seen.add(name)
        return self

    @model_validator(mode="after")
    def _tables_are_of_one_track_and_part(self) -> "Preset":
        table_tracks = {run.track: run.track for _, run in self.every_run()}
        of_ablation = {table for run in self.ablation for table in run.tables or ()} - set(table_tracks)
        for key, run in self.every_run():
            shown = run.shown_in()
            if len(set(shown)) != len(shown):
                raise ValueError(f"{key}.tables: each table once")
            for own in {table.removeprefix("ablation_") for table in shown} & set(OWN_TABLES):
                raise ValueError(
                    f"{key}.tables: {own} and ablation_{own} are made of {OWN_TABLES[own]}; choose another name"
                )
            if key.startswith("ablation") and (run.tables is None or set(run.tables) & set(table_tracks.values())):
                raise ValueError(f"{key}.tables: name the ablation's own table, not a track's")
            if key.startswith("runs") and set(shown) <= of_ablation:
                raise ValueError(f"{key}.tables: names the ablation's table alone; put the run under ablation")
            for table in shown:
                if table_tracks.setdefault(table, run.track) != run.track:
                    raise ValueError(f"{key}.tables: {table!r} is a table of {table_tracks[table]} runs")
        return self

    @model_validator(mode="after")
    def _tables_have_one_baseline(self) -> "Preset":
        baselines: dict[str, str] = {}
        for key, run in self.every_run():
            for table in run.baseline_of:
                if table not in run.shown_in():
                    raise ValueError(f"{key}.baseline_of: {table!r} is no table that shows it")
                if baselines.setdefault(table, run.name) != run.name:
                    raise ValueError(f"{key}.baseline_of: {baselines[table]!r} is the baseline of {table!r} already")
        return self

    @model_validator(mode="after")
    def _runs_have_data(self) -> "Preset":
        for key, run in self.every_run():
            benchmark = self.benchmark(run.track)
            if benchmark is None:
                raise ValueError(f"data.{run.track}: missing, but {key} is on that track")
            if self.evaluation.split == "validation" and not getattr(benchmark, "validation_items", 1):
                raise ValueError(f"data.{run.track}.validation_items: must be > 0 to score on validation")
        return self

    @model_validator(mode="after")
    def _runs_can_train(self) -> "Preset":
        for key, run in self.every_run():
            try:
                self.training_of(run)
            except ValidationError as error:
                raise ValueError(f"{key}.training: {reason(error)}") from None
        return self

    @model_validator(mode="after")
    def _further_tests_are_of_other_kinds(self) -> "Preset":
        for name, tests in self.data:
            track = name.removesuffix("_tests")
            if track == name or not tests:
                continue
            kinds = [getattr(self.benchmark(track), "kind", None), *(test.kind for test in tests)]
            if kinds[0] is None:
                raise ValueError(f"data.{track}: missing, but data.{name} is there")
            if len(set(kinds)) != len(kinds):
                raise ValueError(f"data.{name}: each kind once, and none that data.{track} has")
        return self

    @model_validator(mode="after")
    def _a_base_is_named_or_can_be_pre_trained(self) -> "Preset":
        general = self.benchmark("general")
        if self.base.model is None and general and not _pretrains(general.kind):
            raise ValueError(
                f"base.model: missing, and data.general is {general.kind}, on which no base is pre-trained"
            )
        return self

    @model_validator(mode="after")
    def _named_data_are_there(self) -> "Preset":
        named = {"evaluation.stock_tasks": self.evaluation.stock_tasks, "tokenizer.corpora": self.tokenizer.corpora}
        for key, names in named.items():
            for name in names:
                if not isinstance(self.benchmark(name), BenchmarkConfig):
                    raise ValueError(f"{key}: no data.{name}")
        return self


def _pretrains(general: str) -> bool:
    """Whether a general benchmark has text for a base that is pre-trained here."""
    return getattr(registry.benchmark("general", general), "PRETRAINS", True)


def _union(package: str) -> Any:
    """The discriminated union over the Configs of a package's files."""
    configs = tuple(module.Config for module in discover(package).values())
    return Annotated[Union[configs], Field(discriminator="kind")] if len(configs) > 1 else configs[0]  # noqa: UP007


@cache
def preset_model() -> type[Preset]:
    """`Preset` with a field for every track and a union over every method that exists."""
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
    """The public data sets that benchmarks name in `PUBLIC_DATA`, with their hub ids."""
    modules = [module for track in tracks for module in discover(f"benchmarks.{track}").values()]
    return {name: hub_id for module in modules for name, hub_id in getattr(module, "PUBLIC_DATA", {}).items()}


def _hub_data(name: str, hub_id: str) -> tuple[type[HubData], HubData]:
    model = create_model(name, __base__=HubData, hub_id=(str, Field(hub_id, pattern=HUB_PATTERN)))
    return model, model.model_validate({})


def json_schema() -> str:
    """The schema that editors check presets against."""
    return json.dumps(preset_model().model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_schema(file: Path, check: bool = False) -> None:
    """Write the schema; with `check` only see that the file holds it.

    Raises:
        AdaptbenchError: it does not.
    """
    if not check:
        write_text(file, json_schema())
    elif not file.exists() or file.read_text() != json_schema():
        raise AdaptbenchError(f"{file}: not up to date; run `make schema`")
