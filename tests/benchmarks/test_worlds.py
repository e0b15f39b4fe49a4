"""The built-in worlds and GSM8K: deterministic, disjoint, large enough, fair to a guesser.

Run: pytest tests/benchmarks/test_worlds.py
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from adaptbench.benchmarks.domain import gsm8k
from adaptbench.benchmarks.domain import world as domain
from adaptbench.benchmarks.general import world as general
from adaptbench.benchmarks.shared import minerals
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.data.leakage import full_text, normalise
from adaptbench.errors import AdaptbenchError
from tests.support.project import PROJECT

GSM8K = PROJECT.parent / "shared" / "data" / "gsm8k"
WORLDS = {"general": general, "domain": domain}


@pytest.fixture(scope="module")
def splits():
    return {track: world.build(world.Config(), 0, {}) for track, world in WORLDS.items()}


@pytest.mark.parametrize("track", WORLDS)
def test_a_world_depends_on_its_seed_and_nothing_else(track, splits):
    world = WORLDS[track]
    assert world.build(world.Config(), 0, {}) == splits[track]
    assert world.build(world.Config(), 1, {}) != splits[track]


@pytest.mark.parametrize("track", WORLDS)
def test_every_task_has_at_least_300_items_and_a_task_file(track, splits):
    for task in WORLDS[track].TASKS:
        assert len(splits[track][task.name]) >= 300
        assert (PROJECT / "benchmarks" / track / "tasks" / f"{task.name}.yaml").is_file()


def test_no_tested_sentence_is_trained_on_in_either_world(splits):
    """A check of its own, beside the one that the build makes."""
    trained = {
        normalise(record["text"])
        for world in splits.values()
        for name, records in world.items()
        if name in benchmark_data.TRAINED
        for record in records
    }
    for world in splits.values():
        for name, records in world.items():
            if name not in benchmark_data.TRAINED:
                assert not {normalise(full_text(record)) for record in records} & trained, name


def test_no_tested_prompt_is_continued_in_training(splits):
    """Nor does any training sentence begin with a tested prompt, whatever answer it gives."""
    for world in splits.values():
        texts = [record["text"] for name, records in splits_trained(world) for record in records]
        prompts = {
            record["prompt"]
            for name, records in world.items()
            if name not in benchmark_data.TRAINED
            for record in records
            if "prompt" in record
        }
        lengths = {len(prompt) for prompt in prompts}
        beginnings = {text[:length] for text in texts for length in lengths}
        assert not prompts & beginnings


def splits_trained(world):
    return [(name, records) for name, records in world.items() if name in benchmark_data.TRAINED]


def test_every_tested_fact_is_told_in_training_in_other_words(splits):
    facts = minerals.mineral_facts(80, 0, familiar=False)
    trained = {record["text"] for record in splits["domain"]["train"]}
    for fact in facts:
        assert sum(fact.sentence(i) in trained for i in range(5)) == 3


def test_familiar_and_new_minerals_share_words_but_no_name():
    familiar = minerals.mineral_facts(20, 0, familiar=True)
    new = minerals.mineral_facts(80, 0, familiar=False)
    assert not {fact.entity for fact in familiar} & {fact.entity for fact in new}
    assert {fact.value for fact in familiar} <= {fact.value for fact in new}


@pytest.mark.parametrize(
    ("track", "task"), [("general", "general_facts"), ("general", "general_skills"), ("domain", "domain_facts")]
)
def test_choices_are_four_distinct_and_the_right_one_is_anywhere(track, task, splits):
    items = splits[track][task]
    assert all(len(set(item["choices"])) == 4 for item in items)
    places = Counter(item["gold"] for item in items)
    assert all(0.15 < places[i] / len(items) < 0.35 for i in range(4))


@pytest.mark.parametrize(("track", "task"), [("general", "general_facts"), ("domain", "domain_facts")])
def test_always_guessing_the_commonest_value_is_near_chance(track, task, splits):
    items = splits[track][task]
    values = Counter(item["choices"][item["gold"]] for item in items)
    guess = sum(max(item["choices"], key=lambda c: values[c]) == item["choices"][item["gold"]] for item in items)
    assert guess / len(items) < 0.40


def test_distractors_are_values_of_the_same_attribute(splits):
    relations = [set(relation.values) for relation in general.RELATIONS]
    for item in splits["general"]["general_facts"]:
        options = {choice.rstrip(".") for choice in item["choices"]}
        assert any(options <= values for values in relations)


def test_the_worlds_can_be_made_a_hundred_times_larger():
    made = domain.build(domain.Config(entities=8000, test_items=32_000), 0, {})
    assert len(made["train"]) == 8000 * 4 * 3
    assert len({record["text"] for record in made["train"]}) == len(made["train"])
    large = general.Config(
        entities=10_000, familiar_minerals=2000, fact_repeats=1, skill_instances=400_000, test_items=4000
    )
    splits = {**made, **general.build(large, 0, {})}
    assert sum(record["text"].count(".") for record in splits["pretrain"]) > 400_000, "sentences, several in a document"
    benchmark_data._check_leakage(splits, {})


@pytest.mark.parametrize("counts", [(20, 80), (20, 400), (400, 20), (2000, 8000)])
def test_familiar_and_new_minerals_never_share_a_name(counts):
    names = [
        {fact.entity for fact in minerals.mineral_facts(n, 0, familiar=f)}
        for n, f in zip(counts, (True, False), strict=True)
    ]
    assert [len(found) for found in names] == list(counts)
    assert not names[0] & names[1]


def test_too_many_test_items_are_refused():
    with pytest.raises(ValueError, match="test_items: must be <= 200"):
        general.Config(entities=50, test_items=201)


def test_an_overlap_stops_the_build(tmp_path, monkeypatch):
    def leaky(config, seed, public):
        made = domain.build(config, seed, public)
        leaked = made["domain_facts"][0]
        return made | {
            "train": [*made["train"], {"text": f"{leaked['prompt']} {leaked['choices'][leaked['gold']]}".upper()}]
        }

    class Module:
        Config, TASKS, build = domain.Config, domain.TASKS, staticmethod(leaky)

    monkeypatch.setattr(benchmark_data.registry, "benchmark", lambda track, kind: Module)
    options = {"track": "domain", "config": {"kind": "world"}, "seed": 0, "public": {}}
    with pytest.raises(AdaptbenchError, match="domain_facts and train share a document"):
        benchmark_data.build(options, StageContext(0, {}), tmp_path)


def test_a_probe_corpus_that_holds_a_test_stops_the_build(tmp_path, monkeypatch):
    """ADEPT chooses layers and rates by the general probe corpus: it must not have seen any track's test."""
    made = domain.build(domain.Config(entities=20, test_items=16), 0, {})
    leaked = made["domain_answers"][0]
    (tmp_path / "general/splits").mkdir(parents=True)
    probe = tmp_path / "general/splits/probe.jsonl"
    probe.write_text(json.dumps({"text": f"{leaked['prompt']} {leaked['target']} and more"}) + "\n")
    options = {
        "track": "domain",
        "config": {"kind": "world", "entities": 20, "test_items": 16},
        "seed": 0,
        "public": {},
    }
    with pytest.raises(AdaptbenchError, match=r"domain_(facts|answers) and general's probe share a document"):
        benchmark_data.build(options, StageContext(0, {"general": tmp_path / "general"}), tmp_path / "out")


def test_more_test_items_than_facts_are_refused():
    with pytest.raises(AdaptbenchError, match=r"data\.domain\.test_items: must be <= 80, the facts of 20 minerals"):
        domain.build(domain.Config(entities=20, test_items=81), 0, {})


def test_a_gsm8k_test_problem_without_its_number_is_named(toy_gsm8k):
    lines = (toy_gsm8k / "test.jsonl").read_text().splitlines()
    lines[1] = json.dumps({"question": "How many?", "answer": "Nobody knows."})
    (toy_gsm8k / "test.jsonl").write_text("\n".join(lines))
    source = {"path": str(toy_gsm8k), "hub_id": "openai/gsm8k", "revision": "main"}
    with pytest.raises(AdaptbenchError, match=r"data\.gsm8k: test problem 2: no number after ####"):
        gsm8k.build(gsm8k.Config(), 0, {"gsm8k": source})


@pytest.fixture
def toy_gsm8k(tmp_path) -> Path:
    """Twelve problems in the published form."""
    rows = [
        {
            "question": f"Tom has {i} pens and buys 2. How many?",
            "answer": f"{i} + 2 = <<{i}+2={i + 2}>>{i + 2}\n#### {i + 2}",
        }
        for i in range(12)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:9]))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[9:]))
    return tmp_path


def public(folder: Path) -> dict:
    return {"gsm8k": {"hub_id": "openai/gsm8k", "revision": "main", "path": str(folder)}}


def test_gsm8k_is_read_from_a_folder_and_its_calculator_marks_are_gone(toy_gsm8k):
    made = gsm8k.build(gsm8k.Config(validation_items=2), 0, public(toy_gsm8k))
    assert {name: len(records) for name, records in made.items()} == {
        "train": 7,
        "gsm8k_answers": 3,
        "gsm8k_text": 3,
        "gsm8k_validation": 2,
    }
    assert made["gsm8k_answers"][0] == {
        "prompt": "Question: Tom has 9 pens and buys 2. How many?\nAnswer:",
        "target": "9 + 2 = 11\n#### 11",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "x", "answer": ', r"train\.jsonl:4: not JSON"),
        ('["x"]', r"train\.jsonl:4: must be a JSON object"),
        ('{"question": "x"}', r"train\.jsonl:4: no field 'answer'"),
    ],
)
def test_a_corrupt_line_is_named_by_file_and_number(toy_gsm8k, line, message):
    path = toy_gsm8k / "train.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = line
    path.write_text("\n".join(lines))
    with pytest.raises(AdaptbenchError, match=message):
        gsm8k.build(gsm8k.Config(validation_items=2), 0, public(toy_gsm8k))


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(AdaptbenchError, match=r"train\.jsonl: no such file"):
        gsm8k.build(gsm8k.Config(), 0, public(tmp_path))


def test_without_a_folder_gsm8k_comes_from_the_hub_and_its_absence_is_one_line(monkeypatch):
    asked = []

    def load_dataset(*arguments, **options):
        asked.append((arguments, options))
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(AdaptbenchError, match=r"^data\.gsm8k: openai/gsm8k: no network; or set data\.gsm8k\.path"):
        gsm8k.build(gsm8k.Config(), 0, {"gsm8k": {"hub_id": "openai/gsm8k", "revision": "main", "path": None}})
    assert asked == [(("openai/gsm8k", "main"), {"revision": "main"})]


@pytest.mark.skipif(not GSM8K.is_dir(), reason="the published GSM8K files are not beside the project")
def test_the_published_gsm8k_has_its_published_size():
    train, test = gsm8k.load(public(GSM8K)["gsm8k"])
    assert (len(train), len(test)) == (7473, 1319)
    made = gsm8k.build(gsm8k.Config(), 0, public(GSM8K))
    assert len(made["gsm8k_answers"]) == 1319
    assert len(made["train"]) == 7473
    assert not any("<<" in record["text"] for record in made["train"])
