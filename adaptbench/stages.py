"""Runs one stage of the graph: reads its plan, makes its directory whole, and records what it cost.

One function a kind of node; which methods they call is in the plan. The work folder, where a killed stage left its
checkpoint, is named after the stage's id, the digest of the code that makes it and its inputs' files: a stage whose code or
inputs have changed never goes on from old steps.
"""

import dataclasses
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adaptbench import data, gpus, hub, models, parallel, records, registry, sources, tokenizer
from adaptbench.config import Architecture, Devices, Training
from adaptbench.contracts import AdaptbenchError, StageContext
from adaptbench.documents import read_jsonl
from adaptbench.files import lock, remove, whole_directory, write_text
from adaptbench.kernels import implementations
from adaptbench.model import adapters, capabilities
from adaptbench.provenance import git_state, seconds_since_process_start

Spec = Mapping[str, Any]


def run(plan: Path, out: Path) -> None:
    """Make the stage that `plan` describes in `out`, in as many processes as it says.

    Raises:
        AdaptbenchError: something the user can mend; nothing is left in `out`.
    """
    spec = json.loads(plan.read_text())
    work = plan.parent.parent / "work" / f"{spec['id']}-{_digest(spec)}"
    if parallel.here():
        parallel.take_share()
    if parallel.here() and (parallel.launched() or not parallel.is_main()):  # locked already, or by another one
        _make(spec, work, out)
        return
    with plan.with_name(f".{spec['id']}.lock").open("w") as file:
        if not lock(file.fileno()):
            raise AdaptbenchError(f"{spec['id']}: another process is making this stage; run again when it has ended")
        devices = Devices.model_validate(spec.get("devices", {}))
        if parallel.here():
            _make(spec, work, out)
            return
        with gpus.own(devices.processes if spec["kind"] in gpus.STAGES else 0):
            if devices.processes > 1:
                parallel.launch(devices, run, plan, out)
            else:
                _make(spec, work, out)


def _make(spec: Spec, work: Path, out: Path) -> None:
    if not parallel.is_main():
        with tempfile.TemporaryDirectory() as nowhere:
            KINDS[spec["kind"]](spec, Path(nowhere), work)
        return
    with whole_directory(out) as temporary:
        with implementations.used() as ran:
            manifest = {"lacks": _lacks(spec)} | KINDS[spec["kind"]](spec, temporary, work)
        seconds = {"all": round(seconds_since_process_start(), 3)} | manifest.pop("seconds", {})
        if spec["kind"] not in ("data", "tasks", "tokenizer"):
            described = {
                "stage": spec["id"],
                "kind": spec["kind"],
                "options": spec["options"],
                "parents": spec["parents"],
                "git": git_state(),
                "kernels": ran,
            }
            models.write_manifest(temporary, manifest | described | {"seconds": seconds})
            records.keep(temporary, work.parent.parent / "records" / spec["id"])
        else:
            write_text(temporary / "seconds.json", json.dumps(seconds) + "\n")
    remove(work)


def _digest(spec: Spec) -> str:
    """Tells apart what the id does not: other code, and inputs that were made again since."""
    digest = hashlib.sha256(sources.of_project().of_stage(spec["kind"], spec["options"]).encode())
    for directory in spec["inputs"].values():
        for path in sorted(Path(directory).rglob("*")):
            stat = path.stat()
            digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:10]


def _inputs(spec: Spec) -> dict[str, Path]:
    return {role: Path(path) for role, path in spec["inputs"].items()}


def _lacks(spec: Spec) -> dict[str, str]:
    """Return what the base lacks that the stage's inputs come from."""
    made = (path for path in _inputs(spec).values() if (path / models.MANIFEST).exists())
    return next(filter(None, map(models.lacks, made)), {})


def _instead(context: StageContext) -> dict[str, str]:
    """Say once, for all processes, what the stage does in place of what its base lacks; return the same by capability."""
    return capabilities.instead(context.instead) if parallel.is_main() else {}


def _data(spec: Spec) -> dict[str, Path]:
    return {role.removeprefix("data."): path for role, path in _inputs(spec).items() if role.startswith("data.")}


def _method(axis: str, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """A method's module and its config."""
    module = registry.method(axis, options["kind"])
    return module, module.Config.model_validate(dict(options))


def _build_data(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    data.build(spec["options"], StageContext(spec["options"]["seed"], _inputs(spec)), out)
    return {}


def _lay_tasks(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    data.lay_tasks(spec["options"], _inputs(spec)["data"], out)
    return {}


def _train_tokenizer(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    texts = []
    for folder in _inputs(spec).values():
        for split in ("pretrain", "train"):
            path = folder / "splits" / f"{split}.jsonl"
            if path.exists():
                texts += [record["text"] for record in read_jsonl(path, require=("text",))]
    tokenizer.train(texts, spec["options"]["vocabulary"], out)
    return {}


def _pretrain(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Train the preset's Qwen3 from scratch on the general world's pre-training text."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from adaptbench.packing import document

    options, inputs = spec["options"], _inputs(spec)
    architecture = Architecture.model_validate(options["architecture"])
    training = Training.model_validate(options["training"])
    text_tokenizer = models.load_tokenizer(inputs["tokenizer"])
    torch.manual_seed(options["seed"])
    config = Qwen3Config(
        vocab_size=len(text_tokenizer),
        head_dim=architecture.hidden_size // architecture.num_attention_heads,
        bos_token_id=text_tokenizer.bos_token_id,
        eos_token_id=text_tokenizer.eos_token_id,
        # This row begins at zero and gets no gradient as an input. It begins every document: untied, it would stay zero.
        pad_token_id=text_tokenizer.pad_token_id if architecture.tie_word_embeddings else None,
        attn_implementation=None if training.attention == "auto" else training.attention,
        **architecture.model_dump(),
    )
    model = Qwen3ForCausalLM(config)
    path = inputs["general"] / "splits" / "pretrain.jsonl"
    texts = [record["text"] for record in read_jsonl(path, require=("text",))]
    examples = [document(ids) for ids in tokenizer.encode_documents(text_tokenizer, texts)]
    context = StageContext(options["seed"], _data(spec), text_tokenizer)
    return _fit(spec, model, lambda: model, context, examples, training, out, work)


def _import_base(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Take a base model from a folder or the hub, as it is, into a directory of ours."""
    name, revision = spec["options"]["model"], spec["options"]["revision"]
    local = hub.is_path(name)
    try:
        folder = Path(name) if local else models.fetched(name, revision)
        models.check_folder(folder)
        model, text_tokenizer = models.load_model(folder), models.load_tokenizer(folder)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"base.model: {error}") from None
    try:
        _take_in(model, text_tokenizer, out)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"base.model: {name}: {error}") from None
    lacks = capabilities.lacks(model.float().to(models.device()))
    if problem := capabilities.problem(lacks, spec.get("needs", ())):
        raise AdaptbenchError(f"base.model: {name}: {problem}")
    return {
        "parameters": models.parameter_counts(model),
        "commit": None if local else folder.name,
        "lacks": lacks,
    }


def _take_in(model: Any, text_tokenizer: Any, out: Path) -> None:
    """Save a base whose weights are numbers and whose tokens all have embeddings."""
    models.check_finite(model)
    if text_tokenizer.eos_token_id is None:
        raise AdaptbenchError("its tokenizer has no end-of-text token (eos_token)")
    if text_tokenizer.pad_token_id is None:
        text_tokenizer.pad_token = text_tokenizer.eos_token
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = (len(one.weight) for one in ends if hasattr(one, "weight"))
    unread = tokenizer.check_ids(text_tokenizer, min(rows, default=model.config.get_text_config().vocab_size))
    try:
        models.save_model(model, text_tokenizer, out)
    except OSError:
        raise
    except Exception as error:  # what transformers refuses of a configuration that it has read has no common kind
        raise AdaptbenchError(f"cannot be saved: {' '.join(str(error).split())[:300]}") from None
    tokenizer.forget(out, unread)


def _prepare(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """A tuner's own stage before training, such as an expansion."""
    options, inputs = spec["options"], _inputs(spec)
    module, config = _method("tuners", options["tuner"])
    context = StageContext(
        options["seed"] or 0,
        _data(spec),
        models.load_tokenizer(inputs["base"]),
        device=models.device(),
        lacks=_lacks(spec),
    )
    models_and_results = {role: path for role, path in inputs.items() if not role.startswith("data.")}
    made = getattr(module, options["function"])(config, models_and_results, out, context) or {}
    return made | {"instead": _instead(context)}


def _train(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """One phase of a curriculum under a tuner."""
    import torch

    options, inputs = spec["options"], _inputs(spec)
    tuner, tuner_config = _method("tuners", options["tuner"])
    curriculum, curriculum_config = _method("curricula", options["curriculum"])
    training = Training.model_validate(options["training"])
    text_tokenizer = models.load_tokenizer(inputs["model"])
    stored = models.load_model(inputs["model"], attention=training.attention)
    stored_dtype = stored.dtype
    dtypes = {name: tensor.dtype for name, tensor in models.tensors(stored)}
    model = stored.to(torch.float32)
    context = StageContext(
        seed=options["seed"],
        data=_data(spec),
        tokenizer=text_tokenizer,
        sequence_length=training.sequence_length,
        prepared={
            role.removeprefix("prepared."): path for role, path in inputs.items() if role.startswith("prepared.")
        },
        device=models.device(),
        out=out,
        lacks=_lacks(spec),
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
        if passed and parallel.is_main():
            print(
                f"tuner.target_modules: all-linear leaves these without adapters: {', '.join(passed)}", file=sys.stderr
            )
    models.train_rows(adapted, new_rows)
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
        for name, tensor in models.tensors(merged):  # some architectures keep routers or biases in more bits
            tensor.data = tensor.data.to(dtypes.get(name, stored_dtype))
        return merged

    return manifest | _fit(spec, adapted, merge, context, examples, training, out, work, **hooks)


def _fit(
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

    from adaptbench import training as loop
    from adaptbench.cost import estimated_flops, forward_flops
    from adaptbench.packing import Packed

    longest = capabilities.longest_input(model.config.to_dict())
    if longest and training.sequence_length > longest:
        raise AdaptbenchError(f"training.sequence_length: must be <= {longest}, the model's longest input")
    counts = models.parameter_counts(model)
    if not counts["trained"]:
        raise AdaptbenchError("the tuner left nothing to train")
    assert context.tokenizer is not None
    packs = context.can("packing")
    instead = _instead(context)
    optimizers = [optimizer] if optimizer else loop.default_optimizers(model, training)
    start_up = seconds_since_process_start()
    outcome = loop.train(
        model,
        optimizers,
        Packed(examples, training.sequence_length, context.seed, together=packs),
        objective or loop.causal_lm,
        training,
        work=work,
        pad_id=context.tokenizer.pad_token_id,
        seed=context.seed,
        checkpoint_seconds=spec["checkpoint_seconds"],
        callback=make_callback(optimizers) if make_callback else None,
        strategy=Devices.model_validate(spec.get("devices", {})).strategy,
        compile_layers=training.compile
        and objective in (None, loop.causal_lm)
        and "collate_rows" not in hooks
        and packs,
        **hooks,
    )
    if not parallel.is_main():
        return {}
    beside = getattr(objective, "forward_only", ())
    flops = estimated_flops(model, outcome.tokens, outcome.trained_tokens)
    flops += sum(forward_flops(other, outcome.tokens) for other in beside)
    cost = vars(outcome) | {"flops": flops}
    compiled, compile_seconds, attention = (cost.pop(name) for name in ("compiled", "compile_seconds", "attention"))
    final = result()
    models.save_model(final, context.tokenizer, out)
    counts["total"] = models.parameter_counts(final)["total"]  # merged, adapters are no parameters of their own
    shutil.copyfile(work / "training.jsonl", out / "training.jsonl")
    return {
        "parameters": counts,
        "cost": cost,
        "threads": torch.get_num_threads(),
        "precision": loop.precision(training),
        "compiled": compiled,
        "attention": attention,
        "instead": instead,
        "devices": spec.get("devices", {}),
        "seconds": {"start_up": round(start_up, 3), "compiling": compile_seconds, "training": outcome.train_seconds},
    }


def _assemble(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    module, config = _method("curricula", spec["options"]["curriculum"])
    inputs = _inputs(spec)
    context = StageContext(0, {}, models.load_tokenizer(next(iter(inputs.values()))))
    return module.assemble(config, inputs, out, context) or {}


def _posthoc(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    inputs = _inputs(spec)
    module, config = _method("posthoc", spec["options"]["posthoc"])
    module.apply(config, inputs["start"], inputs["end"], out)
    before = models.read_manifest(inputs["end"])
    return {key: before[key] for key in ("decode", "parameters") if key in before}


KINDS: Mapping[str, Callable[[Spec, Path, Path], dict[str, Any]]] = {
    "data": _build_data,
    "tasks": _lay_tasks,
    "tokenizer": _train_tokenizer,
    "base": _pretrain,
    "imported_base": _import_base,
    "prepare": _prepare,
    "train": _train,
    "assemble": _assemble,
    "posthoc": _posthoc,
}
