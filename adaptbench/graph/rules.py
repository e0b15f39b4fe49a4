"""Functions that the Snakefile's rules call: inputs, parameters, priorities and resources of jobs.

Code is in the project and results are in the working directory, which may differ. Rules have results and a user's data
as inputs. Code, other files of the project and the plan are parameters, by their digests. A touched file or a fresh
checkout therefore makes nothing again.
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
from adaptbench.graph.targets import files_of_project
from adaptbench.io.files import lock, naming
from adaptbench.jobs import gpus, warm

if TYPE_CHECKING:
    from adaptbench.graph.estimate import Estimate


CUDA_CONTEXT = 1e9
"""Upper bound of the bytes of GPU memory that a process uses before it allocates anything."""

PROJECT_FILES = {
    "explorer": ("adaptbench/report/explorer/scripts/*.js",),
    "paper": ("benchmarks/*/papers/*.yaml",),
}
"""Command -> the files of the project that it reads, other than code and files beside the code."""


class Plan:
    """The plan's files, written when a job is about to read them, so that a dry run or a report writes none."""

    def __init__(self, graph: Graph, running: Callable[[], bool]) -> None:
        """Plan the graph; `running` returns whether jobs run, which Snakemake knows only after it built its graph."""
        self.graph, self.running = graph, running
        self.files = plan_files.files(graph)
        self.is_written = False

    def read(self, path: Path) -> str:
        """Return the path of a file, after it is written if jobs run.

        Writing all files in `onstart` is not enough, because `--no-hooks` and a cluster's jobs skip that.
        """
        if self.running():
            self.write()
        return str(path)

    def report(self, part: str) -> str:
        """Return the path of a part's report file, as `read` does."""
        return self.read(plan_files.report_file(self.graph, part))

    def report_digest(self, part: str) -> str:
        """Return the digest of a part's report file."""
        return self.digest(plan_files.report_file(self.graph, part))

    def digest(self, path: Path) -> str:
        """Return the digest of a file's text."""
        return hashlib.sha256(self.files[path].encode()).hexdigest()[:HASH_LENGTH]

    def write(self) -> None:
        """Write the files, and lock them against other processes until this one ends.

        A failure ends the process with one line.
        """
        if self.is_written:
            return
        root, folder = self.graph.root, plan_files.folder(self.graph)
        try:
            with naming(root):
                folder.mkdir(parents=True, exist_ok=True)
                file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)  # closed when the process ends
            if lock(file):
                plan_files.write_files(self.files)
            lock(file, shared=True, wait=True)
        except OSError as error:
            if not plan_files.are_written(self.files):  # with these files, a run that has nothing to do can go on
                check_writable(self.graph)
                sys.exit(f"error: {error.filename}: {error.strerror}")
        if not plan_files.are_written(self.files):
            sys.exit(
                f"error: {root}: another snakemake is at work here with other options; wait for it, or give this one a "
                "folder of its own (--config name=...)"
            )
        self.is_written = True


@contextmanager
def _exit_on_unknown_target() -> Iterator[None]:
    """Exit with one line if the requested target names no run or stage; Snakemake would print a traceback."""
    try:
        yield
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")


def node_inputs(graph: Graph, node_id: str) -> list[str]:
    """Return the directories and data files that a stage reads."""
    with _exit_on_unknown_target():
        node = graph.node(node_id)
    return [*(str(graph.directory(parent)) for parent in node.parents.values()), *node.files]


def processes(graph: Graph, node_id: str) -> int:
    """Return the number of processes of a stage."""
    return graph.preset.devices.processes if "training" in graph.node(node_id).options else 1


def job_priorities(graph: Graph) -> dict[str, int]:
    """Rank jobs by critical path: the longest estimated chain that starts at each, by node id and run key.

    Without this, a long chain may start last and run alone. Priorities are ranks and not seconds, because Snakemake's
    solver would ignore jobs whose priority is tiny beside that of others.

    If intermediate models are removed early (`keep: scored`), or the base's size is unknown, bases and their ancestors
    have priority 1, and other jobs none.
    """
    estimated = _estimated(graph)
    if estimated is None or graph.preset.keep == "scored":
        bases = (node.id for node in graph.nodes.values() if node.kind == "base")
        return dict.fromkeys(frozenset().union(*map(graph.ancestors, bases)), 1)
    seconds = {name: round(chain, 0) for name, chain in estimated.chains.items()}
    ranks = {one: rank for rank, one in enumerate(sorted(set(seconds.values())))}
    return {name: ranks[one] for name, one in seconds.items()}


def _estimated(graph: Graph) -> "Estimate | None":
    """Return the estimates without requests to the hub; None if the base's size is unknown."""
    from adaptbench.graph import estimate, model_size  # slow to import, and rarely needed

    try:
        return estimate.Estimate(graph, model_size.Assumptions(), online=False)
    except AdaptbenchError:
        return None


def evaluation_inputs(graph: Graph, key: str) -> list[str]:
    """Return the directories that an evaluation reads."""
    with _exit_on_unknown_target():
        evaluation = graph.evaluation(key)
    models_and_tasks = ([evaluation.model] if evaluation.model else []) + list(evaluation.tasks.values())
    models_and_tasks += [evaluation.data] if evaluation.data else []
    return [str(graph.directory(node)) for node in models_and_tasks]


def stage_gpus(graph: Graph, node_id: str) -> int:
    """Return the number of GPUs that a stage's job requests from a cluster.

    On one machine, jobs share GPUs instead (adaptbench/jobs/gpus.py).
    """
    return processes(graph, node_id) if graph.node(node_id).kind in gpus.STAGES else 0


def evaluation_gpus(graph: Graph, key: str) -> int:
    """Return the number of GPUs that an evaluation requests: none for a policy or a skipped run."""
    return int(graph.evaluation(key).model is not None)


def modules_to_preload(graph: Graph, made: Collection[str]) -> tuple[str, ...]:
    """Return modules for `warm.start` that these stages import for seconds, besides those of every stage."""
    options = (graph.nodes[node].options.get("training") or {} for node in made)
    return warm.PRELOAD_COMPILER if any(training.get("compile") for training in options) else ()


def jobs_on_gpus(graph: Graph) -> int | None:
    """Return how many GPU jobs may run at the same time on this machine; None without a GPU.

    Each GPU gets as many jobs as would fit if all were the largest, with a third more memory than estimated. It gets
    one job if none would fit, or if the base's size is unknown.
    """
    if not (there := gpus.memory()):
        return None
    if (estimated := _estimated(graph)) is None:
        return len(there)
    largest = max(job.state + job.activations for job in estimated.jobs.values()) * 4 / 3 + CUDA_CONTEXT
    return len(there) * max(1, int(min(there.values()) // largest))


def stage_code(graph: Graph, node_id: str) -> str:
    """Return the digest of the code that makes a stage."""
    node = graph.node(node_id)
    return sources.project_code().of_stage(node.kind, node.options)


def evaluation_code(graph: Graph, key: str) -> str:
    """Return the digest of the code that scores a run."""
    evaluation = graph.evaluation(key)
    tasks = [graph.nodes[node].options for node in evaluation.tasks.values()]
    return sources.project_code().digest(sources.evaluation(graph.decoding(evaluation), tasks))


def removed_models(graph: Graph) -> list[str]:
    """Return the stages whose models are removed when nothing reads them any more."""
    return plan_files.intermediate_models(graph) if graph.preset.keep == "scored" else []


def report_code(command: str, starts: Sequence[str] = ()) -> str:
    """Return the digest of a reporting command's code, of the code that `starts` name, and of PROJECT_FILES."""
    reached = [*reporting(command), *starts]
    return sources.project_code().digest(reached, files_of_project(*PROJECT_FILES.get(command, ())))


def reporting(command: str) -> list[str]:
    """Return what a reporting command runs, for `sources.Code.modules`.

    This includes every benchmark's tasks, and for `paper` the options of all benchmarks and methods.
    """
    benchmarks, methods = _modules("benchmarks", registry.tracks()), _modules("methods", registry.METHOD_AXES)
    starts = [sources.command(command), *(f"{module}.TASKS" for module in benchmarks)]
    if command == "paper":
        starts += [f"{module}.Config" for module in (*benchmarks, *methods)]
    return starts


def drawing(graph: Graph) -> dict[str, list[str]]:
    """Return by figure the function of a method or benchmark that draws it, for `sources.Code.modules`."""
    found = {}
    for part in plan_files.parts(graph):
        for name, one in plan_files.method_figures(graph, part).items():
            found[name] = [f"adaptbench.methods.{one['axis']}.{one['kind']}.FIGURES[{one['name']}]"]
        for table, content in plan_files.tables(graph, part).items():
            for name, one in content["figures"].items():
                module = f"adaptbench.benchmarks.{content['track']}.{one['kind']}"
                found[f"{table}_{name}"] = [f"{module}.FIGURES[{one['name']}]"]
    return found


def _modules(package: str, folders: Iterable[str]) -> list[str]:
    """Return the names of the modules in folders of methods or benchmarks."""
    return [f"adaptbench.{package}.{one}.{kind}" for one in folders for kind in registry.discover(f"{package}.{one}")]
