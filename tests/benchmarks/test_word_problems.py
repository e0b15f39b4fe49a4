"""SVAMP, MultiArith and ASDiv-Aug: read in the sets' own form, from the hub's cache or a folder; what is odd in them is
named.

Run: python -m pytest tests/benchmarks/test_word_problems.py
"""

import json
from pathlib import Path

import pytest

from adaptbench import registry
from adaptbench.benchmarks.domain import gsm8k
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import write_jsonl
from tests.support.hub import add_data

SVAMP = {
    "ID": "chal-777",
    "Body": "There are 87 oranges and 290 bananas in Philip's collection. If the bananas are organized into 2 groups",
    "Question": "How big is each group of bananas?",
    "Equation": "( 290.0 / 2.0 )",
    "Answer": "145",
    "Type": "Common-Division",
    "question_concat": "...",
}
RECORDS = {
    "svamp": [SVAMP, SVAMP | {"Answer": "1,200.50"}, SVAMP | {"Answer": 4.0}],
    "multiarith": [{"question": " Tom has 4 pens.\nHow many? ", "final_ans": "64"},
    {"question": "And now?", "final_ans": "100"}, {"question": "And then?", "final_ans": "3/4"}],
    "asdiv_aug": [{"question": "How many?", "answer": "<<3+4=7>>\n<<7*2=14>>\n####14"},
    {"question": "And now?", "answer": "#### -0.0"}],
}  # fmt: skip
ANSWERS = {"svamp": ["145", "1200.5", "4"], "multiarith": ["64", "100", "0.75"], "asdiv_aug": ["14", "0"]}
HUB_IDS = {"svamp": "ChilleD/SVAMP", "multiarith": "ChilleD/MultiArith", "asdiv_aug": "xuyige/ASDiv-Aug"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A cache of its own, in place of the user's."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "home" / "datasets")
    return tmp_path / "home"


def as_text(records: list[dict]) -> list[dict]:
    return [{key: str(value) for key, value in record.items()} for record in records]


def source(name: str, folder: Path | None = None) -> dict:
    return {name: {"hub_id": HUB_IDS[name], "revision": "main", "path": folder and str(folder)}}


def build(name: str, folder: Path | None = None, **options: int):
    module = registry.benchmark("reasoning", name)
    return module.build(module.Config(**options), 0, source(name, folder))


@pytest.mark.parametrize("name", RECORDS)
def test_the_test_is_found_in_the_hubs_cache_by_the_sets_id(name, home):
    add_data(home, HUB_IDS[name], {"train": as_text(RECORDS[name][:1]), "test": as_text(RECORDS[name])})
    made = build(name)
    assert list(made) == [task.name for task in registry.benchmark("reasoning", name).TASKS] == [name]
    assert [one["target"] for one in made[name]] == ANSWERS[name]
    assert all(one.keys() == {"prompt", "target"} for one in made[name]), (
        "without steps an answer has all its task's tokens"
    )
    assert len(build(name, test_items=1)[name]) == 1


@pytest.mark.parametrize("name", RECORDS)
def test_a_folder_like_the_hubs_repository_does_as_well(name, tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.json").write_text(json.dumps(as_text(RECORDS[name])))
    assert [one["target"] for one in build(name, tmp_path)[name]] == ANSWERS[name]


def test_a_folder_is_found_by_its_name_whatever_signs_that_has(tmp_path):
    """`datasets` takes paths for patterns."""
    folder = tmp_path / "d[1]*?"
    folder.mkdir()
    (folder / "test[0].json").write_text(json.dumps(RECORDS["multiarith"]))
    assert [one["target"] for one in build("multiarith", folder)["multiarith"]] == ANSWERS["multiarith"]


def test_an_error_without_words_is_named_by_its_type(monkeypatch):
    def load_dataset(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(AdaptbenchError, match=r"^data\.svamp: ChilleD/SVAMP: FileNotFoundError; or set"):
        build("svamp")


def test_questions_are_one_line_in_the_words_of_the_track(home):
    add_data(home, HUB_IDS["svamp"], {"test": [SVAMP]})
    add_data(home, HUB_IDS["multiarith"], {"test": RECORDS["multiarith"]})
    (one,) = build("svamp")["svamp"]
    assert one["prompt"] == (
        "Question: There are 87 oranges and 290 bananas in Philip's collection. If the bananas are organized into "
        "2 groups "
        "How big is each group of bananas?\nAnswer:"
    )
    assert build("multiarith")["multiarith"][0]["prompt"] == "Question: Tom has 4 pens. How many?\nAnswer:"


@pytest.mark.parametrize("answer", ["none", "", "NaN", "3:4", "3/0", "12 and 13"])
def test_a_problem_without_a_number_is_left_out_and_named(answer, home):
    rows = [{"question": "Q?", "final_ans": answer}, *RECORDS["multiarith"]]
    add_data(home, HUB_IDS["multiarith"], {"test": rows})
    made = build("multiarith")
    assert [one["target"] for one in made["multiarith"]] == ANSWERS["multiarith"]
    assert made.left_out == {"test": {"its answer is not a number": [1]}}


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": RECORDS["multiarith"]}, "no split 'test'; there are train"),
        ({"test": [{"question": "Q?", "answer": "3"}]}, "test problem 1: no field 'final_ans'"),
        ({"test": [{"question": None, "final_ans": "3"}]}, "test problem 1: question or answer is not text"),
    ],
)
def test_another_form_is_one_line(splits, message, home):
    add_data(home, HUB_IDS["multiarith"], splits)
    with pytest.raises(AdaptbenchError, match=rf"^data\.multiarith: .*{message}") as caught:
        build("multiarith")
    assert "\n" not in str(caught.value)


def test_without_cache_or_folder_the_mend_is_said():
    with pytest.raises(
        AdaptbenchError, match=r"^data\.svamp: ChilleD/SVAMP: .*; or set data\.svamp\.path to a local folder$"
    ):
        build("svamp")


def test_gsm8k_is_found_in_the_hubs_cache_too(home):
    row = {"question": "Q?", "answer": "<<1+1=2>>\n#### 2"}
    add_data(home, "openai/gsm8k", {"train": [row], "test": [row | {"question": "R?"}]}, config="main")
    train, test = gsm8k.load({"hub_id": "openai/gsm8k", "revision": "main", "path": None})
    assert (train, test) == ([row], [row | {"question": "R?"}])


def test_a_tested_problem_that_is_trained_on_stops_the_job(tmp_path, home):
    add_data(home, HUB_IDS["multiarith"], {"test": RECORDS["multiarith"]})
    learned = {"prompt": "Question: Tom has 4 pens. How many?\nAnswer:", "steps": [], "target": "64"}
    write_jsonl(tmp_path / "trained" / "splits" / "train.jsonl", [learned])
    spec = {"track": "reasoning", "config": {"kind": "multiarith"}, "seed": 0, "public": source("multiarith")}
    with pytest.raises(AdaptbenchError, match="share a document: 'Question: Tom has 4 pens"):
        benchmark_data.build(spec, StageContext(0, {"reasoning": tmp_path / "trained"}), tmp_path)
