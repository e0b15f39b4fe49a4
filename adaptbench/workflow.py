"""What the Snakefile needs, in plain Python: the preset in force, its graph, each rule's inputs and parameters, the final outputs.

Code is in the project, results are in the working directory, which need not be the same. Rules read results and a user's data as inputs.
Code, other files of the project and the plan are parameters, by their digests: a touched file or a fresh checkout makes nothing again.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench import (
    checks,
    collect,
    compiling,
    config,
    gpus,
    graph,
    hub,
    models,
    overall,
    plain_files,
    plan,
    registry,
    sources,
    stock_tasks,
)
from adaptbench.contracts import AdaptbenchError
from adaptbench.files import lock, naming
from adaptbench.model import capabilities
from adaptbench.overrides import merged, typed

if TYPE_CHECKING:
    from adaptbench.estimate import Estimate

CUDA_CONTEXT = 1e9  # bytes of a GPU's memory that a process takes before anything lies there, at most
DEFAULT_PRESET = "config/tiny.yaml"
FORMATS = ("csv", "md", "tex")
IMAGES = ("svg", "pdf", "png")
READ = {
    "explorer": ("adaptbench/explorer/scripts/*.js",),
    "paper": ("benchmarks/*/papers/*.yaml",),
}
"""By command what it reads of the project besides code and files that stand beside it."""
TAKEN = {
    r"\{.*\}": "what is in braces for a wildcard",
    "<[a-z][a-z0-9_]*>": "a word between < and > for a variable",  # snakemake/pathvars.py
}
"""By pattern what no rule can have in the path of an input."""
FOLDERS = ("plan", "data", "tasks", "stages", "runs", "logs", "work", "tables", "figures")
"""Where a preset's results are, in its folder."""
TABLE_FIGURES = ("forgetting", "scores", "loss", "effects")


def start(overrides: Mapping[str, Any], files: Sequence[Path], given: Mapping[str, Any] | None = None) -> graph.Graph:
    """The graph of the preset in force.

    `files` are what --configfile names (the default preset if nothing), each changing those before it, `overrides` what
    --config sets on top (overrides.of_entries). Another workflow that uses this one as a module gives its config instead, or a part of it: a whole preset, with
    what --config sets in it but for types. A mistake ends the process with one line.
    """
    try:
        unfolded = graph.unfold(preset(overrides, files, given))
        _check_names(unfolded)
        _check_results(unfolded.root)
        _check_base(unfolded)
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename}: {error.strerror}")
    return unfolded


def preset(
    overrides: Mapping[str, Any], files: Sequence[Path], given: Mapping[str, Any] | None = None
) -> config.Preset:
    """The preset in force, of what `start` is given.

    Raises:
        AdaptbenchError: a mistake in it, or something that it names is not there.
    """
    shown = [] if given else [_shown(path) for path in files or [registry.project_root() / DEFAULT_PRESET]]
    values: dict[str, Any] = dict(given or {})
    for path in shown:
        values = merged(values, config.read(path))
    source = " + ".join(map(str, shown)) or "config"
    mine = {key: value for key, value in overrides.items() if not given or key in given}
    found = config.validate(merged(values, typed(mine, values)), source)
    if found.sweep is not None and not os.path.exists(found.sweep):
        # A preset of the project names its own, wherever it runs.
        found = found.model_copy(update={"sweep": of_project(found.sweep)})
    _check_surroundings(found)
    return found


def _check_names(unfolded: graph.Graph) -> None:
    """Refuse what a rule cannot have as an input."""
    for path in (*sweep(unfolded), *(file for node in unfolded.nodes.values() for file in node.files)):
        if path.encode(errors="ignore").decode() != path:
            shown = ascii(path)[1:-1]
            raise AdaptbenchError(f"{shown}: a name that is not UTF-8, which Snakemake cannot write down; rename it")
        for pattern, taken in TAKEN.items():
            if re.search(pattern, path, re.DOTALL):
                raise AdaptbenchError(f"{path}: Snakemake takes {taken}; rename it, or name a link to it")


def _check_results(root: Path) -> None:
    """Refuse what is where folders of results are to be and is none: a file, or a link that leads nowhere."""
    for folder in (*reversed(root.parents), root, *(root / name for name in FOLDERS)):
        if os.path.lexists(folder) and not os.path.isdir(folder):
            raise AdaptbenchError(f"{folder}: no folder, and results go there; remove or rename it")


class Plan:
    """The plan's files. They are written when a job is about to read them, so that a dry run or a report writes none."""

    def __init__(self, unfolded: graph.Graph, running: Callable[[], bool]) -> None:
        """Plan the graph; `running` says whether jobs run, which Snakemake does not know before it builds its own graph."""
        self.unfolded, self.running = unfolded, running
        self.files = plan.files(unfolded)
        self.is_written = False

    def read(self, path: Path) -> Callable[[Any], str]:
        """Return a parameter: the path of a file, which is written where jobs run. `onstart` alone would not do: `--no-hooks`
        leaves it out, and so do the Snakemakes of a cluster's jobs.
        """

        def parameter(wildcards: Any) -> str:
            if self.running():
                self.write()
            return str(path)

        return parameter

    def digest(self, path: Path) -> str:
        """Return the digest of a file's text."""
        return hashlib.sha256(self.files[path].encode()).hexdigest()[: graph.HASH_LENGTH]

    def write(self) -> None:
        """Write the files; no other process may change them until this one ends. A failure ends the process with one line."""
        if self.is_written:
            return
        root, folder = self.unfolded.root, plan.folder(self.unfolded)
        try:
            with naming(root):
                folder.mkdir(parents=True, exist_ok=True)
                file = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)  # the system closes it
            if lock(file):
                plan.write_files(self.files)
            lock(file, shared=True, wait=True)
        except OSError as error:
            if not plan.are_written(self.files):  # else enough to find that nothing is to be done
                check_writable(self.unfolded)
                sys.exit(f"error: {error.filename}: {error.strerror}")
        if not plan.are_written(self.files):
            sys.exit(
                f"error: {root}: another snakemake is at work here with other options; wait for it, or give this one a folder of its "
                "own (--config name=...)"
            )
        self.is_written = True


def check_writable(unfolded: graph.Graph) -> None:
    """End the process with one line where jobs could not write their results."""
    there = next(path for path in (unfolded.root, *unfolded.root.parents) if path.exists())
    if not os.access(there, os.W_OK):
        sys.exit(f"error: {unfolded.root}: cannot be written to; is it read-only?")


def check_start(unfolded: graph.Graph, nodes: Collection[str], *, here: bool) -> None:
    """End the process with one line where what is about to be made cannot be."""
    from adaptbench import preflight  # not needed to plan

    try:
        preflight.check(unfolded, nodes, here=here)
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")


def _shown(path: Path) -> Path:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else Path(relative)


def of_project(path: str | Path) -> str:
    """A file of the project as it is called from the working directory."""
    return os.path.relpath(registry.project_root() / path)


def _check_base(unfolded: graph.Graph) -> None:
    """See that a base which is taken in already can do what every run needs, as it was measured then."""
    for node in (one for one in unfolded.nodes.values() if one.kind == "imported_base"):
        if problem := capabilities.problem(models.lacks(unfolded.directory(node.id)), checks.needs(unfolded.preset)):
            raise AdaptbenchError(f"base.model: {unfolded.preset.base.model}: {problem}")


def _check_surroundings(preset: config.Preset) -> None:
    """What a preset names outside itself is there, before anything long starts."""
    if preset.base.model is not None and hub.is_path(preset.base.model):
        try:
            models.check_folder(Path(preset.base.model))
        except AdaptbenchError as error:
            raise AdaptbenchError(f"base.model: {error}") from None
    # Of a name too long for a file, Path would fail instead of saying no.
    if preset.sweep is not None and not os.path.isfile(preset.sweep):
        raise AdaptbenchError(f"sweep: {preset.sweep}: no such file")
    try:
        overall.tried(preset.sweep)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"sweep: {error}") from None
    for name, value in preset.data:
        if isinstance(value, config.HubData) and value.path is not None:
            problem = plain_files.folder_problem(value.path)
            if problem:
                raise AdaptbenchError(f"data.{name}.path: {value.path}: {problem}")
    _check_stock_tasks(preset)
    for track in registry.tracks():
        for benchmark in (preset.benchmark(track), *preset.further_tests(track)):
            if benchmark is not None:
                _check_files(preset, registry.benchmark(track, benchmark.kind))


def _check_stock_tasks(preset: config.Preset) -> None:
    """lm-eval has the tasks that the preset names, and no document is asked twice of one model."""
    own = collect.known_tasks().keys()
    for track, tasks in preset.evaluation.stock_tasks.items():
        for place, task in enumerate(tasks):
            key = f"evaluation.stock_tasks.{track}.{place}"
            try:
                stock_tasks.describe(task.task)
                problem = stock_tasks.fewshot_problem(task.task, task.num_fewshot or 0)
            except AdaptbenchError as error:
                raise AdaptbenchError(f"{key}: {error}") from None
            if problem:
                raise AdaptbenchError(f"{key}.num_fewshot: must be 0; {problem}")
            if stock_tasks.result_name(track, task.task) in own:
                raise AdaptbenchError(f"{key}: {task.task} is a task of a benchmark here")
    for track in preset.evaluation.stock_tasks:
        asked = [
            task.task
            for one in dict.fromkeys(("general", track))
            for task in preset.evaluation.stock_tasks.get(one, ())
        ]
        shared = stock_tasks.overlap(asked)
        if shared or len(set(asked)) != len(asked):
            raise AdaptbenchError(
                f"evaluation.stock_tasks.{track}: {shared or 'each task once'}{' ask the same documents' if shared else ''}"
            )


def _check_files(preset: config.Preset, module: Any) -> None:
    """Data that only a folder has, and no hub, are in a folder that the preset names, and a folder in place of the hub has what is read."""
    file: str | None = getattr(module, "FILE", None)
    reads: tuple[str, ...] = getattr(module, "READS", ())
    for name in getattr(module, "PUBLIC_DATA", {}):
        path = getattr(preset.data, name).path
        if file is not None and (path is None or not (Path(path) / file).is_file()):
            raise AdaptbenchError(f"data.{name}.path: must name a folder with {file}")
        if reads and path is not None and not any(any(Path(path).glob(pattern)) for pattern in reads):
            shown = ", ".join(pattern.removeprefix("**/") for pattern in reads)
            raise AdaptbenchError(f"data.{name}.path: {path}: no file of {shown}")


@contextmanager
def _asked_for() -> Iterator[None]:
    """End the process with one line where a file that was asked for is of no run or stage: Snakemake would show where that was found."""
    try:
        yield
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")


def node_inputs(unfolded: graph.Graph, node_id: str) -> list[str]:
    """The directories and data files that a stage is made from."""
    with _asked_for():
        node = unfolded.node(node_id)
    return [*(str(unfolded.directory(parent)) for parent in node.parents.values()), *node.files]


def processes(unfolded: graph.Graph, node_id: str) -> int:
    """In how many processes the stage is made."""
    return unfolded.preset.devices.processes if "training" in unfolded.node(node_id).options else 1


def urgency(unfolded: graph.Graph) -> dict[str, int]:
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


def _estimated(unfolded: graph.Graph) -> "Estimate | None":
    """What `make plan` estimates without asking the hub; None where nothing says how large the base is."""
    from adaptbench import estimate  # not needed elsewhere to plan

    try:
        return estimate.Estimate(unfolded, estimate.Assumptions(), ask=False)
    except AdaptbenchError:
        return None


def evaluation_inputs(unfolded: graph.Graph, key: str) -> list[str]:
    with _asked_for():
        evaluation = unfolded.evaluation(key)
    models_and_tasks = ([evaluation.model] if evaluation.model else []) + list(evaluation.tasks.values())
    models_and_tasks += [evaluation.data] if evaluation.data else []
    return [str(unfolded.directory(node)) for node in models_and_tasks]


def stage_gpus(unfolded: graph.Graph, node_id: str) -> int:
    """How many GPUs a stage's job can use: what it asks a cluster for. On one machine nothing waits for it (adaptbench/gpus.py)."""
    return processes(unfolded, node_id) if unfolded.node(node_id).kind in gpus.STAGES else 0


def evaluation_gpus(unfolded: graph.Graph, key: str) -> int:
    """The same of scoring a run: none for a policy, which is no model, nor for a run that is skipped."""
    return int(unfolded.evaluation(key).model is not None)


def done_once(unfolded: graph.Graph, made: Collection[str]) -> tuple[str, ...]:
    """What making these stages takes seconds for, besides the modules of every stage, as `warm.start` takes it."""
    asked = (unfolded.nodes[node].options.get("training") or {} for node in made)
    return compiling.ONCE if any(training.get("compile") for training in asked) else ()


def jobs_on_gpus(unfolded: graph.Graph) -> int | None:
    """How many GPU jobs may run side by side on this machine: as many on each GPU as would fit if all were the largest, by the memory that
    `make plan` estimates and a third more, and one at least. None where there is no GPU, or nothing says how large the model is.
    """
    if not (there := gpus.memory()):
        return None
    if (estimated := _estimated(unfolded)) is None:
        return len(there)
    most = max(job.state + job.activations for job in estimated.jobs.values()) * 4 / 3 + CUDA_CONTEXT
    return len(there) * max(1, int(min(there.values()) // most))


def stage_code(unfolded: graph.Graph, node_id: str) -> str:
    """The digest of the code that makes a stage."""
    node = unfolded.node(node_id)
    return sources.of_project().of_stage(node.kind, node.options)


def evaluation_code(unfolded: graph.Graph, key: str) -> str:
    """The digest of the code that scores a run."""
    evaluation = unfolded.evaluation(key)
    tasks = [unfolded.nodes[node].options for node in evaluation.tasks.values()]
    return sources.of_project().digest(sources.evaluation(unfolded.decoding(evaluation), tasks))


def report_code(unfolded: graph.Graph, part: str, command: str) -> Callable[[Any], str]:
    """A parameter: the digest of the code of a command that reports a part, and of the project's other files that it reads."""

    def parameter(wildcards: Any) -> str:
        return sources.of_project().digest(reporting(unfolded, part, command), files_of_project(*READ.get(command, ())))

    return parameter


def reporting(unfolded: graph.Graph, part: str, command: str) -> list[str]:
    """What a command that reports a part runs, as `sources.Code.modules` takes it: it asks every benchmark for its tasks, papers also ask
    for options, figures for what the plan draws.
    """
    benchmarks, methods = _modules("benchmarks", registry.tracks()), _modules("methods", registry.METHOD_AXES)
    starts = [sources.command(command), *(f"{module}.TASKS" for module in benchmarks)]
    if command == "paper":
        starts += [f"{module}.Config" for module in (*benchmarks, *methods)]
    if command == "figures":
        for one in plan.method_figures(unfolded, part).values():
            starts.append(f"adaptbench.methods.{one['axis']}.{one['kind']}.FIGURES[{one['name']}]")
        for table in plan.tables(unfolded, part).values():
            of_track = f"adaptbench.benchmarks.{table['track']}"
            starts += [f"{of_track}.{one['kind']}.FIGURES[{one['name']}]" for one in table["figures"].values()]
    return starts


def _modules(package: str, folders: Iterable[str]) -> list[str]:
    """The names of the modules of all methods, or of all benchmarks."""
    return [f"adaptbench.{package}.{one}.{kind}" for one in folders for kind in registry.discover(f"{package}.{one}")]


def collected(unfolded: graph.Graph, part: str) -> str:
    """The folder of a part's collected scores."""
    return f"{unfolded.root}/collected" if part == "main" else f"{unfolded.root}/collected-{part}"


def tables(unfolded: graph.Graph, part: str) -> list[str]:
    names = [*plan.tables(unfolded, part), *overall.names(part)]
    return [f"{unfolded.root}/tables/{name}.{suffix}" for name in names for suffix in FORMATS]


def sweep(unfolded: graph.Graph) -> list[str]:
    """The kept sweep that the preset names."""
    return [unfolded.preset.sweep] if unfolded.preset.sweep else []


def paper_tables(unfolded: graph.Graph, part: str) -> list[str]:
    return [f"{unfolded.root}/tables/{plan.of_part('paper', part)}.{suffix}" for suffix in FORMATS]


def paper_parts(unfolded: graph.Graph, part: str) -> list[str]:
    """The collected folders that a part is held against papers with: main's, and the part's own."""
    return [collected(unfolded, one) for one in dict.fromkeys(("main", part))]


def files_of_project(*patterns: str) -> list[str]:
    """The files that a rule reads of the project, relative to the project."""
    root = registry.project_root()
    return sorted(path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern))


def figures(unfolded: graph.Graph, part: str) -> list[str]:
    drawn = plan.tables(unfolded, part).items()
    names = [f"{table}_{name}" for table, content in drawn for name in (*TABLE_FIGURES, *content["figures"])]
    names += [overall.figure(part), *plan.method_figures(unfolded, part)]
    return [f"{unfolded.root}/figures/{name}.{suffix}" for name in names for suffix in IMAGES]


def transcripts(unfolded: graph.Graph, part: str) -> list[str]:
    shown = (name for name, content in plan.tables(unfolded, part).items() if content["episodes"])
    return [f"{unfolded.root}/transcripts/{name}.html" for name in shown]


def explorer_parts(unfolded: graph.Graph) -> str:
    """The parts of the preset as options of the explorer, which passes over those that were never made."""
    parts = plan.parts(unfolded)
    return " ".join(f"--part {collected(unfolded, part)} {plan.report_file(unfolded, part)}" for part in parts)


def in_report(files: Sequence[str], suffix: str, caption: str, category: str) -> list[str]:
    """The files, those with this suffix flagged for `snakemake --report`."""
    from snakemake.io import report

    text = f"adaptbench/captions/{caption}.rst"
    return [
        report(path, caption=text, category=category, labels={"name": Path(path).stem})
        if path.endswith(f".{suffix}")
        else path
        for path in files
    ]


def after_failure(unfolded: graph.Graph, logs: Sequence[str]) -> list[str]:
    """The commands to run when some jobs failed: those that report the runs that are done, for each part begun."""
    said = "".join(Path(log).read_text() for log in logs)
    asked = ("Terminating processes on user request", "Will exit after finishing currently running jobs")
    # The last one counts: the logs of failed jobs are shown before it, on a cluster those of Snakemakes that were ended, too.
    if max(map(said.rfind, asked)) > said.rfind("Exiting because a job execution failed"):
        return []
    commands = []
    runs = {part: plan.runs(unfolded, part) for part in plan.parts(unfolded)}
    for part, mine in runs.items():
        own = [run for run in mine if not any(run in others for other, others in runs.items() if other != part)]
        done = [Path(run).exists() for run in own]
        if any(done) and not all(done):
            commands.append(f"partial {plan.report_file(unfolded, part)} {unfolded.root}/partial/{part}")
    return commands
