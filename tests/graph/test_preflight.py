"""What is said before anything long starts: of a hub that refuses, of too little disk and of too little memory.

The hub is a small HTTP server on this machine that answers as the real one does, with its status codes and error
headers; Hugging Face's own client asks it, in a process of its own.

Run: pytest tests/graph/test_preflight.py
"""

import json
import os
import shutil
import sys
import threading
from collections import namedtuple
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import psutil
import pytest
from safetensors.numpy import save_file

from adaptbench.benchmarks.shared import hub as data_hub
from adaptbench.config import load, problems, schema
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import estimate, estimate_text, model_size, nodes, preflight, unfolding
from adaptbench.io import hub
from adaptbench.jobs import gpus
from tests.support import hub as toy_hub
from tests.support.presets import preset_values
from tests.support.processes import finished
from tests.support.project import PROJECT

TOKEN = "hf_secretsecretsecret"
CONFIG = {"num_hidden_layers": 4, "hidden_size": 32, "vocab_size": 300, "tie_word_embeddings": True}
WEIGHTS = {"rfilename": "model.safetensors", "size": 1_000_000}
# path: status, error header, content
ANSWERS = {
    "/api/models/owner/open/revision/main": (200, "",
    {"siblings": [WEIGHTS], "gated": False, "safetensors": {"parameters": {"F32": 250_000}, "total": 250_000}}),
    "/owner/open/resolve/main/config.json": (200, "", CONFIG),
    "/api/models/owner/twice/revision/main": (200, "", {"siblings": [WEIGHTS,
    WEIGHTS | {"rfilename": "consolidated.safetensors"}, WEIGHTS | {"rfilename": "model.fp16.safetensors"}],
        "gated": False}),
    "/owner/twice/resolve/main/config.json": (200, "", CONFIG),
    "/api/models/owner/parts/revision/main": (200, "", {"siblings": [{"rfilename": name,
    "size": 400_000} for name in ("a.safetensors", "b.safetensors", "consolidated.safetensors",
    "model.safetensors.index.json")], "gated": False}),
    "/owner/parts/resolve/main/config.json": (200, "", CONFIG),
    "/owner/parts/resolve/main/model.safetensors.index.json": (200, "",
    {"weight_map": {"x": "a.safetensors", "y": "b.safetensors", "z": "a.safetensors"}}),
    "/api/models/owner/lost/revision/main": (200, "",
    {"siblings": [{"rfilename": "model.safetensors.index.json", "size": 9}], "gated": False}),
    "/owner/lost/resolve/main/model.safetensors.index.json": (200, "", {"weight_map": {"x": "a.safetensors"}}),
    "/api/models/owner/other/revision/main": (200, "",
    {"siblings": [WEIGHTS | {"rfilename": "consolidated.safetensors"}], "gated": False}),
    "/api/models/owner/open/revision/v9": (404, "RevisionNotFound", {"error": "Invalid rev id"}),
    "/api/models/owner/gated/revision/main": (200, "", {"siblings": [WEIGHTS], "gated": "manual"}),
    "/api/models/owner/gated/auth-check": (403, "GatedRepo", {"error": "Access to model is restricted"}),
    "/api/models/owner/pickled/revision/main": (200, "",
    {"siblings": [{"rfilename": "pytorch_model.bin", "size": 9}], "gated": False}),
    "/api/models/owner/adapter/revision/main": (200, "", {"siblings": [{"rfilename": "adapter_config.json", "size": 9},
    {"rfilename": "adapter_model.safetensors", "size": 9}], "gated": False}),
    "/api/models/owner/down/revision/main": (500, "", {"error": f"token {TOKEN} is odd"}),
    "/api/datasets/owner/texts/revision/main": (200, "", {"gated": False}),
    "/api/datasets/owner/shut/revision/main": (200, "", {"gated": "auto"}),
    "/api/datasets/owner/shut/auth-check": (403, "GatedRepo", {"error": "restricted"}),
}  # fmt: skip


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        status, code, content = ANSWERS.get(path, (404, "RepoNotFound", {"error": "Repository not found"}))
        body = json.dumps({"id": path, "sha": toy_hub.COMMIT} | content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json", "Content-Length": str(len(body)), "X-Error-Code": code,
            "ETag": '"0123"', "X-Repo-Commit": toy_hub.COMMIT,
        }.items():  # fmt: skip
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


ASK = """
import sys
from adaptbench.errors import AdaptbenchError
from adaptbench.io import hub
for asked in sys.argv[1:]:
    kind, name, revision = asked.split("@")
    try:
        print((hub.check_data_set if kind == "data" else hub.find_remote)(name, revision))
    except AdaptbenchError as error:
        print(type(error).__name__, error)
"""


def ask(endpoint: str, home, *asked: str, **more: str) -> list[str]:
    """What is said of each `kind@name@revision`, a line each."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "NO_PROXY": "*"}
    environment.pop("HF_TOKEN", None)
    done = finished([sys.executable, "-c", ASK, *asked], PROJECT, environment=environment | more)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def said(endpoint, tmp_path_factory) -> dict[str, str]:
    asked = [
        "model@owner/open@main", "model@owner/open@v9", "model@owner/gated@main", "model@owner/none@main",
        "model@owner/pickled@main", "model@owner/adapter@main", "model@owner/down@main", "model@no id@main",
        "model@owner/twice@main", "model@owner/parts@main", "model@owner/lost@main", "model@owner/other@main",
        "data@owner/texts@main", "data@owner/none@main", "data@owner/shut@main",
    ]  # fmt: skip
    return dict(zip(asked, ask(endpoint, tmp_path_factory.mktemp("home"), *asked), strict=True))


def test_the_hub_says_how_large_a_model_is(said):
    assert said["model@owner/open@main"] == str(
        hub.ModelInfo(CONFIG, 250_000, 1_000_000, 1_000_000, "the hub")
    ).replace(str(CONFIG), str({"id": "/owner/open/resolve/main/config.json", "sha": toy_hub.COMMIT} | CONFIG))
    assert said["data@owner/texts@main"] == "None"


@pytest.mark.parametrize(("name", "size"), [("twice", 1_000_000), ("parts", 800_000)])
def test_weights_in_several_formats_count_once(said, name, size):
    assert said[f"model@owner/{name}@main"].endswith(
        f"parameters={size // 2}, bytes={size}, missing={size}, origin='the hub')"
    )


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (
            "model@owner/lost@main",
            "AdaptbenchError owner/lost: model.safetensors.index.json on the hub does not name the weights that "
            "are there",
        ),
        (
            "model@owner/other@main",
            "AdaptbenchError owner/other: neither model.safetensors nor model.safetensors.index.json on the hub; "
            "pickled weights are not read",
        ),
        ("model@owner/open@v9", "AdaptbenchError owner/open: has no revision 'v9' on the hub"),
        (
            "model@owner/gated@main",
            "AdaptbenchError owner/gated: is gated and no token is set; accept its terms at https://huggingface.co/"
            "owner/gated "
            "and log in with `hf auth login` (or set HF_TOKEN)",
        ),
        (
            "model@owner/none@main",
            "AdaptbenchError owner/none: the hub has no such model, or it is private and no token for it is set",
        ),
        (
            "model@owner/pickled@main",
            "AdaptbenchError owner/pickled: neither model.safetensors nor model.safetensors.index.json on the hub; "
            "pickled weights are not read",
        ),
        (
            "model@owner/adapter@main",
            "AdaptbenchError owner/adapter: an adapter; merge it into its model and name the folder of the whole",
        ),
        (
            "model@owner/down@main",
            "Unreachable owner/down: is not in the hub's cache, and the hub cannot be reached (HfHubHTTPError)",
        ),
        ("model@no id@main", "AdaptbenchError no id: is neither a folder nor an id of the hub (name, or owner/name)"),
        (
            "data@owner/none@main",
            "AdaptbenchError owner/none: the hub has no such dataset, or it is private and no token for it is set",
        ),
        (
            "data@owner/shut@main",
            "AdaptbenchError owner/shut: is gated and no token is set; accept its terms at "
            "https://huggingface.co/datasets/owner/shut and log in with `hf auth login` (or set HF_TOKEN)",
        ),
    ],
)
def test_a_refusal_is_one_line(said, asked, line):
    assert said[asked] == line


def test_a_token_without_access_is_named_but_never_shown(endpoint, tmp_path):
    (line,) = ask(endpoint, tmp_path, "model@owner/gated@main", HF_TOKEN=TOKEN)
    assert "is gated and the token that is set has no access" in line


def test_an_unreachable_hub_is_one_line(tmp_path):
    (line,) = ask("http://127.0.0.1:9", tmp_path, "model@owner/open@main")
    assert line == "Unreachable owner/open: is not in the hub's cache, and the hub cannot be reached (ConnectError)"


# --- the checks as a graph starts


def unfolded(model: str | None = None, **base) -> nodes.Graph:
    values = preset_values() | ({"base": {"model": model, **base}} if model else {})
    return unfolding.unfold(load.validate(values, "toy.yaml"))


@pytest.fixture
def cached(model_folder, tmp_path, monkeypatch) -> str:
    """A model of the hub that lies whole in the cache."""
    toy_hub.add_model(tmp_path / "home", "owner/toy", model_folder("qwen3"))
    toy_hub.use(tmp_path / "home", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return "owner/toy"


def test_a_model_in_the_cache_goes_on_without_the_hub_and_its_layers_are_known(cached):
    preflight.check(unfolded(cached), unfolded(cached).nodes)
    assert problems.base_layers(schema.Base(model=cached)) == 4
    values = preset_values() | {"base": {"model": cached}}
    values["runs"][1]["tuner"]["layers"] = 5
    with pytest.raises(AdaptbenchError, match=r"runs.1.tuner.layers: must be <= 4, the base's layers"):
        load.validate(values, "toy.yaml")
    longest = problems.base_positions(schema.Base(model=cached))
    values = preset_values() | {"base": {"model": cached}, "training": {"steps": 1, "sequence_length": longest + 1}}
    with pytest.raises(AdaptbenchError, match=rf"runs.0.training.sequence_length: must be <= {longest}, the base's"):
        load.validate(values, "toy.yaml")


@pytest.mark.parametrize("lost", ["model.safetensors", "config.json"])
def test_a_model_that_is_not_whole_in_the_cache_is_not_taken(cached, lost):
    (hub.model_path(cached, "main") / lost).unlink()
    with pytest.raises(
        AdaptbenchError, match=r"^base.model: owner/toy: is not in the hub's cache, and HF_HUB_OFFLINE is set$"
    ):
        preflight.check(unfolded(cached), unfolded(cached).nodes)


def test_a_model_whose_name_no_file_can_have_is_not_taken():
    one = unfolded("x" * 300)
    with pytest.raises(AdaptbenchError, match=r"^base.model: x+: "):
        preflight.check(one, one.nodes)


def test_another_revision_is_another_model(cached):
    one = unfolded(cached, revision="v2")
    with pytest.raises(AdaptbenchError, match=r"^base.model: owner/toy: is not in the hub's cache"):
        preflight.check(one, one.nodes)


def test_a_base_that_was_taken_in_is_not_asked_for_again(cached, model_folder):
    one = unfolded("owner/large")
    (base,) = [name for name, node in one.nodes.items() if node.kind == "imported_base"]
    others = [name for name in one.nodes if name != base]
    with pytest.raises(AdaptbenchError, match=r"^base.model: owner/large: is not in the hub's cache"):
        preflight.check(one, others)
    shutil.copytree(model_folder("qwen3"), one.directory(base))
    preflight.check(one, others)


def test_what_is_made_is_not_asked_for_again(cached):
    one = unfolded("owner/never-heard-of-7B")
    preflight.check(one, [name for name, node in one.nodes.items() if node.kind in ("data", "tasks")])
    preflight.check(one, [name for name, node in one.nodes.items() if node.kind == "posthoc"])


def test_too_little_disk_is_said_with_both_numbers(cached, monkeypatch):
    usage = namedtuple("usage", "total used free")
    one = unfolded(cached)
    found = estimate.Estimate(one, model_size.Assumptions()).jobs.values()
    needed = sum(job.kept for job in found) + max(job.checkpoint for job in found)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, int(needed) + 1))
    preflight.check(one, one.nodes)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 0, int(needed) - 1))
    line = (
        rf"^too little disk: at least {estimate_text.gb(needed)} are needed on the disk of /\S+, "
        rf"{estimate_text.gb(needed - 1)} are free$"
    )
    with pytest.raises(AdaptbenchError, match=line):
        preflight.check(one, one.nodes)


def test_a_download_needs_disk_too(cached, monkeypatch):
    usage = namedtuple("usage", "total used free")
    found = hub.ModelInfo(CONFIG, 250_000, 10**9, 10**9, "the hub")
    monkeypatch.setattr(hub, "find_remote", lambda model, revision: found)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 10**9))
    one = unfolded("owner/open")
    with pytest.raises(AdaptbenchError, match=r"^too little disk: at least"):
        preflight.check(one, [name for name, node in one.nodes.items() if node.kind == "imported_base"])


def test_quantised_weights_are_refused_before_they_are_downloaded(cached, monkeypatch):
    found = hub.ModelInfo(CONFIG | {"quantization_config": {"quant_method": "fp8"}}, 250_000, 10**6, 10**6, "the hub")
    monkeypatch.setattr(hub, "find_remote", lambda model, revision: found)
    one = unfolded("owner/open")
    with pytest.raises(
        AdaptbenchError, match=r"^base\.model: owner/open: config\.json: quantization_config: quantised"
    ):
        preflight.check(one, one.nodes)


def test_too_little_gpu_memory_is_said_with_both_numbers_and_only_where_jobs_run_here(cached, monkeypatch):
    one = unfolded(cached)
    largest = max(
        estimate.Estimate(one, model_size.Assumptions()).jobs.values(),
        key=lambda job: job.state,
    )
    monkeypatch.setattr(gpus, "memory", lambda: {"0": 2 * largest.state, "1": largest.state})
    preflight.check(one, one.nodes)
    line = (
        rf"^too little GPU memory: domain-cpt-full-\S+ needs at least {estimate_text.gb(largest.state)} .*, GPU 0 "
        rf"has {estimate_text.gb(largest.state - 1)}"
    )
    monkeypatch.setattr(gpus, "memory", lambda: {"0": largest.state - 1})
    with pytest.raises(AdaptbenchError, match=rf"{line}$"):
        preflight.check(one, one.nodes)
    # A job takes whichever GPU is least busy, the small one too.
    monkeypatch.setattr(gpus, "memory", lambda: {"0": largest.state - 1, "1": largest.state, "GPU-x": largest.state})
    with pytest.raises(AdaptbenchError, match=rf"{line}; leave smaller ones out: CUDA_VISIBLE_DEVICES=1,GPU-x$"):
        preflight.check(one, one.nodes)
    preflight.check(one, one.nodes, here=False)
    monkeypatch.setattr(gpus, "memory", lambda: dict.fromkeys("01", largest.state / 2))
    sharded = one.preset.model_copy(update={"devices": schema.Devices(processes=2, strategy="fsdp")})
    preflight.check(replace(one, preset=sharded), one.nodes)
    monkeypatch.setattr(gpus, "memory", lambda: dict.fromkeys("01", largest.state / 2 - 1))
    with pytest.raises(AdaptbenchError, match="optimizer in each of 2 processes, GPU 0 has"):
        preflight.check(replace(one, preset=sharded), one.nodes)


def test_without_a_gpu_all_processes_share_the_machines_memory(cached, monkeypatch):
    memory = namedtuple("memory", "total")
    one = unfolded(cached)
    largest = max(estimate.Estimate(one, model_size.Assumptions()).jobs.values(), key=lambda job: job.state)

    def check(total: float, strategy: str, *, processes: int = 2, here: bool = True) -> None:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory(total))
        devices = schema.Devices(processes=processes, strategy=strategy)
        preset = one.preset.model_copy(update={"devices": devices})
        preflight.check(replace(one, preset=preset), one.nodes, here=here)

    monkeypatch.setattr(gpus, "memory", dict)
    line = (
        rf"^too little memory: domain-cpt-full-\S+ needs at least {estimate_text.gb(largest.state)} for weights, "
        rf"gradients and optimizer, this machine has {estimate_text.gb(largest.state - 1)} and no GPU$"
    )
    for strategy, processes in (("ddp", 1), ("fsdp", 2)):
        check(largest.state, strategy, processes=processes)
        with pytest.raises(AdaptbenchError, match=line):
            check(largest.state - 1, strategy, processes=processes)
    check(2 * largest.state, "ddp")
    with pytest.raises(
        AdaptbenchError, match=rf"{estimate_text.gb(2 * largest.state)} .* optimizer in 2 processes, this"
    ):
        check(2 * largest.state - 1, "ddp")
    check(0, "ddp", here=False)


def test_data_of_lm_evals_own_tasks_are_asked_for_before_anything_is_trained(cached, monkeypatch):
    values = preset_values() | {"base": {"model": cached}, "evaluation": {"stock_tasks": {"general": ["arc_easy"]}}}
    one = unfolding.unfold(load.validate(values, "toy.yaml"))
    asked = []

    def refuse(name, revision):
        asked.append(name)
        if name == "allenai/ai2_arc":
            raise AdaptbenchError(f"{name}: is gated")

    monkeypatch.setattr(hub, "check_data_set", refuse)
    with pytest.raises(AdaptbenchError, match=r"^evaluation\.stock_tasks: arc_easy: allenai/ai2_arc: is gated$"):
        preflight.check(one, one.nodes)
    assert asked[-1] == "allenai/ai2_arc"


OFFLINE = "is not in the cache of `datasets`, and HF_HUB_OFFLINE is set; load it with `datasets` once while online"


@pytest.mark.parametrize(
    ("change", "sets", "line"),
    [
        (
            {"data": {**preset_values()["data"], "domain": {"kind": "gsm8k"}}},
            ["openai/gsm8k"],
            f"data.gsm8k: openai/gsm8k: {OFFLINE}; or set data.gsm8k.path to a local folder",
        ),
        (
            {"evaluation": {"stock_tasks": {"general": ["arc_easy"], "domain": ["mmlu_stem"]}}},
            ["allenai/ai2_arc", "cais/mmlu"],
            f"evaluation.stock_tasks: mmlu_stem: cais/mmlu: {OFFLINE}",
        ),
    ],
    ids=["public", "stock"],
)
def test_without_the_hub_data_sets_must_have_been_read_before(cached, tmp_path, change, sets, line):
    one = unfolding.unfold(load.validate(preset_values() | {"base": {"model": cached}} | change, "toy.yaml"))
    *others, last = sets
    for name in others:
        toy_hub.add_data(tmp_path / "home", name, {"test": [toy_hub.arc(1)]})
    # What huggingface_hub has of a set is not enough for `datasets`.
    (tmp_path / "home" / "hub" / f"datasets--{last.replace('/', '--')}" / "snapshots" / toy_hub.COMMIT).mkdir(
        parents=True
    )
    with pytest.raises(AdaptbenchError) as caught:
        preflight.check(one, one.nodes)
    assert str(caught.value) == line
    toy_hub.add_data(tmp_path / "home", last, {"test": [toy_hub.arc(1)]})
    preflight.check(one, one.nodes)


@pytest.mark.parametrize("name", ["hellaswag", "paws-x", "ChilleD/MultiArith"])
def test_what_datasets_would_read_without_the_hub_is_found(name, cached, tmp_path):
    from datasets import load_dataset

    assert not hub.is_prepared(name, "main")
    if "/" in name:
        toy_hub.add_data(tmp_path / "home", name, {"test": [toy_hub.arc(1)]})
    else:
        toy_hub.add_data(tmp_path / "home", f"x/{name}", {"test": [toy_hub.arc(1)]})
        (tmp_path / "home" / "datasets" / f"x___{name}").rename(tmp_path / "home" / "datasets" / name)
    assert hub.is_prepared(name, "main")
    assert load_dataset(name)["test"][0] == toy_hub.arc(1)


OTHER = "f" * 40


@pytest.mark.parametrize(
    ("revision", "reference", "there"),
    [
        ("main", None, True),  # nothing says which commit it is
        ("main", toy_hub.COMMIT, True),
        ("main", OTHER, False),
        ("v1", None, False),
        ("v1", toy_hub.COMMIT, True),
        ("v1", OTHER, False),
        (toy_hub.COMMIT, None, True),
        (OTHER, None, False),
    ],
)
def test_without_the_hub_only_the_revision_that_is_asked_for_is_read(revision, reference, there, cached, tmp_path):
    toy_hub.add_data(tmp_path / "home", "x/set", {"test": [{"question": "How many?", "final_ans": "7"}]})
    if reference is not None:
        refs = tmp_path / "home/hub/datasets--x--set/refs"
        refs.mkdir(parents=True)
        (refs / revision).write_text(reference)
    assert hub.is_prepared("x/set", revision) == there
    source = {"hub_id": "x/set", "revision": revision, "path": None}
    if there or hub.data_commit("x/set", revision) is None:
        ((record,),) = data_hub.load("multiarith", source, splits=("test",))
        assert record["final_ans"] == "7"
    else:
        with pytest.raises(
            AdaptbenchError, match=rf"^data\.multiarith: x/set: revision '{revision}' is commit {OTHER}, what"
        ):
            data_hub.load("multiarith", source, splits=("test",))


def test_a_hub_that_does_not_answer_is_not_asked_for_every_set(cached, monkeypatch):
    """Each time may take ten seconds."""
    values = preset_values() | {"base": {"model": cached}}
    values["evaluation"] = {"stock_tasks": {"general": ["arc_easy", "mmlu_stem"]}}
    asked = []

    def silent(name, revision):
        asked.append(name)
        raise hub.Unreachable(name)

    monkeypatch.setattr(hub, "check_data_set", silent)
    monkeypatch.setattr(hub, "is_prepared", lambda name, revision: True)
    one = unfolding.unfold(load.validate(values, "toy.yaml"))
    preflight.check(one, one.nodes)
    assert asked == ["allenai/ai2_arc"]


def test_a_base_whose_config_has_other_names_is_estimated_all_the_same(tmp_path, model_folder, monkeypatch):
    folder = tmp_path / "gpt"
    shutil.copytree(model_folder("qwen3"), folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "n_layer": 4, "n_embd": 32}))
    monkeypatch.chdir(tmp_path)
    one = unfolded(str(folder))
    size = model_size.shape(one)
    assert size.parameters(size.layers) == pytest.approx(hub.find_local(str(folder), "main").parameters, rel=0.01)
    assert size.origin == "its folder, 32 layers assumed"
    preflight.check(one, one.nodes)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"hidden_size": "x"}, "config.json: hidden_size is 'x'; it must be a whole number above zero"),
        ({"hidden_size": 0}, "config.json: hidden_size is 0; it must be a whole number above zero"),
        ({"text_config": 3, "vocab_size": True},
         "config.json: vocab_size is True; it must be a whole number above zero"),
        (None, "no weights in its safetensors files"),
    ],
)  # fmt: skip
def test_a_base_whose_size_means_nothing_is_one_line(tmp_path, model_folder, wrong, line):
    folder = shutil.copytree(model_folder("qwen3"), tmp_path / "model")
    if wrong is None:
        save_file({}, folder / "model.safetensors")
    else:
        (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | wrong))
    one = unfolding.unfold(load.validate(preset_values() | {"base": {"model": str(folder)}}, "toy.yaml"))
    with pytest.raises(AdaptbenchError) as caught:
        preflight.check(one, one.nodes)
    assert str(caught.value) == f"base.model: {folder}: {line}"


def test_a_config_that_is_nested_too_deeply_is_no_config(tmp_path, model_folder):
    folder = shutil.copytree(model_folder("qwen3"), tmp_path / "model")
    (folder / "config.json").write_text("[" * 100_000)
    assert hub.find_local(str(folder), "main") is None
    assert problems.base_layers(schema.Base(model=str(folder))) is None


def test_a_token_that_no_header_can_hold_is_one_line(endpoint, tmp_path):
    for asked in ("model@owner/open@main", "data@owner/texts@main"):
        (line,) = ask(endpoint, tmp_path, asked, HF_TOKEN="hf_gehe\u00efm")
        assert line.endswith(
            ": cannot be asked for: the token that is set (HF_TOKEN) holds characters that no token has"
        )
        assert "gehe" not in line


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(gpus, "memory", lambda: {"0": 1e9, "1": 1e9})
    preflight._check_number(2)
    with pytest.raises(AdaptbenchError, match=r"^devices\.processes: must be <= 2, the GPUs that are here"):
        preflight._check_number(3)
    monkeypatch.setattr(gpus, "memory", dict)
    preflight._check_number(3)  # without a GPU processes share the processor
