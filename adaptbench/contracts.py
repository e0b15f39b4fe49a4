"""Types that the files of benchmarks and methods share with the rest of the package.

A benchmark is a file benchmarks/<track>/<kind>.py, a method a file methods/<axis>/<kind>.py. Each has a `Config` and a
few functions with agreed names; docs/method-functions.md lists them. Nothing here imports torch, so the Snakefile can
import it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Record = dict[str, Any]


NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # a file's or folder's name on every system


def _number(value: Any) -> Any:
    """Return text such as 1e-3 as a number: YAML 1.1 reads it as text because it has no dot."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


Real = Annotated[float, BeforeValidator(_number)]


LARGEST = 10**12
"""Upper bound for integers in a preset; larger values are typing errors.

Products of such numbers are still finite floats.
"""


class StrictModel(BaseModel):
    """Base class of all configurations: no unknown keys, no coercion, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _not_too_large(cls, value: Any) -> Any:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        if any(isinstance(one, int) and abs(one) > LARGEST for one in inside):
            raise ValueError(f"must be <= {LARGEST}")
        return value


class BenchmarkConfig(StrictModel):
    """The sizes and options of one benchmark."""

    kind: str


class MethodConfig(StrictModel):
    """The options of one method."""

    kind: str

    def problem(self, run: Any, base_layers: int | None) -> str:
        """Return why these options cannot work in `run`, as "<key>: <reason>"; empty if they can.

        Args:
            run: a config.Run whose `training` is merged with the preset's.
            base_layers: the base's number of layers; None if only the hub knows it.
        """
        return ""

    def needs(self) -> tuple[str, ...]:
        """Return the capabilities (adaptbench/model/capabilities.py) that the base must have for these options."""
        return ()

    def sharded_problem(self, run: Any) -> str:
        """Return why they cannot work if the model is sharded over processes (FSDP2), in the form of `problem`."""
        return ""


class TunerConfig(MethodConfig):
    """The options of a tuner: which weights are trained, and at which rates."""

    @property
    def moves_base_weights(self) -> bool:
        """Return whether training changes the base's weights in place, as a penalty on their distance needs."""
        return False

    def share(self, layers: int) -> tuple[int, int | None]:
        """Return, for estimates, how many layers it adds to a model of `layers` layers, and how many layers it trains.

        None means that the whole model is trained. Adapters train 0 layers, because they are small.
        """
        return 0, None


class CurriculumConfig(MethodConfig):
    """The options of a curriculum: its stages, their targets and their forward pass.

    Attributes:
        tracks: the tracks that it can train on; None: any.
        takes_place: a metric of the answers and its smallest mean; below it, answers hardly use what the method adds.
    """

    tracks: ClassVar[tuple[str, ...] | None] = None
    takes_place: ClassVar[tuple[str, float] | None] = None

    def forward_passes(self, batch_size: int, longest: float, lacks: Collection[str]) -> tuple[float, float]:
        """Return, for estimates, the sequential forward passes of a step, and how often all its tokens are processed.

        Args:
            batch_size: sequences in a step.
            longest: passes of the sequence that needs most of them.
            lacks: capabilities that the base lacks.
        """
        return 1.0, 1.0


class PosthocConfig(MethodConfig):
    """The options of a post-hoc step, which changes the tuned model without training."""


@dataclass(frozen=True)
class Preparation:
    """A tuner's stage before training: a function in the tuner's file that runs as a separate graph node.

    It is called as `function(config, inputs, out, context)`. `inputs` maps "base" and the names of the tuner's earlier
    preparations to their directories. The function writes its result into the empty directory `out`. It may return
    entries for its adaptbench.json, such as a cost.

    Attributes:
        name: the function's name.
        makes_model: whether the result is a model; the curriculum starts from the last such preparation.
        data: the benchmarks that it reads.
        seeded: whether it depends on the seed.
        options: the config's fields that the function reads (None: all). Runs that differ only in other fields share
            the stage; those fields have their defaults when it is called.
    """

    name: str
    makes_model: bool = True
    data: tuple[str, ...] = ()
    seeded: bool = False
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Phase:
    """One training stage of a curriculum.

    Attributes:
        name: the phase's name.
        parent: the phase that it continues; None: the prepared base.
        data: the benchmarks that it reads.
        training: overrides of the run's training options.
        tuner: a tuner other than the run's.
        curriculum: another curriculum whose phase of that name this is, so that both share the stage.
        merge: whether a tuner with `ADAPTERS` merges them. If not, only the adapters are saved, for `assemble`.
    """

    name: str = "tune"
    parent: str | None = None
    data: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    tuner: TunerConfig | None = None
    curriculum: CurriculumConfig | None = None
    merge: bool = True


@dataclass(frozen=True)
class StageContext:
    """The surroundings of a stage, which a method's functions get.

    Attributes:
        seed: the run's seed.
        data: benchmark ("general", "domain", ...) -> the directory of its splits.
        tokenizer: the model's tokenizer.
        sequence_length: tokens in a packed row.
        prepared: the tuner's preparations -> their directories.
        device: where training will run; the model is still on the CPU when hooks are called.
        out: the directory that the stage makes, for what a method saves beside the model.
        rows: the number of packed rows that the stage will read; None if it follows from the examples (epochs).
        lacks: capability (adaptbench/model/capabilities.py) that the base lacks -> the reason.
        instead: those of `lacks` that a slower method replaces; filled by `can`, and noted in the log and the record.
    """

    seed: int
    data: Mapping[str, Path]
    tokenizer: "PreTrainedTokenizerBase | None" = None
    sequence_length: int = 0
    prepared: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"
    out: Path | None = None
    rows: int | None = None
    lacks: Mapping[str, str] = field(default_factory=dict)
    instead: dict[str, str] = field(default_factory=dict)

    def can(self, capability: str) -> bool:
        """Return whether the base has a capability; if not, note in `instead` that the stage does without it."""
        if reason := self.lacks.get(capability, ""):
            self.instead[capability] = reason
        return not reason


@dataclass(frozen=True)
class RunFiles:
    """A finished run's files, for a method that draws its own figures.

    Attributes:
        name: the run's name.
        seed: the run's seed.
        config: the run's entry in the preset.
        stages: preparation or phase -> its directory, or its record if an intermediate model was removed. A record has
            all files but weights and tokenizer.
        results: the folder of run.json, samples.parquet and what decoding saved beside them.
        colour: the run's colour in all figures of its track.
    """

    name: str
    seed: int
    config: Mapping[str, Any]
    stages: Mapping[str, Path]
    results: Path
    colour: str = "black"
