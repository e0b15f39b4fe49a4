"""Checks what a method's functions return for a run: its phases, the data it reads, the capabilities it needs.

Planning calls the same functions many times. A wrong value would fail somewhere else, or be accepted.
"""

import re
import traceback
from collections.abc import Collection, Iterator, Mapping
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from adaptbench.config import architectures
from adaptbench.contracts import NAME_PATTERN, CurriculumConfig, Phase, TunerConfig
from adaptbench.errors import AdaptbenchError


def check(
    package: str, module: ModuleType, config: Any, run: Any, *, base_layers: int | None, tracks: Collection[str]
) -> None:
    """Check that what a method's functions return for a run has the form that planning needs.

    Args:
        package: the method's package, methods.<axis>.
        module: the method's file.
        config: the method's options.
        run: the run, with its training merged with the preset's.
        base_layers: the base's number of layers; None if only the hub knows it.
        tracks: the benchmarks of the preset.

    Raises:
        AdaptbenchError: a function fails or returns something else; the message names the file.
    """
    file = f"{package.replace('.', '/')}/{config.kind}.py"
    try:
        problem = next(_problems(module, config, run, base_layers, tracks), "")
    except (AdaptbenchError, ValidationError):  # a mistake in the run's options, which are checked after this
        return
    except Exception as error:  # any bug in that file
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == module.__file__]
        where = f"{file}:{lines[-1]}" if lines else file
        raise AdaptbenchError(f"{where}: {type(error).__name__}: {error}") from error
    if problem:
        raise AdaptbenchError(f"{file}: {problem}")


def _problems(
    module: ModuleType, config: Any, run: Any, base_layers: int | None, tracks: Collection[str]
) -> Iterator[str]:
    problem = config.problem(run, base_layers)
    if not isinstance(problem, str):
        yield f"Config.problem must return text, not {problem!r:.60}"
    if problem:
        return
    for name in config.needs():
        if name not in architectures.NAMES:
            yield f"Config.needs: {name!r} is none of {', '.join(architectures.NAMES)}"
    if isinstance(config, TunerConfig):
        share = config.share(base_layers or 1)
        if not isinstance(share, tuple) or len(share) != 2:
            yield f"Config.share must return a pair, not {share!r:.60}"
    hooks = ("skip_reason", "data", "preparations")
    returned = {name: getattr(module, name)(config) for name in hooks if hasattr(module, name)}
    read = [("data", returned.get("data", ()))]
    read += [(f"the preparation {one.name!r}", one.data) for one in returned.get("preparations", ())]
    if hasattr(module, "phases"):
        phases = module.phases(config, run.track, run.training)
        yield from _phase_problems(phases)
        read += [(f"the phase {phase.name!r}", phase.data) for phase in phases]
    for reader, names in read:
        for name in names:
            if name not in tracks:
                yield f"{reader} reads {name!r}, and the preset has no data.{name}"


def _phase_problems(phases: Any) -> Iterator[str]:
    if not isinstance(phases, tuple | list) or not phases or not all(isinstance(one, Phase) for one in phases):
        yield f"phases must return a tuple of Phase, at least one, not {phases!r:.60}"
    names = [one.name for one in phases]
    for place, phase in enumerate(phases):
        if not re.fullmatch(NAME_PATTERN, phase.name) or names.count(phase.name) > 1:
            yield f"phases: {phase.name!r} must be a name of letters, digits, - and _ that no other phase has"
        for option, kind in {"training": Mapping, "tuner": TunerConfig, "curriculum": CurriculumConfig}.items():
            if (value := getattr(phase, option)) is not None and not isinstance(value, kind):
                yield f"phases: {option} of {phase.name!r} must be a {kind.__name__}, not {value!r:.60}"
        if phase.parent is not None and phase.parent not in names[:place]:
            yield f"phases: {phase.parent!r}, the parent of {phase.name!r}, is no phase before it"
