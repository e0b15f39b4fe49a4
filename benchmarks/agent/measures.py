"""The metrics of the agent track's tasks, and those that tables show (GLPFT, arXiv 2401.07324, section 4)."""

from collections.abc import Sequence
from typing import Any, Literal

from adaptbench.tasks import Derived, Task

DECODE = {"kind": "agent"}
"""The decoding of models without their own entry for it, such as the base."""

TASK_FILES = (
    "benchmarks/shared/answers.py",
    "adaptbench/agent/dialogue.py",
    "adaptbench/agent/scores.py",
    "benchmarks/agent/tasks/_steps",
    "benchmarks/agent/tasks/_live",
)
"""Files that are copied next to the task files, besides those of all tracks."""


def _decision_counts(gold: Any, predicted: Any) -> Sequence[Any]:
    """Return for each of the three decisions: whether both, gold, and prediction are this decision."""
    counts = []
    for decision in range(3):
        is_gold, is_predicted = gold == decision, predicted == decision
        counts += [is_gold & is_predicted, is_gold, is_predicted]
    return [one.astype(float) for one in counts]


def _mean_f1(*sums: Any) -> Any:
    """Return the mean F1 of the decisions that occur, as scikit-learn's f1_score with average="macro"."""
    import numpy as np

    both, gold, predicted = (np.stack([np.asarray(one) for one in sums[i::3]]) for i in range(3))
    occurs = gold + predicted > 0
    scores = np.divide(2 * both, gold + predicted, out=np.zeros(both.shape), where=occurs)
    return np.divide(
        scores.sum(axis=0), occurs.sum(axis=0), out=np.full(scores[0].shape, np.nan), where=occurs.any(axis=0)
    )


def _share_of_calls(hallucinated: Any, called: Any) -> Any:
    import numpy as np

    return np.divide(hallucinated, called, out=np.full(np.shape(called), np.nan), where=np.asarray(called) > 0)


MACRO_F1 = Derived("macro_f1", ("gold", "predicted"), _decision_counts, _mean_f1)
HALLUCINATION_PER_CALL = Derived(
    "hallucination_per_call",
    ("hallucination", "called"),
    lambda hallucinated, called: [hallucinated, called],
    _share_of_calls,
)


def steps_task(name: str, label: str, *, split: Literal["test", "validation"] = "test", primary: bool = False) -> Task:
    """Return the task of single steps, each after the reference history."""
    return Task(
        name,
        metric="exact",
        label=label,
        unit="whole step right",
        more=(
            "plan_acc", "act_em", "arg_f1", "arg_f1_empty", "arg_f1_filled", "rouge_l", "hallucination", "called",
            "missing", "unasked", "gold", "predicted",
        ),
        derived=(MACRO_F1, HALLUCINATION_PER_CALL),
        shown=(
            ("plan_acc", "decision (accuracy)"),
            ("macro_f1", "decision (macro F1)"),
            ("act_em", "tool (exact match)"),
            ("arg_f1", "arguments (F1)"),
            ("rouge_l", "answer (Rouge-L)"),
            ("missing", "no decision"),
            ("hallucination", "unknown tool (per step)"),
            ("hallucination_per_call", "unknown tool (per call)"),
        ),
        group="problem",
        split=split,
        primary=primary,
    )  # fmt: skip


def live_task(name: str, label: str) -> Task:
    """Return the task of episodes that are played to their end."""
    return Task(
        name,
        metric="success",
        label=label,
        unit="ended right",
        more=(
            "solved", "gave_up", "gave_up_right", "gave_up_wrong", "turns", "tokens", "errors", "missing", "calls",
        ),
        shown=(
            ("solved", "solved, of those that can be"),
            ("gave_up_right", "given up, of those that cannot"),
            ("gave_up_wrong", "given up, of those that can"),
            ("turns", "turns"),
            ("tokens", "tokens written"),
            ("errors", "errors observed"),
        ),
        episodes=True,
    )  # fmt: skip
