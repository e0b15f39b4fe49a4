"""Training steps that peers.py compares: in our loop, in transformers, in TRL and in a plain loop with peft.

Every way trains a copy of its model for the given number of steps on the same rows, and records the steps in a `Trace`.
"""

import copy
import importlib.metadata
import json
import math
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from unittest import mock

from adaptbench.config.training import Training
from adaptbench.contracts import StageContext
from adaptbench.data.packing import IGNORED, Example, Packed
from adaptbench.jobs import gpus
from adaptbench.methods.tuners import llama_pro, lora
from adaptbench.model import expansion, parameters
from adaptbench.train.loop import train
from adaptbench.train.objectives import causal_lm
from adaptbench.train.optimizers import default_optimizers

OURS = "adaptbench"
SEED = 0
COPIES = 2  # blocks that LLaMA-Pro adds


@dataclass(frozen=True)
class Sizes:
    """Sizes of the model, of the batch and of the measurement.

    Attributes:
        rows, length: a batch has so many rows of so many tokens.
        warm, timed, rounds: each of the rounds has so many untimed and then timed steps.
        tolerance: the largest relative difference between the losses of two ways.
        rate: the learning rate of AdamW; training must change the loss by far more than the tolerance.
        masked: the share of a row's positions without a label.
    """

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    vocabulary: int = 16_000
    rows: int = 8
    length: int = 256
    warm: int = 2
    timed: int = 3
    rounds: int = 7
    precision: Literal["float32", "bfloat16"] = "float32"
    tolerance: float = 1e-4
    rate: float = 1e-3
    masked: float = 0.7


class Trace:
    """Record of a way's steps: losses, end times in seconds, and the number of trained parameters."""

    def __init__(self) -> None:
        self.losses: list[Any] = []
        self.ends: list[float] = []
        self.trained = 0

    def after_step(self, step: int, run: Any = None) -> dict[str, float]:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None: ...


Way = Callable[[int, Trace], None]


def version(package: str) -> str:
    """Return the version of a package, empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def works(sizes: Sizes) -> dict[str, dict[str, Way]]:
    """Return the ways of each work, ours first, with TRL and (on a GPU) Liger if they are installed."""
    from peft import LoraConfig

    base = _model(sizes)
    expanded = expansion.expand(base, expansion.evenly_spread(sizes.layers, COPIES))
    blocks = llama_pro.adapt(llama_pro.Config(layers=COPIES), copy.deepcopy(expanded), StageContext(SEED, {}))
    adapter = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    by_trainer = partial(_by_trainer, sizes)

    low_rank: dict[str, Way] = {
        OURS: partial(_ours, sizes, base, tuner=lora, config=lora.Config(rank=8, alpha=16.0)),
        "peft, plain loop": partial(_plain, sizes, base, adapter),
    }
    pro: dict[str, Way] = {
        OURS: partial(_ours, sizes, expanded, tuner=llama_pro, config=llama_pro.Config(layers=COPIES)),
        "transformers Trainer": partial(by_trainer, blocks),
    }
    if version("trl"):
        low_rank["TRL SFTTrainer"] = partial(by_trainer, base, trl=True, adapter=adapter)
        pro["TRL SFTTrainer"] = partial(by_trainer, blocks, trl=True)
    whole = replace(sizes, masked=0.0)
    return {
        "masked SFT": _sft(sizes, base),
        "SFT, nothing masked": _sft(whole, base),
        "LoRA": low_rank,
        "LLaMA-Pro": pro,
    }


def _sft(sizes: Sizes, base: Any) -> dict[str, Way]:
    trainers = {"transformers Trainer": partial(_by_trainer, sizes, base)}
    if version("trl"):
        trainers["TRL SFTTrainer"] = partial(_by_trainer, sizes, base, trl=True)
    if version("liger_kernel") and gpus.device() == "cuda":
        trainers |= {f"{name}, Liger": partial(way, liger=True) for name, way in trainers.items()}
    return {OURS: partial(_ours, sizes, base), **trainers}


def _ours(sizes: Sizes, start: Any, steps: int, trace: Trace, *, tuner: Any = None, config: Any = None) -> None:
    """Train with this project's loop, after adapting the model with the tuner if there is one."""
    from transformers import set_seed

    training = Training(
        learning_rate=sizes.rate, steps=steps, batch_size=sizes.rows, sequence_length=sizes.length,
        schedule="constant", warmup_ratio=0.0,
        precision=sizes.precision,
    )  # fmt: skip
    set_seed(SEED)
    model = copy.deepcopy(start)
    if tuner is not None:
        model = tuner.adapt(config, model, StageContext(SEED, {}, sequence_length=sizes.length, device=gpus.device()))
    trace.trained = parameters.parameter_counts(model)["trained"]
    optimizers = default_optimizers(model.to(gpus.device()), training)
    with TemporaryDirectory() as folder:
        train(
            model, optimizers, _data(sizes), causal_lm, training, work=Path(folder), pad_id=0, seed=SEED,
            checkpoint_seconds=math.inf,
            callback=trace,
        )  # fmt: skip
        trace.losses += [
            json.loads(line)["loss"] for line in (Path(folder) / "training.jsonl").read_text().splitlines()
        ]


def _plain(sizes: Sizes, start: Any, adapter: Any, steps: int, trace: Trace) -> None:
    """Train the peft adapter in a plain loop of PyTorch."""
    import torch
    from peft import get_peft_model
    from transformers import set_seed

    device = gpus.device()
    set_seed(SEED)
    model = get_peft_model(copy.deepcopy(start), copy.deepcopy(adapter)).to(device).train()
    trace.trained = parameters.parameter_counts(model)["trained"]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=sizes.rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True)
    rows = _rows(sizes, steps)
    for step in range(steps):
        part = rows[step * sizes.rows : (step + 1) * sizes.rows]
        batch = {name: torch.tensor([row[name] for row in part]).to(device) for name in part[0]}
        with torch.autocast(device, torch.bfloat16, enabled=sizes.precision == "bfloat16"):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        trace.losses.append(loss.detach())
        trace.after_step(step + 1)


def _by_trainer(
    sizes: Sizes, start: Any, steps: int, trace: Trace, *, trl: bool = False, liger: bool = False, adapter: Any = None
) -> None:
    """Train with the Trainer of transformers, or with `trl` its SFTTrainer, optionally with Liger's kernels."""
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator
    from transformers.models.qwen3 import modeling_qwen3

    class Ends(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            trace.after_step(0)

    with ExitStack() as stack:
        options: dict[str, Any] = dict(
            output_dir=stack.enter_context(TemporaryDirectory()), max_steps=steps,
            per_device_train_batch_size=sizes.rows, learning_rate=sizes.rate,
            adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-8, weight_decay=0.0, optim="adamw_torch_fused",
            max_grad_norm=1.0,
            lr_scheduler_type="constant", bf16=sizes.precision == "bfloat16", use_cpu=gpus.device() == "cpu", seed=SEED,
            train_sampling_strategy="sequential", save_strategy="no", logging_strategy="no", report_to="none",
            disable_tqdm=True,
            use_liger_kernel=liger,
        )  # fmt: skip
        if liger:
            # Liger replaces some of the module's classes and functions without restoring them.
            stack.enter_context(mock.patch.dict(vars(modeling_qwen3)))
        model, rows = copy.deepcopy(start), Dataset.from_list(_rows(sizes, steps))
        if trl:
            from trl import SFTConfig, SFTTrainer

            kept = SFTConfig(
                **options, gradient_checkpointing=False, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}
            )
            more = {"processing_class": _tokenizer(), "peft_config": copy.deepcopy(adapter)}
            trainer = SFTTrainer(model, kept, train_dataset=rows, callbacks=[Ends()], **more)
        else:
            arguments = TrainingArguments(**options)
            trainer = Trainer(model, arguments, default_data_collator, train_dataset=rows, callbacks=[Ends()])
        trace.trained = parameters.parameter_counts(trainer.model)["trained"]
        step = trainer.training_step

        def training_step(*given: Any, **named: Any) -> Any:
            trace.losses.append(step(*given, **named))
            return trace.losses[-1]

        trainer.training_step = training_step
        trainer.train()


def _model(sizes: Sizes) -> Any:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=sizes.vocabulary, hidden_size=sizes.hidden, intermediate_size=3 * sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads, num_key_value_heads=sizes.heads, head_dim=sizes.hidden // sizes.heads,
        tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def _data(sizes: Sizes) -> Packed:
    """Return the rows of one batch, which is repeated in every step: losses then change only by training."""
    rng = random.Random(SEED)
    context = int(sizes.masked * sizes.length)
    rows = [[rng.randrange(1, sizes.vocabulary) for _ in range(sizes.length)] for _ in range(sizes.rows)]
    return Packed([Example(row, [IGNORED] * context + row[context:]) for row in rows], sizes.length, SEED)


def _rows(sizes: Sizes, steps: int) -> list[dict[str, list[int]]]:
    """Return the same rows in the order of our training."""
    examples = chain.from_iterable(chain.from_iterable(islice(_data(sizes).batches(sizes.rows), steps)))
    return [{"input_ids": list(one.input_ids), "labels": list(one.labels)} for one in examples]


def _tokenizer() -> Any:
    """Return a tokenizer with a padding token, all that TRL needs for tokenized rows."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<end>": 0}, unk_token="<end>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<end>", eos_token="<end>")
