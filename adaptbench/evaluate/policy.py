"""Evaluate a baseline instead of a model: a benchmark's rule that answers from the training data's frequencies."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval.api.model import LM

from adaptbench import registry
from adaptbench.agent.episodes import Asked, Written
from adaptbench.agent.language_model import answer_requests
from adaptbench.io.jsonl import read_jsonl


def language_model(directory: Path, *, batch_size: int, tasks: Mapping[str, Path], policy: str):
    """Return an lm-eval `LM` that answers with the policy of that name; `directory` holds the benchmark's splits."""
    made = json.loads((directory / "manifest.json").read_text())["options"]
    module = registry.benchmark(made["track"], made["config"]["kind"])
    return PolicyLM(module.BASELINES[policy](read_jsonl(directory / "splits" / "train.jsonl")), tasks)


class PolicyLM(LM):
    def __init__(self, write, tasks: Mapping[str, Path]) -> None:
        """Take `write(record)`, which returns the answer to a document, or an agent's step after a history."""
        super().__init__()
        self.write, self.tasks = write, tasks

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        def respond(role: str, asked: Sequence[Asked], max_new_tokens: int) -> list[Written]:
            return [Written(self.write(one), 0) for one in asked]

        answers = answer_requests(requests, respond, self.tasks, single=True, max_turns=10)
        return [answers[i] if i in answers else self.write(one.doc) for i, one in enumerate(requests)]

    def loglikelihood(self, requests, disable_tqdm: bool = False):
        raise NotImplementedError("a policy writes answers; it has no likelihoods")

    loglikelihood_rolling = loglikelihood
