"""What a preset has run, as papers are held against it: which run is meant, on which task, and its samples.

`Ours` joins the collected parts (main alone, or main and ablation) with the plan's paper.json, which says what the preset starts
from, what it asks, and which runs it would make. What is not there raises `NotRun` with the reason that the table prints.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench import registry, statistics
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import stock_tasks
from adaptbench.io import results
from adaptbench.report.paper.names import measures
from adaptbench.report.paper.source import Exact, Measured, Selector
from adaptbench.statistics.verdicts import lacks, seeds_missing
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


class NotRun(AdaptbenchError):
    """Why there is nothing of ours to hold against a paper."""


@dataclass(frozen=True)
class Ours:
    """`plan` is paper.json; `runs` the entries of every runs.json by track and run; `samples` those of the done runs."""

    plan: Mapping[str, Any]
    runs: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    samples: "pd.DataFrame"
    parts: tuple[str, ...]

    def on_track(self, track: str) -> None:
        """
        Raises:
            NotRun: the preset does nothing on the track, or scores no test.
        """
        if track not in self.plan["tracks"]:
            raise NotRun(f"this preset has no run on the {track} track")
        if self.plan["evaluation"]["split"] != "test":
            raise NotRun("this preset scores validation, not tests")

    def run(self, track: str, name: str, selector: Selector | None) -> str:
        """The done run that stands for a paper's method called `name`. Of several the preset's first.

        Raises:
            NotRun: there is none, or it is not done.
        """
        if selector is None:
            raise NotRun(f"no method here is {name}")
        if selector.base:
            meant = [{"run": "base", "part": "main"}]
        else:
            meant = [run for run in self.plan["runs"] if run["track"] == track and is_meant(run["config"], selector)]
        if not meant:
            raise NotRun(f"no run of this preset stands for {name}")
        made = [run for run in meant if self._is_done(track, run["run"])]
        if made:
            return made[0]["run"]
        first = meant[0]
        entries = self.runs.get((track, first["run"]), ())
        if entries:
            raise NotRun(f"{first['run']}: {entries[0]['status']}: {entries[0]['reason']}")
        if first["part"] not in self.parts:
            raise NotRun(f"`make {first['part']}` makes {first['run']}")
        raise NotRun(f"{first['run']}: missing")

    def _is_done(self, track: str, run: str) -> bool:
        return any(entry["status"] == "done" for entry in self.runs.get((track, run), ()))

    def lacks(self, track: str, *pair: str) -> str:
        """What seeds of the runs are missing, empty where none."""
        return lacks(pair, seeds_missing(entry for run in pair for entry in self.runs.get((track, run), ())))

    def untested(self, track: str, task: Task, *pair: str) -> str:
        """Why a difference of two runs says nothing of their methods: one learned nothing of the track's `task`, or hardly shows what it
        adds. Empty where it may say something; the base learns nothing, and a task of the general ability is not learned.
        """
        if task.name.startswith("general"):
            return ""
        learned = () if "base" in pair else pair
        try:
            said = [self._at_floor(track, task, run) for run in learned] + [
                self._idle(track, task, run) for run in pair
            ]
        except AdaptbenchError as error:
            return str(error)
        return next(filter(None, said), "")

    def _at_floor(self, track: str, task: Task, run: str) -> str:
        """What without training the run is no better than, surely; a rule of the benchmark's counts as the base does."""
        mine = self.answers(track, run, task.name, task.metric)
        module = registry.benchmark(track, self.plan["tracks"][track]["benchmark"]["kind"])
        asked = set(self.samples[(self.samples["track"] == track) & (self.samples["task"] == task.name)]["run"])
        rules = [rule for rule in getattr(module, "BASELINES", {}) if rule in asked]
        for floor in ("base", *rules):
            found = statistics.compare(statistics.paired(mine, self.answers(track, floor, task.name, task.metric)))
            if not (found.low > 0 if task.higher_is_better else found.high < 0):
                return f"{run} is not shown to be better than {floor}, which is not trained"
        return ""

    def _idle(self, track: str, task: Task, run: str) -> str:
        """What the run's method adds to answers, if that is hardly in them."""
        config = next((one["config"] for one in self.plan["runs"] if (one["track"], one["run"]) == (track, run)), None)
        kind = config and registry.method("curricula", config["curriculum"]["kind"])
        shown = kind and kind.Config.takes_place
        if not shown:
            return ""
        metric, least = shown
        mean = statistics.mean_interval(self.answers(track, run, task.name, metric)).mean
        name = dict(task.shown).get(metric, metric)
        return (
            f"{run} has {mean:.2f} {name} an answer, of which fewer than {least:g} say little" if mean < least else ""
        )

    def task(self, track: str, measured: Measured) -> tuple[Task, str]:
        """The task on which a claim is tested, and the metric.

        Raises:
            NotRun: the preset's benchmarks have none.
        """
        stock = self._stock(track, measured.stock)
        if stock is not None:
            return stock, stock.metric
        tests = _tests(track, self.plan["tracks"][track]["benchmark"]["kind"])
        tests += _tests("general", self.plan["general"]["kind"])
        if measured.task is not None:
            tests = [task for task in tests if task.name == measured.task]
        elif measured.metric == "main":
            main = next((task for task in tests if task.primary), tests[0])
            if not main.higher_is_better:
                raise NotRun(f"less is better of {main.label}, this preset's main test, and more of the paper's metric")
            return main, main.metric
        for task in tests:
            if measured.metric in measures(task):
                return task, measured.metric
        raise NotRun(f"nothing that this preset asks has {measured.metric}")

    def _stock(self, track: str, name: str | None) -> Task | None:
        """lm-eval's task of that name, if the preset asks it on the track or of the general ability."""
        asked = self.plan["evaluation"].get("stock_tasks", {})
        for one in (track, "general"):
            if name in [task["task"] for task in asked.get(one, ())]:
                return stock_tasks.task(stock_tasks.result_name(one, str(name)))
        return None

    def reproduces(
        self, track: str, *, hub: str | None, data: Mapping[str, Any] | str, exact: Exact | str, trained: bool
    ) -> tuple[str, str]:
        """The task and the metric whose number is the paper's own, if this preset runs that model on that data.

        What lm-eval's tasks ask is the same on any data, so a model that is not `trained` needs none there.

        Raises:
            NotRun: it does not, and why.
        """
        if isinstance(exact, str):
            raise NotRun(exact)
        stock = self._stock(track, exact.stock)
        if stock is None and exact.benchmark is None:
            raise NotRun(f"needs lm-eval's task {exact.stock}, which this preset does not ask")
        on_data = stock is None or trained
        if on_data and isinstance(data, str):
            raise NotRun(data)
        if hub is None:
            raise NotRun("which checkpoint it was is not known")
        base = self.plan["base"]
        if base != hub:
            raise NotRun(f"needs {hub}; this preset starts from {base or 'a base of its own'}")
        here = self.plan["tracks"][track]
        if on_data and not isinstance(data, str):
            wanted = registry.benchmark(track, data["kind"]).Config.model_validate(data).model_dump(mode="json")
            if any(here["benchmark"].get(key) != wanted[key] for key in data):
                raise NotRun(f"needs training on {data['kind']} as the paper did")
        if stock is None and exact.benchmark not in [one["kind"] for one in (here["benchmark"], *here["tests"])]:
            raise NotRun(f"needs the benchmark {exact.benchmark}, which this preset does not ask")
        if self.plan["evaluation"]["limit"] is not None:
            raise NotRun("this preset asks only the first documents of each task")
        if stock is not None:
            return stock.name, stock.metric
        assert exact.task is not None
        assert exact.metric is not None
        return exact.task, exact.metric

    def answers(self, track: str, run: str, task: str, metric: str) -> statistics.Answers:
        """A run's values.

        Raises:
            NotRun: it has none of that metric.
        """
        rows = self.samples
        mine = rows[
            (rows["track"] == track) & (rows["run"] == run) & (rows["task"] == task) & (rows["metric"] == metric)
        ]
        if not len(mine):
            raise NotRun(f"{run} has no {metric} on {task}")
        return statistics.answers(mine)


def read(plan: Path, collected: Sequence[Path]) -> Ours:
    """The plan's paper.json and the folders of collected parts, main and maybe ablation; of a run in both, main's counts."""
    import pandas as pd

    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    samples = []
    for folder in collected:
        mine: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for entry in json.loads((folder / "runs.json").read_text()):
            mine.setdefault((entry["key"]["track"], entry["key"]["run"]), []).append(entry)
        new = mine.keys() - runs.keys()
        rows = results.read_samples(folder / "samples.parquet")
        keys = pd.MultiIndex.from_frame(rows[["track", "run"]])
        samples.append(rows[keys.isin(list(new))] if len(rows) else rows)
        runs.update({key: mine[key] for key in new})
    parts = ("main", "ablation")[: len(collected)]
    return Ours(json.loads(plan.read_text()), runs, pd.concat(samples, ignore_index=True), parts)


def is_meant(run: Mapping[str, Any], selector: Selector) -> bool:
    """Whether a run's methods have the selector's options, and nothing is done to its model afterwards."""
    if run["posthoc"] is not None or run["decode"]:
        return False
    for axis, key, options in (
        ("curricula", "curriculum", selector.curriculum),
        ("tuners", "tuner", selector.tuner),
    ):
        if options is None or run[key]["kind"] != options["kind"]:
            return False
        wanted = registry.method(axis, options["kind"]).Config.model_validate(options).model_dump(mode="json")
        if any(run[key].get(name) != wanted[name] for name in options):
            return False
    return True


def _tests(track: str, kind: str) -> list[Task]:
    return [task for task in registry.benchmark(track, kind).TASKS if task.split == "test"]
