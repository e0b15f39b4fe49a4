"""The built-in domain: facts about new minerals, in words and phrasings that general text does not have.

Every fact has five phrasings: three are training text, one is for choosing hyper-parameters, one is the test. The
multiple-choice test and the generative test use the same sentences. They are two tasks, since a score by likelihood and
a score by generated text are not comparable.
"""

import random
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from adaptbench.benchmarks.shared import minerals
from adaptbench.benchmarks.shared.facts import split_phrasings
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.errors import AdaptbenchError
from adaptbench.tasks import Task


class Config(BenchmarkConfig):
    kind: Literal["world"] = "world"
    entities: int = Field(80, ge=20, description="new minerals; four facts each")
    test_items: int = Field(320, ge=8, description="items of each test, at most four for each mineral")


TASKS = (
    Task("domain_facts", metric="acc", label="domain facts", unit="accuracy", primary=True),
    Task("domain_answers", metric="exact_match", label="domain answers", unit="exact match"),
    Task(
        "domain_validation", metric="acc", label="domain validation", unit="accuracy", split="validation", primary=True
    ),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, object]]) -> dict[str, list[Record]]:
    """Return the splits of the domain.

    Returns:
        train: {"text"}; domain_facts, domain_validation: {"prompt", "choices", "gold"}; domain_answers: {"prompt",
        "target"}.

    Raises:
        AdaptbenchError: there are fewer facts than test items.
    """
    rng = random.Random(f"{seed}/domain")
    facts = minerals.mineral_facts(config.entities, seed, familiar=False)
    phrasings = split_phrasings(facts, held_out=2, rng=rng)
    train = [{"text": fact.sentence(i)} for fact, (kept, _) in zip(facts, phrasings, strict=True) for i in kept]
    held_out = [(fact, held) for fact, (_, held) in zip(facts, phrasings, strict=True)]
    rng.shuffle(train)
    rng.shuffle(held_out)
    if config.test_items > len(held_out):
        raise AdaptbenchError(
            f"data.domain.test_items: must be <= {len(held_out)}, the facts of {config.entities} minerals"
        )
    held_out = held_out[: config.test_items]
    return {
        "train": train,
        "domain_facts": [fact.choice_item(held[0], rng) for fact, held in held_out],
        "domain_answers": [fact.answer_item(held[0]) for fact, held in held_out],
        "domain_validation": [fact.choice_item(held[1], rng) for fact, held in held_out],
    }
