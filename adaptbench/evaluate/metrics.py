"""Make one row per document from lm-eval's samples, and each task's metric."""

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from adaptbench.io import results
from adaptbench.tasks import Derived, Task

if TYPE_CHECKING:
    import pandas as pd


def too_long(
    language_model: Any, samples: Mapping[str, list[dict[str, Any]]], members: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, int]]:
    """Count the items of each task that do not fit into the model's input, and log how they were cut.

    `members` are the lm-eval tasks of each task.
    """
    found = {}
    for name, tasks in members.items():
        noted = getattr(language_model, "too_long", {})
        done = Counter(done for task in tasks for done in noted.get(task, {}).values())
        if done:
            found[name] = {"too_long": done.total()}
            said = ", ".join(f"{count} {how}" for how, count in done.items())
            most = language_model.max_length
            print(
                f"{name}: {done.total()} of {len(samples[name])} items do not fit into {most} tokens: {said}",
                file=sys.stderr,
            )
    return found


def sample_rows(samples: Mapping[str, list[dict[str, Any]]], tasks: list[Task]) -> "pd.DataFrame":
    """Return one row per task, document and metric; a further metric that a document lacks (None) has no row."""
    import pandas as pd

    rows = []
    for task in tasks:
        for sample in samples[task.name]:
            prediction, target = _answer(sample)
            for metric in (task.metric, *task.more):
                value = sample[metric] if metric == task.metric else sample.get(metric)
                if value is None:
                    continue
                rows.append(
                    {
                        "task": task.name,
                        "document": int(sample["doc_id"]),
                        "group": int(sample["doc"][task.group] if task.group else sample["doc_id"]),
                        "document_hash": sample["doc_hash"],
                        "prompt_hash": sample["prompt_hash"],
                        "metric": metric,
                        "value": results.finite(value, f"{task.name}, document {sample['doc_id']}"),
                        "weight": float(sample[task.weight]) if task.weight else 1.0,
                        "prompt": str(sample["arguments"][0][0]),
                        "prediction": prediction,
                        "target": target,
                    }
                )
    return pd.DataFrame(rows)


def _answer(sample: Mapping[str, Any]) -> tuple[str, str]:
    """Return the model's answer and the right one, as text."""
    response, target = sample["filtered_resps"][0], sample["target"]
    if len(sample["arguments"]) > 1:  # choices, by their log-likelihoods
        scores = [float(one[0]) for one in sample["filtered_resps"]]
        choices = [str(arguments[1]).strip() for arguments in sample["arguments"]]
        return choices[scores.index(max(scores))], choices[target] if isinstance(target, int) else str(target)
    return (response if isinstance(response, str) else ""), str(target)


def metric(samples: "pd.DataFrame", task: Task) -> dict[str, Any]:
    """Return the task's main metric, and under `more` its further ones."""

    def mean(metric: str) -> float:
        rows = samples[(samples["task"] == task.name) & (samples["metric"] == metric)]
        return float((rows["value"] * rows["weight"]).sum() / rows["weight"].sum())

    def derived(metric: Derived) -> float:
        rows = samples[(samples["task"] == task.name)].pivot(index="document", columns="metric", values="value")
        counts = metric.counts(*(rows[name].to_numpy() for name in metric.of))
        return float(metric.combine(*(one.sum() for one in counts)))

    documents = samples[samples["task"] == task.name]["document"].nunique()
    found = {"metric": task.metric, "value": mean(task.metric), "documents": int(documents)}
    measured = set(samples[samples["task"] == task.name]["metric"])
    more = {metric: mean(metric) for metric in task.more if metric in measured}
    # A baseline's answers lack the metrics of a model's cost.
    known = [metric for metric in task.derived if measured.issuperset(metric.of)]
    more |= {metric.name: value for metric in known if not math.isnan(value := derived(metric))}
    return found | ({"more": more} if more else {})
