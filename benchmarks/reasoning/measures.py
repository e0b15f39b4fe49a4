"""What the reasoning track asks and measures: problems with worked steps, right or wrong by the answer at the end.

A problem is {"prompt", "steps", "target"}: the question, the worked steps (a list of text) and the answer (text).
"""

from dataclasses import replace

from adaptbench.benchmarks.reasoning import figures
from adaptbench.latent.thought import RIGHT_OF_THOUGHT, THOUGHT
from adaptbench.tasks import Task

FIGURES = figures.FIGURES

DECODE = {"kind": "latent"}
"""How a model that says nothing about it, the base, answers this track's tasks."""

TASK_FILES = ("benchmarks/shared/answers.py", "benchmarks/reasoning/tasks/_answers")
"""What the tasks' files need beside them, besides what all tracks' do."""


def answers_tasks(name: str, label: str) -> tuple[Task, Task]:
    """Problems answered in the model's own way; what it took beside whether it is right. The test, and `<name>_validation`."""
    test = Task(
        name,
        metric="exact_match",
        label=label,
        unit="answers right",
        more=("visible_tokens", "latent_tokens", "passes", "milliseconds"),
        derived=(THOUGHT, RIGHT_OF_THOUGHT),
        shown=(
            ("visible_tokens", "visible tokens"),
            ("latent_tokens", "latent tokens"),
            ("thought", "answers with latents"),
            ("exact_match_of_thought", "right of these"),
            ("passes", "sequential passes"),
            ("milliseconds", "ms a problem"),
        ),
        primary=True,
    )
    return test, replace(test, name=f"{name}_validation", label=f"{label} validation", split="validation")
