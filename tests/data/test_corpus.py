"""A plain text corpus from the hub's cache or a folder: what becomes its splits, and what is said of a bad one.

Run: pytest tests/data/test_corpus.py
"""

import json

import pytest

from adaptbench import registry
from adaptbench.config import load
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data, corpus
from adaptbench.data.leakage import normalise
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl
from tests.support import hub
from tests.support.presets import preset_values

TEXTS = [f"Document {i} tells of {'cups' if i % 2 else 'keys'} and of the number {i * i}." for i in range(40)]
SIZES = {"domain": {"train_items": 20, "validation_items": 4, "test_items": 6},
    "general": {"probe_documents": 8, "replay_documents": 10, "test_items": 5}}  # fmt: skip


def build(track: str, out, *, path=None, hub_id="owner/texts", seed: int = 0, **options):
    out.mkdir(parents=True)
    source = {"hub_id": hub_id, "revision": "main", "path": str(path) if path else None}
    values = {"kind": "corpus", **SIZES[track], **options}
    spec = {"track": track, "config": values, "seed": seed, "public": {f"{track}_corpus": source}}
    benchmark_data.build(spec, StageContext(seed, {}), out)
    return {path.stem: [record["text"] for record in read_jsonl(path)] for path in (out / "splits").iterdir()}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "texts").mkdir()
    lines = [json.dumps({"text": text, "url": "x"}) + "\n" for text in TEXTS]
    (tmp_path / "texts" / "a.jsonl").write_text("".join(lines))
    return tmp_path / "texts"


def test_the_splits_of_a_domain_are_different_documents_of_the_corpus(folder, tmp_path):
    splits = build("domain", tmp_path / "out", path=folder)
    assert {name: len(texts) for name, texts in splits.items()} == {
        "train": 20,
        "corpus_validation": 4,
        "corpus_text": 6,
    }
    together = [text for texts in splits.values() for text in texts]
    assert len(set(together)) == 30
    assert set(together) <= set(TEXTS)
    assert build("domain", tmp_path / "again", path=folder) == splits
    assert build("domain", tmp_path / "other", path=folder, seed=1) != splits


def test_general_text_is_probed_replayed_and_tested_apart(folder, tmp_path):
    splits = build("general", tmp_path / "out", path=folder)
    assert {name: len(texts) for name, texts in splits.items()} == {"probe": 8, "replay": 10, "general_corpus_text": 5}
    assert len({text for texts in splits.values() for text in texts}) == 23


def test_every_kind_of_file_and_the_hubs_cache_give_the_same_documents(folder, tmp_path, monkeypatch):
    import pandas as pd

    expected = build("domain", tmp_path / "jsonl", path=folder)
    for suffix in ("parquet", "txt"):
        (tmp_path / suffix).mkdir()
    pd.DataFrame({"text": TEXTS}).to_parquet(tmp_path / "parquet" / "a.parquet")
    (tmp_path / "txt" / "a.txt").write_text("\n\n".join(TEXTS))
    home = tmp_path / "hub"
    hub.add_data(
        home,
        "owner/texts",
        {"train": [], "dev": [{"content": text} for text in TEXTS]} | {"train": [{"content": "x"}]},
        config="small",
    )
    hub.use(home, monkeypatch)
    assert build("domain", tmp_path / "1", path=tmp_path / "parquet") == expected
    assert build("domain", tmp_path / "2", path=tmp_path / "txt") == expected
    assert build("domain", tmp_path / "3", subset="small", split="dev", text_field="content") == expected


def test_a_folder_is_found_by_its_name_whatever_signs_that_has(folder, tmp_path):
    """`datasets` takes paths for patterns."""
    expected = build("domain", tmp_path / "1", path=folder)
    odd = folder.rename(tmp_path / "d[1]*?")
    assert build("domain", tmp_path / "2", path=odd) == expected
    (odd / "a.jsonl").rename(odd / "b[2].txt").write_text("\n".join(TEXTS))
    assert build("domain", tmp_path / "3", path=odd) == expected


def test_repeated_documents_count_once_and_none_that_begins_as_a_test_is_trained_on(tmp_path):
    (tmp_path / "texts").mkdir()
    longer = [f"{text} And more is told of it." for text in TEXTS]
    lines = [json.dumps({"text": text}) + "\n" for text in [*TEXTS, *(text.upper() for text in TEXTS), *longer]]
    (tmp_path / "texts" / "a.jsonl").write_text("".join(lines))
    splits = build("domain", tmp_path / "out", path=tmp_path / "texts", train_items=70)
    tested = [normalise(text) for text in splits["corpus_text"] + splits["corpus_validation"]]
    trained = [normalise(text) for text in splits["train"]]
    assert len(set(trained)) == len(trained) < 70
    assert not any(one.startswith(f"{test} ") or one == test for one in trained for test in tested)


def test_long_documents_are_tested_by_their_beginning():
    tests, rest = corpus.set_apart(["a " * 9000, "b " * 9000], 1)
    assert len(tests[0]["text"]) == corpus.TEST_CHARACTERS
    assert len(rest[0]["text"]) == 18000


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"train_items": 90}, r"^data.domain_corpus: 100 documents are asked for, there are 40 different ones$"),
        ({"text_field": "body"}, r"^data.domain_corpus.path: \S+/a.jsonl:1: no column 'body'; there are text, url$"),
    ],
)
def test_what_a_folder_lacks_is_one_line(folder, tmp_path, options, line):
    with pytest.raises(AdaptbenchError, match=line):
        build("domain", tmp_path / "out", path=folder, **options)


def test_an_empty_folder_a_broken_file_and_an_unreachable_hub_are_one_line(tmp_path, monkeypatch):
    hub.use(tmp_path, monkeypatch)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AdaptbenchError, match=r"domain_corpus.path: .*empty has no file of .jsonl, .parquet, .txt"):
        build("domain", tmp_path / "1", path=tmp_path / "empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.parquet").write_text("no parquet")
    with pytest.raises(
        AdaptbenchError, match=r"^data.domain_corpus.path: \S+broken/a.parquet: no Parquet file, or a damaged one: "
    ):
        build("domain", tmp_path / "2", path=tmp_path / "broken")
    with pytest.raises(
        AdaptbenchError, match=r"^data.domain_corpus: owner/texts: [^\n]+; or set data.domain_corpus.path to a local"
    ):
        build("domain", tmp_path / "3")


def test_no_base_is_pre_trained_on_a_corpus():
    values = preset_values()
    values["data"]["general"] = {"kind": "corpus"}
    with pytest.raises(AdaptbenchError, match=r"base.model: missing, and data.general is corpus"):
        load.validate(values, "toy.yaml")
    load.validate(values | {"base": {"model": "owner/name"}}, "toy.yaml")


@pytest.mark.parametrize("track", ["domain", "general"])
def test_every_task_has_its_file(track):
    from adaptbench.registry import project_root

    for task in registry.benchmark(track, "corpus").TASKS:
        assert (project_root() / "benchmarks" / track / "tasks" / f"{task.name}.yaml").is_file()
