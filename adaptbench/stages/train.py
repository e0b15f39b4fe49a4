"""Prepares and trains a model."""

import dataclasses
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from adaptbench.config import architectures
from adaptbench.config.schema import Devices
from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.errors import AdaptbenchError
from adaptbench.jobs.gpus import device
from adaptbench.model import adapters, parameters, storage
from adaptbench.stages.inputs import Spec, announce_instead, base_lacks, data_folders, input_folders, method_of
from adaptbench.train import distributed
from adaptbench.train.hooks import Hooks
from adaptbench.train.progress import Outcome
from adaptbench.train.provenance import seconds_since_process_start


def prepare(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Run a tuner's stage before training, such as an expansion."""
    options, inputs = spec["options"], input_folders(spec)
    module, config = method_of("tuners", options["tuner"])
    context = StageContext(
        options["seed"] or 0,
        data_folders(spec),
        storage.load_tokenizer(inputs["base"]),
        device=device(),
        lacks=base_lacks(spec),
    )
    models_and_results = {role: path for role, path in inputs.items() if not role.startswith("data.")}
    made = getattr(module, options["function"])(config, models_and_results, out, context) or {}
    return made | {"instead": announce_instead(context)}


@dataclasses.dataclass(frozen=True)
class Methods:
    """The modules and configs of a stage's tuner and curriculum, and the curriculum's phase."""

    tuner: Any
    tuner_config: Any
    curriculum: Any
    curriculum_config: Any
    phase: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Methods":
        """Load those that a stage's options name."""
        return cls(
            *method_of("tuners", options["tuner"]), *method_of("curricula", options["curriculum"]), options["phase"]
        )

    def hooks(self, model: Any, training: Training, context: StageContext) -> Hooks:
        """Collect what they bring to the training of `model`."""
        curriculum, tuner = self.curriculum, self.tuner
        with_phase = (self.curriculum_config, self.phase)
        return Hooks(
            objective=curriculum.objective(*with_phase, model, context) if hasattr(curriculum, "objective") else None,
            collate_rows=curriculum.collate(*with_phase, context) if hasattr(curriculum, "collate") else None,
            optimizer=tuner.optimizer(self.tuner_config, model, training) if hasattr(tuner, "optimizer") else None,
            make_callback=partial(self._callback, model, context) if hasattr(tuner, "callback") else None,
        )

    def _callback(self, model: Any, context: StageContext, optimizers: Any) -> Any:
        return self.tuner.callback(self.tuner_config, model, optimizers, context)


def train(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Train one phase of a curriculum under a tuner."""
    import torch

    options, inputs = spec["options"], input_folders(spec)
    methods = Methods.of(options)
    training = Training.model_validate(options["training"])
    text_tokenizer = storage.load_tokenizer(inputs["model"])
    stored = storage.load_model(inputs["model"], attention=training.attention)
    stored_dtype, dtypes = stored.dtype, {name: tensor.dtype for name, tensor in parameters.tensors(stored)}
    model = stored.to(torch.float32)
    prepared = {role.removeprefix("prepared."): path for role, path in inputs.items() if role.startswith("prepared.")}
    context = StageContext(
        seed=options["seed"],
        data=data_folders(spec),
        tokenizer=text_tokenizer,
        sequence_length=training.sequence_length,
        prepared=prepared,
        device=device(),
        out=out,
        lacks=base_lacks(spec),
    )
    torch.manual_seed(options["seed"])
    curriculum, phase = methods.curriculum, (methods.curriculum_config, methods.phase)
    new_rows = curriculum.extend(*phase, model, text_tokenizer) if hasattr(curriculum, "extend") else ()
    if hasattr(curriculum, "steps"):
        counted = curriculum.steps(*phase, training, model, context)
        training = training.model_copy(update={"steps": counted, "epochs": None})
    if training.steps is not None:
        context = dataclasses.replace(context, rows=training.steps * training.batch_size)
    examples = curriculum.examples(*phase, model, context)
    adapted = methods.tuner.adapt(methods.tuner_config, model, context)
    manifest = _check_adapters(adapted, methods.tuner_config)
    parameters.train_rows(adapted, new_rows)
    if hasattr(curriculum, "decode"):
        manifest["decode"] = curriculum.decode(*phase)
    keep_adapters = not options["merge"] and getattr(methods.tuner, "ADAPTERS", False)

    def result() -> Any:
        merges = hasattr(methods.tuner, "merge") and not keep_adapters
        merged = methods.tuner.merge(methods.tuner_config, adapted) if merges else adapted
        for name, tensor in parameters.tensors(merged):  # some architectures keep routers or biases in more bits
            tensor.data = tensor.data.to(dtypes.get(name, stored_dtype))
        return merged

    hooks = partial(methods.hooks, adapted, training, context)
    costs = fit(spec, adapted, context, examples, training, result=result, make_hooks=hooks, out=out, work=work)
    return manifest | costs


def _check_adapters(model: Any, tuner_config: Any) -> dict[str, Any]:
    """Check that a model with adapters runs; return the manifest's entry on matrices without one."""
    if not hasattr(model, "peft_config"):
        return {}
    adapters.check_runs(model)
    without = adapters.passed_over(model) if getattr(tuner_config, "target_modules", "") == "all-linear" else []
    if without and distributed.is_main():
        names = ", ".join(without)
        print(f"tuner.target_modules: all-linear leaves these without adapters: {names}", file=sys.stderr)
    return {"without_adapters": without}


def fit(
    spec: Spec,
    model: Any,
    context: StageContext,
    examples: list[Any],
    training: Training,
    *,
    result: Callable[[], Any],
    out: Path,
    work: Path,
    make_hooks: Callable[[], Hooks] = Hooks,
) -> dict[str, Any]:
    """Train, save the model that `result` returns with the training's log in `out`, and return what it cost.

    Raises:
        AdaptbenchError: rows are longer than the model's longest input, or nothing trains.
    """
    from adaptbench.data.packing import Packed
    from adaptbench.train import loop, objectives
    from adaptbench.train.optimizers import default_optimizers

    counts = _check(model, training)
    hooks = make_hooks()  # after the check: an optimizer of no parameters fails
    assert context.tokenizer is not None
    packs = context.can("packing")
    instead = announce_instead(context)
    objective = hooks.objective or objectives.causal_lm
    optimizers = [hooks.optimizer] if hooks.optimizer else default_optimizers(model, training)
    # Only one pass of rows of one length is compiled.
    alike = objective is objectives.causal_lm and hooks.collate_rows is None and packs
    start_up = seconds_since_process_start()
    outcome = loop.train(
        model,
        optimizers,
        Packed(examples, training.sequence_length, context.seed, together=packs),
        objective,
        training,
        work=work,
        pad_id=context.tokenizer.pad_token_id,
        seed=context.seed,
        checkpoint_seconds=spec["checkpoint_seconds"],
        callback=hooks.make_callback(optimizers) if hooks.make_callback else None,
        collate_rows=hooks.collate_rows,
        strategy=Devices.model_validate(spec.get("devices", {})).strategy,
        compile_layers=training.compile and alike,
    )
    if not distributed.is_main():
        return {}
    costs = _costs(model, outcome, objective, training)
    final = result()
    storage.save_model(final, context.tokenizer, out)
    counts["total"] = parameters.parameter_counts(final)["total"]  # merged, adapters add no parameters
    shutil.copyfile(work / "training.jsonl", out / "training.jsonl")
    seconds = {
        "start_up": round(start_up, 3),
        "compiling": outcome.compile_seconds,
        "training": outcome.train_seconds,
    }
    return {"parameters": counts} | costs | {"instead": instead, "devices": spec.get("devices", {}), "seconds": seconds}


def _check(model: Any, training: Training) -> dict[str, int]:
    """Check that the model can train on such rows; return the numbers of its parameters."""
    longest = architectures.longest_input(model.config.to_dict())
    if longest and training.sequence_length > longest:
        raise AdaptbenchError(f"training.sequence_length: must be <= {longest}, the model's longest input")
    counts = parameters.parameter_counts(model)
    if not counts["trained"]:
        raise AdaptbenchError("the tuner left nothing to train")
    return counts


def _costs(model: Any, outcome: Outcome, objective: Any, training: Training) -> dict[str, Any]:
    """Return the manifest's entries on what a training cost and how it ran."""
    import torch

    from adaptbench.train.attention import precision
    from adaptbench.train.cost import estimated_flops, forward_flops

    flops = estimated_flops(model, outcome.tokens, outcome.trained_tokens)
    flops += sum(forward_flops(other, outcome.tokens) for other in getattr(objective, "forward_only", ()))
    cost = vars(outcome) | {"flops": flops}
    for name in ("compiled", "compile_seconds", "attention"):
        del cost[name]
    return {
        "cost": cost,
        "threads": torch.get_num_threads(),
        "precision": precision(training),
        "compiled": outcome.compiled,
        "attention": outcome.attention,
    }
