"""Checks, before a preset starts, what would stop it hours later: missing data or base, too little disk or memory.

Only lower bounds are required: models and the largest checkpoint on disk; weights, gradients and optimizer in memory. A
preset that would have fitted is therefore never refused.
"""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import psutil

from adaptbench.config import architectures, problems
from adaptbench.config.preset import Preset
from adaptbench.config.schema import Devices
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import estimate, estimate_text, model_size, stock_tasks
from adaptbench.graph.nodes import Graph
from adaptbench.io import hub, model_folder
from adaptbench.jobs import gpus


def check(graph: Graph, nodes: Collection[str], *, here: bool = True) -> None:
    """Check that the stages `nodes` can be made; `here` says that they run on this machine.

    Raises:
        AdaptbenchError: something is missing or too small.
    """
    preset, base = graph.preset, graph.preset.base
    kinds = {graph.nodes[node].kind for node in nodes}
    if not kinds - {"data", "tasks", "tokenizer"}:
        return
    missing = 0
    if base.model is not None and not hub.is_path(base.model) and "imported_base" in kinds:
        missing = _check_base(preset, base.model)
    _check_data(graph, nodes)
    jobs = estimate.Estimate(graph, model_size.Assumptions()).jobs
    mine = [jobs[node] for node in nodes]
    _check_disk(graph.root, sum(job.kept for job in mine) + estimate_text.checkpoints(mine, 1), missing)
    if here:
        _check_number(preset.devices.processes)
        _check_memory(max(mine, key=lambda job: job.state), preset.devices)


def _check_base(preset: Preset, model: str) -> int:
    """Check that a base from the hub can be read and serves all runs; return the bytes that must be downloaded."""
    revision = preset.base.revision
    try:
        found = hub.find_local(model, revision) or hub.find_remote(model, revision)
        lacks = architectures.known().get(found.config.get("model_type", ""), {})
        needs = problems.needs(preset)
        if problem := model_folder.config_problem(found.config) or architectures.missing_capability(lacks, needs):
            raise AdaptbenchError(f"{model}: {problem}")
    except AdaptbenchError as error:
        raise AdaptbenchError(f"base.model: {error}") from None
    return found.missing


def _check_data(graph: Graph, nodes: Collection[str]) -> None:
    """Check that the hub, or the cache if the hub cannot be reached, has the data sets that will be read.

    This includes the data sets of lm-eval's tasks, which are read only when models are scored.
    """
    reachable = True
    for place, name, revision in (*_public_data(graph, nodes), *_stock_data(graph.preset)):
        try:
            hub.check_id(name)
            if not reachable and hub.is_prepared(name, revision):
                continue
            hub.check_data_set(name, revision)
        except AdaptbenchError as error:
            if isinstance(error, hub.Unreachable) and hub.is_prepared(name, revision):
                reachable = False
            elif place.startswith("data."):
                raise hub.with_folder_hint(place.removeprefix("data."), error) from None
            else:
                raise AdaptbenchError(f"{place}: {error}") from None


def _public_data(graph: Graph, nodes: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the key, hub id and revision of each data set that the stages read."""
    read = {name for node in nodes for name in graph.nodes[node].options.get("public", {})}
    for name, source in estimate_text.hub_data(graph.preset).items():
        if name in read:
            yield f"data.{name}", source.hub_id, source.revision


def _stock_data(preset: Preset) -> Iterator[tuple[str, str, str]]:
    """Yield the key, hub id and revision of each data set of lm-eval's tasks."""
    for tasks in preset.evaluation.stock_tasks.values():
        for task in tasks:
            for name in stock_tasks.describe(task.task).data:
                yield f"evaluation.stock_tasks: {task.task}", name, "main"


def _check_disk(root: Path, results: float, download: float) -> None:
    """Check that results and downloads (bytes) fit, together if they are on one disk."""
    needed: dict[int, tuple[Path, float]] = {}
    for folder, size in ((root, results), (hub.cache_folder(), download)):
        there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        device = there.stat().st_dev
        first, so_far = needed.get(device, (there, 0.0))
        needed[device] = (first, so_far + size)
    for folder, size in needed.values():
        free = shutil.disk_usage(folder).free
        if size > free:
            raise AdaptbenchError(
                f"too little disk: at least {estimate_text.gb(size)} are needed on the disk of {folder.absolute()}, "
                f"{estimate_text.gb(free)} are free"
            )


def _check_number(processes: int) -> None:
    """Check that each process has a GPU, if there are GPUs."""
    there = len(gpus.memory())
    if 0 < there < processes:
        raise AdaptbenchError(f"devices.processes: must be <= {there}, the GPUs that are here, one for each process")


def _check_memory(job: estimate.Job, devices: Devices) -> None:
    """Check that a job's processes fit: each on a separate GPU, or without a GPU all in this machine's memory."""
    seen = gpus.memory()
    if seen:  # a job uses the least busy GPU, which may be the smallest
        name = min(seen, key=lambda one: seen[one])
        kind, memory, needed = "GPU memory", seen[name], job.state
        share = f" in each of {devices.processes} processes" if devices.sharded else ""
        large = ",".join(one for one in seen if seen[one] >= needed)
        hint = f"; leave smaller ones out: CUDA_VISIBLE_DEVICES={large}" if large else ""
        there = f"GPU {name} has {estimate_text.gb(memory)}{hint}"
    else:
        memory = psutil.virtual_memory().total
        kind, needed = "memory", job.state * devices.processes
        share = f" in {devices.processes} processes" if devices.processes > 1 and not devices.sharded else ""
        there = f"this machine has {estimate_text.gb(memory)} and no GPU"
    if needed > memory:
        raise AdaptbenchError(
            f"too little {kind}: {job.name} needs at least {estimate_text.gb(needed)} for weights, gradients and "
            f"optimizer{share}, {there}"
        )
