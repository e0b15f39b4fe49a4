"""The commands that the graph's jobs run, and a few for people. `python -m adaptbench --help` imports nothing heavy."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from adaptbench.contracts import AdaptbenchError
from adaptbench.files import foreseen

if TYPE_CHECKING:
    from adaptbench.graph import Graph


def main(arguments: list[str] | None = None) -> int:
    """Run one command; every foreseen failure is one line on standard error."""
    options = _parser().parse_args(arguments)
    try:
        if options.log is not None:
            options.log.parent.mkdir(parents=True, exist_ok=True)
            sys.stderr = _Tee(sys.stderr, options.log.open("w"))
        options.function(options)
    except AdaptbenchError as error:
        from adaptbench.training import Interrupted

        return _fail(str(error), 130 if isinstance(error, Interrupted) else 1)
    except KeyboardInterrupt:
        return _fail("interrupted; run again to go on", 130)
    except Exception as error:
        said = foreseen(error, getattr(options, "out", "the output"))
        if not said:
            raise
        return _fail(said, 1)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="adaptbench", description="Jobs of the adaptbench graph.")
    parser.add_argument("--log", type=Path, help="also write standard error to this file")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(name: str, function, text: str, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        for argument in positional:
            sub.add_argument(argument, type=Path)
        sub.set_defaults(function=function)
        return sub

    command("stage", _stage, "make one stage's directory", "plan", "out")
    command("evaluate", _evaluate, "score one run", "plan", "out")
    command("collect", _collect, "join runs into one set of scores", "out").add_argument("runs", nargs="+", type=Path)
    command("conclude", _conclude, "test the runs of every table", "collected", "report")
    command("tables", _tables, "write the tables", "collected", "report", "out")
    command("figures", _figures, "draw the figures", "collected", "report", "out")
    command("transcripts", _transcripts, "write pages with episodes to read", "collected", "report", "out")
    page = command("explorer", _explorer, "write the page to look around in all results", "out")
    page.add_argument(
        "--part",
        nargs=2,
        type=Path,
        action="append",
        required=True,
        metavar=("COLLECTED", "REPORT"),
        help="a part's collected runs and its report; one that was not made is passed over; may be given again",
    )
    command("partial", _partial, "tables and figures of the runs that are done", "report", "out")
    paper = command("paper", _paper, "hold the runs against what papers report", "plan", "out")
    paper.add_argument("collected", nargs="+", type=Path, help="collected parts, main first")
    check = command("check", _check, "say of presets what is wrong with them, if anything")
    _presets(check)
    estimate = command("estimate", _estimate, "say what presets will take: jobs, GPU hours, memory, disk, downloads")
    _presets(estimate)
    _assumptions(estimate)
    command("time", _time, "say where a preset's time went", "results")
    command("disk", _disk, "say what a preset's files weigh", "results")
    cleaned = command(
        "clean-work", _clean_work, "remove models that nothing reads any more and finished stages' work", "results"
    )
    cleaned.add_argument(
        "--force", action="store_true", help="also unfinished stages' checkpoints, and models of other options"
    )
    command("live-speed", _live_speed, "time live episodes side by side and one at a time", "run", "out")
    command("kernel-speed", _kernel_speed, "time the operations of kernels/ against what they replace", "out")
    command("step-speed", _step_speed, "time the parts of a training step of each method", "root", "out")
    command("latent-speed", _latent_speed, "time ways through latent tokens", "out")
    command("peer-speed", _peer_speed, "time training steps against those of TRL, transformers and peft", "out")
    command("calibration", _calibration, "simulate how often intervals and tests are right", "out")
    command("sweep-preset", _sweep_preset, "turn a preset into its learning-rate sweep", "preset", "out")
    command("sweep-choose", _sweep_choose, "choose rates from a sweep's scores", "collected", "out")
    kept = command("reference", _reference, "keep a preset's tables and figures in the repository", "results", "out")
    kept.add_argument("documents", nargs="+", type=Path, help="documents that show tables between markers")
    command("verify", _verify, "hold a preset's tables against the kept ones", "results", "reference")
    schema = command("schema", _schema, "write the presets' JSON schema", "file")
    schema.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    return parser


def _stage(options: argparse.Namespace) -> None:
    from adaptbench import stages

    stages.run(options.plan, options.out)


def _evaluate(options: argparse.Namespace) -> None:
    from adaptbench import evaluation

    evaluation.run(options.plan, options.out)


def _collect(options: argparse.Namespace) -> None:
    from adaptbench import collect

    collect.run(options.runs, options.out)


def _conclude(options: argparse.Namespace) -> None:
    from adaptbench import conclusions

    conclusions.write(options.collected, options.report)


def _tables(options: argparse.Namespace) -> None:
    from adaptbench import overall, tables

    tables.write(options.collected, options.report, options.out)
    overall.write(options.collected, options.report, options.out)


def _figures(options: argparse.Namespace) -> None:
    from adaptbench import figures

    figures.draw(options.collected, options.report, options.out)


def _transcripts(options: argparse.Namespace) -> None:
    from adaptbench import transcripts

    transcripts.write(options.collected, options.report, options.out)


def _paper(options: argparse.Namespace) -> None:
    from adaptbench.paper import tables

    tables.write(options.plan, options.collected, options.out)


def _explorer(options: argparse.Namespace) -> None:
    from adaptbench.explorer import page

    page.write(options.part, options.out)


def _partial(options: argparse.Namespace) -> None:
    import json

    from adaptbench import collect, conclusions, figures, overall, tables, transcripts
    from adaptbench.explorer import page

    planned = [Path(run) for run in json.loads(options.report.read_text())["runs"]]
    done = [run for run in planned if run.exists()]
    collect.run(planned, options.out / "collected")
    conclusions.write(options.out / "collected", options.report)
    tables.write(options.out / "collected", options.report, options.out / "tables")
    overall.write(options.out / "collected", options.report, options.out / "tables")
    figures.draw(options.out / "collected", options.report, options.out / "figures")
    transcripts.write(options.out / "collected", options.report, options.out / "transcripts")
    page.write([(options.out / "collected", options.report)], options.out / "index.html")
    print(
        f"{len(done)} of {len(planned)} runs are done; their tables and figures: {options.out}. Run again for the rest.",
        file=sys.stderr,
    )


def _assumptions(parser: argparse.ArgumentParser) -> None:
    from dataclasses import fields

    from adaptbench.estimate import Assumptions

    for one in fields(Assumptions):
        name, kind = f"--{one.name.replace('_', '-')}", int if isinstance(one.default, int) else float
        parser.add_argument(name, type=_positive(kind), default=one.default, help="default: %(default)g")


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a {'whole ' * (kind is int)}number, not {text!r}") from None
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError("must be > 0")
        return value

    return read


def _presets(command: argparse.ArgumentParser) -> None:
    command.add_argument("presets", nargs="+", type=Path)
    command.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="changes options, as Snakemake's")


def _unfolded(options: argparse.Namespace) -> "Iterator[Graph]":
    """The graph of each preset that is named."""
    from adaptbench import graph, overrides, workflow

    changes = overrides.of_entries(options.config)
    for preset in options.presets:
        yield graph.unfold(workflow.preset(changes, [preset]))


def _check(options: argparse.Namespace) -> None:
    for preset, unfolded in zip(options.presets, _unfolded(options), strict=True):
        print(f"{preset}: a preset of {len(unfolded.evaluations)} runs in {len(unfolded.nodes)} stages")


def _estimate(options: argparse.Namespace) -> None:
    from dataclasses import fields

    from adaptbench import estimate

    assumed = estimate.Assumptions(**{one.name: getattr(options, one.name) for one in fields(estimate.Assumptions)})
    for unfolded in _unfolded(options):
        print(estimate.report(unfolded, assumed))


def _time(options: argparse.Namespace) -> None:
    from adaptbench import timing

    print(timing.summary(options.results))


def _disk(options: argparse.Namespace) -> None:
    from adaptbench import disk

    print(disk.usage(options.results))


def _clean_work(options: argparse.Namespace) -> None:
    from adaptbench import disk

    print(disk.clean(options.results, force=options.force))


def _live_speed(options: argparse.Namespace) -> None:
    from adaptbench import live_speed

    live_speed.measure(options.run, options.out)


def _kernel_speed(options: argparse.Namespace) -> None:
    from adaptbench import kernel_speed

    kernel_speed.measure(options.out)


def _step_speed(options: argparse.Namespace) -> None:
    from adaptbench import step_speed

    step_speed.measure(options.root, options.out)


def _latent_speed(options: argparse.Namespace) -> None:
    from adaptbench import latent_speed

    latent_speed.measure(options.out)


def _peer_speed(options: argparse.Namespace) -> None:
    from adaptbench import peer_speed

    peer_speed.measure(options.out)


def _calibration(options: argparse.Namespace) -> None:
    from adaptbench.statistics import calibration

    calibration.measure(options.out)


def _sweep_preset(options: argparse.Namespace) -> None:
    from adaptbench import config, sweep

    sweep.write_preset(config.load(options.preset), options.out)


def _sweep_choose(options: argparse.Namespace) -> None:
    from adaptbench import sweep

    sweep.choose(options.collected, options.out)


def _reference(options: argparse.Namespace) -> None:
    from adaptbench import reference

    reference.keep(options.results, options.out)
    for document in options.documents:
        reference.show(document)


def _verify(options: argparse.Namespace) -> None:
    from adaptbench import verify

    print(verify.write(options.results, options.reference))


def _schema(options: argparse.Namespace) -> None:
    from adaptbench import config
    from adaptbench.files import write_text

    schema = config.json_schema()
    if options.check:
        if not options.file.exists() or options.file.read_text() != schema:
            raise AdaptbenchError(f"{options.file}: not up to date; run `make schema`")
    else:
        write_text(options.file, schema)


class _Tee:
    """Standard error that is also kept in a file. Libraries' progress bars stay out of both unless there is a terminal."""

    def __init__(self, terminal: TextIO, file: TextIO) -> None:
        self.terminal, self.file = terminal, file
        self.in_bar = False

    def write(self, text: str) -> int:
        if not self.terminal.isatty():
            # A bar redraws its line from the start, and ends in a line break.
            ends_bar = self.in_bar and not text.strip()
            self.in_bar = text.startswith("\r")
            if self.in_bar or ends_bar:
                return len(text)
        written = self.terminal.write(text)
        with contextlib.suppress(OSError):  # where the disk is full, the terminal still says so
            self.file.write(text)
            self.file.flush()
        return written

    def flush(self) -> None:
        self.terminal.flush()

    def __getattr__(self, name: str):
        return getattr(self.terminal, name)
