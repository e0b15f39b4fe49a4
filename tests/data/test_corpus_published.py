"""The reader of text corpora on published files, where they lie beside the project.

Run: pytest tests/data/test_corpus_published.py
"""

import json

import pytest

from adaptbench import registry
from adaptbench.data.leakage import normalise
from tests.support.project import PROJECT

SHARED = PROJECT.parent / "shared" / "data"
SETS = {"medquad": ("answer", 900, 16_359), "wikitext2": ("page", 60, 122), "pubmedqa": ("LONG_ANSWER", 700, 1_000)}
"""The column of the text, the documents asked for and those that are there."""


@pytest.mark.parametrize("name", SETS)
def test_a_published_corpus_is_read_whole_and_as_it_is_written(name):
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    field, items, documents = SETS[name]
    records = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.open(encoding="utf-8")]
    assert len(records) == documents
    published = {normalise(record[field]) for record in records}
    module = registry.benchmark("domain", "corpus")
    config = module.Config(text_field=field, train_items=items - 20, validation_items=10, test_items=10)
    source = {"domain_corpus": {"hub_id": "none", "revision": "main", "path": str(folder)}}
    splits = module.build(config, 0, source)
    assert {split: len(texts) for split, texts in splits.items()} | {"train": 0} == {
        "train": 0,
        "corpus_text": 10,
        "corpus_validation": 10,
    }
    assert len(splits["train"]) <= items - 20
    for texts in splits.values():
        assert all(any(whole.startswith(normalise(one["text"])[:200]) for whole in published) for one in texts[:10])
