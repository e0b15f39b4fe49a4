"""What a preset's runs cannot be, found from the method files and benchmarks that they name, before anything runs."""

import ast
import json
from pathlib import Path
from typing import TYPE_CHECKING

from adaptbench import registry

if TYPE_CHECKING:
    from adaptbench.config import Base, Preset, Run


def run_problem(preset: "Preset", run: "Run", layers: int | None) -> str:
    """Why `run` (its training merged with the preset's) cannot work, as "<key>: <reason>"; empty if it can.

    `layers` is the base's number of layers, None where only the hub knows it.
    """
    problem = _track_problem(preset, run) or _decode_problem(preset, run)
    if problem:
        return problem
    for axis, method in (("tuner", run.tuner), ("curriculum", run.curriculum), ("posthoc", run.posthoc)):
        problem = method.problem(run, layers) if method is not None else ""
        if problem:
            return f"{axis}.{problem}"
    return ""


def _track_problem(preset: "Preset", run: "Run") -> str:
    """Why the run's curriculum cannot train on its track or its post-hoc step not follow, as "<key>: <reason>"."""
    on = run.curriculum.tracks
    if on is not None and run.track not in on:
        return f"curriculum.kind: {run.curriculum.kind} trains on {' or '.join(on)}, not on {run.track}"
    benchmark = getattr(preset.data, run.track)
    if getattr(registry.benchmark(run.track, benchmark.kind), "EVALUATION_ONLY", False):
        return f"track: data.{run.track} is {benchmark.kind}, which has nothing to train on; list it as data.{run.track}_tests"
    if run.posthoc is not None and hasattr(registry.method("curricula", run.curriculum.kind), "assemble"):
        return f"posthoc: {run.curriculum.kind} ends in several models; {run.posthoc.kind} needs one"
    return ""


def _decode_problem(preset: "Preset", run: "Run") -> str:
    """Why the run's model cannot decode as it says, as "<key>: <reason>"."""
    folder = Path(__file__).parent / "decoding"
    kinds = sorted({path.stem for path in folder.glob("*.py")} - {"__init__", "policy"})  # a policy decodes no model
    of_track = getattr(registry.benchmark(run.track, getattr(preset.data, run.track).kind), "DECODE", {})
    kind = run.decode.get("kind", of_track.get("kind", "plain"))
    if kind not in kinds:
        return f"decode.kind: must be one of {', '.join(kinds)}"
    # Read, not imported: the file imports torch.
    code = ast.parse((folder / f"{kind}.py").read_text(encoding="utf-8"))
    (made,) = (one for one in code.body if isinstance(one, ast.FunctionDef) and one.name == "language_model")
    known = {argument.arg for argument in made.args.kwonlyargs} - {"batch_size", "tasks"}
    unknown = sorted(run.decode.keys() - known - {"kind"})
    if unknown:
        return f"decode.{unknown[0]}: {kind} decoding has no such option"
    roles = getattr(registry.method("curricula", run.curriculum.kind), "ROLES", ())
    if roles and run.decode.get("general", roles[0]) not in roles:
        return f"decode.general: must be one of {', '.join(roles)}, the members that {run.curriculum.kind} makes"
    return ""


def base_layers(base: "Base") -> int | None:
    """The base's number of layers, where it can be known without a download."""
    if base.model is None:
        return base.architecture.num_hidden_layers
    try:
        layers = json.loads((Path(base.model) / "config.json").read_text())["num_hidden_layers"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return layers if isinstance(layers, int) else None
