"""The ways to use the workflow besides `snakemake` in its folder: the catalog's Snakefile, another working directory,
as a module.

Run: pytest tests/workflow/test_deployment.py
"""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from adaptbench.config import load, preset_model
from adaptbench.graph import snakefile, surroundings
from tests.support.presets import preset_values
from tests.support.processes import snakemake
from tests.support.project import PROJECT, copy_of_project

SMOKE = ("--cores", "1", "--configfile", str(PROJECT / "config/smoke.yaml"))
MODULE = """
configfile: "config/config.yaml"

module adaptbench:
    snakefile: {snakefile}
    config: {config}

use rule * from adaptbench as its_*
"""


def jobs(folder: Path, *arguments: str) -> Counter[str]:
    """How many jobs of each rule a dry run has, targets without output left out."""
    done = snakemake(folder, *arguments, "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    names = re.findall(r"^(?:local)?rule (?:its_)?(\w+):$", done.stdout + done.stderr, re.MULTILINE)
    return Counter(name for name in names if name not in ("all", "default"))


@pytest.fixture(scope="module")
def expected() -> Counter[str]:
    found = jobs(PROJECT, *SMOKE, "--config", "name=never-made")
    assert found["stage"] > 30
    assert found["evaluate"] == 20
    return found


def as_module(folder: Path, snakefile: str, *, config: str = "config") -> None:
    """A workflow that does nothing but use this one: what snakedeploy lays out, and the step that config/README.md asks
    for then.
    """
    (folder / "workflow").mkdir()
    (folder / "workflow/Snakefile").write_text(MODULE.format(snakefile=snakefile, config=config))
    shutil.copytree(PROJECT / "config", folder / "config")
    step = re.search(r"^cp .*$", (PROJECT / "config/README.md").read_text(), re.MULTILINE)[0]
    subprocess.run(step.replace("<preset>", "smoke").split(), cwd=folder, check=True)


def test_the_catalogs_snakefile_has_the_same_jobs(expected, tmp_path):
    copy = copy_of_project(tmp_path / "copy")
    assert jobs(copy, *SMOKE, "--snakefile", "workflow/Snakefile") == expected


def test_from_another_folder_the_jobs_are_the_same(expected, tmp_path):
    assert jobs(tmp_path, *SMOKE, "--snakefile", str(PROJECT / "workflow/Snakefile")) == expected


def files(folder: Path) -> set[Path]:
    """All that is in a folder but for Snakemake's own."""
    return {
        path.relative_to(folder) for path in folder.rglob("*") if ".snakemake" not in path.relative_to(folder).parts
    }


@pytest.mark.parametrize("asked", [(), ("--forceall", "--no-hooks")])
def test_a_dry_run_writes_nothing(project_copy, asked):
    before = files(project_copy)
    arguments = (*asked, "--cores", "1", "--configfile", "config/smoke.yaml", "--dry-run")
    done = snakemake(project_copy, *arguments, PYTHONDONTWRITEBYTECODE="")  # nor compiled modules
    assert done.returncode == 0, done.stderr
    assert "rule evaluate:" in done.stdout + done.stderr
    assert files(project_copy) == before


@pytest.mark.parametrize("option", ["--lint", "--summary", "--unlock"])
def test_nor_does_what_only_looks(project_copy, option):
    before = files(project_copy)
    done = snakemake(project_copy, "--cores", "1", option, "--configfile", "config/smoke.yaml")
    assert done.returncode == 0, done.stderr
    assert files(project_copy) == before


def target(folder: Path, *arguments: str) -> str:
    """The domain's data, which take no model and no training."""
    done = snakemake(folder, *arguments, "--dry-run")
    return re.search(r"^    output: (results/smoke/data/domain-\w+)$", done.stdout + done.stderr, re.MULTILINE)[1]


def test_jobs_have_their_plan_however_snakemake_is_started(tmp_path):
    """As a cluster's job starts it."""
    how = ("--no-hooks", "--mode", "remote", "--nolock", "--ignore-incomplete")
    where = ("--snakefile", str(PROJECT / "Snakefile"))
    made = target(tmp_path, *SMOKE, *where)
    done = snakemake(tmp_path, made, *SMOKE, *where, *how)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / made / "manifest.json").exists()
    assert (tmp_path / "results/smoke/plan/report-main.json").exists()
    assert "Nothing to be done" in snakemake(tmp_path, made, *SMOKE, *where).stderr


@pytest.mark.parametrize("given", [None, "", "/some/where", "/some/where:relative:"])
def test_pythonpath_keeps_what_it_had(monkeypatch, given):
    for name in ("ADAPTBENCH_PYTHON", "GLIBC_TUNABLES", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # so that what is set here is taken back
        monkeypatch.delenv(name)
    if given is not None:
        monkeypatch.setenv("PYTHONPATH", given)
    workflow = SimpleNamespace(deployment_settings=SimpleNamespace(deployment_method=set()))
    for _ in range(2):  # a job of Snakemake's starts it again
        snakefile.set_environment(workflow, str(PROJECT))
        assert os.environ["PYTHONPATH"] == (f"{PROJECT}:{given}" if given else str(PROJECT))


def test_a_job_finds_modules_that_pythonpath_names(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("from pathlib import Path\n\nPath('seen').touch()\n")
    (tmp_path / "work").mkdir()
    where = ("--snakefile", str(PROJECT / "Snakefile"))
    made = target(tmp_path / "work", *SMOKE, *where)
    done = snakemake(tmp_path / "work", made, *SMOKE, *where, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "work/seen").exists()


def test_a_clone_may_have_any_other_name(tmp_path):
    copy = copy_of_project(tmp_path / """a b 'c' "d" $HOME `e` ;&#*[f] é""" / "clone")
    made = target(copy, *SMOKE)
    done = snakemake(copy, made, *SMOKE)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Nothing to be done" in snakemake(copy, made, *SMOKE).stderr


@pytest.mark.parametrize(("name", "sign"), [("a}", "}"), ("a:b", ":")])
def test_of_a_clone_whose_path_snakemake_cannot_have_it_says_so(tmp_path, name, sign):
    copy = copy_of_project(tmp_path / name)
    done = snakemake(copy, *SMOKE, "--dry-run")
    assert done.returncode != 0
    last = f"error: {copy}: the path of a clone must not hold {sign!r}; rename the folder"
    assert done.stderr.strip().splitlines()[-1] == last


def test_a_working_directory_may_have_braces(tmp_path):
    folder = tmp_path / "work {x} {{y}}"
    folder.mkdir()
    where = ("--snakefile", str(PROJECT / "Snakefile"))
    made = target(folder, *SMOKE, *where)
    assert snakemake(folder, made, *SMOKE, *where).returncode == 0
    assert (folder / made / "manifest.json").exists()


def on_gsm8k(place: Path, folder: str) -> Path:
    """Write a preset that reads GSM8K from `folder`."""
    values = preset_values()
    values["data"] |= {"domain": {"kind": "gsm8k"}, "gsm8k": {"path": folder}}
    (place / "preset {x}.yaml").write_text(yaml.safe_dump(values))
    return Path("preset {x}.yaml")


def dry_run(place: Path, preset: Path) -> subprocess.CompletedProcess[str]:
    where = ("--snakefile", str(PROJECT / "Snakefile"), "--configfile", str(preset))
    return snakemake(place, "--cores", "1", *where, "--dry-run")


@pytest.mark.parametrize(
    ("folder", "file"),
    [("data {x}", "train.jsonl"), ("data", "a{n}.txt"), ("{a,b}", "train.jsonl"), ("a{", "b}"),
     ("<logs>", "train.jsonl"), ("a", "x<y1>.txt")],
)  # fmt: skip
def test_data_whose_path_has_what_snakemake_replaces_are_one_line(tmp_path, monkeypatch, folder, file):
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir()
    for name in {"train.jsonl", "test.jsonl", file}:
        (tmp_path / folder / name).write_text("{}\n")
    with pytest.raises(SystemExit) as caught:
        surroundings.load_graph({}, [on_gsm8k(tmp_path, folder)])
    last = str(caught.value)
    assert last.startswith(f"error: {folder}/")
    taken = "what is in braces for a wildcard" if "{" in folder + file else "a word between < and > for a variable"
    assert last.endswith(f"Snakemake takes {taken}; rename it, or name a link to it")
    (tmp_path / "link").symlink_to(folder)
    preset = on_gsm8k(tmp_path, "link")
    if {*"{<"} & {*file}:
        with pytest.raises(SystemExit):
            surroundings.load_graph({}, [preset])
    else:
        assert surroundings.load_graph({}, [preset])


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"\xff", "\u00fc \U0001f600".encode() + b"\xe9"])
def test_a_files_name_that_is_no_text_is_one_line(tmp_path, monkeypatch, name):
    """A dry run would say nothing; Snakemake fails when it writes down what it works at."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for file in (b"train.jsonl", b"test.jsonl", name):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), file))).write_text("{}\n")
    with pytest.raises(SystemExit) as caught:
        surroundings.load_graph({}, [on_gsm8k(tmp_path, "data")])
    last = str(caught.value)
    assert last.startswith("error: data/")
    assert last.endswith(": a name that is not UTF-8, which Snakemake cannot write down; rename it")


def test_data_may_have_any_other_name(tmp_path):
    folder = """it's "so" a { $HOME `x` 100 %"""
    (tmp_path / folder).mkdir()
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / folder / name).write_text("{}\n")
    done = dry_run(tmp_path, on_gsm8k(tmp_path, folder))
    assert done.returncode == 0, done.stderr
    assert f"{folder}/train.jsonl" in done.stdout + done.stderr


def test_the_default_preset_is_found_from_another_folder_with_the_sweep_that_it_names(tmp_path):
    assert jobs(tmp_path, "--cores", "1", "--snakefile", str(PROJECT / "Snakefile"))["evaluate"] > 50


def test_as_a_module_the_jobs_are_the_same_and_the_command_line_changes_the_preset(expected, tmp_path):
    as_module(tmp_path, repr(str(PROJECT / "workflow/Snakefile")))
    assert jobs(tmp_path, "--cores", "1") == expected
    more = jobs(tmp_path, "--cores", "1", "--config", "seeds=[0,1]", 'training={"steps": 11}')
    assert more["evaluate"] > expected["evaluate"]
    assert jobs(tmp_path, "--cores", "1", "--config", "keep=scored")["intermediate_stage"] == 12
    done = snakemake(tmp_path, "--cores", "1", "--dry-run", "--config", "colour=red")
    assert "error: config: colour: unknown key" in done.stderr


def test_a_part_of_another_workflows_config_is_a_preset_too(expected, tmp_path):
    as_module(tmp_path, repr(str(PROJECT / "workflow/Snakefile")), config='config["compared"]')
    path = tmp_path / "config/config.yaml"
    path.write_text(yaml.safe_dump({"compared": yaml.safe_load(path.read_text()), "other": 1}))
    assert jobs(tmp_path, "--cores", "1", "--config", "other=2") == expected


def test_as_a_module_jobs_run_and_are_not_made_again(tmp_path):
    as_module(tmp_path, repr(str(PROJECT / "workflow/Snakefile")))
    planned = snakemake(tmp_path, "--cores", "1", "--dry-run")
    target = re.search(r"^    output: (results/smoke/data/domain-\w+)$", planned.stdout + planned.stderr, re.MULTILINE)[
        1
    ]
    done = snakemake(tmp_path, "--cores", "1", target)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / target / "manifest.json").exists()
    assert "Nothing to be done" in snakemake(tmp_path, "--cores", "1", target).stderr


def test_of_a_repository_that_is_no_folder_here_it_says_what_to_do(project_copy, tmp_path):
    """As snakedeploy writes it, but for the host."""
    import git

    repository = git.Repo.init(project_copy)
    repository.git.add(".")
    repository.git.execute(["git", "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "all"])
    (tmp_path / "deployed").mkdir()
    as_module(tmp_path / "deployed", f'gitfile("{project_copy}", path="workflow/Snakefile", ref="HEAD")')
    done = snakemake(tmp_path / "deployed", "--cores", "1", "--dry-run")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"^error: git\+file://.*: not a folder of this machine; clone adaptbench, and name the clone's workflow/"
        r"Snakefile$",
        last,
    )


def test_the_catalog_finds_what_it_asks_for():
    """https://snakemake.github.io/snakemake-workflow-catalog: standardised usage."""
    usage = yaml.safe_load((PROJECT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"] == {"conda": True, "apptainer": False, "apptainer+conda": False}
    assert usage["report"] is True
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    readme = (PROJECT / "README.md").read_text().casefold()
    assert "snakemake" in readme
    assert "workflow" in readme


def test_the_readme_of_presets_tells_of_every_key_and_every_preset():
    text = (PROJECT / "config/README.md").read_text()
    keys = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert keys == list(preset_model.preset_model().model_fields)
    presets = re.findall(r"^\| `([\w-]+)\.yaml` \|", text, re.MULTILINE)
    assert sorted(presets) == sorted(path.stem for path in (PROJECT / "config").glob("*.yaml"))


def test_the_readmes_smallest_preset_is_one():
    text = (PROJECT / "config/README.md").read_text()
    example = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    assert [run.name for run in load.validate(example, "README.md").runs] == ["full", "lora"]
