"""A general text corpus, for measuring the importance of a hub model's layers and units, for replay and for a test.

For bases that come from the hub or a folder: no base is pre-trained on it.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from adaptbench.contracts import Record
from adaptbench.data import corpus
from adaptbench.tasks import Task

READS = corpus.READS
PUBLIC_DATA = {"general_corpus": "HuggingFaceFW/fineweb-edu"}
PRETRAINS = False


class Config(corpus.CorpusConfig):
    kind: Literal["corpus"] = "corpus"
    probe_documents: int = Field(256, gt=0, description="documents of the probe corpus")
    replay_documents: int = Field(4000, gt=0, description="documents of the replay corpus")
    test_items: int = Field(500, gt=0, description="documents of the test, each its first 4,000 characters")


TASKS = (
    Task(
        "general_corpus_text",
        metric="bits_per_byte",
        label="general corpus text",
        unit="bits per byte",
        higher_is_better=False,
        weight="bytes",
        general=True,
    ),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, Any]]) -> dict[str, list[Record]]:
    """Return the splits of the corpus.

    Returns:
        probe, replay, general_corpus_text: {"text"}.

    Raises:
        AdaptbenchError: the documents cannot be loaded, or there are too few.
    """
    count = config.probe_documents + config.replay_documents + config.test_items
    texts = corpus.read(config, public["general_corpus"], count, seed=seed, name="general_corpus")
    test, rest = corpus.set_apart(texts, config.test_items)
    return {
        "general_corpus_text": test,
        "probe": rest[: config.probe_documents],
        "replay": rest[config.probe_documents :],
    }
