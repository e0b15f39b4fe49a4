"""Mixes general text into a stage's examples, against forgetting: an option of every track's curricula."""

import random
from collections.abc import Sequence

from adaptbench.contracts import StageContext
from adaptbench.data.packing import Example, document
from adaptbench.data.tokenizer import encode_documents
from adaptbench.io.jsonl import read_jsonl


def with_replay(examples: Sequence[Example], share: float, context: StageContext) -> list[Example]:
    """Return `examples` and so many documents of the general replay corpus that they make `share` of all tokens.

    If the corpus is too small for that, its documents are repeated.
    """
    chosen = list(examples)
    if not share:
        return chosen
    budget = sum(example.size for example in chosen) * share / (1 - share)
    records = read_jsonl(context.data["general"] / "splits" / "replay.jsonl", require=("text",))
    general = [document(ids) for ids in encode_documents(context.tokenizer, [record["text"] for record in records])]
    rng = random.Random(f"{context.seed}/replay")
    while budget > 0:
        rng.shuffle(general)
        for example in general:
            if budget <= 0:
                break
            chosen.append(example)
            budget -= len(example.input_ids)
    return chosen
