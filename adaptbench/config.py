"""A preset: one strict, frozen model for everything that a user can set.

The unions over methods and benchmarks are made from the files that exist, so a new file's options are checked, and
appear in the JSON schema, without a change here. Every mistake is one line that names the file and the key.
"""

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast

import yaml
from pydantic import BeforeValidator, Field, ValidationError, create_model, model_validator

from adaptbench import checks, contract_checks, registry
from adaptbench.contracts import (
    NAME_PATTERN,
    AdaptbenchError,
    BenchmarkConfig,
    CurriculumConfig,
    PosthocConfig,
    Real,
    StrictModel,
    TunerConfig,
)
from adaptbench.files import write_text
from adaptbench.mistakes import mistakes, reason
from adaptbench.model import capabilities
from adaptbench.registry import METHOD_AXES, discover, tracks

_PART = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"
HUB_PATTERN = rf"^{_PART}(/{_PART})?$"  # `name` or `owner/name`, as the hub has them: no path, no `..`
REVISION_PATTERN = rf"^{_PART}(/{_PART})*$"  # a commit, a tag or a branch


class Training(StrictModel):
    """How a stage is trained. Exactly one of `steps` and `epochs` is set."""

    learning_rate: Real = Field(1e-3, gt=0)
    steps: int | None = Field(None, gt=0, le=10**9, description="optimizer steps")
    epochs: Real | None = Field(None, gt=0, le=10**6, description="passes over the stage's examples, instead of steps")
    batch_size: int = Field(32, gt=0, le=10**6, description="sequences in an optimizer step, over all devices")
    micro_batch_size: int | None = Field(
        None, gt=0, le=10**6, description="sequences in one forward pass on one device; default: all"
    )
    sequence_length: int = Field(128, ge=8, le=10**8, description="tokens in a packed sequence")
    schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = "cosine"
    warmup_ratio: Real = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate rises")
    decay_ratio: Real = Field(0.3, gt=0, le=1, description="warmup_stable_decay: share of the steps in which it falls")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: the layers' matrices by Muon; vectors, experts stacked in one tensor, embeddings and head by AdamW",
    )
    muon_learning_rate: Real = Field(0.02, gt=0, description="muon: rate of the matrices")
    betas: tuple[Annotated[Real, Field(ge=0, lt=1)], Annotated[Real, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), strict=False
    )
    weight_decay: Real = Field(0.0, ge=0)
    max_grad_norm: Real = Field(1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of the autocast forward pass; auto: bfloat16 where the device computes in it, else float32; weights stay as loaded",
    )
    attention: Literal["auto", "eager", "sdpa"] = Field(
        "auto",
        description="implementation of attention in training; auto: what transformers chooses for the model "
        "(not flash attention, whose packed batches let documents see each other unless a batch is one row); on a processor that "
        "computes in bfloat16 eager instead, which is faster there, while its scores take little memory",
    )
    gradient_checkpointing: bool = False
    compile: bool = Field(
        False,
        description="decoder layers through torch.compile in stages whose step is one pass of packed rows, where there is a compiler",
    )

    @model_validator(mode="after")
    def _one_length(self) -> "Training":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs")
        if self.schedule == "warmup_stable_decay" and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio must add up to 1 at most")
        if self.micro_batch_size is not None and self.batch_size % self.micro_batch_size:
            raise ValueError("micro_batch_size must divide batch_size")
        return self


if TYPE_CHECKING:

    class TrainingOverrides(StrictModel):
        """Some of the training options; the rest come from the preset."""

else:
    TrainingOverrides = create_model(
        "TrainingOverrides",
        __base__=StrictModel,
        __module__=__name__,
        __doc__="Some of the training options; the rest come from the preset.",
        # A union with None would keep a field's constraints on the whole union, where they do not apply.
        **{
            name: (Annotated[(info.annotation, name, *info.metadata)] | None, None)
            for name, info in Training.model_fields.items()
        },
    )


def merge_training(base: Training, *overrides: Mapping[str, Any]) -> Training:
    """`base` with the overrides applied in turn; setting steps clears epochs and the other way round."""
    values = base.model_dump()
    for override in overrides:
        if override.get("steps") is not None:
            values["epochs"] = None
        if override.get("epochs") is not None:
            values["steps"] = None
        values.update(override)
    return Training.model_validate(values)


def override_problem(training: Training, stages: Mapping[str, TrainingOverrides]) -> str:
    """What is wrong with stages' own training options over a run's, by the options' name; empty if nothing is."""
    for name, own in stages.items():
        try:
            merge_training(training, own.model_dump(exclude_none=True))
        except ValidationError as error:
            return f"{name}: {reason(error)}"
    return ""


class Architecture(StrictModel):
    """The Qwen3 model that a preset pre-trains."""

    hidden_size: int = Field(64, gt=0, le=10**6)
    intermediate_size: int = Field(192, gt=0, le=10**7)
    num_hidden_layers: int = Field(6, gt=0, le=10**4)
    num_attention_heads: int = Field(2, gt=0, le=10**6)
    num_key_value_heads: int = Field(2, gt=0, le=10**6)
    max_position_embeddings: int = Field(1024, gt=0, le=10**8)
    tie_word_embeddings: bool = True

    @model_validator(mode="after")
    def _heads(self) -> "Architecture":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("num_attention_heads must divide hidden_size")
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even, for rotary positions")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_key_value_heads must divide num_attention_heads")
        return self


class Base(StrictModel):
    """The model that every run starts from: pre-trained here, or named by `model`."""

    model: str | None = Field(
        None,
        min_length=1,
        description="hub id or folder; then nothing is pre-trained, and seed and what follows mean nothing",
    )
    revision: str = Field("main", pattern=REVISION_PATTERN, description="of a hub model")
    seed: int = Field(0, ge=0, lt=2**32)
    per_seed: bool = Field(
        False, description="each seed's runs start from a base of their own, pre-trained under that seed"
    )
    architecture: Architecture = Architecture()
    training: Training = Training(steps=600, learning_rate=5e-3, schedule="warmup_stable_decay")

    @model_validator(mode="after")
    def _a_base_per_seed_is_pre_trained_under_it(self) -> "Base":
        if self.per_seed and (self.model is not None or "seed" in self.model_fields_set):
            named = "model" if self.model is not None else "seed"
            raise ValueError(f"per_seed pre-trains a base under each of the preset's seeds; remove it, or {named}")
        return self

    @model_validator(mode="after")
    def _sequences_fit(self) -> "Base":
        if self.model is None and self.training.sequence_length > self.architecture.max_position_embeddings:
            raise ValueError("training.sequence_length must be <= architecture.max_position_embeddings")
        return self


class Tokenizer(StrictModel):
    """The byte-level BPE tokenizer that a preset trains (unless `base.model` brings its own)."""

    vocabulary: int = Field(768, ge=257, le=10**7, description="tokens, the 256 bytes and the end of text included")
    corpora: tuple[str, ...] = Field(
        ("general",), strict=False, min_length=1, description="benchmarks whose training text it is trained on"
    )


class HubData(StrictModel):
    """A public data set: from the hub, or from a folder that holds its files."""

    hub_id: str = Field(pattern=HUB_PATTERN)
    revision: str = Field("main", pattern=REVISION_PATTERN)
    path: str | None = Field(None, min_length=1, description="local folder to read instead of the hub")


class Data(StrictModel):
    """Benchmarks by track, and the public data that they read; the fields come from the files in benchmarks/.

    `<track>` is what the track's models train on and are scored on, `<track>_tests` what they are only scored on besides.
    """

    seed: int = Field(0, ge=0)


class StockTask(StrictModel):
    """A task or group that lm-eval brings."""

    task: str = Field(min_length=1, description="its name in lm-eval")
    num_fewshot: int | None = Field(None, ge=0, description="examples before each question; default: lm-eval's")


def _named(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


StockTasks = Annotated[
    tuple[Annotated[StockTask, BeforeValidator(_named, json_schema_input_type=str | StockTask)], ...],
    Field(strict=False),
]


class Evaluation(StrictModel):
    split: Literal["test", "validation"] = Field("test", description="validation only for choosing hyper-parameters")
    batch_size: int = Field(128, gt=0, le=10**6, description="requests at a time; fixed, because it changes scores")
    limit: int | None = Field(
        None, gt=0, description="documents of each task (of a group: of each of its tasks); only for trying things out"
    )
    stock_tasks: dict[str, StockTasks] = Field(
        {}, description="by track, tasks of lm-eval that are asked besides; those of general say what is forgotten"
    )


OWN_TABLES = {"paper": "what papers report", "overall": "all tracks' runs", "fairness": "all tracks' runs"}
"""Tables that every preset has, one for its runs and one for its ablation."""


class Run(StrictModel):
    """A curriculum with a tuner on a track."""

    name: str = Field(pattern=NAME_PATTERN)
    track: str
    curriculum: CurriculumConfig
    tuner: TunerConfig
    posthoc: PosthocConfig | None = None
    training: TrainingOverrides = TrainingOverrides()
    decode: dict[str, str | int | float | bool] = Field(
        {}, description="how the trained model decodes when it is evaluated; changes no training"
    )
    tables: tuple[Annotated[str, Field(pattern=NAME_PATTERN)], ...] | None = Field(
        None, min_length=1, strict=False, description="the tables that show it; default: its track's"
    )

    baseline_of: tuple[str, ...] = Field(
        (),
        strict=False,
        description="the tables whose other runs are tested against it; default: a table's first run is",
    )

    def shown_in(self) -> tuple[str, ...]:
        return self.tables or (self.track,)


class Devices(StrictModel):
    """What a training stage is spread over, on one machine. Changes no result but by rounding, and so makes no stage anew."""

    processes: int = Field(1, gt=0, le=1024, description="each with a device of its own where there are accelerators")
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="fsdp: weights, gradients and optimizer state are sharded (FSDP2)"
    )

    @property
    def sharded(self) -> bool:
        return self.strategy == "fsdp" and self.processes > 1


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


def validate(values: Mapping[str, Any], source: str) -> Preset:
    """The preset that `values` describe.

    Raises:
        AdaptbenchError: one line with the file, the key and what it must be; further mistakes are counted.
    """
    try:
        preset = preset_model().model_validate(values)
    except ValidationError as error:
        others = len(mistakes(error)) - 1
        more = f" (and {others} more)" if others else ""
        raise AdaptbenchError(f"{source}: {reason(error)}{more}") from None
    problem = checks.base_problem(preset)
    if problem:
        raise AdaptbenchError(f"{source}: base.{problem}")
    layers, longest = checks.base_layers(preset.base), checks.base_positions(preset.base)
    for key, run in preset.every_run():
        training = preset.training_of(run)
        problem = checks.run_problem(preset, run.model_copy(update={"training": training}), layers, longest)
        if problem:
            raise AdaptbenchError(f"{source}: {key}.{problem}")
    if problem := capabilities.problem(checks.base_lacks(preset.base), checks.needs(preset)):
        raise AdaptbenchError(f"{source}: base.model: {preset.base.model}: {problem}")
    return preset


def load(path: Path) -> Preset:
    """Read and check a preset file.

    Raises:
        AdaptbenchError: no such file, not YAML, or not a valid preset.
    """
    return validate(read(path), str(path))


AMBIGUOUS = re.compile(r"[-+]?0\d[\d_]*|.*\d:\d.*")
"""Numbers that YAML 1.1 takes for octal or sexagesimal ones: 010 is 8, 1:30 is 90."""


class Ambiguous(yaml.constructor.ConstructorError):
    """A number that YAML reads as another than it seems to be."""


class UniqueKeys(yaml.constructor.BaseConstructor):
    """YAML whose mappings hold each key once; plain YAML takes the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):  # not `!!map x`
            keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Loader(UniqueKeys, yaml.SafeLoader):
    """YAML of plain data. Every mistake is a YAMLError."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # What PyYAML's constructors end in where a value is none of its type: 2020-99-99, `!!int x`.
            what = f"{str(node.value)[:40]!r} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if plain and type(value) in (int, float) and AMBIGUOUS.fullmatch(node.value):
            what = f"{node.value[:80]!r} would be read as {value}; write the number that is meant"
            raise Ambiguous(None, None, what, node.start_mark)
        return value


def parse(text: str) -> Any:
    """What YAML says, as far as it is plain data.

    Raises:
        yaml.YAMLError: it is not YAML, or none of ours.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def read(path: Path) -> dict[str, Any]:
    """The values in a preset file, unchecked.

    Raises:
        AdaptbenchError: no such file, not YAML, or not a mapping.
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
