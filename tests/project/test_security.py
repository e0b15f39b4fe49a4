"""Attacks: what a model's folder, a preset or a data set from elsewhere must not be able to do. docs/security.md says
the same in words.

Run: pytest tests/project/test_security.py
"""

import ast
import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import re
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import load_dataset
from datasets.utils.extract import Extractor

from adaptbench.benchmarks.domain import corpus as domain_corpus
from adaptbench.benchmarks.shared import hub
from adaptbench.config import load, preset_model
from adaptbench.data import corpus
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate import harness
from adaptbench.graph import surroundings
from adaptbench.io.model_folder import check_folder
from adaptbench.jobs import warm
from adaptbench.model import storage
from adaptbench.stages import base
from tests.support.presets import preset_values
from tests.support.project import PROJECT

BAD_NAMES = ["../x", "..", ".", "", "/tmp/x", "a/b", r"a\b", "C:x", "a\nb", "a\n", "a\0b", "-x", "$(x)", "x" * 101]


class Touch:
    """A pickle that leaves a file where it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def folder(model_folder, tmp_path) -> Path:
    """A good model folder, to be turned into a bad one; `tmp_path/ran` is what an attack leaves."""
    return Path(shutil.copytree(model_folder("qwen3"), tmp_path / "model"))


def refused(folder: Path) -> str:
    """What is said of a base model before anything starts, or else when its weights are opened; nothing of it has
    run.
    """

    def opened() -> None:
        check_folder(folder)
        storage.load_model(folder)

    with pytest.raises(AdaptbenchError) as caught:
        opened()
    assert not (folder.parent / "ran").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def weights_by_index(folder: Path, shard: str) -> None:
    """The same weights, but in the file that an index names."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as file:
        names = {name: shard for name in file.keys()}  # noqa: SIM118 - no mapping
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (folder / "model.safetensors").rename(folder / "other.safetensors")


def test_a_folder_with_nothing_but_pickled_weights_is_refused_with_a_hint(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(folder.parent / "ran")))
    assert refused(folder).endswith("only pickled weights, which are not read; save them as safetensors")


def test_a_pickle_beside_or_instead_of_safetensors_is_not_read(folder):
    bomb = pickle.dumps(Touch(folder.parent / "ran"))
    (folder / "pytorch_model.bin").write_bytes(bomb)
    storage.load_model(folder)
    (folder / "model.safetensors").write_bytes(bomb)
    assert "no safetensors file" in refused(folder)
    with pytest.raises(AdaptbenchError, match="no safetensors file"):
        storage.load_model(folder)
    assert not (folder.parent / "ran").exists()


@pytest.mark.parametrize("shard", ["shard.bin", "../outside.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_names_safetensors_beside_it_and_nothing_else(folder, shard):
    weights_by_index(folder, shard)
    (folder / "shard.bin").write_bytes(pickle.dumps(Touch(folder.parent / "ran")))
    shutil.copyfile(folder / "other.safetensors", folder.parent / "outside.safetensors")
    assert f"names {shard!r}; weights must be *.safetensors files beside it" in refused(folder)


@pytest.mark.parametrize("weights", [None, [], "x", {"model.norm.weight": 3}, {"model.norm.weight": ["a"]}])
def test_an_index_of_another_form_is_one_line(folder, weights):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    assert "weights must be *.safetensors files beside it" in refused(folder)


def test_an_index_of_files_beside_it_is_read(folder):
    expected = storage.load_model(folder).state_dict()
    weights_by_index(folder, "other.safetensors")
    check_folder(folder)
    found = storage.load_model(folder).state_dict()
    assert all(found[name].equal(value) for name, value in expected.items())


def test_a_models_own_code_is_not_run(folder):
    """With a known model_type the library's own class opens it; what only its own code can open is refused."""
    for name in ("config.json", "tokenizer_config.json"):
        change(folder / name, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model",
            "AutoTokenizer": ["evil.Tokenizer"] * 2})  # fmt: skip
    change(folder / "config.json", trust_remote_code=True)
    change(folder / "tokenizer_config.json", tokenizer_class="Tokenizer", trust_remote_code=True)
    (folder / "evil.py").write_text(f"open({str(folder.parent / 'ran')!r}, 'w')\n")
    assert type(storage.load_model(folder)).__module__.startswith("transformers.")
    assert type(storage.load_tokenizer(folder)).__module__.startswith("transformers.")
    assert not (folder.parent / "ran").exists()
    change(folder / "config.json", model_type="evil")
    assert "contains custom code" in refused(folder)


@pytest.mark.parametrize("where", [{"_attn_implementation": "evil/kernel"},
    {"attn_implementation": {"": "evil/kernel:run"}},
     {"text_config": {"attn_implementation": "evil/kernel"}}])  # fmt: skip
def test_a_kernel_on_the_hub_is_code_too(folder, where):
    change(folder / "config.json", **where)
    assert "code on the hub; remove it" in refused(folder)


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub():
    with pytest.raises(AdaptbenchError, match="owner/name: no such model folder"):
        storage.load_model(Path("owner/name"))


def test_an_adapter_which_names_another_model_is_refused(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "evil/model"}))
    assert "an adapter, which names a model elsewhere" in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_file_of_the_folder_that_is_no_json_object_is_one_line(folder, name):
    for content, said in (("{", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "must be a JSON object")):
        (folder / name).write_text(content)
        assert re.search(rf"{re.escape(name)}(:1)?: {said}", refused(folder))


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocab_size": 299}, {"hidden_act": "x"}, {"num_attention_heads": 0}, {"hidden_size": "x"},
         {"model_type": "mamba"},
        {"quantization_config": {"quant_method": "gptq"}}, {"rope_parameters": 3}, {"num_hidden_layers": -1},
    ],
    ids=str,
)  # fmt: skip
def test_a_configuration_that_means_nothing_is_one_line(folder, wrong):
    change(folder / "config.json", **wrong)
    said = refused(folder)
    assert said.startswith(f"{folder}: ")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", {}), ("tokenizer.json", []), ("tokenizer_config.json", {"tokenizer_class": 3}),
     ("tokenizer_config.json", {"eos_token": 3})],
)  # fmt: skip
def test_a_tokenizer_that_means_nothing_is_one_line(folder, name, content):
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(AdaptbenchError, match=rf"^{folder}: [^\n]+$"):
        storage.load_tokenizer(folder)


def test_of_a_hub_model_neither_pickles_nor_code_are_downloaded(model_folder, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    hub = Path(shutil.copytree(model_folder("qwen3"), tmp_path / "hub"))
    for name in ("pytorch_model.bin", "evil.py", "model.pt", "data.pkl", "original/consolidated.safetensors"):
        (hub / name).parent.mkdir(exist_ok=True)
        (hub / name).write_bytes(b"x")

    def download(name, *, revision, allow_patterns, ignore_patterns):
        snapshot = tmp_path / "snapshots" / revision
        files = (path.relative_to(hub).as_posix() for path in hub.rglob("*") if path.is_file())
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(hub / file, snapshot / file)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    made = base.import_base({"options": {"model": "owner/name", "revision": "abc"}}, tmp_path / "out", tmp_path)
    assert made["commit"] == "abc"
    downloaded = {path.name for path in (tmp_path / "snapshots/abc").rglob("*")}
    assert downloaded == {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json"}  # fmt: skip


def test_nothing_of_ours_reads_pickles_runs_text_or_unpacks_archives():
    """Calls by name, so that a new one is looked at: the one `eval` reads an annotation of our own code."""
    imports = "pickle dill joblib shelve marshal tarfile zipfile"
    calls = "torch.load np.load numpy.load pd.read_pickle eval exec os.system shutil.unpack_archive yaml.unsafe_load"
    forbidden = {*imports.split(), *calls.split(), "shell=True", "trust_remote_code=True"}
    found = set()
    ours = ("adaptbench", "benchmarks", "kernels", "methods")
    for path in (path for folder in ours for path in (PROJECT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            elif isinstance(node, ast.Call):
                names = [ast.unparse(node.func), *(ast.unparse(keyword) for keyword in node.keywords)]
            found |= {(path.relative_to(PROJECT).as_posix(), name) for name in names if name in forbidden}
    assert found == {("adaptbench/config/problems.py", "eval")}


def test_a_data_set_with_a_script_is_refused(tmp_path):
    """datasets 5 runs none; were it to begin again, this says so."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set/set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for place in ("set", "set/set.py"):
        with pytest.raises(RuntimeError, match="Dataset scripts are no longer supported"):
            load_dataset(str(tmp_path / place))
        with pytest.raises(AdaptbenchError, match="which would be read instead of the hub's data set"):
            hub.load("gsm8k", {"hub_id": str(tmp_path / place), "revision": "main", "path": None}, splits=("train",))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("key", ["name", "runs.0.name", "runs.0.tables.0"])
def test_a_name_that_could_leave_its_folder_is_refused(key, name):
    values = preset_values()
    if key == "name":
        values["name"] = name
    elif key == "runs.0.name":
        values["runs"][0]["name"] = name
    else:
        values["runs"][0]["tables"] = [name]
    with pytest.raises(AdaptbenchError) as caught:
        load.validate(values, "x.yaml")
    assert str(caught.value).startswith(f"x.yaml: {key}: must match")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["../../x", "/etc", "a/../b", "a/b/c", "a\n", r"a\b", "https://x.y/z", "a//b", ""])
def test_a_hub_id_is_no_path(value):
    values = preset_values()
    values["data"]["gsm8k"] = {"hub_id": value}
    with pytest.raises(AdaptbenchError, match=r"data\.gsm8k\.hub_id: must match"):
        load.validate(values, "x.yaml")


@pytest.mark.parametrize("value", ["../../x", "/x", "a\n", "a/../b", ""])
def test_a_revision_is_no_path(value):
    for key, place in (
        ("base", {"model": "a/b", "revision": value}),
        ("data", preset_values()["data"] | {"gsm8k": {"revision": value}}),
    ):
        with pytest.raises(AdaptbenchError, match=r"revision: must match"):
            load.validate(preset_values() | {key: place}, "x.yaml")


@pytest.mark.parametrize(
    "value", ["main", "refs/pr/1", "v1.0", "5f0b02c75b57c5855da9ae460ce51323ea669d8a", "my-branch"]
)
def test_revisions_that_the_hub_has_are_accepted(value):
    values = preset_values() | {"base": {"model": "Qwen/Qwen3-0.6B-Base", "revision": value}}
    assert load.validate(values, "x.yaml").base.revision == value


def test_an_archive_is_no_data_folder(tmp_path):
    shutil.make_archive(str(tmp_path / "set"), "zip", PROJECT / "envs")
    values = preset_values()
    values["data"]["gsm8k"] = {"path": str(tmp_path / "set.zip")}
    with pytest.raises(AdaptbenchError, match=r"data\.gsm8k\.path: .*set\.zip: no such folder"):
        surroundings._check_surroundings(load.validate(values, "x.yaml"))


@pytest.mark.parametrize("attack", ["archive", "elsewhere"])
def test_a_data_folder_is_read_by_its_own_plain_files_alone(tmp_path, attack):
    """`datasets` given the folder would unpack the one and follow the other."""
    folder = tmp_path / "set"
    folder.mkdir()
    records = "".join(json.dumps({"question": "How many?", "final_ans": "7"}) + "\n" for _ in range(3))
    (tmp_path / "secret.jsonl").write_text(records)
    if attack == "archive":
        (tmp_path / "inside").mkdir()
        (tmp_path / "inside/test.jsonl").write_text(records)
        shutil.make_archive(str(folder / "test"), "zip", tmp_path / "inside")
    else:
        named = "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: ../secret.jsonl\n"
        (folder / "README.md").write_text(f"---\n{named}---\n")
    source = {"hub_id": "owner/set", "revision": "main", "path": str(folder)}
    with pytest.raises(AdaptbenchError, match=r"^data\.multiarith: .*: no split 'test'; there are none$"):
        hub.load("multiarith", source, splits=("test",))


@pytest.mark.parametrize("attack", ["archive", "elsewhere"])
def test_a_folder_here_is_not_read_in_the_place_of_the_hubs_set_of_its_name(tmp_path, attack, monkeypatch):
    """`datasets` would: a folder of the working directory before the hub."""
    folder = tmp_path / "owner/set"
    folder.mkdir(parents=True)
    records = json.dumps({"question": "How many?", "final_ans": "7"}) + "\n"
    (tmp_path / "secret.jsonl").write_text(records)
    if attack == "archive":
        zipped(folder / "test.zip", records)
    else:
        named = "configs:\n- config_name: default\n  data_files:\n  - split: test\n    path: ../../secret.jsonl\n"
        (folder / "README.md").write_text(f"---\n{named}---\n")
    monkeypatch.chdir(tmp_path)
    source = {"hub_id": "owner/set", "revision": "main", "path": None}
    said = r"owner/set: there is a file or folder .*/owner/set, which would be read instead of the hub's data set"
    with pytest.raises(AdaptbenchError, match=rf"^data\.multiarith: {said}.*; or set data\.multiarith\.path"):
        hub.load("multiarith", source, splits=("test",))
    with pytest.raises(AdaptbenchError, match=rf"^data\.domain_corpus: {said}"):
        corpus.read(corpus.CorpusConfig(kind="corpus"), source, 1, seed=0, name="domain_corpus")


@pytest.mark.parametrize("name", ["json", "csv", "parquet", "text"])
def test_a_reader_of_files_is_no_data_set_of_the_hub(name):
    with pytest.raises(AdaptbenchError, match=rf"^data\.multiarith: {name}: is a reader of files"):
        hub.load("multiarith", {"hub_id": name, "revision": "main", "path": None}, splits=("test",))


def zipped(path: Path, records: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test.jsonl", records)


def tarred(path: Path, records: str) -> None:
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("test.jsonl")
        entry.size = len(records)
        archive.addfile(entry, io.BytesIO(records.encode()))


def beginning(start: bytes) -> Callable[[Path, str], object]:
    return lambda path, records: path.write_bytes(start + records.encode())


PACKED = {
    "zip": zipped,
    "tar": tarred,
    "gzip": lambda path, records: path.write_bytes(gzip.compress(records.encode())),
    "xz": lambda path, records: path.write_bytes(lzma.compress(records.encode())),
    "bz2": lambda path, records: path.write_bytes(bz2.compress(records.encode())),
    "zstd": beginning(b"\x28\xb5\x2f\xfd"),
    "7z": beginning(b"7z\xbc\xaf\x27\x1c"),
    "lz4": beginning(b"\x04\x22\x4d\x18"),
    "rar": beginning(b"Rar!\x1a\x07\x01\x00"),
}
RECORDS = "".join(json.dumps({"question": f"How many? {i}", "final_ans": "7", "text": str(i)}) + "\n" for i in range(3))


def read_from(reader: str, folder: Path) -> list:
    """The records of a folder's test.jsonl, by one of the two readers of public sets."""
    source = {"hub_id": "owner/set", "revision": "main", "path": str(folder)}
    if reader == "hub":
        return list(*hub.load("multiarith", source, splits=("test",)))
    return corpus.read(domain_corpus.Config(), source, 3, seed=0, name="domain_corpus")


@pytest.fixture
def unpacked(tmp_path, monkeypatch) -> Path:
    """Where `datasets` would unpack."""
    place = tmp_path / "home" / "downloads" / "extracted"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "home")
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", place.parent)
    monkeypatch.setattr("datasets.config.EXTRACTED_DATASETS_PATH", place)
    return place


@pytest.mark.parametrize("reader", ["hub", "corpus"])
@pytest.mark.parametrize("packing", PACKED)
def test_an_archive_by_another_name_is_not_unpacked(tmp_path, packing, reader, unpacked):
    """`datasets` goes by how a file begins, not by its suffix."""
    folder = tmp_path / "set"
    folder.mkdir()
    PACKED[packing](folder / "test.jsonl", RECORDS)
    line = rf"^data\.\w+\.path: .*test\.jsonl: packed \({packing}\), and nothing is unpacked here; unpack it first$"
    with pytest.raises(AdaptbenchError, match=line):
        read_from(reader, folder)
    assert not unpacked.exists()


def test_every_packing_that_datasets_knows_is_tried():
    assert PACKED.keys() == Extractor.extractors.keys()


@pytest.mark.parametrize("reader", ["hub", "corpus"])
@pytest.mark.parametrize("attack", ["link", "pipe", "folder", "blobs"])
def test_a_data_folder_leads_nowhere_else(tmp_path, attack, reader, unpacked):
    folder = tmp_path / "datasets--owner--set" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "0123").write_text(RECORDS)
    line = "no plain file; leave it out of the folder"
    if attack == "pipe":
        os.mkfifo(folder / "test.jsonl")
    elif attack == "folder":
        (folder / "test.jsonl").mkdir()
    else:
        line = rf"a link to {tmp_path}/secret/0123, which is outside of the folder; copy it there"
        (folder.parents[1] / "blobs").symlink_to(tmp_path / "secret")
        target = "../../../secret/0123" if attack == "link" else "../../blobs/0123"
        (folder / "test.jsonl").symlink_to(target)
    with pytest.raises(AdaptbenchError, match=rf"^data\.\w+\.path: {folder}/test\.jsonl: {line}$"):
        read_from(reader, folder)


@pytest.mark.parametrize("reader", ["hub", "corpus"])
@pytest.mark.parametrize("place", ["test.jsonl", "en/test.jsonl"])
def test_a_snapshot_in_the_hubs_cache_is_a_data_folder(tmp_path, place, reader, unpacked):
    """Its files are links to the blobs beside it."""
    repository = tmp_path / "datasets--owner--set"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "0123").write_text(RECORDS)
    file = repository / "snapshots" / "4567" / place
    file.parent.mkdir(parents=True)
    file.symlink_to(os.path.relpath(repository / "blobs" / "0123", file.parent))
    assert len(read_from(reader, file.parent)) == 3


def places(value, path=()):
    """The paths of all mappings in a preset's values."""
    if isinstance(value, dict):
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield from places(inner, (*path, key))


def test_trust_remote_code_is_no_option_anywhere():
    whole = json.loads(load.load(PROJECT / "config/smoke.yaml").model_dump_json(exclude_unset=True))
    tried = 0
    for path in places(whole):
        values = json.loads(json.dumps(whole))
        place = values
        for key in path:
            place = place[key]
        place["trust_remote_code"] = True
        with pytest.raises(AdaptbenchError, match=r"trust_remote_code: (unknown key|\w+ decoding has no such option)"):
            load.validate(values, "x.yaml")
        tried += 1
    assert tried > 50
    assert "trust_remote_code" not in preset_model.json_schema()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:pathlib.Path.touch [{ran}]",
        "name: !!python/object/apply:os.system ['touch {ran}']",
        "name: !!python/name:os.system",
        "name: !function os.system",
    ],
)
def test_a_preset_holds_values_and_no_objects(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text.format(ran=tmp_path / "ran"))
    with pytest.raises(AdaptbenchError, match="not YAML: could not determine a constructor for the tag") as caught:
        load.load(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_preset_of_a_billion_values_by_reference_is_refused_soon(tmp_path):
    """YAML keeps references as such, and no option is a list of lists."""
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    path = tmp_path / "x.yaml"
    path.write_text("\n".join([*rows, "name: x", "seeds: *a9", "runs: *a9"]))
    started = time.monotonic()
    with pytest.raises(AdaptbenchError) as caught:
        load.load(path)
    assert time.monotonic() - started < 10
    assert len(str(caught.value)) < 300


def test_the_warm_process_listens_where_only_its_owner_can_ask(monkeypatch):
    """Jobs' environments, tokens included, go through its socket."""
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.delenv(warm.VARIABLE, raising=False)
    before = os.umask(0)
    try:
        process = warm.start()
    finally:
        os.umask(before)
    place = Path(os.environ[warm.VARIABLE]).parent
    try:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert place.stat().st_uid == os.getuid()
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(place)
        monkeypatch.delenv(warm.VARIABLE)


def test_tasks_that_the_project_does_not_bring_are_not_looked_for(model_folder, task_folders):
    """A task file can name functions to import (`!function`): those of the project are read, not lm-eval's or
    anybody's.
    """
    with pytest.raises(KeyError, match="gsm8k"):
        harness.evaluate(model_folder("qwen3"), {"kind": "plain"}, ["gsm8k"], task_folders, batch_size=1, limit=1)
