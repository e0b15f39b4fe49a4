"""Model directories: plain Hugging Face ones, plus adaptbench.json with how they were made and how they decode."""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptbench import hub, plain_files
from adaptbench.contracts import AdaptbenchError
from adaptbench.documents import read_json
from adaptbench.files import write_text
from adaptbench.model import capabilities
from adaptbench.model.tied import separate

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MANIFEST = "adaptbench.json"
HUB_FILES = ["*.json", "*.txt", "*.model", "*.jinja"]
"""What is downloaded of a hub model beside its weights: nothing that could be a pickle or code."""
FLOATS = ("F64", "F32", "F16", "BF16")
CONSTANTS = re.compile(r"(inv_freq|masked_bias|causal_mask|(^|\.)(attn|attention)\.bias)$")
"""Tensors that earlier versions of transformers stored beside the weights: rotations and masks, which every model computes."""
SCHEMA_VERSION = 1


def device() -> str:
    """Where models run: on the first CUDA device, if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_folder(path: Path) -> None:
    """See that a local model folder can be opened: it has a configuration, safetensors weights and a tokenizer.

    Raises:
        AdaptbenchError: what is missing.
    """
    problem = plain_files.folder_problem(str(path))
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
    if not _has_tokenizer(path):
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


def _has_tokenizer(path: Path) -> bool:
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
        raise _unopened(file, error) from None


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

    if hub.local(name, revision) and _has_tokenizer(hub.folder(name, revision)):
        return hub.folder(name, revision)

    def download(revision: str, patterns: list[str]) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns, ignore_patterns="*/*"))

    with hub.answers(name, revision, "model"):
        folder = download(revision, [*HUB_FILES, hub.WEIGHTS])
        check_safe(folder)
        shards = [shard.name for shard in hub.weights(folder)]
        return folder if shards in ([], [hub.WEIGHTS]) else download(folder.name, shards)


@contextmanager
def attending(some: "Sequence[PreTrainedModel]", by: str) -> Iterator[None]:
    """The models attend by this implementation inside the block, those of them that can be told to."""
    with ExitStack() as undo:
        for model in some:
            if (before := model.config._attn_implementation) != by:
                undo.callback(model.set_attn_implementation, before)
                model.set_attn_implementation(by)
        yield


def load_model(path: Path, *, dtype: "torch.dtype | str" = "auto", attention: str = "auto") -> "PreTrainedModel":
    """Open a model directory; never runs code from it, never reads pickles.

    Raises:
        AdaptbenchError: it cannot be opened, or its weights are not those that its configuration asks for, in one line.
    """
    from transformers import AutoModelForCausalLM

    check_weights(path)
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=None if attention == "auto" else attention,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below; transformers alone shows a table on several lines
        )
    except Exception as error:  # what a configuration can make of transformers' code has no common kind
        raise _unopened(path, error) from None
    if other := sorted(found["mismatched_keys"]):
        name, stored, asked = other[0]
        shapes = " where config.json asks for ".join("x".join(map(str, shape)) for shape in (stored, asked))
        raise AdaptbenchError(f"{path}: {name} is {shapes}, one of {len(other)} tensors of another shape")
    missing = sorted(found["missing_keys"])
    if missing:
        # transformers would go on with random values.
        raise AdaptbenchError(f"{path}: no weights for {missing[0]}, one of {len(missing)} that are missing")
    unexpected = sorted(name for name in found["unexpected_keys"] if not CONSTANTS.search(name))
    if unexpected:
        named = ", ".join(unexpected[:3]) + (", ..." if len(unexpected) > 3 else "")
        raise AdaptbenchError(
            f"{path}: the model of config.json has no place for {len(unexpected)} of its tensors: {named}"
        )
    _train_padding(model)
    separate(model)
    model.base_lacks = lacks(path)
    return model


def check_finite(model: "torch.nn.Module") -> None:
    """See that all weights are numbers.

    Raises:
        AdaptbenchError: one is infinite or not a number.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise AdaptbenchError(f"{name} holds values that are infinite or not a number; the weights are damaged")


def _train_padding(model: Any) -> None:
    """Let the embedding of the padding token train as an input where nothing else trains it, as it may begin every document, too.

    transformers makes pad_token_id the `padding_idx` of the embeddings, a row that PyTorch gives no gradient. Tied to the head a row
    trains by that. A row of zeros stays one: the norms after it would make its gradient so large that nothing else trained.
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    pad = getattr(embeddings, "padding_idx", None)
    if pad is not None and head is not None and embeddings.weight is not head.weight and embeddings.weight[pad].any():
        embeddings.padding_idx = None


def load_tokenizer(path: Path) -> "PreTrainedTokenizerBase":
    """Open a model directory's tokenizer; never runs code from it.

    Raises:
        AdaptbenchError: it cannot be opened, in one line.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise _unopened(path, error) from None


def _unopened(path: Path, error: Exception) -> AdaptbenchError:
    """One line for a folder that transformers cannot open, whatever that raised."""
    said = " ".join(str(error).split())[:300]
    return AdaptbenchError(
        f"{path}: {said if isinstance(error, OSError | ValueError) else f'{type(error).__name__}: {said}'}"
    )


def save_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    out: Path,
    manifest: dict[str, Any] | None = None,
) -> None:
    """Write a model directory that plain `from_pretrained` opens."""
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    write_manifest(out, manifest or {})


def logits_at(model: Any, kept: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
    """Logits (positions, vocabulary), in float32 or more, of the positions that `kept` (rows, length) marks.

    The output head sees no other position: most of a step's memory would go into logits that nobody reads.
    """
    import torch

    logits = _forward(model, inputs, lambda hidden: hidden[kept]).logits
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def before_head_at(model: Any, kept: "torch.Tensor", inputs: "Mapping[str, torch.Tensor]") -> "torch.Tensor":
    """What goes into the output head (positions, width) at the positions that `kept` (rows, length) marks; no logits are made."""
    found = []

    def take(hidden: "torch.Tensor") -> "torch.Tensor":
        found.append(hidden[kept])
        return hidden[:0]

    _forward(model, inputs, take)
    return found[0]


def _forward(model: Any, inputs: "Mapping[str, torch.Tensor]", before_head: Callable[[Any], Any]) -> Any:
    """A forward pass whose output head sees what `before_head` makes of the hidden states."""
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _, given: (before_head(given[0]),))
    try:
        return model(**inputs, use_cache=False)
    finally:
        hook.remove()


def has_plain_head(model: Any) -> bool:
    """Return whether logits are the product with the head's matrix and nothing else: no bias, cap or scale, and the whole matrix here.

    The architecture is known to have such a head, the base was not measured to have another, and the configuration's options that
    scale or cap logits are not set.
    """
    import torch

    head, config = model.get_output_embeddings(), model.config.get_text_config()
    changed = "head" in capabilities.known().get(model.config.model_type, {"head": "not measured"})
    changed |= "head" in getattr(model, "base_lacks", {})
    changed |= any(getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"))
    return (
        type(head) is torch.nn.Linear and head.bias is None and not changed and type(head.weight.data) is torch.Tensor
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


def tensors(model: "torch.nn.Module") -> "Iterator[tuple[str, torch.Tensor]]":
    """Yield the names and values of a model's floating-point parameters and buffers."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor


def parameter_counts(model: "torch.nn.Module") -> dict[str, int]:
    """Parameters in all and those that train; tied weights count once, of embeddings only the rows that train."""
    parameters = list(model.parameters())
    trained = [p[list(p.trained_rows)] if hasattr(p, "trained_rows") else p for p in parameters if p.requires_grad]
    return {"total": sum(p.numel() for p in parameters), "trained": sum(p.numel() for p in trained)}


def decay_groups(parameters: "Sequence[torch.nn.Parameter]", weight_decay: float) -> list[dict[str, Any]]:
    """An optimizer's groups: weight decay is for matrices, but not for those of which only some rows train, as it would move the
    others. Groups without parameters are left out.
    """
    decaying = [p for p in parameters if p.ndim >= 2 and not hasattr(p, "trained_rows")]
    taken = set(map(id, decaying))
    groups = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": [p for p in parameters if id(p) not in taken], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def train_rows(model: "torch.nn.Module", rows: Sequence[int]) -> None:
    """Let these tokens' rows of the embeddings train where a tuner has frozen them; the other rows get no gradient."""
    if not rows:
        return
    for module in (model.get_input_embeddings(), model.get_output_embeddings()):
        weight = module.weight
        if not weight.requires_grad:
            weight.requires_grad_(True)
            kept = weight.new_zeros(len(weight), 1)
            kept[list(rows)] = 1.0
            weight.register_hook(lambda gradient, kept=kept: gradient * kept.to(gradient))
            weight.trained_rows = tuple(rows)
