"""The reasoning track's tasks and metrics: problems with worked steps, scored by the answer at the end.

A problem is {"prompt", "steps", "target"}: the question, the worked steps (a list of text) and the answer (text).
"""

from dataclasses import replace

from adaptbench.benchmarks.reasoning import figures
from adaptbench.latent.thought import RIGHT_OF_THOUGHT, THOUGHT
from adaptbench.tasks import Task

FIGURES = figures.FIGURES

DECODE = {"kind": "latent"}
"""The decoding of models without their own entry for it, such as the base."""

TASK_FILES = ("benchmarks/shared/answers.py", "benchmarks/reasoning/tasks/_answers")
"""Files that are copied next to the task files, besides those of all tracks."""


def answers_tasks(name: str, label: str) -> tuple[Task, Task]:
    """Return the test and the validation task of problems, with accuracy and the cost of an answer as metrics."""
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
