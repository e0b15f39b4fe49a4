"""The training options of a stage, and the merge of a run's options with the preset's."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model, model_validator

from adaptbench.contracts import Real, StrictModel
from adaptbench.errors import reason


class Training(StrictModel):
    """Options for training a stage. Exactly one of `steps` and `epochs` is set."""

    learning_rate: Real = Field(1e-3, gt=0)
    steps: int | None = Field(None, gt=0, le=10**9, description="optimizer steps")
    epochs: Real | None = Field(None, gt=0, le=10**6, description="passes over the stage's examples, instead of steps")
    batch_size: int = Field(32, gt=0, le=10**6, description="sequences in an optimizer step, over all devices")
    micro_batch_size: int | None = Field(
        None, gt=0, le=10**6, description="sequences in one forward pass on one device; default: all"
    )
    sequence_length: int = Field(128, ge=8, le=10**8, description="tokens in a packed sequence")
    schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = "cosine"
    warmup_ratio: Real = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    decay_ratio: Real = Field(
        0.3, gt=0, le=1, description="warmup_stable_decay: share of the steps in which the rate falls"
    )
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon: Muon for the layers' matrices; AdamW for vectors, experts stacked in one tensor, embeddings "
        "and head",
    )
    muon_learning_rate: Real = Field(0.02, gt=0, description="muon: learning rate of the matrices")
    betas: tuple[Annotated[Real, Field(ge=0, lt=1)], Annotated[Real, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.95), strict=False
    )
    weight_decay: Real = Field(0.0, ge=0)
    max_grad_norm: Real = Field(1.0, gt=0)
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="dtype of the autocast forward pass; auto: bfloat16 if the device supports it, else float32; "
        "weights keep their dtype",
    )
    attention: Literal["auto", "eager", "sdpa"] = Field(
        "auto",
        description="implementation of attention in training; auto: the one that transformers chooses for the model, "
        "but not flash attention, whose packed batches let documents see each other unless a batch is one row; on a "
        "CPU with bfloat16, auto is eager, which is faster there, as long as its scores take little memory",
    )
    gradient_checkpointing: bool = False
    compile: bool = Field(
        False,
        description="use torch.compile for the decoder layers of stages whose step is one pass of packed rows, if "
        "there is a compiler",
    )

    @model_validator(mode="after")
    def _steps_or_epochs(self) -> "Training":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("set exactly one of steps and epochs")
        return self

    @model_validator(mode="after")
    def _warmup_and_decay_fit(self) -> "Training":
        if self.schedule == "warmup_stable_decay" and self.warmup_ratio + self.decay_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio must add up to 1 at most")
        return self

    @model_validator(mode="after")
    def _micro_batches_divide_the_batch(self) -> "Training":
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
    """Return `base` with the overrides applied in order; setting steps clears epochs and vice versa.

    Raises:
        ValidationError: the merged options are invalid.
    """
    values = base.model_dump()
    for override in overrides:
        if override.get("steps") is not None:
            values["epochs"] = None
        if override.get("epochs") is not None:
            values["steps"] = None
        values.update(override)
    return Training.model_validate(values)


def override_problem(training: Training, stages: Mapping[str, TrainingOverrides]) -> str:
    """Return why stages' options cannot override a run's, as "<name>: <reason>"; empty if they can."""
    for name, own in stages.items():
        try:
            merge_training(training, own.model_dump(exclude_none=True))
        except ValidationError as error:
            return f"{name}: {reason(error)}"
    return ""
