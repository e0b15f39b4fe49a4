"""What a method's file says of a run before anything runs, checked: its phases, what it reads, what it needs of a base.

Planning asks the same functions again and again; a wrong answer would end it somewhere else, or be taken.
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
    package: str, module: ModuleType, config: Any, run: Any, base_layers: int | None, tracks: Collection[str]
) -> None:
    """See that what a method's file says of a run before anything is made is what planning takes.

    `run` has its training merged with the preset's, `tracks` are the benchmarks that the preset names.

    Raises:
        AdaptbenchError: the file, and what it says wrongly or where it fails.
    """
    file = f"{package.replace('.', '/')}/{config.kind}.py"
    try:
        problem = next(_of_answers(module, config, run, base_layers, tracks), "")
    except (AdaptbenchError, ValidationError):  # of the run's options, which are checked after this
        return
    except Exception as error:  # whatever that file does wrong
        lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == module.__file__]
        where = f"{file}:{lines[-1]}" if lines else file
        raise AdaptbenchError(f"{where}: {type(error).__name__}: {error}") from error
    if problem:
        raise AdaptbenchError(f"{file}: {problem}")


def _of_answers(
    module: ModuleType, config: Any, run: Any, base_layers: int | None, tracks: Collection[str]
) -> Iterator[str]:
    said = config.problem(run, base_layers)
    if not isinstance(said, str):
        yield f"Config.problem must return text, not {said!r:.60}"
    if said:
        return
    for name in config.needs():
        if name not in architectures.NAMES:
            yield f"Config.needs: {name!r} is none of {', '.join(architectures.NAMES)}"
    if isinstance(config, TunerConfig):
        share = config.share(base_layers or 1)
        if not isinstance(share, tuple) or len(share) != 2:
            yield f"Config.share must return a pair, not {share!r:.60}"
    asked = {
        name: function for name in ("skip_reason", "data", "preparations") if (function := getattr(module, name, None))
    }
    answers = {name: function(config) for name, function in asked.items()}
    read = [("data", answers.get("data", ()))]
    read += [(f"the preparation {one.name!r}", one.data) for one in answers.get("preparations", ())]
    if hasattr(module, "phases"):
        phases = module.phases(config, run.track, run.training)
        if not isinstance(phases, tuple | list) or not phases or not all(isinstance(one, Phase) for one in phases):
            yield f"phases must return a tuple of Phase, at least one, not {phases!r:.60}"
        names = [one.name for one in phases]
        for place, phase in enumerate(phases):
            if not re.fullmatch(NAME_PATTERN, phase.name) or names.count(phase.name) > 1:
                yield f"phases: {phase.name!r} must be a name of letters, digits, - and _ that no other phase has"
            for option, kinds in {"training": Mapping, "tuner": TunerConfig, "curriculum": CurriculumConfig}.items():
                if (value := getattr(phase, option)) is not None and not isinstance(value, kinds):
                    yield f"phases: {option} of {phase.name!r} must be a {kinds.__name__}, not {value!r:.60}"
            if phase.parent is not None and phase.parent not in names[:place]:
                yield f"phases: {phase.parent!r}, the parent of {phase.name!r}, is no phase before it"
            read.append((f"the phase {phase.name!r}", phase.data))
    for what, named in read:
        for name in named:
            if name not in tracks:
                yield f"{what} reads {name!r}, and the preset has no data.{name}"
