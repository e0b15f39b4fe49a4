"""What the Snakefile needs, in plain Python: the preset in force, its graph, each rule's inputs and parameters, the final outputs.

Code is in the project, results are in the working directory, which need not be the same. Rules read results and a user's data as inputs.
Code, other files of the project and the plan are parameters, by their digests: a touched file or a fresh checkout makes nothing again.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adaptbench import registry
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import plan_files, sources
from adaptbench.graph.nodes import HASH_LENGTH, Graph
from adaptbench.graph.surroundings import check_writable
from adaptbench.graph.targets import files_of_project, part_of_figure
from adaptbench.io.files import lock, naming
from adaptbench.jobs import gpus, warm

if TYPE_CHECKING:
    from adaptbench.graph.estimate import Estimate


CUDA_CONTEXT = 1e9  # bytes of a GPU's memory that a process takes before anything lies there, at most


READ = {
    "explorer": ("adaptbench/report/explorer/scripts/*.js",),
    "paper": ("benchmarks/*/papers/*.yaml",),
}
"""By command what it reads of the project besides code and files that stand beside it."""


class Plan:
    """The plan's files. They are written when a job is about to read them, so that a dry run or a report writes none."""

    def __init__(self, unfolded: Graph, running: Callable[[], bool]) -> None:
        """Plan the graph; `running` says whether jobs run, which Snakemake does not know before it builds its own graph."""
        self.unfolded, self.running = unfolded, running
        self.files = plan_files.files(unfolded)
        self.is_written = False

    def read(self, path: Path) -> str:
        """Return the path of a file, which is written if jobs run.

        Writing all files in `onstart` alone is not enough: `--no-hooks` and a cluster's jobs leave that out.
        """
        if self.running():
            self.write()
        return str(path)

    def report(self, part: str) -> str:
        """Return the path of a part's report file, as `read` does."""
        return self.read(plan_files.report_file(self.unfolded, part))

    def report_digest(self, part: str) -> str:
        """Return the digest of a part's report file."""
        return self.digest(plan_files.report_file(self.unfolded, part))

    def digest(self, path: Path) -> str:
        """Return the digest of a file's text."""
        return hashlib.sha256(self.files[path].encode()).hexdigest()[:HASH_LENGTH]

    def write(self) -> None:
        """Write the files; no other process may change them until this one ends. A failure ends the process with one line."""
        if self.is_written:
            return
        root, folder = self.unfolded.root, plan_files.folder(self.unfolded)
        try:
            with naming(root):
                folder.mkdir(parents=True, exist_ok=True)
                file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)  # the system closes it
            if lock(file):
                plan_files.write_files(self.files)
            lock(file, shared=True, wait=True)
        except OSError as error:
            if not plan_files.are_written(self.files):  # else enough to find that nothing is to be done
                check_writable(self.unfolded)
                sys.exit(f"error: {error.filename}: {error.strerror}")
        if not plan_files.are_written(self.files):
            sys.exit(
                f"error: {root}: another snakemake is at work here with other options; wait for it, or give this one a folder of its "
                "own (--config name=...)"
            )
        self.is_written = True


@contextmanager
def _exit_on_unknown_target() -> Iterator[None]:
    """End the process with one line where a file that was asked for is of no run or stage: Snakemake would show where that was found."""
    try:
        yield
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")


def node_inputs(unfolded: Graph, node_id: str) -> list[str]:
    """The directories and data files that a stage is made from."""
    with _exit_on_unknown_target():
        node = unfolded.node(node_id)
    return [*(str(unfolded.directory(parent)) for parent in node.parents.values()), *node.files]


def processes(unfolded: Graph, node_id: str) -> int:
    """In how many processes the stage is made."""
    return unfolded.preset.devices.processes if "training" in unfolded.node(node_id).options else 1


def job_priorities(unfolded: Graph) -> dict[str, int]:
    """Which jobs go before others that are ready, by node and by key of a run: the higher, the more seconds the longest chain of jobs that
    begins there takes, as `make plan` estimates it. Else what is long may begin last, and run alone.

    They are places in that order and not seconds, as Snakemake's solver must not find a job of few too small to be taken beside one of many.
    Where models that lie between others are to go soon, or nothing says how large a base is, bases and what they are made from go first,
    and no order is given to the others.
    """
    estimated = _estimated(unfolded)
    if estimated is None or unfolded.preset.keep == "scored":
        bases = (node.id for node in unfolded.nodes.values() if node.kind == "base")
        return dict.fromkeys(frozenset().union(*map(unfolded.ancestors, bases)), 1)
    seconds = {name: round(chain, 0) for name, chain in estimated.chains.items()}
    places = {one: place for place, one in enumerate(sorted(set(seconds.values())))}
    return {name: places[one] for name, one in seconds.items()}


def _estimated(unfolded: Graph) -> "Estimate | None":
    """What `make plan` estimates without asking the hub; None where nothing says how large the base is."""
    from adaptbench.graph import (
        estimate,
        model_size,  # not needed elsewhere to plan
    )

    try:
        return estimate.Estimate(unfolded, model_size.Assumptions(), ask=False)
    except AdaptbenchError:
        return None


def evaluation_inputs(unfolded: Graph, key: str) -> list[str]:
    with _exit_on_unknown_target():
        evaluation = unfolded.evaluation(key)
    models_and_tasks = ([evaluation.model] if evaluation.model else []) + list(evaluation.tasks.values())
    models_and_tasks += [evaluation.data] if evaluation.data else []
    return [str(unfolded.directory(node)) for node in models_and_tasks]


def stage_gpus(unfolded: Graph, node_id: str) -> int:
    """How many GPUs a stage's job can use: what it asks a cluster for. On one machine nothing waits for it (adaptbench/jobs/gpus.py)."""
    return processes(unfolded, node_id) if unfolded.node(node_id).kind in gpus.STAGES else 0


def evaluation_gpus(unfolded: Graph, key: str) -> int:
    """The same of scoring a run: none for a policy, which is no model, nor for a run that is skipped."""
    return int(unfolded.evaluation(key).model is not None)


def modules_to_preload(unfolded: Graph, made: Collection[str]) -> tuple[str, ...]:
    """What making these stages takes seconds for, besides the modules of every stage, as `warm.start` takes it."""
    asked = (unfolded.nodes[node].options.get("training") or {} for node in made)
    return warm.PRELOAD_COMPILER if any(training.get("compile") for training in asked) else ()


def jobs_on_gpus(unfolded: Graph) -> int | None:
    """How many GPU jobs may run side by side on this machine: as many on each GPU as would fit if all were the largest, by the memory that
    `make plan` estimates and a third more, and one at least. None where there is no GPU, or nothing says how large the model is.
    """
    if not (there := gpus.memory()):
        return None
    if (estimated := _estimated(unfolded)) is None:
        return len(there)
    most = max(job.state + job.activations for job in estimated.jobs.values()) * 4 / 3 + CUDA_CONTEXT
    return len(there) * max(1, int(min(there.values()) // most))


def stage_code(unfolded: Graph, node_id: str) -> str:
    """The digest of the code that makes a stage."""
    node = unfolded.node(node_id)
    return sources.of_project().of_stage(node.kind, node.options)


def evaluation_code(unfolded: Graph, key: str) -> str:
    """The digest of the code that scores a run."""
    evaluation = unfolded.evaluation(key)
    tasks = [unfolded.nodes[node].options for node in evaluation.tasks.values()]
    return sources.of_project().digest(sources.evaluation(unfolded.decoding(evaluation), tasks))


def removed_models(unfolded: Graph) -> list[str]:
    """Return the stages whose models are removed as soon as nothing reads them any more."""
    return plan_files.intermediate_models(unfolded) if unfolded.preset.keep == "scored" else []


def report_code(command: str, starts: Sequence[str] = ()) -> str:
    """Return the digest of the code of a command that reports, of the project's other files that it reads, and of `starts`."""
    reached = [*reporting(command), *starts]
    return sources.of_project().digest(reached, files_of_project(*READ.get(command, ())))


def figure_code(unfolded: Graph, figure: str) -> str:
    """Return the digest of the code that draws a figure."""
    return report_code("figures", drawing(unfolded, figure))


def reporting(command: str) -> list[str]:
    """Return what a reporting command runs, as `sources.Code.modules` takes it: every benchmark's tasks; for papers also all options."""
    benchmarks, methods = _modules("benchmarks", registry.tracks()), _modules("methods", registry.METHOD_AXES)
    starts = [sources.command(command), *(f"{module}.TASKS" for module in benchmarks)]
    if command == "paper":
        starts += [f"{module}.Config" for module in (*benchmarks, *methods)]
    return starts


def drawing(unfolded: Graph, figure: str) -> list[str]:
    """Return the function of a method or a benchmark that draws this figure, as `sources.Code.modules` takes it."""
    part = part_of_figure(unfolded, figure)
    found = {
        name: f"adaptbench.methods.{one['axis']}.{one['kind']}.FIGURES[{one['name']}]"
        for name, one in plan_files.method_figures(unfolded, part).items()
    }
    for table, content in plan_files.tables(unfolded, part).items():
        for name, one in content["figures"].items():
            of_track = f"adaptbench.benchmarks.{content['track']}.{one['kind']}"
            found[f"{table}_{name}"] = f"{of_track}.FIGURES[{one['name']}]"
    return [found[figure]] if figure in found else []


def _modules(package: str, folders: Iterable[str]) -> list[str]:
    """The names of the modules of all methods, or of all benchmarks."""
    return [f"adaptbench.{package}.{one}.{kind}" for one in folders for kind in registry.discover(f"{package}.{one}")]
