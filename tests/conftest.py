"""Shared toy models and worlds: small enough that the whole suite is minutes, real enough that every path is the real
one.
"""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.models import reset_accelerate, toy_model
from tests.support.presets import SENTENCES, SMALL_GENERAL
from tests.support.processes import snakemake
from tests.support.project import SMOKE, TOKENS, copy_of_project

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A make that a test starts is a user's, not a part of the `make test` around it.
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
    os.environ.pop(name, None)
# Test workers share the cores, and two processes of several threads each slow each other down a hundredfold
# (docs/log.md).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without a GPU Triton's kernels run in its interpreter, which must be asked for before one is defined.
INTERPRETED = shutil.which("nvidia-smi") is None
if INTERPRETED:
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_report_header() -> str:
    return (
        f"kernels: on {'a CPU, Triton in its interpreter' if INTERPRETED else 'a GPU (-m gpu for those tests alone)'}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put whole graphs first and what trains next, so that two workers end at about the same time.

    Where there is a GPU, mark what runs on it.
    """
    if not INTERPRETED:
        for item in items:
            if "device" in getattr(item, "fixturenames", ()):
                item.add_marker("gpu")

    def place(item: pytest.Item) -> int:
        if item.get_closest_marker("graph"):
            return 0
        return 1 if item.path.parent.name in ("workflow", "train", "methods", "stages") else 2

    items.sort(key=place)


@pytest.fixture
def device():
    """Where kernels are tested: on a GPU if there is one, else on the CPU, Triton's in its interpreter."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """Accelerate keeps its precision and device in class attributes; each test starts without them."""
    reset_accelerate()
    yield
    reset_accelerate()


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, started once."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.fail("no Chromium on this machine; install it: apt-get install chromium", pytrace=False)
    quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=[*quiet, "--disable-component-update"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory):
    """A byte-level tokenizer trained on a few sentences."""
    from adaptbench.data.tokenizer import train
    from adaptbench.model import storage

    folder = tmp_path_factory.mktemp("tokenizer")
    train(SENTENCES, 300, folder)
    return storage.load_tokenizer(folder)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tokenizer) -> Callable[[str], Path]:
    """Makes a plain Hugging Face folder of a toy model, once for each architecture."""
    made: dict[str, Path] = {}

    def make(architecture: str) -> Path:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            toy_model(architecture, vocabulary=len(tokenizer)).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[architecture] = folder
        return made[architecture]

    return make


@pytest.fixture(scope="session")
def benchmark_data(tmp_path_factory) -> dict[str, Path]:
    """Directories of a tiny general world and a tiny domain, as the graph makes them."""
    from adaptbench.contracts import StageContext
    from adaptbench.data.benchmark_data import build

    root = tmp_path_factory.mktemp("data")
    sizes = {
        "general": SMALL_GENERAL,
        "domain": {"kind": "world", "entities": 20, "test_items": 16},
    }  # fmt: skip
    folders: dict[str, Path] = {}
    for track, config in sizes.items():
        out = root / track
        out.mkdir()
        build({"track": track, "config": config, "seed": 0, "public": {}}, StageContext(0, dict(folders)), out)
        folders[track] = out
    return folders


@pytest.fixture(scope="session")
def task_folders(tmp_path_factory, benchmark_data) -> dict[str, Path]:
    """The tasks directories of the same two worlds."""
    from adaptbench import registry
    from adaptbench.data.benchmark_data import lay_tasks

    root = tmp_path_factory.mktemp("tasks")
    for track, folder in benchmark_data.items():
        (root / track).mkdir()
        module = registry.benchmark(track, "world")
        files = ["benchmarks/splits.py", *getattr(module, "TASK_FILES", ())]
        options = {"track": track, "tasks": [task.name for task in module.TASKS], "files": files}
        lay_tasks(options, folder, root / track)
    return {track: root / track for track in benchmark_data}


@pytest.fixture
def project_copy(tmp_path) -> Path:
    """A copy of the project, to change and run in."""
    return copy_of_project(tmp_path / "project")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Path:
    """A copy of the project in which the smoke preset has run, once for all workers: to be copied, not changed."""
    place = tmp_path_factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    folder, said = place / "smoke", place / "smoke.json"
    with (place / "smoke.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not said.exists():
            done = snakemake(copy_of_project(folder), *SMOKE, **TOKENS)
            said.write_text(json.dumps([done.returncode, done.stdout + done.stderr]))
    status, text = json.loads(said.read_text())
    assert status == 0, text[-3000:]
    assert "secret-of" not in text
    assert "Done. Tables: results/smoke/tables" in text
    return folder


@pytest.fixture(scope="module")
def smoke(smoke_run, tmp_path_factory) -> Path:
    """The same for one file of tests to change."""
    return Path(shutil.copytree(smoke_run, tmp_path_factory.mktemp("smoke") / "project"))


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 16 MiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", place], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk of a size can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)
