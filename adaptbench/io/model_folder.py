"""Checks the files of model folders, downloads them, and reads and writes their manifest adaptbench.json."""

import codecs
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptbench.errors import AdaptbenchError
from adaptbench.io import hub, local_files
from adaptbench.io.files import write_text
from adaptbench.io.jsonl import read_json

MANIFEST = "adaptbench.json"
HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
"""Patterns of what is downloaded of a hub model beside its weights: nothing that could be a pickle or code."""


FLOATS = ("F64", "F32", "F16", "BF16")
SCHEMA_VERSION = 1


def check_folder(path: Path) -> None:
    """Check that a local model folder can be opened: it has a configuration, safetensors weights and a tokenizer.

    Raises:
        AdaptbenchError: one of these is missing or unsafe to open.
    """
    problem = local_files.folder_problem(str(path))
    if problem:
        raise AdaptbenchError(f"{path}: {problem.replace('folder', 'model folder', 1)}")
    _check_no_adapter(path)
    if not (path / "config.json").is_file():
        # Checkpoints of a trainer, and snapshots in the hub's cache.
        inside = [*path.glob("*/config.json"), *path.glob("snapshots/*/config.json")]
        hint = f"name the one inside: {max(inside).parent}" if inside else "not a Hugging Face model folder"
        raise AdaptbenchError(f"{path}: no config.json; {hint}")
    if not any((path / name).is_file() for name in (hub.WEIGHTS, hub.INDEX)):
        pickled = any(path.glob("*.bin")) or any(path.glob("*.pt"))
        hint = (
            "only pickled weights, which are not read; save them as safetensors"
            if pickled
            else f"no weights: neither {hub.WEIGHTS} nor {hub.INDEX}"
        )
        raise AdaptbenchError(f"{path}: {hint}")
    if not has_tokenizer(path):
        raise AdaptbenchError(f"{path}: no tokenizer")
    check_weights(path)


def _check_header(weights: Path) -> None:
    """Check that a file begins as safetensors do: with the length of a JSON object, then the object."""
    with weights.open("rb") as file:
        begins = file.read(9)
    if begins.startswith(b"version "):
        raise AdaptbenchError(f"{weights}: a pointer of git-lfs and not the weights; run `git lfs pull` in that folder")
    if begins[8:] != b"{" or int.from_bytes(begins[:8], "little") > weights.stat().st_size - 8:
        raise AdaptbenchError(f"{weights}: no safetensors file, or not whole; copy it again")


def _check_no_adapter(path: Path) -> None:
    """Check that a folder holds no adapter, which would load another model."""
    file = path / "adapter_config.json"
    if file.exists():
        of = _read_object(file).get("base_model_name_or_path")
        raise AdaptbenchError(
            f"{path}: an adapter, which names a model elsewhere ({of!r:.80}); merge it into that model and save the "
            "whole: peft.AutoPeftModelForCausalLM.from_pretrained(adapter).merge_and_unload().save_pretrained(folder), "
            "and the tokenizer there, too"
        )


def has_tokenizer(path: Path) -> bool:
    """Return whether a folder has a file of a tokenizer."""
    return any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))


def check_safe(path: Path) -> None:
    """Check that opening a model folder only reads its own safetensors and runs no code.

    `use_safetensors` and `trust_remote_code` do not guarantee that. transformers 5 opens every file that the index of
    sharded weights names, pickles included. An attention implementation with a slash is code on the hub. An adapter's
    folder names another model to load.

    Raises:
        AdaptbenchError: a file would load something else, or there is no such folder.
    """
    if not path.is_dir():
        raise AdaptbenchError(f"{path}: no such model folder")
    _check_no_adapter(path)
    for index in sorted(path.glob("*.safetensors.index.json")):
        content = _read_object(index)
        weights = content.get("weight_map")
        for shard in weights.values() if isinstance(weights, dict) else (weights,):
            if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
                raise AdaptbenchError(f"{index}: names {shard!r}; weights must be *.safetensors files beside it")
        if "metadata" not in content:
            raise AdaptbenchError(
                f'{index}: no "metadata", without which transformers opens none; add "metadata": {{}}'
            )
    config = path / "config.json"
    for key, value in _entries(_read_object(config)) if config.exists() else ():
        if key.endswith("attn_implementation") and "/" in json.dumps(value):
            raise AdaptbenchError(f"{config}: {key} is {value!r}, code on the hub; remove it")


def config_problem(config: Mapping[str, Any]) -> str:
    """Return why weights with this config.json are not read; empty if they are."""
    for key, value in _entries(config):
        if key in ("quantization_config", "compression_config") and value:
            by = value.get("quant_method") if isinstance(value, Mapping) else value
            return f"config.json: {key}: quantised weights ({by}) are not read; save them in 16 bits"
        if key == "transformers_weights" and value:
            return f"config.json: {key} is {value!r}; call the weights {hub.WEIGHTS} and remove the key"
    return ""


def check_weights(path: Path) -> None:
    """Check that a model folder is safe to open and its weights are floating-point numbers, without opening the model.

    Raises:
        AdaptbenchError: weights are quantised, have another name or are missing, or `check_safe` refuses the folder.
    """
    check_safe(path)
    config = path / "config.json"
    if config.exists() and (problem := config_problem(_read_object(config))):
        raise AdaptbenchError(f"{path}: {problem}")
    for file in hub.weights(path):
        if not file.is_file():
            raise AdaptbenchError(f"{file}: missing, one of the files that {hub.INDEX} names")
        _check_header(file)
        for name, kind in _stored(file):
            if kind not in FLOATS and (kind.startswith("F") or name.endswith("weight")):
                raise AdaptbenchError(f"{file}: {name} is {kind}; quantised weights are not read; save them in 16 bits")


def _stored(file: Path) -> list[tuple[str, str]]:
    """Return the names and dtypes of the tensors in a safetensors file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return [(name, opened.get_slice(name).get_dtype()) for name in opened.keys()]  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise unreadable(file, error) from None


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of a mapping and of all mappings in it."""
    for key, value in content.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _entries(value)


def _read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object as transformers does, which accepts no byte order mark."""
    if path.is_file() and path.read_bytes().startswith(codecs.BOM_UTF8):
        raise AdaptbenchError(
            f"{path}: begins with a byte order mark, which transformers does not read; save it without"
        )
    content = read_json(path, strict=False)  # configurations of state-space models hold Infinity
    if not isinstance(content, dict):
        raise AdaptbenchError(f"{path}: must be a JSON object")
    return content


def fetch(name: str, revision: str) -> Path:
    """Download a hub model's weights, configuration and tokenizer; return their folder.

    Pickles, code and weights in other formats are not downloaded.

    Raises:
        AdaptbenchError: the download fails, or the folder is unsafe to open.
    """
    from huggingface_hub import snapshot_download

    if hub.find_local(name, revision) and has_tokenizer(hub.model_path(name, revision)):
        return hub.model_path(name, revision)

    def download(revision: str, patterns: list[str]) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns="*/*"))

    with hub.hub_errors(name, revision, "model"):
        folder = download(revision, [*HUB_FILES, hub.WEIGHTS])
        check_safe(folder)
        shards = [shard.name for shard in hub.weights(folder)]
        return folder if shards in ([], [hub.WEIGHTS]) else download(folder.name, shards)


def unreadable(path: Path, error: Exception) -> AdaptbenchError:
    """Return an error for a folder that transformers failed to open with `error`."""
    said = " ".join(str(error).split())[:300]
    return AdaptbenchError(
        f"{path}: {said if isinstance(error, OSError | ValueError) else f'{type(error).__name__}: {said}'}"
    )


def write_manifest(out: Path, content: dict[str, Any]) -> None:
    """Write adaptbench.json into a model folder, with defaults for its schema version and decoding."""
    whole = {"schema_version": SCHEMA_VERSION, "decode": {"kind": "plain"}} | content
    write_text(out / MANIFEST, json.dumps(whole, indent=1) + "\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the directory's adaptbench.json.

    Raises:
        AdaptbenchError: it is missing or from a newer version.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except FileNotFoundError:
        raise AdaptbenchError(f"{path}: no {MANIFEST}; not made by adaptbench") from None
    if manifest["schema_version"] > SCHEMA_VERSION:
        raise AdaptbenchError(
            f"{path / MANIFEST}: schema version {manifest['schema_version']} is newer than {SCHEMA_VERSION}"
        )
    return manifest


def lacks(path: Path) -> dict[str, str]:
    """Return the capabilities that the base of a model lacks, with the reasons; empty if they were not measured."""
    found: dict[str, str] = read_manifest(path).get("lacks", {}) if (path / MANIFEST).exists() else {}
    return found


def decode_options(path: Path) -> dict[str, Any]:
    """Return the decoding options of a model, without the kind: keyword arguments of its `language_model`."""
    return {name: value for name, value in read_manifest(path)["decode"].items() if name != "kind"}
