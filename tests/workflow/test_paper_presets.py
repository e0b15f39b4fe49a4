"""The presets of papers' models and data, planned without either; the commands in their comments. Their runs:
test_paper_runs.py.

Run: pytest tests/workflow/test_paper_presets.py
"""

import re
import shlex
from pathlib import Path

import pytest

from adaptbench.config import load
from adaptbench.graph import estimate, model_size, surroundings, unfolding
from tests.support.processes import snakemake
from tests.support.project import PROJECT, copy_of_project

PRESETS = ("paper-adept", "paper-adept-llama3", "paper-glpft", "paper-lt-tuning")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project, to plan in."""
    return copy_of_project(tmp_path_factory.mktemp("plan") / "project")


@pytest.mark.parametrize("name", PRESETS)
def test_a_dry_run_lists_every_job_without_a_network_a_model_or_data(name, project, tmp_path):
    done = snakemake(project, "-n", "--configfile", f"config/{name}.yaml", HF_HOME=str(tmp_path / "none"))
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = re.findall(r"^    output: (.*)$", done.stdout + done.stderr, re.MULTILINE)
    for run in load.load(project / "config" / f"{name}.yaml").runs:
        assert any(f"results/{name}/runs/{run.track}/{run.name}/seed0/run.json" in one for one in outputs)
    assert any(f"results/{name}/stages/base-" in one for one in outputs)
    assert not (tmp_path / "none").exists(), "planning looked for something"


def commands(path: Path) -> list[tuple[list[str], int | None]]:
    """The command lines in a preset's comments, as the shell splits them, with the GPU memory (GB) that the comments
    before one name.
    """
    found, begun, memory = [], "", None
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            continue
        text = line.removeprefix("#").strip()
        if begun or text.startswith((".venv/bin/snakemake", "make ")):
            begun = f"{begun} {text.removesuffix(chr(92))}"
            if not line.endswith(chr(92)) and begun.count("'") % 2 == 0:
                found.append((shlex.split(begun), memory))
                begun = ""
        elif said := re.findall(r"GPUs? of (\d+) GB", text):
            memory = int(said[-1])
    assert not begun, f"{path}: a command without an end: {begun}"
    return found


COMMANDS = [(path, *command) for path in sorted(PROJECT.glob("config/paper-*.yaml")) for command in commands(path)]


def test_the_presets_comments_hold_commands():
    assert len(COMMANDS) >= 7
    assert {path.stem for path, *_ in COMMANDS} >= {*PRESETS} - {"paper-adept-llama3"}
    mentioned = re.findall(
        r"snakemake --|make PRESET", "".join(path.read_text() for path in PROJECT.glob("config/paper-*.yaml"))
    )
    assert len(COMMANDS) == len(mentioned), "some command is not on a line of its own"


@pytest.mark.parametrize(
    ("path", "words", "memory"), COMMANDS, ids=[f"{path.stem}-{i}" for i, (path, *_) in enumerate(COMMANDS)]
)
def test_a_command_in_a_presets_comments_is_valid_and_fits_the_gpus_that_it_names(path, words, memory, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if words[0] == "make":
        assert words[1] == f"PRESET={path.stem}"
        changes = [word.removeprefix("CONFIG=") for word in words[2:]]
    else:
        assert words[1:6] == ["--cores", "all", "--configfile", f"config/{path.stem}.yaml", "--config"]
        changes = words[6:]
    unfolded = unfolding.unfold(surroundings.load_preset(dict(change.split("=", 1) for change in changes), [path]))
    if memory is not None:
        jobs = estimate.Estimate(unfolded, model_size.Assumptions()).jobs.values()
        assert max(job.state + job.activations for job in jobs) < memory * 1e9
