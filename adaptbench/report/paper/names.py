"""Check the names in a paper's file: cells among its numbers; methods, options, benchmarks and tasks in the project."""

from pydantic import ValidationError

from adaptbench import registry
from adaptbench.errors import reason
from adaptbench.report.paper.source import Claim, Exact, Measured, Paper, Selector, Table, effect
from adaptbench.tasks import Task


def problem(paper: Paper, track: str) -> str:
    """Return the first unknown name as "<key>: <reason>", empty if all are known."""
    found = [f"runs.{name}.{why}" for name, one in paper.runs.items() if (why := _of_selector(one))]
    for name, metric in paper.metrics.items():
        if metric.claim is not None and (why := _of_measured(metric.claim, track)):
            found.append(f"metrics.{name}.claim.{why}")
        asked = {"number": metric.number} | {f"settings.{setting}": one for setting, one in metric.settings.items()}
        for key, exact in asked.items():
            if not isinstance(exact, str) and (why := _of_exact(exact, track)):
                found.append(f"metrics.{name}.{key}.{why}")
    found += [f"tables.{name}.{why}" for name, one in paper.tables.items() if (why := _of_table(one, paper, track))]
    found += [f"claims.{place}.{why}" for place, one in enumerate(paper.claims) if (why := _of_claim(one, paper))]
    return found[0] if found else ""


def _of_selector(selector: Selector) -> str:
    for axis, key, options in (
        ("curricula", "curriculum", selector.curriculum),
        ("tuners", "tuner", selector.tuner),
    ):
        if options is not None and (why := _of_options(registry.discover(f"methods.{axis}"), options)):
            return f"{key}.{why}"
    return ""


def _of_options(modules: dict, options: dict) -> str:
    if options.get("kind") not in modules:
        return f"kind: must be one of {', '.join(modules)}"
    try:
        modules[options["kind"]].Config.model_validate(options)
    except ValidationError as error:
        return reason(error)
    return ""


def _of_measured(measured: Measured, track: str) -> str:
    tasks = [task for name in {track, "general"} for task in _tests(name)]
    if measured.task is not None:
        tasks = [task for task in tasks if task.name == measured.task]
        if not tasks:
            return f"task: no test of {track} or general is called {measured.task!r}"
    elif measured.metric == "main":
        return ""
    if not any(measured.metric in measures(task) for task in tasks):
        return f"metric: no such task measures {measured.metric!r} of each document"
    return ""


def _of_exact(exact: Exact, track: str) -> str:
    if exact.benchmark is None or exact.task is None or exact.metric is None:
        alone = exact.stock is not None and (exact.benchmark, exact.task, exact.metric) == (None, None, None)
        return "" if alone else "benchmark: name benchmark, task and metric, or stock, or all four"
    kinds = registry.discover(f"benchmarks.{track}")
    if exact.benchmark not in kinds:
        return f"benchmark: must be one of {', '.join(kinds)}"
    tasks = {task.name: task for task in kinds[exact.benchmark].TASKS if task.split == "test"}
    if exact.task not in tasks:
        return f"task: must be one of {', '.join(tasks)}"
    if exact.metric not in measures(tasks[exact.task]):
        return f"metric: must be one of {', '.join(measures(tasks[exact.task]))}"
    return ""


def _of_table(table: Table, paper: Paper, track: str) -> str:
    for cell in table.cells:
        if cell.model not in paper.models:
            return f"numbers: model {cell.model!r} is not among models"
        if cell.metric not in paper.metrics:
            return f"numbers: metric {cell.metric!r} is not among metrics"
    if isinstance(table.data, str):
        return ""
    why = _of_options(registry.discover(f"benchmarks.{track}"), table.data)
    return f"data.{why}" if why else ""


def _of_claim(claim: Claim, paper: Paper) -> str:
    table = paper.tables.get(claim.table)
    if table is None:
        return f"table: must be one of {', '.join(paper.tables)}"
    for metric in (*claim.metrics, *claim.counted):
        if metric not in paper.metrics:
            return f"metrics: {metric!r} is not among metrics"
    for metric in claim.metrics:
        if paper.metrics[metric].claim is None:
            return f"metrics: {metric!r} has no claim among metrics, so nothing is measured for it"
        paper_value = effect(table, claim, metric)
        place = " ".join(filter(None, (claim.model, claim.setting, metric)))
        if paper_value is None:
            return f"metrics: the table has no number of {claim.method!r} and of {claim.against!r} for {place}"
        if paper_value == 0:
            return f"metrics: both numbers for {place} are the same, which has no direction"
    for side, run in claim.ours.items():
        if side not in (claim.method, claim.against):
            return f"ours: {side!r} is neither method nor against"
        if run not in paper.runs:
            return f"ours: {run!r} is not among runs"
    return ""


def measures(task: Task) -> tuple[str, ...]:
    """Return the metrics of which every document has a value."""
    return (task.metric, *task.more)


def _tests(track: str) -> list[Task]:
    modules = registry.discover(f"benchmarks.{track}").values()
    return [task for module in modules for task in module.TASKS if task.split == "test"]
