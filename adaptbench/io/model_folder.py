"""Model directories as files: what must be there, what is safe to open, and the manifest adaptbench.json."""

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
"""What is downloaded of a hub model beside its weights: nothing that could be a pickle or code."""


FLOATS = ("F64", "F32", "F16", "BF16")


SCHEMA_VERSION = 1


def check_folder(path: Path) -> None:
    """See that a local model folder can be opened: it has a configuration, safetensors weights and a tokenizer.

    Raises:
        AdaptbenchError: what is missing.
    """
    problem = local_files.folder_problem(str(path))
    if problem:
        raise AdaptbenchError(f"{path}: {problem.replace('folder', 'model folder', 1)}")
    _check_no_adapter(path)
    if not (path / "config.json").is_file():
        inside = [*path.glob("*/config.json"), *path.glob("snapshots/*/config.json")]  # a trainer's, the hub's cache's
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
    """See that a file begins as safetensors does: with the length of a JSON object, and that."""
    with weights.open("rb") as file:
        begins = file.read(9)
    if begins.startswith(b"version "):
        raise AdaptbenchError(f"{weights}: a pointer of git-lfs and not the weights; run `git lfs pull` in that folder")
    if begins[8:] != b"{" or int.from_bytes(begins[:8], "little") > weights.stat().st_size - 8:
        raise AdaptbenchError(f"{weights}: no safetensors file, or not whole; copy it again")


def _check_no_adapter(path: Path) -> None:
    file = path / "adapter_config.json"
    if file.exists():
        of = _read_object(file).get("base_model_name_or_path")
        raise AdaptbenchError(
            f"{path}: an adapter, which names a model elsewhere ({of!r:.80}); merge it into that model and save the whole: "
            "peft.AutoPeftModelForCausalLM.from_pretrained(adapter).merge_and_unload().save_pretrained(folder), and the tokenizer there, too"
        )


def has_tokenizer(path: Path) -> bool:
    return any((path / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))


def check_safe(path: Path) -> None:
    """Opening a model folder reads its own safetensors and runs nothing, which `use_safetensors` and `trust_remote_code` do not promise.

    transformers 5 opens whatever the index of sharded weights names, pickles too; an attention implementation with a slash is code on the
    hub; an adapter's folder names another model to load.

    Raises:
        AdaptbenchError: which file asks for something else, or there is no such folder.
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
    """Say why weights that a model's config.json describes are not read; empty where they are."""
    for key, value in _entries(config):
        if key in ("quantization_config", "compression_config") and value:
            by = value.get("quant_method") if isinstance(value, Mapping) else value
            return f"config.json: {key}: quantised weights ({by}) are not read; save them in 16 bits"
        if key == "transformers_weights" and value:
            return f"config.json: {key} is {value!r}; call the weights {hub.WEIGHTS} and remove the key"
    return ""


def check_weights(path: Path) -> None:
    """See that a model folder is safe to open and that its weights are floating-point numbers, without opening the model.

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
    """Return names and dtypes of the tensors in a file of weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return [(name, opened.get_slice(name).get_dtype()) for name in opened.keys()]  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as error:
        raise unreadable(file, error) from None


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys and values of a mapping and of those in it."""
    for key, value in content.items():
        yield key, value
        if isinstance(value, Mapping):
            yield from _entries(value)


def _read_object(path: Path) -> dict[str, Any]:
    if path.is_file() and path.read_bytes().startswith(codecs.BOM_UTF8):
        raise AdaptbenchError(
            f"{path}: begins with a byte order mark, which transformers does not read; save it without"
        )
    content = read_json(path, strict=False)  # configurations of state-space models hold Infinity
    if not isinstance(content, dict):
        raise AdaptbenchError(f"{path}: must be a JSON object")
    return content


def fetched(name: str, revision: str) -> Path:
    """Return the folder into which a hub model's weights, configuration and tokenizer are downloaded.

    Pickles and code stay on the hub, and so do weights in another format beside those that transformers reads.

    Raises:
        AdaptbenchError: it cannot be had, in one line.
    """
    from huggingface_hub import snapshot_download

    if hub.local(name, revision) and has_tokenizer(hub.folder(name, revision)):
        return hub.folder(name, revision)

    def download(revision: str, patterns: list[str]) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns="*/*"))

    with hub.hub_errors(name, revision, "model"):
        folder = download(revision, [*HUB_FILES, hub.WEIGHTS])
        check_safe(folder)
        shards = [shard.name for shard in hub.weights(folder)]
        return folder if shards in ([], [hub.WEIGHTS]) else download(folder.name, shards)


def unreadable(path: Path, error: Exception) -> AdaptbenchError:
    """One line for a folder that transformers cannot open, whatever that raised."""
    said = " ".join(str(error).split())[:300]
    return AdaptbenchError(
        f"{path}: {said if isinstance(error, OSError | ValueError) else f'{type(error).__name__}: {said}'}"
    )


def write_manifest(out: Path, content: dict[str, Any]) -> None:
    whole = {"schema_version": SCHEMA_VERSION, "decode": {"kind": "plain"}} | content
    write_text(out / MANIFEST, json.dumps(whole, indent=1) + "\n")


def read_manifest(path: Path) -> dict[str, Any]:
    """The directory's adaptbench.json.

    Raises:
        AdaptbenchError: missing or from a newer version.
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
    """Return what the base of the directory's model lacks, by capability, with the reason; nothing where it was not measured."""
    found: dict[str, str] = read_manifest(path).get("lacks", {}) if (path / MANIFEST).exists() else {}
    return found


def decode_options(path: Path) -> dict[str, Any]:
    """How the directory's model decodes, without the kind: what its `language_model` takes."""
    return {name: value for name, value in read_manifest(path)["decode"].items() if name != "kind"}
