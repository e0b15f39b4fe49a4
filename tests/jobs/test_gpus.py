"""Which GPUs a job takes, by a stand-in for nvidia-smi: different ones while there are free ones.

Run: pytest tests/jobs/test_gpus.py
"""

import json
import os
import re
import subprocess
import sys
import tempfile

import pytest

from adaptbench.jobs import gpus
from tests.support.presets import SMALL_GENERAL, preset_values
from tests.support.processes import snakemake
from tests.support.project import PROJECT

SHOWN = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Three GPUs of different sizes, a folder of locks of its own, and nobody who gives GPUs out."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0, GPU-aa, 40960\\n1, GPU-bb, 81559\\n2, GPU-cc, 24576\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    monkeypatch.delenv(SHOWN, raising=False)
    return tool


def test_memory_is_what_nvidia_smi_says_of_the_gpus_that_are_shown(machine, monkeypatch, tmp_path):
    sizes = {"0": 40960, "1": 81559, "2": 24576}
    assert gpus.memory() == {name: size * 2**20 for name, size in sizes.items()}
    for shown, seen in (("0", {"0": 40960}), ("1, 0", {"1": 81559, "0": 40960}), ("GPU-cc", {"GPU-cc": 24576}),
        ("0,-1,1", {"0": 40960}), ("", {}), ("7", {})):  # fmt: skip
        monkeypatch.setenv(SHOWN, shown)
        assert gpus.memory() == {name: size * 2**20 for name, size in seen.items()}
        assert list(gpus.memory()) == list(seen)
    monkeypatch.delenv(SHOWN)
    machine.write_text("#!/bin/sh\necho no devices were found\nexit 6\n")
    assert gpus.memory() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert gpus.memory() == {}


def taken() -> str | None:
    return os.environ.get(SHOWN)


def test_jobs_side_by_side_take_different_gpus_and_then_those_with_the_fewest_jobs():
    with gpus.reserve(1):
        assert taken() == "0"
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        del os.environ[SHOWN]  # as another job begins
        with gpus.reserve(1):
            assert taken() == "1"
            del os.environ[SHOWN]
            with gpus.reserve(2):
                assert taken() == "2,0"
                del os.environ[SHOWN]
                with gpus.reserve(1):
                    assert taken() == "1"
        os.environ.pop(SHOWN, None)
        with gpus.reserve(1):
            assert taken() == "1", "that of a job that has ended is free again"


def test_only_those_that_are_shown_are_given_out_and_what_was_given_is_kept(monkeypatch):
    monkeypatch.setenv(SHOWN, "2,1")
    with gpus.reserve(1):
        assert taken() == "2"
        with gpus.reserve(1):  # it sees one alone: a cluster's job
            assert taken() == "2"
    assert taken() == "2,1"
    with gpus.reserve(2):
        assert taken() == "2,1"
    with gpus.reserve(0):
        assert taken() == "2,1"


def test_a_job_that_was_killed_has_no_gpu_any_more():
    code = (
        "import os, time; from adaptbench.jobs import gpus\nwith gpus.reserve(1):\n    "
        "print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "0\n"
        with gpus.reserve(1):
            assert taken() == "1"
    finally:
        process.kill()
        process.wait()
    with gpus.reserve(1):
        assert taken() == "0"
    process.stdout.close()


def test_as_many_jobs_run_at_once_as_the_gpus_have_memory_for(monkeypatch):
    from adaptbench.config import load
    from adaptbench.graph import estimate, model_size, rules, unfolding

    unfolded = unfolding.unfold(load.validate(preset_values(), "toy.yaml"))
    jobs = estimate.Estimate(unfolded, model_size.Assumptions()).jobs.values()
    most = max(job.state + job.activations for job in jobs) * 4 / 3 + 1e9
    for sizes, slots in (((3.5, 9), 6), ((1.1, 1.1), 2), ((0.5,), 1), ((), None)):
        monkeypatch.setattr(gpus, "memory", lambda sizes=sizes: {str(i): size * most for i, size in enumerate(sizes)})
        assert rules.jobs_on_gpus(unfolded) == slots
    monkeypatch.setattr(gpus, "memory", lambda: {"0": 1e12, "1": 1e12})
    unknown = unfolding.unfold(load.validate(preset_values() | {"base": {"model": "owner/large"}}, "toy.yaml"))
    assert rules.jobs_on_gpus(unknown) == 2


def test_snakemake_knows_how_many_unless_it_is_told(project_copy):
    from adaptbench.config import load
    from adaptbench.graph import rules, unfolding

    values = preset_values() | {"data": {"general": SMALL_GENERAL, "domain": {"kind": "world"}}}
    (project_copy / "config/toy.yaml").write_text(json.dumps(values))
    unfolded = unfolding.unfold(load.validate(values, "toy.yaml"))
    (data,) = [node for node in unfolded.nodes.values() if node.kind == "data" and node.options["track"] == "general"]
    arguments = (
        str(unfolded.directory(data.id)),
        "--cores",
        "1",
        "--configfile",
        "config/toy.yaml",
        "--forcerun",
        "stage",
    )
    slots = rules.jobs_on_gpus(unfolded)
    for more, said in (((), slots), (("--resources", "gpu=1"), 1)):
        done = snakemake(project_copy, *arguments, *more)
        assert done.returncode == 0, done.stderr
        assert re.search(rf"^Provided resources: gpu=.*\b{said}\b", done.stderr, re.MULTILINE)


def test_a_stage_and_a_scored_run_take_one_gpu_each_and_data_none(tmp_path, monkeypatch):
    from adaptbench.evaluate import score
    from adaptbench.stages import job
    from adaptbench.stages.job import run

    seen = []
    plan = tmp_path / "plan" / "x.json"
    plan.parent.mkdir()
    options = {
        "train": {"curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}},
        "data": {"track": "domain", "config": {"kind": "world"}},
    }

    def stop(*_, **__):
        seen.append(taken())
        raise KeyboardInterrupt

    for kind, of_kind in options.items():
        monkeypatch.setitem(job.KINDS, kind, stop)
        plan.write_text(json.dumps({"id": "x", "kind": kind, "options": of_kind, "inputs": {}}))
        with pytest.raises(KeyboardInterrupt):
            run(plan, tmp_path / "out")
    assert seen == ["0", None]
    plan.write_text(
        '{"preset": "p", "track": "domain", "run": "r", "seed": 0, "config": {}, "options": {"decode": {}, '
        '"batch_size": 1, "limit": null},'
        '"hash": "h", "skipped": "", "policy": null, "model_directory": "nowhere", "task_directories": {}, "stock": {}}'
    )
    monkeypatch.setattr(score.model_folder, "read_manifest", lambda folder: {"decode": {}})
    monkeypatch.setattr(score, "evaluate", stop)
    monkeypatch.setattr(score, "tasks_of", lambda spec: [])
    with pytest.raises(KeyboardInterrupt):
        score.run(plan, tmp_path / "out")
    assert seen[2] == "0"
    assert taken() is None
