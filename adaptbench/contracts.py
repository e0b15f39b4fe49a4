"""What a benchmark and a method are: the few types that their files share with the machinery.

A benchmark is a file benchmarks/<track>/<kind>.py, a method a file methods/<axis>/<kind>.py. Each holds a `Config` and a
few functions with agreed names; docs/architecture.md lists them. Nothing here imports torch, so that the Snakefile may.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, field_validator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Record = dict[str, Any]


NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"  # a file's or folder's name on every system


def _number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 (no dot) as text; take such text for the number that was meant."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


Real = Annotated[float, BeforeValidator(_number)]


LARGEST = 10**12
"""No number of things in a preset is larger: products of such numbers are still floats, and what is larger is a slip."""


class StrictModel(BaseModel):
    """Every configuration: no unknown key, no coercion, no change after reading."""

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
        """Why these options cannot work in `run` (a config.Run, its `training` with the preset's filled in), as
        "<key>: <reason>"; empty if they can.

        `base_layers` is the base's number of layers, None where only the hub knows it.
        """
        return ""

    def needs(self) -> tuple[str, ...]:
        """Name the capabilities (adaptbench/model/capabilities.py) that the base must have for these options."""
        return ()

    def sharded_problem(self, run: Any) -> str:
        """Why they cannot work where the model is sharded over processes (FSDP2), as `problem` says it."""
        return ""


class TunerConfig(MethodConfig):
    """Which weights move, and how fast."""

    @property
    def moves_base_weights(self) -> bool:
        """Whether training changes the base's own weights in place (a penalty on their distance needs that)."""
        return False

    def share(self, layers: int) -> tuple[int, int | None]:
        """For estimates: layers that it adds to a model of `layers` layers, and layers that train (None: the whole model; 0 for
        adapters, which are small).
        """
        return 0, None


class CurriculumConfig(MethodConfig):
    """Which stages, what targets, what the forward pass looks like. `tracks` are those it can train on (None: any).

    `takes_place` names a metric of the answers and its least mean: below it, what the method adds is hardly in them.
    """

    tracks: ClassVar[tuple[str, ...] | None] = None
    takes_place: ClassVar[tuple[str, float] | None] = None


class PosthocConfig(MethodConfig):
    """What happens to the tuned model afterwards, without training."""


@dataclass(frozen=True)
class Preparation:
    """A tuner's stage before any training: a function of the tuner's file, run once as a graph node of its own.

    The function is called as `function(config, inputs, out, context)`: `inputs` maps "base" and the names of the tuner's
    earlier preparations to their directories; it writes its result into the empty directory `out` and may return entries
    for its adaptbench.json (a cost, say). The last preparation that `makes_model` is where the curriculum starts.
    `options` names the config's fields that the function reads (default: all of them), so that runs which differ in others
    share the stage; the rest have their defaults when it is called.
    """

    name: str
    makes_model: bool = True
    data: tuple[str, ...] = ()
    seeded: bool = False
    options: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Phase:
    """One training stage of a curriculum.

    `parent` names the phase that it continues (None: the prepared base), `data` the benchmarks that it reads, `training`
    what it overrides in the run's training options, `tuner` a tuner other than the run's. `curriculum` says that the
    phase is another curriculum's phase of that name under those options, so that both share the stage. With `merge` off
    a tuner with `ADAPTERS` leaves them unmerged, beside nothing else; `assemble` then builds from them.
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
    """What a stage knows about its surroundings.

    `data` maps a benchmark's name ("general", "domain", ...) to the directory of its splits, `prepared` the tuner's
    preparations to theirs. `device` is where training will run; the model is still on the CPU when hooks are called.
    `out` is the directory that the stage makes, for what a method wants to keep beside the model. `rows` is how many packed rows the
    stage will read, None where that follows from the examples (epochs). `lacks` maps what the base cannot do
    (adaptbench/model/capabilities.py) to the reason. `instead` gathers the capabilities of these in whose place the stage takes a slower way;
    its log and record say so.
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
        """Return whether the base can do this; if not, it is noted that the stage does something else instead."""
        if reason := self.lacks.get(capability, ""):
            self.instead[capability] = reason
        return not reason


@dataclass(frozen=True)
class RunFiles:
    """Where a finished run's files lie, for a method that draws figures of its own.

    `config` is the run's entry in the preset; `stages` maps the name of each of its own stages (a preparation's or a
    phase's) to its directory, or to its record (all but weights and tokenizer) where the run is not scored on its model and that is gone; `results` holds run.json, samples.parquet and what decoding left beside them; `colour` is the
    run's in every figure of its track.
    """

    name: str
    seed: int
    config: Mapping[str, Any]
    stages: Mapping[str, Path]
    results: Path
    colour: str = "black"
