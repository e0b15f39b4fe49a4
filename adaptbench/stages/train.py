"""Stages that prepare and train a model."""

import dataclasses
import shutil
import sys
from collections.abc import Callable
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
from adaptbench.train.provenance import seconds_since_process_start


def prepare(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """A tuner's own stage before training, such as an expansion."""
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


def train(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """One phase of a curriculum under a tuner."""
    import torch

    options, inputs = spec["options"], input_folders(spec)
    tuner, tuner_config = method_of("tuners", options["tuner"])
    curriculum, curriculum_config = method_of("curricula", options["curriculum"])
    training = Training.model_validate(options["training"])
    text_tokenizer = storage.load_tokenizer(inputs["model"])
    stored = storage.load_model(inputs["model"], attention=training.attention)
    stored_dtype = stored.dtype
    dtypes = {name: tensor.dtype for name, tensor in parameters.tensors(stored)}
    model = stored.to(torch.float32)
    context = StageContext(
        seed=options["seed"],
        data=data_folders(spec),
        tokenizer=text_tokenizer,
        sequence_length=training.sequence_length,
        prepared={
            role.removeprefix("prepared."): path for role, path in inputs.items() if role.startswith("prepared.")
        },
        device=device(),
        out=out,
        lacks=base_lacks(spec),
    )
    torch.manual_seed(options["seed"])
    new_rows: tuple[int, ...] = ()
    if hasattr(curriculum, "extend"):
        new_rows = curriculum.extend(curriculum_config, options["phase"], model, text_tokenizer)
    if hasattr(curriculum, "steps"):
        counted = curriculum.steps(curriculum_config, options["phase"], training, model, context)
        training = training.model_copy(update={"steps": counted, "epochs": None})
    if training.steps is not None:
        context = dataclasses.replace(context, rows=training.steps * training.batch_size)
    examples = curriculum.examples(curriculum_config, options["phase"], model, context)
    adapted = tuner.adapt(tuner_config, model, context)
    manifest: dict[str, Any] = {}
    if hasattr(adapted, "peft_config"):
        adapters.check_runs(adapted)
        passed = adapters.passed_over(adapted) if getattr(tuner_config, "target_modules", "") == "all-linear" else []
        manifest["without_adapters"] = passed
        if passed and distributed.is_main():
            print(
                f"tuner.target_modules: all-linear leaves these without adapters: {', '.join(passed)}", file=sys.stderr
            )
    parameters.train_rows(adapted, new_rows)
    hooks: dict[str, Any] = {}
    if hasattr(curriculum, "objective"):
        hooks["objective"] = curriculum.objective(curriculum_config, options["phase"], adapted, context)
    if hasattr(curriculum, "collate"):
        hooks["collate_rows"] = curriculum.collate(curriculum_config, options["phase"], context)
    if hasattr(tuner, "optimizer"):
        hooks["optimizer"] = tuner.optimizer(tuner_config, adapted, training)
    if hasattr(tuner, "callback"):
        hooks["make_callback"] = lambda optimizers: tuner.callback(tuner_config, adapted, optimizers, context)
    if hasattr(curriculum, "decode"):
        manifest["decode"] = curriculum.decode(curriculum_config, options["phase"])

    def merge() -> Any:
        keep = not options["merge"] and getattr(tuner, "ADAPTERS", False)
        merged = tuner.merge(tuner_config, adapted) if hasattr(tuner, "merge") and not keep else adapted
        for name, tensor in parameters.tensors(merged):  # some architectures keep routers or biases in more bits
            tensor.data = tensor.data.to(dtypes.get(name, stored_dtype))
        return merged

    return manifest | fit(spec, adapted, merge, context, examples, training, out, work, **hooks)


def fit(
    spec: Spec,
    model: Any,
    result: Callable[[], Any],
    context: StageContext,
    examples: list[Any],
    training: Training,
    out: Path,
    work: Path,
    *,
    objective: Any = None,
    optimizer: Any = None,
    make_callback: Callable[[Any], Any] | None = None,
    **hooks: Any,
) -> dict[str, Any]:
    """Train, save the `result` with its log, and describe the cost.

    An objective that runs other models forward on the same batches names them in its attribute `forward_only`.
    """
    import torch

    from adaptbench.data.packing import Packed
    from adaptbench.train import loop, objectives
    from adaptbench.train.attention import precision
    from adaptbench.train.cost import estimated_flops, forward_flops
    from adaptbench.train.optimizers import default_optimizers

    longest = architectures.longest_input(model.config.to_dict())
    if longest and training.sequence_length > longest:
        raise AdaptbenchError(f"training.sequence_length: must be <= {longest}, the model's longest input")
    counts = parameters.parameter_counts(model)
    if not counts["trained"]:
        raise AdaptbenchError("the tuner left nothing to train")
    assert context.tokenizer is not None
    packs = context.can("packing")
    instead = announce_instead(context)
    optimizers = [optimizer] if optimizer else default_optimizers(model, training)
    start_up = seconds_since_process_start()
    outcome = loop.train(
        model,
        optimizers,
        Packed(examples, training.sequence_length, context.seed, together=packs),
        objective or objectives.causal_lm,
        training,
        work=work,
        pad_id=context.tokenizer.pad_token_id,
        seed=context.seed,
        checkpoint_seconds=spec["checkpoint_seconds"],
        callback=make_callback(optimizers) if make_callback else None,
        strategy=Devices.model_validate(spec.get("devices", {})).strategy,
        compile_layers=training.compile
        and objective in (None, objectives.causal_lm)
        and "collate_rows" not in hooks
        and packs,
        **hooks,
    )
    if not distributed.is_main():
        return {}
    beside = getattr(objective, "forward_only", ())
    flops = estimated_flops(model, outcome.tokens, outcome.trained_tokens)
    flops += sum(forward_flops(other, outcome.tokens) for other in beside)
    cost = vars(outcome) | {"flops": flops}
    compiled, compile_seconds, attention = (cost.pop(name) for name in ("compiled", "compile_seconds", "attention"))
    final = result()
    storage.save_model(final, context.tokenizer, out)
    counts["total"] = parameters.parameter_counts(final)["total"]  # merged, adapters are no parameters of their own
    shutil.copyfile(work / "training.jsonl", out / "training.jsonl")
    return {
        "parameters": counts,
        "cost": cost,
        "threads": torch.get_num_threads(),
        "precision": precision(training),
        "compiled": compiled,
        "attention": attention,
        "instead": instead,
        "devices": spec.get("devices", {}),
        "seconds": {"start_up": round(start_up, 3), "compiling": compile_seconds, "training": outcome.train_seconds},
    }
