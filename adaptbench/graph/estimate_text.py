"""Prints an estimate as text."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import fields

from adaptbench import registry
from adaptbench.config.preset import Preset
from adaptbench.config.schema import HubData
from adaptbench.graph import plan_files, stock_tasks, targets
from adaptbench.graph.estimate import Estimate, Job, published_epoch
from adaptbench.graph.model_size import Assumptions, Shape
from adaptbench.graph.nodes import Graph


def hub_data(preset: Preset) -> dict[str, HubData]:
    """Return the data sets that the preset's benchmarks read from the hub, by their keys under `data`."""
    return {
        name: source
        for track in registry.tracks()
        for benchmark in (preset.benchmark(track), *preset.further_tests(track))
        if benchmark is not None
        for name, source in preset.public_data(track, benchmark.kind).items()
        if source.path is None
    }


def report(graph: Graph, assumed: Assumptions) -> str:
    """Return what `make plan` prints of a preset.

    Raises:
        AdaptbenchError: the base's size is unknown.
    """
    preset = graph.preset
    estimate = Estimate(graph, assumed)
    size = estimate.size
    model = preset.base.model or "a base pre-trained here"
    parameters = f"{size.parameters(size.layers):.3g} parameters in {size.layers} layers"
    lines = [f"{preset.name}: {model}, {parameters} (known from {size.origin})"]
    done: Collection[str] = ()
    for part in plan_files.parts(graph):
        jobs = estimate.part_jobs(part)
        lines.append(f"  {part if part == 'main' else f'{part}, besides'}")
        lines += _job_lines([job for name, job in jobs.items() if name not in done], _reports(graph, part), assumed)
        done = {*done, *jobs}
    lines.append(f"  downloads    {_downloads(preset, size)}")
    for track in registry.tracks():
        if epoch := published_epoch(preset, track):
            lines.append(f"  an epoch     {track}: {epoch.documents} times {epoch.tokens:.3g} tokens ({epoch.source})")
    values = ", ".join(f"{field.name} {getattr(assumed, field.name):g}" for field in fields(assumed))
    lines.append(f"  assumed      {values}; only models on disk and their checkpoints")
    return "\n".join(lines)


def _reports(graph: Graph, part: str) -> Counter[str]:
    """Count the jobs that report a part, by rule."""
    rules = {
        "tables": targets.table_names,
        "figures": targets.figure_names,
        "paper": targets.paper_names,
        "transcripts": targets.transcript_names,
    }
    named = {rule: len(names(graph, part)) for rule, names in rules.items()}
    return +Counter({"collect": 1, "conclude": 1, "page": 1} | named)


def _job_lines(jobs: Sequence[Job], reports: Counter[str], assumed: Assumptions) -> list[str]:
    """Return the lines of a part: jobs, GPU hours, memory and disk."""
    counts = Counter(job.kind for job in jobs) + reports
    hours = {kind: sum(job.seconds * job.gpus for job in jobs if job.kind == kind) / 3600 for kind in counts}
    shown = ", ".join(f"{kind} {value:.3g}" for kind, value in hours.items() if value)
    longest = max(jobs, key=lambda job: job.seconds)
    largest = max(jobs, key=lambda job: job.state + job.activations)
    host = max(jobs, key=lambda job: job.host)
    gpus = max(assumed.gpus, *(job.gpus for job in jobs))
    wall = max(longest.seconds, sum(job.seconds / (gpus // job.gpus) for job in jobs)) / 3600
    each = f" on each of {largest.gpus} GPUs" if largest.gpus > 1 else ""
    kept = sum(job.kept for job in jobs)
    return [
        f"    jobs         {sum(counts.values())}: " + ", ".join(f"{kind} {count}" for kind, count in counts.items()),
        f"    GPU hours    {sum(hours.values()):.3g} ({shown}); about {wall:.3g} hours on {gpus} GPU",
        f"    longest job  {longest.name}: {longest.seconds / 3600:.3g} hours",
        f"    GPU memory   {gb(largest.state)}, and about {gb(largest.activations)} for activations{each}: "
        f"{largest.name}",
        f"    host memory  about {gb(host.host)}: {host.name}",
        f"    disk         {gb(kept)} kept, {gb(kept + checkpoints(jobs, gpus))} at most",
    ]


def checkpoints(jobs: Sequence[Job], gpus: int) -> float:
    """Return the bytes of the largest checkpoints that can exist at the same time."""
    return sum(sorted((job.checkpoint for job in jobs), reverse=True)[:gpus])


def _downloads(preset: Preset, size: Shape) -> str:
    model = f"{gb(size.missing)} of {preset.base.model}" if size.missing else "no model"
    names = [source.hub_id for source in hub_data(preset).values()]
    names += [
        name
        for tasks in preset.evaluation.stock_tasks.values()
        for task in tasks
        for name in stock_tasks.describe(task.task).data
    ]
    return f"{model}; data: {', '.join(dict.fromkeys(names))} (not counted)" if names else f"{model}, no data"


def gb(size: float) -> str:
    """Format bytes as GB."""
    return f"{size / 1e9:.3g} GB"
