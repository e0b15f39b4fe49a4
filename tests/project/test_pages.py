"""Pages of documentation: the guide to a new method runs as written, references exist, generated parts are current.

Run: python -m pytest tests/project/test_pages.py
"""

import dataclasses
import json
import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from adaptbench.config import load
from adaptbench.config.training import Training
from adaptbench.contracts import RunFiles, StageContext
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import sources
from tests.support.processes import finished, snakemake
from tests.support.project import PROJECT, copy_of_project
from tools import links, preset_keys
from tools import sweep as sweep_rates

GUIDE = (PROJECT / "docs/adding-a-method.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TO_SAVE = re.compile(
    r"(Save this as|Add to)\s`(methods/\w+/(\w+)\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
TO_NAME = re.compile(r"`(\w+\.yaml)`[^`]*?:\n\n```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


# --- the guide to a new method


@pytest.fixture(scope="module")
def guided(tmp_path_factory) -> Path:
    """A copy of the project with every file that the guide asks for."""
    copy = copy_of_project(tmp_path_factory.mktemp("guide") / "project")
    for verb, path, _, code in TO_SAVE.findall(GUIDE):
        before = (copy / path).read_text() + "\n\n" if verb == "Add to" else ""
        (copy / path).write_text(before + code)
    for name, text in TO_NAME.findall(GUIDE):
        (copy / name).write_text(text)
    return copy


def test_every_block_of_the_guide_is_tested(guided):
    languages = [language for language, _ in BLOCK.findall(GUIDE)]
    assert languages.count("python") == len(TO_SAVE.findall(GUIDE)) + 1 == 7  # one is a fragment
    assert languages.count("yaml") == 1 + len(TO_NAME.findall(GUIDE)) == 3  # the first one goes into a preset
    assert languages.count("") == len(_commands()) == 3


def test_methods_of_the_guide_keep_the_contract(guided):
    names = sorted({name for verb, _, name, code in TO_SAVE.findall(GUIDE) if "class Config(" in code})
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/methods/test_contract.py"]
    done = finished([*command, "-k", " or ".join(names)], guided)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10 * len(names)


def test_the_figure_of_the_guide_is_drawn(guided, tmp_path):
    """The folder of a preparation has no log; phases have the names that their curriculum gives them."""
    log = [{"step": step, "grad_norm": 1 / step} for step in (1, 2, 3)]
    (tmp_path / "training.jsonl").write_text("".join(json.dumps(row) + "\n" for row in log))
    namespace: dict = {}
    exec((guided / "methods/tuners/norms_figures.py").read_text(), namespace)  # noqa: S102
    run = RunFiles("norms", 0, {}, {"rank": tmp_path / "rank", "short": tmp_path}, tmp_path)
    (line,) = namespace["gradients"]([run]).axes[0].lines
    assert list(line.get_ydata()) == pytest.approx([1, 1 / 2, 1 / 3])


def test_an_edit_of_the_guides_figure_trains_nothing(guided):
    starts = sources.stage("train", {"tuner": {"kind": "norms"}, "curriculum": {"kind": "cpt"}})
    code = sources.Code(guided).modules(starts)
    assert "adaptbench.methods.tuners.norms" in code
    assert "adaptbench.methods.tuners.norms_figures" not in code


def test_the_figure_of_runs_beside_a_preset_is_a_target(guided):
    (target,) = set(re.findall(r"`(results/tiny/figures/ablation_\w+\.svg)`", GUIDE))
    (command,) = _commands()[1]
    jobs = _jobs(_dry_run(guided, command.replace("results/tiny/tables/ablation_norms.md", target)))
    assert jobs["figures"] == 1
    assert "tables" not in jobs


def test_the_optimizer_of_the_guide_steps_what_trains_at_the_given_rate():
    (text,) = (code for _, code in BLOCK.findall(GUIDE) if code.startswith("def optimizer("))
    namespace: dict = {"Config": None}
    exec(text, namespace)  # noqa: S102
    model = torch.nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    (group,) = namespace["optimizer"](None, model, Training(steps=1, learning_rate=0.5)).param_groups
    assert group["params"] == [model.weight]
    assert group["lr"] == 0.5


def _commands() -> list[list[str]]:
    """The commands of each block without a language, without remarks."""
    blocks = [text for language, text in BLOCK.findall(GUIDE) if not language]
    lines = [text.replace("\\\n", " ").splitlines() for text in blocks]
    return [[line.partition("  #")[0].strip() for line in block] for block in lines]


def _jobs(done) -> dict[str, int]:
    assert done.returncode == 0, done.stdout + done.stderr
    table = (done.stdout + done.stderr).partition("Job stats:\n")[2].split("\n\n")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}


def _dry_run(folder: Path, command: str):
    assert command.startswith(".venv/bin/snakemake ")
    return snakemake(folder, "--dry-run", *command.split()[1:])


def test_one_run_beside_a_preset_makes_its_table_alone(guided):
    """Three bases, their data, tokenizer and tasks, and three seeds of two runs."""
    (command,) = _commands()[1]
    beside = _dry_run(guided, command)
    jobs = _jobs(beside)
    assert jobs["evaluate"] == 9
    assert jobs["tables"] == 1
    assert "figures" not in jobs
    alone = _dry_run(guided, command.replace(" norms.yaml", "").replace("tables/ablation_norms.md", "tables/domain.md"))
    again = _dry_run(guided, command.replace("tables/ablation_norms.md", "tables/domain.md"))
    assert _jobs(alone) == _jobs(again), "main runs are those of the preset alone"
    trained = [
        set(re.findall(r"stages/(domain-cpt-full-tune-seed\d+-\w+)", done.stdout + done.stderr))
        for done in (beside, alone)
    ]
    assert len(trained[0]) == 3
    assert trained[0] < trained[1], "a run of the same options shares the training"


def test_one_method_is_swept_alone(guided):
    write, sweep, choose = _commands()[2]
    assert write.startswith(".venv/bin/python -m tools sweep-preset ")
    assert choose.startswith(".venv/bin/python -m tools sweep-choose ")
    done = finished([sys.executable, *write.split()[1:]], guided)
    assert done.returncode == 0, done.stderr
    jobs = _jobs(_dry_run(guided, sweep))
    assert jobs["evaluate"] == 7  # six rates and the base
    rates = yaml.safe_load((guided / "rates.yaml").read_text())["runs"]
    assert [float(run["name"].removeprefix("norms-")) for run in rates] == list(sweep_rates.GRID)
    assert [float(run["training"]["learning_rate"]) for run in rates] == list(sweep_rates.GRID)


def test_the_table_of_what_a_function_knows_is_the_dataclass():
    table = GUIDE.partition("## What a function knows")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [one.name for one in dataclasses.fields(StageContext)]


def test_whole_presets_of_pages_are_valid(tmp_path):
    """Those that begin with their name; a model of the hub in place of a folder that the reader has."""
    pages = [page.read_text() for page in sorted((PROJECT / "docs").glob("*.md"))]
    found = [text for page in pages for text in re.findall(r"```yaml\n( *name: .*?)```", page, re.DOTALL)]
    presets = [yaml.safe_load(textwrap.dedent(text).replace("some/folder", "owner/name")) for text in found]
    valid = [load.validate(one, "page") for one in presets if "data" in one]
    assert [one.name for one in valid] == ["mine"]


# --- references


@pytest.mark.skipif(not (PROJECT / ".git").exists(), reason="a copy, without git's list of pages and without results")
def test_pages_refer_to_what_is_there(monkeypatch):
    monkeypatch.chdir(PROJECT)
    links.check()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a](none.md)", "none.md: no such file"),
        ("[a](other.md#nothing)", "other.md#nothing: no such heading"),
        ("[a](#nothing)", "#nothing: no such heading"),
        ("![a](none.svg)", "none.svg: no such file"),
        ("`adaptbench/none.py`", "`adaptbench/none.py`: not in the project"),
        ("`adaptbench/errors.py: nothing`", "`adaptbench/errors.py: nothing`: not in the project"),
        ("[a](other.md#one--two-1), [b](#own), `adaptbench/contracts.py: StageContext.can`, <https://x.y/z>", ""),
        ("`results/<preset>`, `[a](none.md)`", ""),
    ],
)
def test_a_dead_reference_is_named(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(PROJECT)
    (tmp_path / "other.md").write_text("# One & two\n\n## One & *two*\n")
    (tmp_path / "page.md").write_text(f"# Own\n\n{text}\n")
    assert ", ".join(links.dead(tmp_path / "page.md")) == said


# --- the reference of a preset's keys


def test_a_stale_reference_of_keys_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{preset_keys.BEGIN}old\n{preset_keys.END}\nafter\n")
    with pytest.raises(AdaptbenchError, match="not up to date"):
        preset_keys.write(page, check=True)
    preset_keys.write(page)
    preset_keys.write(page, check=True)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "| `checkpoint_seconds` | number >= 0 | `60.0` |" in text
    assert list(links.dead(page)) == []
