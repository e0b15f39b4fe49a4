"""Load the splits next to a benchmark's task files, and compute a metric that lm-eval lacks.

This file is copied next to the task files. It imports nothing of the project, so that plain `lm-eval` can run them.
"""

import json
import math
from pathlib import Path


def load(split, **metadata):
    """Return one split under the name "test", as lm-eval expects it."""
    import datasets

    path = Path(__file__).resolve().parent.parent / "splits" / f"{split}.jsonl"
    # Not splitlines: a line of JSON may hold other separators, such as U+2028.
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return {"test": datasets.Dataset.from_list([json.loads(line) for line in lines])}


def bits_per_byte(doc, results):
    """Return the code length of a document's text, or of its `target` after its `prompt`, and its bytes as weight."""
    log_likelihood, _ = results[0]
    text = doc["text"] if "text" in doc else doc["target"]
    size = len(text.encode())
    return {"bits_per_byte": -log_likelihood / math.log(2) / size, "bytes": size}
