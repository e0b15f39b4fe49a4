"""Results of a preset for the comparison with papers: the run, the task and the answers that correspond to a number.

`Ours` joins the collected parts (main alone, or main and ablation) with the plan's paper.json, which holds the preset's
base, its benchmarks and its planned runs. Where nothing corresponds, `NotRun` carries the reason that the table prints.
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
from adaptbench.statistics.comparison_table import lacks, seeds_missing
from adaptbench.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


class NotRun(AdaptbenchError):
    """The reason why no result of ours corresponds to a paper's."""


@dataclass(frozen=True)
class Ours:
    """Results of the collected `parts` of a preset.

    Attributes:
        plan: the content of paper.json.
        runs: the entries of every runs.json, by track and run.
        samples: the samples of the done runs.
    """

    plan: Mapping[str, Any]
    runs: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]
    samples: "pd.DataFrame"
    parts: tuple[str, ...]

    def on_track(self, track: str) -> None:
        """Check that the preset evaluates tests on the track.

        Raises:
            NotRun: it has no run there, or evaluates the validation split.
        """
        if track not in self.plan["tracks"]:
            raise NotRun(f"this preset has no run on the {track} track")
        if self.plan["evaluation"]["split"] != "test":
            raise NotRun("this preset scores validation, not tests")

    def run(self, track: str, name: str, selector: Selector | None) -> str:
        """Return the first done run that corresponds to the paper's method called `name`.

        Raises:
            NotRun: no run corresponds, or none of them is done.
        """
        if selector is None:
            raise NotRun(f"no method here is {name}")
        if selector.base:
            planned = [{"run": "base", "part": "main"}]
        else:
            planned = [run for run in self.plan["runs"] if run["track"] == track and selects(selector, run["config"])]
        if not planned:
            raise NotRun(f"no run of this preset stands for {name}")
        done = [run for run in planned if self._is_done(track, run["run"])]
        if done:
            return done[0]["run"]
        first = planned[0]
        entries = self.runs.get((track, first["run"]), ())
        if entries:
            raise NotRun(f"{first['run']}: {entries[0]['status']}: {entries[0]['reason']}")
        if first["part"] not in self.parts:
            raise NotRun(f"`make {first['part']}` makes {first['run']}")
        raise NotRun(f"{first['run']}: missing")

    def _is_done(self, track: str, run: str) -> bool:
        return any(entry["status"] == "done" for entry in self.runs.get((track, run), ()))

    def lacks(self, track: str, *pair: str) -> str:
        """Return a text that names the missing seeds of the runs, empty if none is missing."""
        return lacks(pair, seeds_missing(entry for run in pair for entry in self.runs.get((track, run), ())))

    def untested(self, track: str, task: Task, *pair: str) -> str:
        """Return why a difference of two runs cannot be attributed to their methods, empty if it can.

        It cannot if one of the runs did not learn the track's `task`, or hardly uses what its method adds to answers.
        The base need not learn, and general tasks are not learned.
        """
        if task.general:
            return ""
        trained = () if "base" in pair else pair
        try:
            reasons = [self._not_learned(track, task, run) for run in trained]
            reasons += [self._hardly_used(track, task, run) for run in pair]
        except AdaptbenchError as error:
            return str(error)
        return next(filter(None, reasons), "")

    def _not_learned(self, track: str, task: Task, run: str) -> str:
        """Return a text that names the base or policy that the run is not significantly better than."""
        mine = self.answers(track, run, task.name, task.metric)
        module = registry.benchmark(track, self.plan["tracks"][track]["benchmark"]["kind"])
        evaluated = set(self.samples[(self.samples["track"] == track) & (self.samples["task"] == task.name)]["run"])
        policies = [policy for policy in getattr(module, "BASELINES", {}) if policy in evaluated]
        for floor in ("base", *policies):
            found = statistics.compare(statistics.paired(mine, self.answers(track, floor, task.name, task.metric)))
            if not (found.low > 0 if task.higher_is_better else found.high < 0):
                return f"{run} is not shown to be better than {floor}, which is not trained"
        return ""

    def _hardly_used(self, track: str, task: Task, run: str) -> str:
        """Return a text on what the run's method adds to answers (say, latent tokens) if they hardly contain it."""
        config = next((one["config"] for one in self.plan["runs"] if (one["track"], one["run"]) == (track, run)), None)
        kind = config and registry.method("curricula", config["curriculum"]["kind"])
        needed = kind and kind.Config.takes_place
        if not needed:
            return ""
        metric, least = needed
        mean = statistics.mean_interval(self.answers(track, run, task.name, metric)).mean
        name = dict(task.shown).get(metric, metric)
        return (
            f"{run} has {mean:.2f} {name} an answer, of which fewer than {least:g} say little" if mean < least else ""
        )

    def task(self, track: str, measured: Measured) -> tuple[Task, str]:
        """Return the task and the metric on which a claim is tested.

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
        """Return lm-eval's task of that name if the preset evaluates it, on the track or as a general one."""
        evaluated = self.plan["evaluation"].get("stock_tasks", {})
        for one in (track, "general"):
            if name in [task["task"] for task in evaluated.get(one, ())]:
                return stock_tasks.task(stock_tasks.result_name(one, str(name)))
        return None

    def reproduces(
        self, track: str, *, hub: str | None, data: Mapping[str, Any] | str, exact: Exact | str, trained: bool
    ) -> tuple[str, str]:
        """Return the task and the metric that measure the paper's number exactly: same model, same data, same test.

        Documents of lm-eval's tasks do not depend on training data: a model that is not `trained` needs no `data`.

        Raises:
            NotRun: the preset measures something else; the reason says what differs.
        """
        if isinstance(exact, str):
            raise NotRun(exact)
        stock = self._stock(track, exact.stock)
        if stock is None and exact.benchmark is None:
            raise NotRun(f"needs lm-eval's task {exact.stock}, which this preset does not ask")
        needs_data = stock is None or trained
        if needs_data and isinstance(data, str):
            raise NotRun(data)
        self._require_model(hub)
        if needs_data and not isinstance(data, str):
            self._require_data(track, data)
        if stock is None:
            self._require_benchmark(track, exact.benchmark)
        if self.plan["evaluation"]["limit"] is not None:
            raise NotRun("this preset asks only the first documents of each task")
        if stock is not None:
            return stock.name, stock.metric
        assert exact.task is not None  # names.py has checked that a benchmark has both
        assert exact.metric is not None
        return exact.task, exact.metric

    def _require_model(self, hub: str | None) -> None:
        """Raise NotRun unless the preset starts from the checkpoint with this name on the hub."""
        if hub is None:
            raise NotRun("which checkpoint it was is not known")
        base = self.plan["base"]
        if base != hub:
            raise NotRun(f"needs {hub}; this preset starts from {base or 'a base of its own'}")

    def _require_data(self, track: str, data: Mapping[str, Any]) -> None:
        """Raise NotRun unless the preset trains on the benchmark with these options; others may differ."""
        wanted = registry.benchmark(track, data["kind"]).Config.model_validate(data).model_dump(mode="json")
        used = self.plan["tracks"][track]["benchmark"]
        if any(used.get(key) != wanted[key] for key in data):
            raise NotRun(f"needs training on {data['kind']} as the paper did")

    def _require_benchmark(self, track: str, kind: str | None) -> None:
        """Raise NotRun unless the preset evaluates the benchmark of this kind on the track."""
        here = self.plan["tracks"][track]
        if kind not in [one["kind"] for one in (here["benchmark"], *here["tests"])]:
            raise NotRun(f"needs the benchmark {kind}, which this preset does not ask")

    def answers(self, track: str, run: str, task: str, metric: str) -> statistics.Answers:
        """Return the values of a run.

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
    """Read the plan's paper.json and the collected folders of main and, if given, ablation; main has priority."""
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


def selects(selector: Selector, run: Mapping[str, Any]) -> bool:
    """Return True if the run's methods have the selector's options, without a post-hoc step or decoding options."""
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
