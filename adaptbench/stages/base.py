"""Makes the base model: pre-trains it here, or imports it."""

from pathlib import Path
from typing import Any

from adaptbench.config import architectures
from adaptbench.config.schema import Architecture
from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.data import tokenizer
from adaptbench.errors import AdaptbenchError
from adaptbench.io import hub, model_folder
from adaptbench.io.jsonl import read_jsonl
from adaptbench.jobs.gpus import device
from adaptbench.model import parameters, storage
from adaptbench.stages import measuring
from adaptbench.stages.inputs import Spec, data_folders, input_folders
from adaptbench.stages.train import fit


def pretrain(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Train the preset's Qwen3 from scratch on the general world's pre-training text."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from adaptbench.data.packing import document

    options, inputs = spec["options"], input_folders(spec)
    architecture = Architecture.model_validate(options["architecture"])
    training = Training.model_validate(options["training"])
    text_tokenizer = storage.load_tokenizer(inputs["tokenizer"])
    torch.manual_seed(options["seed"])
    config = Qwen3Config(
        vocab_size=len(text_tokenizer),
        head_dim=architecture.hidden_size // architecture.num_attention_heads,
        bos_token_id=text_tokenizer.bos_token_id,
        eos_token_id=text_tokenizer.eos_token_id,
        # This row begins at zero without a gradient as an input. It begins every document: untied, it would stay zero.
        pad_token_id=text_tokenizer.pad_token_id if architecture.tie_word_embeddings else None,
        attn_implementation=None if training.attention == "auto" else training.attention,
        **architecture.model_dump(),
    )
    model = Qwen3ForCausalLM(config)
    path = inputs["general"] / "splits" / "pretrain.jsonl"
    texts = [record["text"] for record in read_jsonl(path, require=("text",))]
    examples = [document(ids) for ids in tokenizer.encode_documents(text_tokenizer, texts)]
    context = StageContext(options["seed"], data_folders(spec), text_tokenizer)
    return fit(spec, model, context, examples, training, result=lambda: model, out=out, work=work)


def import_base(spec: Spec, out: Path, work: Path) -> dict[str, Any]:
    """Copy a base model from a folder or the hub, unchanged, into a stage's directory."""
    name, revision = spec["options"]["model"], spec["options"]["revision"]
    local = hub.is_path(name)
    try:
        folder = Path(name) if local else model_folder.fetch(name, revision)
        model_folder.check_folder(folder)
        model, text_tokenizer = storage.load_model(folder), storage.load_tokenizer(folder)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"base.model: {error}") from None
    try:
        _take_in(model, text_tokenizer, out)
    except AdaptbenchError as error:
        raise AdaptbenchError(f"base.model: {name}: {error}") from None
    lacks = measuring.lacks(model.float().to(device()))
    if problem := architectures.missing_capability(lacks, spec.get("needs", ())):
        raise AdaptbenchError(f"base.model: {name}: {problem}")
    return {
        "parameters": parameters.parameter_counts(model),
        "commit": None if local else folder.name,
        "lacks": lacks,
    }


def _take_in(model: Any, text_tokenizer: Any, out: Path) -> None:
    """Check that a base's weights are finite and that its tokens have embeddings, and save it."""
    parameters.check_finite(model)
    if text_tokenizer.eos_token_id is None:
        raise AdaptbenchError("its tokenizer has no end-of-text token (eos_token)")
    if text_tokenizer.pad_token_id is None:
        text_tokenizer.pad_token = text_tokenizer.eos_token
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    rows = (len(one.weight) for one in ends if hasattr(one, "weight"))
    unread = tokenizer.check_ids(text_tokenizer, min(rows, default=model.config.get_text_config().vocab_size))
    try:
        storage.save_model(model, text_tokenizer, out)
    except OSError:
        raise
    except Exception as error:  # transformers may raise anything about a configuration
        raise AdaptbenchError(f"cannot be saved: {' '.join(str(error).split())[:300]}") from None
    tokenizer.forget(out, unread)
