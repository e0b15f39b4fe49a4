"""Shared toy models and worlds: small enough that the whole suite is minutes, real enough that every path is the real one."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A make that a test starts is a user's, not a part of the `make test` around it.
for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"):
    os.environ.pop(name, None)
# Test workers share the cores, and two processes of several threads each slow each other down a hundredfold (docs/log.md).
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without a GPU Triton's kernels run in its interpreter, which must be asked for before one is defined.
INTERPRETED = shutil.which("nvidia-smi") is None
if INTERPRETED:
    os.environ.setdefault("TRITON_INTERPRET", "1")

PROJECT = Path(__file__).resolve().parent.parent
COMPILES = shutil.which(os.environ.get("CXX", "g++")) is not None
"""Whether this machine has what training.compile needs."""
SMOKE = ("--cores", "2", "--configfile", "config/smoke.yaml")
SENTENCES = [
    f"The {colour} {thing} number {i} is kept."
    for i in range(10)
    for colour in ("red", "blue")
    for thing in ("cup", "key")
]
SMALL_GENERAL = {
    "kind": "world", "entities": 50, "familiar_minerals": 5, "familiar_dialogues": 5, "fact_repeats": 1, "skill_instances": 100,
    "probe_documents": 16, "replay_documents": 64, "test_items": 16,
}  # fmt: skip
TOKENS = {name: f"secret-of-{name}" for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY")}
ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2")


def pytest_report_header() -> str:
    return (
        f"kernels: on {'a CPU, Triton in its interpreter' if INTERPRETED else 'a GPU (-m gpu for those tests alone)'}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs whole graphs comes first, so that two workers end at about the same time; where there is a GPU, what runs on it is marked."""
    if not INTERPRETED:
        for item in items:
            if "device" in getattr(item, "fixturenames", ()):
                item.add_marker("gpu")
    items.sort(key=lambda item: item.get_closest_marker("graph") is None)


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


def reset_accelerate() -> None:
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(True)
        GradientState._reset_state()


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


def toy_model(architecture: str, *, layers: int = 4, vocabulary: int = 300, seed: int = 0):
    """A random model of one of ARCHITECTURES, with weights large enough that every part matters."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    more = {"head_dim": 16} if architecture in ("qwen3", "gemma", "gemma2", "mistral", "llama") else {}
    if architecture in ("gemma2", "mistral"):
        more["sliding_window"] = 8
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.2,
        **more,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) * 0.2)
    return model.eval()


def norms_in_float64(model):
    """The model's norms without their detour through float32."""
    import torch

    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            gain = (lambda w: 1 + w) if type(module).__name__.startswith("Gemma") else (lambda w: w)
            eps = getattr(module, "variance_epsilon", None) or module.eps

            def forward(x, module=module, gain=gain, eps=eps):
                return gain(module.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

            module.forward = forward
    return model


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


def copy_of_project(target: Path) -> Path:
    """The project's code without results, but with the kept sweep that a preset names."""
    ignore = shutil.ignore_patterns(".git", ".*venv", "results", ".snakemake", "__pycache__", ".*_cache")
    shutil.copytree(PROJECT, target, ignore=ignore)
    shutil.copytree(PROJECT / "results/reference/sweep", target / "results/reference/sweep")
    return target


@pytest.fixture
def project_copy(tmp_path) -> Path:
    """A copy of the project, to change and run in."""
    return copy_of_project(tmp_path / "project")


def finished(
    command: Sequence[str], folder: Path, *, seconds: float = 600, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. One that takes longer than `seconds` is killed with all that it started, and fails."""
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate(timeout=10)
        pytest.fail(f"{' '.join(command)}: not done after {seconds} s\n{output[-3000:]}\n{errors[-3000:]}")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def snakemake(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a copy of the project, as a user would; `variables` are added to the environment."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | variables
    return finished([sys.executable, "-m", "snakemake", *arguments], folder, environment=environment)


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


def has_checkpoint(work: Path) -> bool:
    """Whether a stage has written a checkpoint after a few steps."""
    for state in work.glob("*/checkpoint/state.json"):
        try:
            if json.loads(state.read_text())["state"]["counts"]["step"] >= 3:
                return True
        except (OSError, ValueError):
            continue
    return False


def wait_until(condition: Callable[[], object], seconds: float = 60, *, every: float = 0.02) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not come within {seconds} s"
        time.sleep(every)


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


def fill(disk: Path) -> Path:
    """A file that leaves no room for anything else."""
    path = disk / "filling"
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0
    return path


def preset_values() -> dict:
    """A small valid preset as plain values."""
    return json.loads(
        json.dumps(
            {
                "name": "toy",
                "seeds": [0],
                "data": {"general": {"kind": "world"}, "domain": {"kind": "world"}},
                "runs": [
                    {"name": "full", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}},
                    {
                        "name": "pro",
                        "track": "domain",
                        "curriculum": {"kind": "cpt"},
                        "tuner": {"kind": "llama_pro", "layers": 2},
                    },
                    {
                        "name": "lora",
                        "track": "domain",
                        "curriculum": {"kind": "cpt"},
                        "tuner": {"kind": "lora", "rank": 4},
                    },
                ],
            }
        )
    )
