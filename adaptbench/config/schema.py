"""The sections of a preset.

The unions over methods and benchmarks are built from the files that exist (preset_model.py). A new file's options are
therefore checked, and appear in the JSON schema, without a change here.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from adaptbench.config.training import Training, TrainingOverrides
from adaptbench.contracts import (
    NAME_PATTERN,
    CurriculumConfig,
    PosthocConfig,
    StrictModel,
    TunerConfig,
)

_PART = r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*"
HUB_PATTERN = rf"^{_PART}(/{_PART})?$"  # `name` or `owner/name`, as on the hub: no path, no `..`
REVISION_PATTERN = rf"^{_PART}(/{_PART})*$"  # a commit, a tag or a branch


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
    def _heads_divide_hidden_size(self) -> "Architecture":
        if self.hidden_size % self.num_attention_heads:
            raise ValueError("num_attention_heads must divide hidden_size")
        return self

    @model_validator(mode="after")
    def _head_size_is_even(self) -> "Architecture":
        if self.hidden_size // self.num_attention_heads % 2:
            raise ValueError("hidden_size / num_attention_heads must be even, for rotary positions")
        return self

    @model_validator(mode="after")
    def _key_value_heads_divide_heads(self) -> "Architecture":
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError("num_key_value_heads must divide num_attention_heads")
        return self


class Base(StrictModel):
    """The model that every run starts from: pre-trained here, or named by `model`."""

    model: str | None = Field(
        None,
        min_length=1,
        description="hub id or folder; then nothing is pre-trained, and seed and the options after it are ignored",
    )
    revision: str = Field("main", pattern=REVISION_PATTERN, description="commit, tag or branch of a hub model")
    seed: int = Field(0, ge=0, lt=2**32)
    per_seed: bool = Field(
        False, description="pre-train one base under each of the preset's seeds, for the runs of that seed"
    )
    architecture: Architecture = Architecture()
    training: Training = Training(steps=600, learning_rate=5e-3, schedule="warmup_stable_decay")

    @model_validator(mode="after")
    def _per_seed_excludes_model_and_seed(self) -> "Base":
        if self.per_seed and (self.model is not None or "seed" in self.model_fields_set):
            named = "model" if self.model is not None else "seed"
            raise ValueError(f"per_seed pre-trains a base under each of the preset's seeds; remove it, or {named}")
        return self

    @model_validator(mode="after")
    def _sequences_fit_the_architecture(self) -> "Base":
        if self.model is None and self.training.sequence_length > self.architecture.max_position_embeddings:
            raise ValueError("training.sequence_length must be <= architecture.max_position_embeddings")
        return self


class Tokenizer(StrictModel):
    """The byte-level BPE tokenizer that a preset trains (unless `base.model` brings its own)."""

    vocabulary: int = Field(768, ge=257, le=10**7, description="tokens, including the 256 bytes and the end of text")
    corpora: tuple[str, ...] = Field(
        ("general",), strict=False, min_length=1, description="benchmarks whose training text trains it"
    )


class HubData(StrictModel):
    """A public data set: from the hub, or from a folder that holds its files."""

    hub_id: str = Field(pattern=HUB_PATTERN)
    revision: str = Field("main", pattern=REVISION_PATTERN)
    path: str | None = Field(None, min_length=1, description="local folder to read instead of the hub")


class Data(StrictModel):
    """Benchmarks by track, and the public data that they read; the fields come from the files in benchmarks/.

    The track's models train on `<track>` and are scored on it. They are only scored on `<track>_tests`.
    """

    seed: int = Field(0, ge=0)


class StockTask(StrictModel):
    """A task or group of lm-eval."""

    task: str = Field(min_length=1, description="name in lm-eval")
    num_fewshot: int | None = Field(None, ge=0, description="examples before each question; default: lm-eval's")


def _named(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


StockTasks = Annotated[
    tuple[Annotated[StockTask, BeforeValidator(_named, json_schema_input_type=str | StockTask)], ...],
    Field(strict=False),
]


class Evaluation(StrictModel):
    """Options for scoring models."""

    split: Literal["test", "validation"] = Field("test", description="validation: only for choosing hyper-parameters")
    batch_size: int = Field(128, gt=0, le=10**6, description="requests in a batch; fixed, because it changes scores")
    limit: int | None = Field(
        None, gt=0, description="documents of each task (in a group: of each of its tasks); only for trials"
    )
    stock_tasks: dict[str, StockTasks] = Field(
        {}, description="further tasks of lm-eval by track; those of general measure forgetting"
    )


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
        None, min_length=1, strict=False, description="tables that show the run; default: its track's"
    )
    baseline_of: tuple[str, ...] = Field(
        (),
        strict=False,
        description="tables whose other runs are tested against this run; default: against a table's first run",
    )

    def shown_in(self) -> tuple[str, ...]:
        """Return the names of the tables that show the run."""
        return self.tables or (self.track,)


class Devices(StrictModel):
    """The devices of a training stage, on one machine.

    They change results only by rounding, so a change of them makes no stage again.
    """

    processes: int = Field(1, gt=0, le=1024, description="each on a separate device if there are accelerators")
    strategy: Literal["ddp", "fsdp"] = Field(
        "ddp", description="fsdp: weights, gradients and optimizer state are sharded (FSDP2)"
    )

    @property
    def sharded(self) -> bool:
        """Return whether the model is sharded over processes."""
        return self.strategy == "fsdp" and self.processes > 1
