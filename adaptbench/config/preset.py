"""The preset: one strict, frozen model of everything that a user can set."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from adaptbench import registry
from adaptbench.config.schema import Base, Data, Devices, Evaluation, HubData, Run, Tokenizer
from adaptbench.config.training import Training, merge_training
from adaptbench.contracts import NAME_PATTERN, BenchmarkConfig, Real, StrictModel
from adaptbench.errors import reason

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
    checkpoint_seconds: Real = Field(
        60.0, ge=0, description="checkpoint interval of a stage in seconds; 0: after every step"
    )
    keep: Literal["all", "scored"] = Field(
        "all",
        description="models that stay on disk; scored: only those that runs are scored on. An intermediate model is "
        "then removed as soon as nothing in the graph reads it. A run that is added later makes it again, with all "
        "models that descend from it",
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = Field((0, 1, 2), min_length=1, strict=False)
    runs: tuple[Run, ...] = Field(min_length=1, strict=False)
    ablation: tuple[Run, ...] = Field((), strict=False, description="further runs, made only by `make ablation`")
    sweep: str | None = Field(
        None, min_length=1, description="CSV file of the sweep that chose the learning rates, for the table fairness"
    )

    def every_run(self) -> tuple[tuple[str, Run], ...]:
        """Return all runs with their keys in the preset."""
        groups = {"runs": self.runs, "ablation": self.ablation}
        return tuple((f"{name}.{i}", run) for name, runs in groups.items() for i, run in enumerate(runs))

    def training_of(self, run: Run) -> Training:
        """Return a run's training options, merged with the preset's.

        Raises:
            ValidationError: the run's options do not fit the preset's.
        """
        return merge_training(self.training, run.training.model_dump(exclude_unset=True))

    def resolved(self, run: Run) -> Run:
        """Return a run with its training options merged with the preset's.

        Raises:
            ValidationError: the run's options do not fit the preset's.
        """
        return run.model_copy(update={"training": self.training_of(run)})

    def benchmark(self, track: str) -> Any:
        """Return the options of the track's benchmark; None if the preset has none."""
        return getattr(self.data, track, None)

    def further_tests(self, track: str) -> tuple[Any, ...]:
        """Return the options of further benchmarks that test the track."""
        return getattr(self.data, f"{track}_tests", ())

    def public_data(self, track: str, kind: str) -> dict[str, HubData]:
        """Return the public data sets that a benchmark of this kind reads, by their keys under `data`."""
        names = getattr(registry.benchmark(track, kind), "PUBLIC_DATA", {})
        return {name: getattr(self.data, name) for name in names}

    def _baselines(self, track: str) -> tuple[str, ...]:
        """Return the names of the baselines that every table of the track shows."""
        module = registry.benchmark(track, self.benchmark(track).kind)
        return ("base", *getattr(module, "BASELINES", {}))

    @model_validator(mode="after")
    def _every_seed_is_unique(self) -> "Preset":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: each seed once")
        return self

    @model_validator(mode="after")
    def _name_is_not_reserved(self) -> "Preset":
        if self.name.casefold() == "reference":
            raise ValueError("name: results/reference holds what is kept; choose another")
        return self

    @model_validator(mode="after")
    def _every_run_has_data(self) -> "Preset":
        for key, run in self.every_run():
            if self.benchmark(run.track) is None:
                raise ValueError(f"data.{run.track}: missing, but {key} is on that track")
        return self

    @model_validator(mode="after")
    def _run_names_are_unique(self) -> "Preset":
        seen: set[tuple[str, str]] = set()
        for key, run in self.every_run():
            name = run.track, run.name.casefold()
            if name in seen:
                raise ValueError(f"{key}.name: {run.name!r} names another {run.track} run already")
            seen.add(name)
        return self

    @model_validator(mode="after")
    def _no_run_has_a_baselines_name(self) -> "Preset":
        for key, run in self.every_run():
            if run.name.casefold() in self._baselines(run.track):
                raise ValueError(f"{key}.name: {run.name!r} is a baseline that every {run.track} table has")
        return self

    @model_validator(mode="after")
    def _every_run_names_a_table_once(self) -> "Preset":
        for key, run in self.every_run():
            if len(set(run.shown_in())) != len(run.shown_in()):
                raise ValueError(f"{key}.tables: each table once")
        return self

    @model_validator(mode="after")
    def _table_names_are_not_reserved(self) -> "Preset":
        for key, run in self.every_run():
            for own in {table.removeprefix("ablation_") for table in run.shown_in()} & set(OWN_TABLES):
                raise ValueError(
                    f"{key}.tables: {own} and ablation_{own} are made of {OWN_TABLES[own]}; choose another name"
                )
        return self

    @model_validator(mode="after")
    def _tables_are_of_one_part(self) -> "Preset":
        tracks = {run.track for _, run in self.every_run()}
        of_ablation = {table for run in self.ablation for table in run.tables or ()} - tracks
        for key, run in self.every_run():
            if key.startswith("ablation") and (run.tables is None or set(run.tables) & tracks):
                raise ValueError(f"{key}.tables: name the ablation's own table, not a track's")
            if key.startswith("runs") and set(run.shown_in()) <= of_ablation:
                raise ValueError(f"{key}.tables: names the ablation's table alone; put the run under ablation")
        return self

    @model_validator(mode="after")
    def _tables_are_of_one_track(self) -> "Preset":
        track_of = {run.track: run.track for _, run in self.every_run()}
        for key, run in self.every_run():
            for table in run.shown_in():
                if track_of.setdefault(table, run.track) != run.track:
                    raise ValueError(f"{key}.tables: {table!r} is a table of {track_of[table]} runs")
        return self

    @model_validator(mode="after")
    def _tables_show_their_baselines(self) -> "Preset":
        for key, run in self.every_run():
            for table in run.baseline_of:
                if table not in run.shown_in():
                    raise ValueError(f"{key}.baseline_of: {table!r} is no table that shows it")
        return self

    @model_validator(mode="after")
    def _tables_have_one_baseline(self) -> "Preset":
        baselines: dict[str, str] = {}
        for key, run in self.every_run():
            for table in run.baseline_of:
                if baselines.setdefault(table, run.name) != run.name:
                    raise ValueError(f"{key}.baseline_of: {baselines[table]!r} is the baseline of {table!r} already")
        return self

    @model_validator(mode="after")
    def _validation_has_items(self) -> "Preset":
        for _, run in self.every_run() if self.evaluation.split == "validation" else ():
            if not getattr(self.benchmark(run.track), "validation_items", 1):
                raise ValueError(f"data.{run.track}.validation_items: must be > 0 to score on validation")
        return self

    @model_validator(mode="after")
    def _runs_training_options_fit(self) -> "Preset":
        for key, run in self.every_run():
            try:
                self.training_of(run)
            except ValidationError as error:
                raise ValueError(f"{key}.training: {reason(error)}") from None
        return self

    @model_validator(mode="after")
    def _further_tests_have_a_benchmark(self) -> "Preset":
        for name, tests in self.data:
            track = name.removesuffix("_tests")
            if track != name and tests and self.benchmark(track) is None:
                raise ValueError(f"data.{track}: missing, but data.{name} is there")
        return self

    @model_validator(mode="after")
    def _further_tests_are_of_other_kinds(self) -> "Preset":
        for name, tests in self.data:
            track = name.removesuffix("_tests")
            if track == name or not tests:
                continue
            kinds = [self.benchmark(track).kind, *(test.kind for test in tests)]
            if len(set(kinds)) != len(kinds):
                raise ValueError(f"data.{name}: each kind once, and none that data.{track} has")
        return self

    @model_validator(mode="after")
    def _base_is_named_or_can_be_pre_trained(self) -> "Preset":
        general = self.benchmark("general")
        if self.base.model is not None or general is None:
            return self
        if not getattr(registry.benchmark("general", general.kind), "PRETRAINS", True):
            raise ValueError(
                f"base.model: missing, and data.general is {general.kind}, on which no base is pre-trained"
            )
        return self

    @model_validator(mode="after")
    def _named_benchmarks_have_data(self) -> "Preset":
        named = {"evaluation.stock_tasks": self.evaluation.stock_tasks, "tokenizer.corpora": self.tokenizer.corpora}
        for key, names in named.items():
            for name in names:
                if not isinstance(self.benchmark(name), BenchmarkConfig):
                    raise ValueError(f"{key}: no data.{name}")
        return self
