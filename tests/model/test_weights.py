"""Bases' weights: what is read is all that is there, and nothing is read as what it is not.

Run: pytest tests/model/test_weights.py
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adaptbench.errors import AdaptbenchError
from adaptbench.io import hub
from adaptbench.io.model_folder import check_folder, fetch
from adaptbench.model import expansion, storage
from adaptbench.stages import base
from tests.support.models import toy_model


@pytest.fixture
def folder(model_folder, tmp_path) -> Path:
    return Path(shutil.copytree(model_folder("qwen3"), tmp_path / "base"))


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def rewrite(folder: Path, changed) -> None:
    """Store what `changed` makes of the weights' tensors."""
    save_file(changed(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def take_in(folder: Path) -> Path:
    out = folder.parent / "out"
    out.mkdir()
    base.import_base({"options": {"model": str(folder), "revision": "main"}}, out, out)
    return out


def refused(folder: Path) -> str:
    with pytest.raises(AdaptbenchError) as caught:
        take_in(folder)
    said = str(caught.value)
    assert said.startswith(f"base.model: {folder}")
    assert "\n" not in said
    return said


MATRIX = "model.layers.1.mlp.down_proj.weight"


def eight_bits(tensors):
    scale = tensors[MATRIX].abs().max() / 448
    made = (tensors[MATRIX] / scale).to(torch.float8_e4m3fn)
    return tensors | {MATRIX: made, f"{MATRIX}_scale_inv": scale[None]}


QUANTISED = {
    "float8 and its scales": eight_bits,
    "float8 alone": lambda tensors: tensors | {MATRIX: tensors[MATRIX].to(torch.float8_e5m2)},
    "integers": lambda tensors: tensors | {MATRIX: (tensors[MATRIX] * 100).to(torch.int8)},
    "packed bytes": lambda tensors: tensors | {MATRIX: torch.zeros(4, 4, dtype=torch.uint8)},
}


@pytest.mark.parametrize("name", QUANTISED)
def test_quantised_weights_are_named_before_the_model_is_opened(name, folder):
    rewrite(folder, QUANTISED[name])
    with pytest.raises(AdaptbenchError, match=f"{MATRIX} is (F8_E4M3|F8_E5M2|I8|U8); quantised weights are not read"):
        check_folder(folder)
    assert MATRIX in refused(folder)


@pytest.mark.parametrize(
    ("where", "by"),
    [
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"text_config": {"quantization_config": {"quant_method": "gptq"}}}, "gptq"),
        ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_configuration_of_quantised_weights_is_named(where, by, folder):
    change(folder / "config.json", **where)
    line = (
        rf"config\.json: (quantization|compression)_config: quantised weights \({by}\) are not read; save them in "
        rf"16 bits"
    )
    with pytest.raises(AdaptbenchError, match=line):
        check_folder(folder)


def test_a_configuration_with_fewer_layers_than_the_weights_is_refused(folder):
    change(folder / "config.json", num_hidden_layers=2, layer_types=None)
    said = refused(folder)
    assert "the model of config.json has no place for 22 of its tensors: model.layers.2." in said
    with pytest.raises(AdaptbenchError, match="no place for 22"):
        storage.load_model(folder)


@pytest.mark.parametrize(
    "more",
    ["model.layers.0.mlp.up_proj.weight_scale", "model.layers.0.self_attn.q_proj.lora_A.weight", "score.weight",
     "visual.proj.weight", "model.layers.0.self_attn.q_proj.bias"],
)  # fmt: skip
def test_a_tensor_that_has_no_place_is_named(more, folder):
    rewrite(folder, lambda tensors: tensors | {more: torch.ones(3)})
    assert f"has no place for 1 of its tensors: {more}" in refused(folder)


def test_what_earlier_versions_stored_beside_the_weights_is_no_error(folder, tokenizer, tmp_path):
    expected = storage.load_model(folder).state_dict()
    rewrite(folder, lambda tensors: tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    assert all(torch.equal(expected[name], tensor) for name, tensor in storage.load_model(folder).state_dict().items())
    from transformers import AutoConfig, AutoModelForCausalLM

    for architecture, options, attention in (
        ("gpt2", {"n_embd": 32, "n_layer": 1, "n_head": 2}, "transformer.h.0.attn"),
        ("gpt_neo", {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "attention_types": [[["global"], 1]]},
         "transformer.h.0.attn.attention"),
        ("gptj", {"n_embd": 32, "n_layer": 1, "n_head": 2, "rotary_dim": 4}, "transformer.h.0.attn"),
        ("gpt_neox", {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32},
         "gpt_neox.layers.0.attention"),
    ):  # fmt: skip
        old = tmp_path / architecture
        AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, vocab_size=300,
            **options)).save_pretrained(old)  # fmt: skip
        masks = {f"{attention}.bias": torch.ones(1, 1, 9, 9), f"{attention}.masked_bias": torch.tensor(-1e4)}
        rewrite(old, lambda tensors, masks=masks: tensors | masks)
        storage.load_model(old)


def test_a_head_that_is_stored_though_it_is_tied_is_no_error(tokenizer, tmp_path):
    model = toy_model("gemma", vocabulary=len(tokenizer))
    assert model.config.tie_word_embeddings
    storage.save_model(model, tokenizer, tmp_path)
    rewrite(tmp_path, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()})
    loaded = storage.load_model(tmp_path)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_a_head_that_is_said_to_be_tied_and_is_not_stays_apart(folder):
    """transformers opens both matrices where they differ; an expanded model is made from the configuration alone."""
    rewrite(folder, lambda tensors: tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].flip(0)})
    change(folder / "config.json", tie_word_embeddings=True)
    made = base.import_base({"options": {"model": str(folder), "revision": "main"}}, folder.parent, folder.parent)
    assert "expansion" not in made["lacks"]
    model = storage.load_model(folder)
    assert model.config.tie_word_embeddings is False
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        assert torch.equal(expansion.expand(model, [1])(ids).logits, model(ids).logits)


def test_tensors_of_another_shape_are_named(folder):
    change(folder / "config.json", intermediate_size=64, vocab_size=299)
    said = refused(folder)
    assert "lm_head.weight is 282x32 where config.json asks for 299x32, one of 14 tensors of another shape" in said


def test_a_configuration_that_transformers_reads_and_does_not_write_is_one_line(folder):
    change(folder / "config.json", output_attentions=True)
    assert "cannot be saved: " in (said := refused(folder))
    assert "`output_attentions` attribute is not supported" in said


def test_a_configuration_without_a_padding_token_may_say_so_by_a_number(folder):
    change(folder / "config.json", pad_token_id=-1)
    made = base.import_base({"options": {"model": str(folder), "revision": "main"}}, folder.parent, folder.parent)
    assert made["lacks"] == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_no_number_is_refused_with_its_tensor(value, folder):
    def spoil(tensors):
        tensors[MATRIX][3, 4] = value
        return tensors

    rewrite(folder, spoil)
    assert f"{MATRIX} holds values that are infinite or not a number" in refused(folder)


# --- one format


def bytes_of(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def in_parts(folder: Path) -> list[Path]:
    """The weights in two files that an index names, instead of one."""
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {f"part-{i}.safetensors": names[i::2] for i in range(2)}
    for file, its in parts.items():
        save_file({name: tensors[name] for name in its}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, its in parts.items() for name in its}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    return [folder / file for file in parts]


def test_weights_in_a_second_format_are_neither_counted_nor_read(folder):
    expected = storage.load_model(folder).state_dict()
    counted = hub.find_local(str(folder), "main")
    assert counted.bytes == bytes_of(folder / "model.safetensors")
    save_file({"output.weight": torch.ones(999)}, folder / "consolidated.safetensors")
    shutil.copyfile(folder / "model.safetensors", folder / "model.fp16.safetensors")
    assert hub.find_local(str(folder), "main") == counted
    found = storage.load_model(folder).state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    parts = in_parts(folder)
    split = hub.find_local(str(folder), "main")
    assert (split.parameters, split.bytes) == (counted.parameters, bytes_of(*parts))


def test_one_file_is_read_though_an_index_is_left_beside_it(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for part in in_parts(folder):
        part.write_bytes(b"of another model")
    (folder / "model.safetensors").write_bytes(whole)
    assert hub.weights(folder) == [folder / "model.safetensors"]
    check_folder(folder)
    storage.load_model(folder)


def test_a_part_that_is_missing_is_one_line(folder):
    in_parts(folder)[1].unlink()
    assert "part-1.safetensors" in refused(folder)
    assert hub.find_local(str(folder), "main") is None


def test_an_index_without_metadata_is_one_line_with_what_to_add(folder):
    in_parts(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": json.loads(index.read_text())["weight_map"]}))
    assert refused(folder).endswith('add "metadata": {}')
    change(index, metadata={})
    storage.load_model(folder)


@pytest.mark.parametrize(
    "name", ["consolidated.safetensors", "model-00001-of-00001.safetensors", "weights.safetensors"]
)
def test_weights_under_a_name_that_is_not_looked_for_are_not_found(name, folder):
    (folder / "model.safetensors").rename(folder / name)
    assert refused(folder).endswith("no weights: neither model.safetensors nor model.safetensors.index.json")
    assert hub.find_local(str(folder), "main") is None
    change(folder / "config.json", transformers_weights=name)
    (folder / "model.safetensors").touch()
    with pytest.raises(AdaptbenchError, match=r"transformers_weights is .*; call the weights model.safetensors"):
        check_folder(folder)


@pytest.mark.parametrize("split", [False, True])
def test_one_format_is_downloaded(split, folder, tmp_path, monkeypatch):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    read = {path.name for path in in_parts(folder)} if split else {"model.safetensors"}
    for name in ("consolidated.safetensors", "model.fp16.safetensors", "model-old.safetensors"):
        (folder / name).write_bytes(b"x")
    asked = []

    def download(name, *, revision, allow_patterns, ignore_patterns):
        asked.append(revision)
        snapshot = tmp_path / "snapshots" / "0123abc"
        files = (path.name for path in folder.iterdir())
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            snapshot.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / file, snapshot / file)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = fetch("owner/name", "main")
    assert {path.name for path in found.glob("*.safetensors")} == read
    assert set(asked[1:]) <= {"0123abc"}, "all of one commit, though the revision may move"
    check_folder(found)
    storage.load_model(found)
