"""What a preset names: a model folder, data, a sweep that are none are said before anything runs.

Run: pytest tests/config/test_named_files.py
"""

import shutil
from pathlib import Path

import pytest

from adaptbench.config import load
from adaptbench.errors import AdaptbenchError
from tests.support.presets import changed_preset, preset_values


def test_a_wrong_model_folder_is_said_before_anything_runs(tmp_path):
    from adaptbench.graph.surroundings import _check_surroundings

    def problem(model: Path) -> str:
        values = preset_values() | {"base": {"model": str(model)}}
        with pytest.raises(AdaptbenchError) as caught:
            _check_surroundings(load.validate(values, "x.yaml"))
        return str(caught.value)

    folder = tmp_path / "model"
    assert "no such model folder" in problem(folder)
    folder.mkdir()
    assert "no config.json" in problem(folder)
    (folder / "config.json").write_text('{"num_hidden_layers": 4}')
    assert "no weights: neither model.safetensors nor" in problem(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    assert "save them as safetensors" in problem(folder)
    (folder / "model.safetensors").write_bytes(b"")
    assert "no tokenizer" in problem(folder)


def _adapter(folder: Path) -> None:
    """What peft saves: no config.json, no tokenizer."""
    (folder / "config.json").unlink()
    (folder / "tokenizer.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "owner/name"}')


def _inside(place: str):
    def move(folder: Path) -> None:
        names = [path.name for path in folder.iterdir()]
        (folder / place).mkdir(parents=True)
        for name in names:
            (folder / name).rename(folder / place / name)

    return move


MERGE = (
    ": an adapter, which names a model elsewhere ('owner/name'); merge it into that model and save the whole: "
    "peft.AutoPeftModelForCausalLM.from_pretrained(adapter).merge_and_unload().save_pretrained(folder), and the "
    "tokenizer there, too"
)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (_adapter, MERGE),
        (_inside("checkpoint-500"), ": no config.json; name the one inside: {folder}/checkpoint-500"),
        (_inside("snapshots/0123"), ": no config.json; name the one inside: {folder}/snapshots/0123"),
        (lambda folder: (folder / "model.safetensors").write_bytes(POINTER),
         "/model.safetensors: a pointer of git-lfs and not the weights; run `git lfs pull` in that folder"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""),
         "/model.safetensors: no safetensors file, or not whole; copy it again"),
        (lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:99]),
         "/model.safetensors: no safetensors file, or not whole; copy it again"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xef\xbb\xbf{}"),
         "/config.json: begins with a byte order mark, which transformers does not read; save it without"),
        (lambda folder: (folder / "config.json").write_text("{}", encoding="utf-16"),
         "/config.json: UTF-16 text; save it as UTF-8"),
        (lambda folder: (folder / "config.json").write_bytes(POINTER),
         "/config.json:1: not JSON: Expecting value (column 1)"),
        (lambda folder: (folder / "config.json").write_text("[]"), "/config.json: must be a JSON object"),
    ],
)  # fmt: skip
def test_what_is_no_whole_model_is_named_with_what_to_do(tmp_path, model_folder, spoil, line):
    from adaptbench.graph.surroundings import _check_surroundings

    folder = Path(shutil.copytree(model_folder("qwen3"), tmp_path / "model"))
    values = preset_values() | {"base": {"model": str(folder)}}
    _check_surroundings(load.validate(values, "x.yaml"))
    spoil(folder)
    with pytest.raises(AdaptbenchError) as caught:
        _check_surroundings(load.validate(values, "x.yaml"))
    assert str(caught.value) == f"base.model: {folder}{line.format(folder=folder)}"


def test_a_file_in_the_place_of_a_model_folder_is_said_so(tmp_path, model_folder):
    from adaptbench.io.model_folder import check_folder

    with pytest.raises(
        AdaptbenchError, match=r"config\.json: no such model folder but a file; name the folder that it is in$"
    ):
        check_folder(model_folder("qwen3") / "config.json")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("none", "no such folder"),
        ("a.jsonl", "no such folder but a file; name the folder that it is in"),
        ("a.jsonl/none", "no such folder"),
        ("dangling", "no such folder"),
        ("~/set", "no such folder; ~ is not expanded here, write it out"),
        ("https://example.org/set", "no such folder; an address is not read, download it into one"),
        ("hf://datasets/owner/set", "no such folder; an address is not read, download it into one"),
        ("nul\0", "no such folder"),
        ("x" * 300, "no such folder"),
    ],
)
def test_a_data_path_that_is_no_folder_is_said_before_anything_runs(tmp_path, monkeypatch, path, said):
    from adaptbench.graph.surroundings import _check_surroundings

    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").touch()
    Path("dangling").symlink_to("nowhere")
    values = changed_preset("data.gsm8k", {"hub_id": "openai/gsm8k", "path": path})
    with pytest.raises(AdaptbenchError) as caught:
        _check_surroundings(load.validate(values, "x.yaml"))
    shown = path.replace("\0", "\\x00")
    assert str(caught.value) == f"data.gsm8k.path: {shown}: {said}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"track,run\ndomain,full\n", ""),
        (b"", ": holds no records"),
        (b"track,run\n", ": holds no records"),
        (b"track,name\ndomain,full\n", ":2: no columns 'track' and 'run'; there are track, name"),
        (b"track,run\ndomain\n", ":2: 1 fields under 2 headings"),
        (b"\x00PAR1", ":1: holds a NUL character; no text file, or not UTF-8"),
        (b"track,run\n\xff,full\n", ":2: not UTF-8 text (byte 1 of the line)"),
        ("track,run\n".encode("utf-16"), ": UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_sweep_that_is_no_table_is_said_before_anything_runs(tmp_path, content, said):
    """It is read for the card of costs, when all is trained."""
    from adaptbench.graph.surroundings import _check_surroundings

    path = tmp_path / "sweep.csv"
    path.write_bytes(content)
    preset = load.validate(preset_values() | {"sweep": str(path)}, "x.yaml")
    if said:
        with pytest.raises(AdaptbenchError) as caught:
            _check_surroundings(preset)
        assert str(caught.value) == f"sweep: {path}{said}"
    else:
        _check_surroundings(preset)


@pytest.mark.parametrize(
    ("track", "kind", "name", "wanted", "file"),
    [
        ("domain", "gsm8k", "gsm8k", "train.jsonl, test.jsonl", "test.jsonl"),
        ("agent", "gsm8k", "gsm8k", "train.jsonl, test.jsonl", "train.jsonl"),
        ("reasoning", "gsm8k", "gsm8k", "train.jsonl, test.jsonl", "train.jsonl"),
        ("reasoning", "svamp", "svamp", "test*.jsonl, test*.json, test*.parquet, test*.csv", "data/test-0.parquet"),
        ("domain", "corpus", "domain_corpus", "*.jsonl, *.parquet, *.txt", "a.txt"),
        ("general", "corpus", "general_corpus", "*.jsonl, *.parquet, *.txt", "a.jsonl"),
    ],
)
def test_a_data_folder_without_a_file_to_read_is_said_before_anything_runs(tmp_path, track, kind, name, wanted, file):
    from adaptbench import registry
    from adaptbench.graph.surroundings import _check_files

    (tmp_path / "data").mkdir()
    (tmp_path / "readme.md").touch()
    preset = load.validate(changed_preset(f"data.{name}", {"path": str(tmp_path)}), "x.yaml")
    with pytest.raises(AdaptbenchError) as caught:
        _check_files(registry.benchmark(track, kind), preset.public_data(track, kind))
    assert str(caught.value) == f"data.{name}.path: {tmp_path}: no file of {wanted}"
    (tmp_path / file).touch()
    _check_files(registry.benchmark(track, kind), preset.public_data(track, kind))
