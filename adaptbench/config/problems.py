"""Finds why a preset's runs cannot work, from the files of their methods and benchmarks, before anything runs."""

import ast
import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, cast

from pydantic import Field, TypeAdapter, ValidationError

from adaptbench import registry
from adaptbench.config import architectures, contract_answers
from adaptbench.config.preset import Preset
from adaptbench.config.schema import Base, Devices, Run
from adaptbench.config.training import Training, TrainingOverrides, merge_training, override_problem
from adaptbench.errors import reason
from adaptbench.io import hub


def run_problem(preset: Preset, run: Run, layers: int | None, longest: int | None) -> str:
    """Return why a run cannot work, as "<key>: <reason>"; empty if it can.

    Args:
        preset: the run's preset.
        run: the run, with its training options merged with the preset's (`Preset.resolved`).
        layers: the base's number of layers; None if only the hub knows it.
        longest: the base's longest input in tokens; None if only the hub knows it.
    """
    return next(filter(None, _run_problems(preset, run, layers, longest)), "")


def _run_problems(preset: Preset, run: Run, layers: int | None, longest: int | None) -> Iterator[str]:
    """Yield each check's problem, or an empty text; a check relies on those before it."""
    yield _track_problem(preset, run)
    methods = (run.tuner, run.curriculum, run.posthoc)
    tracks = [name for name in registry.tracks() if preset.benchmark(name) is not None]
    for axis, method in zip(registry.METHOD_AXES, methods, strict=True):
        if method is not None:
            module = registry.method(axis, method.kind)
            contract_answers.check(f"methods.{axis}", module, method, run, base_layers=layers, tracks=tracks)
    yield _decode_problem(preset, run)
    own = {name: value for name, value in run.curriculum if isinstance(value, TrainingOverrides)}
    training = cast(Training, run.training)  # merged with the preset's
    if problem := override_problem(training, own):
        yield f"curriculum.{problem}"
    for axis, method in zip(("tuner", "curriculum", "posthoc"), methods, strict=True):
        if method is not None and (problem := method.problem(run, layers)):
            yield f"{axis}.{problem}"
    yield _phase_problem(run, training)
    stages = {"training": training} | {
        f"curriculum.{name}": merge_training(training, one.model_dump(exclude_none=True)) for name, one in own.items()
    }
    for key, stage in stages.items():
        if longest is not None and stage.sequence_length > longest:
            yield f"{key}.sequence_length: must be <= {longest}, the base's longest input"
    yield _devices_problem(preset, run, stages)


def _phase_problem(run: Run, training: Training) -> str:
    """Return why a phase's training options are invalid or would be ignored; empty if they are valid."""
    default = Training.model_fields["optimizer"].default
    for phase in registry.method("curricula", run.curriculum.kind).phases(run.curriculum, run.track, training):
        try:
            merged = merge_training(training, phase.training)  # a rate times a ratio may overflow
        except ValidationError as error:
            return f"curriculum: of the stage {phase.name!r}, {reason(error)}"
        tuner = (phase.tuner or run.tuner).kind
        if merged.optimizer != default and hasattr(registry.method("tuners", tuner), "optimizer"):
            why = f"{tuner} makes the optimizer of the stage {phase.name!r}"
            return f"training.optimizer: must be {default}, not {merged.optimizer}; {why}"
    return ""


def base_problem(preset: Preset) -> str:
    """Return why the base cannot be pre-trained on the preset's devices, as "<key>: <reason>"; empty if it can."""
    return "" if preset.base.model is not None else training_problem(preset.devices, preset.base.training)


def training_problem(devices: Devices, training: Training) -> str:
    """Return why a stage cannot be trained on these devices, as "training.<key>: <reason>"; empty if it can."""
    if training.batch_size % devices.processes:
        wanted = f"a multiple of devices.processes, {devices.processes}"
        return f"training.batch_size: must be {wanted}, not {training.batch_size}"
    if devices.sharded and training.optimizer == "muon":
        return "training.optimizer: muon needs whole matrices; use adamw, or devices.strategy: ddp"
    if devices.processes > 1 and training.compile:
        return "training.compile: is for devices.processes: 1"
    return ""


def _devices_problem(preset: Preset, run: Run, stages: Mapping[str, Training]) -> str:
    """Return why a run cannot be trained on the preset's devices, as "<key>: <reason>"; empty if it can.

    `stages` maps keys of training options to the options.
    """
    for key, one in stages.items():
        if problem := training_problem(preset.devices, one):
            return problem.replace("training", key, 1)
    for axis, method in (("tuner", run.tuner), ("curriculum", run.curriculum)) if preset.devices.sharded else ():
        if problem := method.sharded_problem(run):
            return f"{axis}.{problem}"
    return ""


def _track_problem(preset: Preset, run: Run) -> str:
    """Return why a run's curriculum cannot train on its track or precede its post-hoc step, as "<key>: <reason>"."""
    tracks = run.curriculum.tracks
    if tracks is not None and run.track not in tracks:
        return f"curriculum.kind: {run.curriculum.kind} trains on {' or '.join(tracks)}, not on {run.track}"
    benchmark = preset.benchmark(run.track)
    if getattr(registry.benchmark(run.track, benchmark.kind), "EVALUATION_ONLY", False):
        hint = f"list it as data.{run.track}_tests"
        return f"track: data.{run.track} is {benchmark.kind}, which has nothing to train on; {hint}"
    if run.posthoc is not None and hasattr(registry.method("curricula", run.curriculum.kind), "assemble"):
        return f"posthoc: {run.curriculum.kind} ends in several models; {run.posthoc.kind} needs one"
    return ""


def _decode_problem(preset: Preset, run: Run) -> str:
    """Return why a run's model cannot decode with its options, as "<key>: <reason>"; empty if it can."""
    kinds = sorted(registry.DECODINGS.keys() - {"policy"})  # a policy is no model's decoding
    defaults = getattr(registry.benchmark(run.track, preset.benchmark(run.track).kind), "DECODE", {})
    kind = run.decode.get("kind", defaults.get("kind", "plain"))
    if kind not in kinds:
        return f"decode.kind: must be one of {', '.join(kinds)}"
    annotations = _options(registry.DECODINGS[kind])
    unknown = sorted(run.decode.keys() - (annotations.keys() - {"batch_size", "tasks"}) - {"kind"})
    if unknown:
        return f"decode.{unknown[0]}: {kind} decoding has no such option"
    for name, value in run.decode.items():
        annotation = annotations.get(name)
        if annotation is not None and (problem := _value_problem(annotation, value)):
            return f"decode.{name}: {problem}"
    return _curriculum_problem(run, kind)


def _curriculum_problem(run: Run, kind: str) -> str:
    """Return why the decoding options do not fit what the run's curriculum trains, as "<key>: <reason>"."""
    curriculum, options = run.curriculum.kind, run.decode.keys() - {"kind"}
    if kind == "latent" and options and not _decodes_with_latents(run):
        return f"decode.{min(options)}: {curriculum} trains no latent tokens, so there is nothing to change"
    if run.decode.get("trigger") == "random" and not hasattr(run.curriculum, "insertion"):
        why = "puts latents at no place of their own, so there is no rate"
        return f"decode.trigger: must not be random; {curriculum} {why}"
    roles = getattr(registry.method("curricula", curriculum), "ROLES", ())
    if roles and run.decode.get("general", roles[0]) not in roles:
        return f"decode.general: must be one of {', '.join(roles)}, the members that {curriculum} makes"
    return ""


def needed(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the capabilities that a resolved run needs of its base, as pairs (the method's key, the capability)."""
    yield "track", "causal"
    module = registry.method("curricula", run.curriculum.kind)
    phases = module.phases(run.curriculum, run.track, run.training)
    methods = [("tuner", run.tuner), ("curriculum", run.curriculum), ("posthoc", run.posthoc)]
    methods += [(axis, getattr(phase, axis)) for phase in phases for axis in ("tuner", "curriculum")]
    yield from ((axis, name) for axis, method in methods if method is not None for name in method.needs())


def needs(preset: Preset) -> list[tuple[str, str, str]]:
    """Return the capabilities that runs need of the base, as triples (run, method's key, capability)."""
    runs = [preset.resolved(run) for _, run in preset.every_run()]
    return [(run.name, *one) for run in runs for one in dict.fromkeys(needed(run))]


def base_lacks(base: Base) -> Mapping[str, str]:
    """Return the capabilities that the base's architecture lacks, with the reasons; empty if it is not in the table."""
    kind = "qwen3" if base.model is None else _config(base).get("model_type")
    return architectures.known().get(str(kind), {})


@cache
def _options(module: str) -> Mapping[str, str | None]:
    """Return the options of a decoding's `language_model` and their annotations.

    The file is parsed and not imported, because it imports torch.
    """
    file = registry.project_root() / f"{module.replace('.', '/')}.py"
    code = ast.parse(file.read_text(encoding="utf-8"))
    (function,) = (one for one in code.body if isinstance(one, ast.FunctionDef) and one.name == "language_model")
    return {one.arg: ast.unparse(one.annotation) if one.annotation else None for one in function.args.kwonlyargs}


def _value_problem(annotation: str, value: object) -> str:
    """Return why a value does not fit an annotation (source code of this project); empty if it does."""
    names = {"Annotated": Annotated, "Field": Field, "Literal": Literal, "Mapping": Mapping, "Any": Any}
    try:
        TypeAdapter(eval(annotation, names)).validate_python(value, strict=True)  # noqa: S307 - this project's code
    except ValidationError as error:
        return reason(error).rpartition(": ")[2]  # without pydantic's names for members of a union
    return ""


def _decodes_with_latents(run: Run) -> bool:
    """Return whether the model of the run's last phase decodes with latents."""
    module = registry.method("curricula", run.curriculum.kind)
    last = module.phases(run.curriculum, run.track, run.training)[-1].name
    return hasattr(module, "decode") and bool(module.decode(run.curriculum, last).get("thinks"))


def base_layers(base: Base) -> int | None:
    """Return the base's number of layers; None if only a download can tell."""
    if base.model is None:
        return base.architecture.num_hidden_layers
    return architectures.layers(_config(base))


def base_positions(base: Base) -> int | None:
    """Return the base's longest input in tokens; None if only a download can tell."""
    if base.model is None:
        return base.architecture.max_position_embeddings
    return architectures.longest_input(_config(base))


def _config(base: Base) -> Mapping[str, Any]:
    """Return the base's config.json; empty if it is missing or invalid."""
    assert base.model is not None
    try:
        found = json.loads((hub.model_path(base.model, base.revision) / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
