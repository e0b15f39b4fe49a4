"""Continual pre-training: next-token prediction on the track's training text, in one stage.

Three options against forgetting need no other stage. Replay mixes in a share of general text. L2-SP (arXiv 1802.01483)
penalises the distance from the starting weights, lambda * ||w - w_start||^2, equation 2 without the term for new
parameters, which a language model does not have. `kl` penalises the distance from the starting predictions,
lambda * KL(start || model) on the labelled tokens, as distillation in Learning without Forgetting (arXiv 1606.09282).
"""

from typing import ClassVar, Literal

from pydantic import Field

from adaptbench.config.training import Training
from adaptbench.contracts import CurriculumConfig, Phase, Real, StageContext


class Config(CurriculumConfig):
    kind: Literal["cpt"] = "cpt"
    tracks: ClassVar[tuple[str, ...]] = ("domain",)
    replay: Real = Field(0.0, ge=0, lt=1, description="share of the training tokens that is general text")
    l2_sp: Real = Field(0.0, ge=0, description="weight of the squared distance from the starting weights")
    kl: Real = Field(0.0, ge=0, description="weight of the divergence from the starting model's predictions")

    def problem(self, run, base_layers: int | None) -> str:
        if self.l2_sp > 0 and not run.tuner.moves_base_weights:
            return f"l2_sp: needs a tuner that moves the base's own weights; {run.tuner.kind} does not"
        return ""

    def sharded_problem(self, run) -> str:
        return "l2_sp: the distance is one of whole weights; use devices.strategy: ddp" if self.l2_sp > 0 else ""


def phases(config: Config, track: str, training: Training) -> tuple[Phase, ...]:
    return (Phase("tune", data=(track, "general") if config.replay else (track,)),)


def examples(config: Config, phase: str, model, context: StageContext):
    """Return every document of the track's `train` split, and general documents as `replay` of all tokens."""
    from adaptbench.data.packing import document
    from adaptbench.data.replay import with_replay
    from adaptbench.data.tokenizer import encode_documents
    from adaptbench.io.jsonl import read_jsonl

    path = next(iter(context.data.values())) / "splits" / "train.jsonl"
    texts = [record["text"] for record in read_jsonl(path, require=("text",))]
    return with_replay([document(ids) for ids in encode_documents(context.tokenizer, texts)], config.replay, context)


def objective(config: Config, phase: str, model, context: StageContext):
    """Return the next-token cross-entropy plus the penalties."""
    from adaptbench.train.objectives import causal_lm

    loss = _with_divergence(config.kl, model) if config.kl else causal_lm
    if not config.l2_sp:
        return loss
    distance = _squared_distance_from(model)

    def penalised(model, batch):
        return loss(model, batch) + config.l2_sp * distance(model)

    penalised.forward_only = getattr(loss, "forward_only", ())  # type: ignore[attr-defined]
    return penalised


def _squared_distance_from(model):
    start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def distance(model):
        total = 0.0
        for name, p in model.named_parameters():
            if p.requires_grad:
                start[name] = start[name].to(p.device)  # the model may have moved since the start
                total = total + ((p - start[name]) ** 2).sum()
        return total

    return distance


def _with_divergence(weight: float, model):
    """Return cross-entropy + weight * KL(start || model), means over the labelled tokens; keeps a copy of `model`."""
    import copy

    import torch

    from adaptbench.model.forward import logits_at
    from adaptbench.train.objectives import inputs_of, next_tokens

    start = copy.deepcopy(model).eval().requires_grad_(False)

    def loss(model, batch):
        start.to(batch["input_ids"].device)
        kept, targets = next_tokens(batch)
        with torch.no_grad():
            before = logits_at(start, kept, inputs_of(batch)).log_softmax(-1)
        now = logits_at(model, kept, inputs_of(batch)).log_softmax(-1)
        divergence = torch.nn.functional.kl_div(now, before, log_target=True, reduction="batchmean")
        return torch.nn.functional.nll_loss(now, targets) + weight * divergence

    loss.forward_only = (start,)  # type: ignore[attr-defined]
    return loss
