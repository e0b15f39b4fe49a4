"""What a preset's runs cannot be, found from the method files and benchmarks that they name, before anything runs."""

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
    """Why `run` (its training merged with the preset's) cannot work, as "<key>: <reason>"; empty if it can.

    `layers` is the base's number of layers, `longest` its longest input in tokens, None where only the hub knows it.
    """
    problem = _track_problem(preset, run)
    if problem:
        return problem
    there = [name for name in registry.tracks() if preset.benchmark(name) is not None]
    for axis, method in zip(registry.METHOD_AXES, (run.tuner, run.curriculum, run.posthoc), strict=True):
        if method is not None:
            module = registry.method(axis, method.kind)
            contract_answers.check(f"methods.{axis}", module, method, run, layers, there)
    problem = _decode_problem(preset, run)
    if problem:
        return problem
    own = {name: value for name, value in run.curriculum if isinstance(value, TrainingOverrides)}
    training = cast(Training, run.training)  # a run's options lie over the preset's by now
    problem = override_problem(training, own)
    if problem:
        return f"curriculum.{problem}"
    for axis, method in (("tuner", run.tuner), ("curriculum", run.curriculum), ("posthoc", run.posthoc)):
        problem = method.problem(run, layers) if method is not None else ""
        if problem:
            return f"{axis}.{problem}"
    stages = {"training": training} | {
        f"curriculum.{name}": merge_training(training, one.model_dump(exclude_none=True)) for name, one in own.items()
    }
    for phase in registry.method("curricula", run.curriculum.kind).phases(run.curriculum, run.track, training):
        try:
            merge_training(training, phase.training)  # a rate times a ratio, say, which is no number any more
        except ValidationError as error:
            return f"curriculum: of the stage {phase.name!r}, {reason(error)}"
    for key, stage in stages.items():
        if longest is not None and stage.sequence_length > longest:
            return f"{key}.sequence_length: must be <= {longest}, the base's longest input"
    return _spread_problem(preset, run, stages)


def base_problem(preset: Preset) -> str:
    """Why the base cannot be pre-trained on the preset's devices, as "<key>: <reason>"; empty if it can."""
    return "" if preset.base.model is not None else training_problem(preset.devices, preset.base.training)


def training_problem(devices: Devices, training: Training) -> str:
    """Why a stage cannot be trained in so many processes, as "training.<key>: <reason>"; empty if it can."""
    if training.batch_size % devices.processes:
        return f"training.batch_size: must be a multiple of devices.processes, {devices.processes}, not {training.batch_size}"
    if devices.sharded and training.optimizer == "muon":
        return "training.optimizer: muon needs whole matrices; use adamw, or devices.strategy: ddp"
    if devices.processes > 1 and training.compile:
        return "training.compile: is for devices.processes: 1"
    return ""


def _spread_problem(preset: Preset, run: Run, stages: Mapping[str, Training]) -> str:
    """Why the run cannot be trained on the preset's devices, as "<key>: <reason>"; empty if it can. `stages` are its stages' options by key."""
    for key, one in stages.items():
        problem = training_problem(preset.devices, one)
        if problem:
            return problem.replace("training", key, 1)
    for axis, method in (("tuner", run.tuner), ("curriculum", run.curriculum)) if preset.devices.sharded else ():
        problem = method.sharded_problem(run)
        if problem:
            return f"{axis}.{problem}"
    return ""


def _track_problem(preset: Preset, run: Run) -> str:
    """Why the run's curriculum cannot train on its track or its post-hoc step not follow, as "<key>: <reason>"."""
    on = run.curriculum.tracks
    if on is not None and run.track not in on:
        return f"curriculum.kind: {run.curriculum.kind} trains on {' or '.join(on)}, not on {run.track}"
    benchmark = preset.benchmark(run.track)
    if getattr(registry.benchmark(run.track, benchmark.kind), "EVALUATION_ONLY", False):
        return f"track: data.{run.track} is {benchmark.kind}, which has nothing to train on; list it as data.{run.track}_tests"
    if run.posthoc is not None and hasattr(registry.method("curricula", run.curriculum.kind), "assemble"):
        return f"posthoc: {run.curriculum.kind} ends in several models; {run.posthoc.kind} needs one"
    return ""


def _decode_problem(preset: Preset, run: Run) -> str:
    """Why the run's model cannot decode as it says, as "<key>: <reason>"."""
    kinds = sorted(registry.DECODINGS.keys() - {"policy"})  # a policy decodes no model
    of_track = getattr(registry.benchmark(run.track, preset.benchmark(run.track).kind), "DECODE", {})
    kind = run.decode.get("kind", of_track.get("kind", "plain"))
    if kind not in kinds:
        return f"decode.kind: must be one of {', '.join(kinds)}"
    annotations = _options(registry.DECODINGS[kind])
    unknown = sorted(run.decode.keys() - (annotations.keys() - {"batch_size", "tasks"}) - {"kind"})
    if unknown:
        return f"decode.{unknown[0]}: {kind} decoding has no such option"
    for name, value in run.decode.items():
        annotation = annotations.get(name)
        if annotation is not None:
            problem = _value_problem(annotation, value)
            if problem:
                return f"decode.{name}: {problem}"
    if kind == "latent" and run.decode.keys() - {"kind"} and not _thinks(run):
        return f"decode.{min(run.decode.keys() - {'kind'})}: {run.curriculum.kind} trains no latent tokens, so there is nothing to change"
    if run.decode.get("trigger") == "random" and not hasattr(run.curriculum, "insertion"):
        return f"decode.trigger: must not be random; {run.curriculum.kind} puts latents at no place of their own, so there is no rate"
    roles = getattr(registry.method("curricula", run.curriculum.kind), "ROLES", ())
    if roles and run.decode.get("general", roles[0]) not in roles:
        return f"decode.general: must be one of {', '.join(roles)}, the members that {run.curriculum.kind} makes"
    return ""


def needed(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what the run (its training merged with the preset's) needs of its base: the method's key and the capability's name."""
    yield "track", "causal"
    module = registry.method("curricula", run.curriculum.kind)
    phases = module.phases(run.curriculum, run.track, run.training)
    methods = [("tuner", run.tuner), ("curriculum", run.curriculum), ("posthoc", run.posthoc)]
    methods += [(axis, getattr(phase, axis)) for phase in phases for axis in ("tuner", "curriculum")]
    yield from ((axis, name) for axis, method in methods if method is not None for name in method.needs())


def needs(preset: Preset) -> list[tuple[str, str, str]]:
    """Return for every run what it needs of its base: the run's name, the method's key, the capability."""
    found = []
    for _, run in preset.every_run():
        training = preset.training_of(run)
        found += [(run.name, *one) for one in dict.fromkeys(needed(run.model_copy(update={"training": training})))]
    return found


def base_lacks(base: Base) -> Mapping[str, str]:
    """Return what bases of this architecture cannot do, by capability; empty where the architecture is not known."""
    kind = "qwen3" if base.model is None else _config(base).get("model_type")
    return architectures.known().get(str(kind), {})


@cache
def _options(module: str) -> Mapping[str, str | None]:
    """Return the options and their annotations of a decoding's `language_model`. Read, not imported: the module imports torch."""
    file = registry.project_root() / f"{module.replace('.', '/')}.py"
    code = ast.parse(file.read_text(encoding="utf-8"))
    (made,) = (one for one in code.body if isinstance(one, ast.FunctionDef) and one.name == "language_model")
    return {one.arg: ast.unparse(one.annotation) if one.annotation else None for one in made.args.kwonlyargs}


def _value_problem(annotation: str, value: object) -> str:
    """Why a value does not fit an option's annotation, which is source code of ours; empty if it does."""
    names = {"Annotated": Annotated, "Field": Field, "Literal": Literal, "Mapping": Mapping, "Any": Any}
    try:
        TypeAdapter(eval(annotation, names)).validate_python(value, strict=True)  # noqa: S307 - an annotation of ours
    except ValidationError as error:
        return reason(error).rpartition(": ")[2]  # without what pydantic calls the members of a union
    return ""


def _thinks(run: Run) -> bool:
    """Whether the model that the run's last phase leaves decodes with latents."""
    module = registry.method("curricula", run.curriculum.kind)
    last = module.phases(run.curriculum, run.track, run.training)[-1].name
    return hasattr(module, "decode") and bool(module.decode(run.curriculum, last).get("thinks"))


def base_layers(base: Base) -> int | None:
    """The base's number of layers, where it can be known without a download."""
    if base.model is None:
        return base.architecture.num_hidden_layers
    return architectures.layers(_config(base))


def base_positions(base: Base) -> int | None:
    """The base's longest input in tokens, where it can be known without a download."""
    if base.model is None:
        return base.architecture.max_position_embeddings
    return architectures.longest_input(_config(base))


def _config(base: Base) -> Mapping[str, Any]:
    """The base's config.json, empty where it is not here or is none."""
    assert base.model is not None
    try:
        found = json.loads((hub.folder(base.model, base.revision) / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
