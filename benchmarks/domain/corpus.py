"""A text corpus as the domain: plain text of the hub or of a folder, learned as text and tested by its code length.

lm-eval's own tasks, which a preset names under evaluation.stock_tasks, can measure what was learned beyond the text.
The corpus is not compared with the documents of those tasks.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.contracts import Record
from adaptbench.data import corpus
from adaptbench.tasks import Task

READS = corpus.READS
PUBLIC_DATA = {"domain_corpus": "open-web-math/open-web-math"}


class Config(corpus.CorpusConfig):
    kind: Literal["corpus"] = "corpus"
    train_items: int = Field(
        50_000, gt=0, description="documents read for training; those that begin as a test document are left out"
    )
    validation_items: int = Field(0, ge=0, description="documents set aside for choosing hyper-parameters")
    test_items: int = Field(500, gt=0, description="documents of the test, each its first 4,000 characters")


TASKS = (
    Task(
        "corpus_text",
        metric="bits_per_byte",
        label="corpus text",
        unit="bits per byte",
        higher_is_better=False,
        weight="bytes",
        primary=True,
    ),
    Task(
        "corpus_validation",
        metric="bits_per_byte",
        label="corpus validation",
        unit="bits per byte",
        higher_is_better=False,
        weight="bytes",
        split="validation",
        primary=True,
    ),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits of the corpus.

    Returns:
        train, corpus_text and, if it has items, corpus_validation: {"text"}.

    Raises:
        AdaptbenchError: the documents cannot be loaded, or there are too few.
    """
    count = config.train_items + config.validation_items + config.test_items
    texts = corpus.read(config, public["domain_corpus"], count, seed=seed, name="domain_corpus")
    test, validation, train = corpus.set_apart(texts, config.test_items, config.validation_items)
    return {"train": train, "corpus_text": test} | ({"corpus_validation": validation} if validation else {})
