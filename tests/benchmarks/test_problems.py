"""The reasoning benchmarks: right by an independent reckoning, in the published sets' own form, splits apart.

Run: python -m pytest tests/benchmarks/test_problems.py
"""

import json
import operator
import re
from collections import Counter

import pytest

from adaptbench import registry
from adaptbench.benchmarks.reasoning import chains, gsm8k, multiplication, prosqa
from adaptbench.benchmarks.shared.answers import exact_match
from adaptbench.errors import AdaptbenchError
from adaptbench.latent import text
from tests.support.project import PROJECT

DATA = PROJECT.parent / "shared" / "data"
SMALL = {"train_items": 60, "validation_items": 20, "test_items": 30}
KINDS = {
    "chains": chains.Config(**SMALL),
    "multiplication": multiplication.Config(**SMALL),
    "prosqa": prosqa.Config(**SMALL),
}


def _published(path):
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    return path.read_text()


def _question(problem):
    found = re.fullmatch(r"Question: (.*)\nAnswer:", problem["prompt"], re.DOTALL)
    assert found
    return found[1]


def _right(response, problem):
    return exact_match(problem, [response])["exact_match"] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_splits_are_whole_deterministic_and_apart(kind):
    module = registry.benchmark("reasoning", kind)
    made = module.build(KINDS[kind], 3, {})
    assert {name: len(split) for name, split in made.items()} == {"train": 60, f"{kind}_validation": 20, kind: 30}
    assert made == module.build(KINDS[kind], 3, {})
    assert made != module.build(KINDS[kind], 4, {})
    asked = [one["prompt"] for split in made.values() for one in split]
    assert len(set(asked)) == len(asked)
    assert {task.name for task in module.TASKS} == set(made) - {"train"}
    for split in made.values():
        for one in split:
            assert one["length"] == len(one["steps"])
            assert _right(text.response(one["steps"], one["target"]), one)


def test_too_few_different_problems_are_one_line():
    with pytest.raises(AdaptbenchError, match=r"^data\.reasoning: only 8 different problems were found of 110"):
        chains.build(chains.Config(modulus=2, operations="+-", shortest=1, longest=1, **SMALL), 0, {})


def test_graphs_that_hardly_exist_are_one_line():
    with pytest.raises(AdaptbenchError, match=r"data\.reasoning\.shortest: .* ask for shorter paths"):
        prosqa.build(prosqa.Config(nodes=40, shortest=18, longest=19, people=2), 0, {})


@pytest.mark.parametrize("options", [{"shortest": 5, "longest": 4}, {"modulus": 1}, {"operations": "/"}])
def test_impossible_chains_are_refused(options):
    with pytest.raises(ValueError, match=r"longest must be|greater than or equal|match pattern"):
        chains.Config(**options)


@pytest.mark.parametrize("modulus", [10, 23])
def test_chains_are_reckoned_right_step_by_step(modulus):
    config = chains.Config(modulus=modulus, operations="+-*", shortest=2, longest=5, **SMALL)
    lengths = Counter()
    for one in chains.build(config, 0, {})["train"]:
        first, *rest = _question(one).split(" ")
        value = int(first)
        for sign, other, step in zip(rest[::2], rest[1::2], one["steps"], strict=True):
            found = {"+": value + int(other), "-": value - int(other), "*": value * int(other)}[sign] % modulus
            assert step == f"{value} {sign} {other} = {found}"
            value = found
        assert one["target"] == str(value)
        lengths[one["length"]] += 1
    assert set(lengths) == {2, 3, 4, 5}


def test_a_step_may_do_several_operations():
    config = chains.Config(shortest=4, longest=7, operations_per_step=3, **SMALL)
    for one in chains.build(config, 0, {})["train"]:
        first, *rest = _question(one).split(" ")
        written = [step.partition(" = ")[0].split(" ") for step in one["steps"]]
        assert [word for step in written for word in step[1:]] == rest, "the question's own terms, in order"
        assert [len(step) // 2 for step in written[:-1]] == [3] * (len(written) - 1)
        before = first
        for step in one["steps"]:
            reckoning, _, result = step.partition(" = ")
            assert reckoning.split(" ")[0] == before
            terms = reckoning.split(" ")
            signed = [int(sign + number) for sign, number in zip(["+", *terms[1::2]], terms[::2], strict=True)]
            assert int(result) == sum(signed) % 10
            before = result
        assert one["target"] == before
        assert one["length"] == len(rest) // 2


@pytest.mark.parametrize("name", ["4_by_4_valid.txt", "5_by_5_valid.txt"])
def test_products_are_written_as_in_the_published_set(name):
    lines = _published(DATA / "multiplication" / name).splitlines()
    assert len(lines) == 1000
    for line in lines:
        asked, worked = line.split("||")
        a, b = (int("".join(digits.split())[::-1]) for digits in asked.split("*"))
        one = multiplication.problem(a, b)
        assert _question(one) == asked
        assert text.response(one["steps"], one["target"]) == f" {worked}"


def test_no_product_is_asked_again_the_other_way_round():
    made = multiplication.build(multiplication.Config(), 0, {})
    asked = [multiplication.factors(one) for split in made.values() for one in split]
    assert len(set(asked)) == len(asked) == 4000
    assert multiplication.factors(multiplication.problem(12, 34)) == multiplication.factors(
        multiplication.problem(34, 12)
    )
    assert multiplication.factors(multiplication.problem(12, 34)) != multiplication.factors(
        multiplication.problem(21, 34)
    )


@pytest.mark.parametrize(("a", "b"), [(10, 10), (99, 99), (12, 345), (100, 20), (10**19, 10**19)])
def test_a_product_is_the_product(a, b):
    one = multiplication.problem(a, b)
    assert int("".join(one["target"].split())[::-1]) == a * b
    numbers = [re.findall(r"[\d ]+\d|\d", step)[0] for step in one["steps"]]
    assert sum(int("".join(number.split())[::-1]) for number in numbers) == a * b


def test_graphs_are_told_as_in_the_published_set():
    problems = json.loads(_published(DATA / "prosqa" / "prosqa_valid.json"))
    assert len(problems) == 300
    for one in problems:
        names, edges = one["idx_to_symbol"], [tuple(edge) for edge in one["edges"]]
        facts = {prosqa.sentence(names, edge) for edge in edges}
        *told, asked = re.findall(r"[^.?]+[.?]", one["question"])
        assert {fact.strip() for fact in told} == facts
        pair = [names[one["target"]], names[one["neg_target"]]]
        wanted = {prosqa.question([], names[one["root"]], order).strip() for order in (pair, pair[::-1])}
        assert asked.strip() in wanted
        assert one["answer"] == f"{names[one['root']]} is a {names[one['target']]}."
        way = prosqa.shortest_path(edges, one["root"], one["target"])
        assert len(one["steps"]) == len(way)
        assert set(one["steps"]) <= facts
        assert not prosqa.shortest_path(edges, one["root"], one["neg_target"])


def test_the_shortcut_of_the_published_set_is_what_the_baseline_does():
    problems = json.loads(_published(DATA / "prosqa" / "prosqa_valid.json"))
    asked = [{"prompt": text.prompt(one["question"]), "target": one["answer"]} for one in problems]
    degrees = [Counter(end for _, end in one["edges"]) for one in problems]
    pairs = [(of[one["target"]], of[one["neg_target"]]) for of, one in zip(degrees, problems, strict=True)]
    more, fewer, even = (sum(test(*pair) for pair in pairs) for test in (operator.gt, operator.lt, operator.eq))
    assert (more, fewer) == (51, 151), "as the file's docstring says"

    def right(write):
        return sum(_right(write(one), one) for one in asked)

    assert fewer <= right(prosqa.BASELINES["in-degree"](asked)) <= fewer + even
    other_way = [{**one, "target": _other(one)} for one in asked]
    assert more <= right(prosqa.BASELINES["in-degree"](other_way)) <= more + even


def _other(asked):
    """The wrong one of the two answers."""
    name, first, second = re.findall(r"Is (\w+) a (\w+) or (\w+)\?", asked["prompt"])[-1]
    return f"{name} is a {second if asked['target'].endswith(f' {first}.') else first}."


def test_in_these_graphs_the_right_kind_has_more_facts_pointing_to_it():
    made = prosqa.build(prosqa.Config(train_items=300, validation_items=20, test_items=30), 0, {})
    write = prosqa.BASELINES["in-degree"](made["train"])
    right = sum(_right(write(one), one) for one in made["train"])
    assert 0.55 < right / 300 < 0.75


def test_a_graph_s_right_kind_can_be_reached_and_the_other_not():
    config = prosqa.Config(nodes=16, people=3, shortest=2, longest=4, **SMALL)
    for one in prosqa.build(config, 1, {})["train"]:
        *facts, asked = re.findall(r"[^.?]+[.?]", _question(one))
        edges = {tuple(re.fullmatch(r"(?:Every )?(\w+) is a (\w+)\.", fact.strip()).groups()) for fact in facts}
        person, *pair = re.fullmatch(r"Is (\w+) a (\w+) or (\w+)\?", asked.strip()).groups()
        reached, before = {person}, None
        while reached != before:
            before, reached = reached, reached | {b for a, b in edges if a in reached}
        right = [kind for kind in pair if kind in reached]
        assert [f"{person} is a {kind}." for kind in right] == [one["target"]]
        here = person
        for step in one["steps"]:
            first, last = re.fullmatch(r"(?:Every )?(\w+) is a (\w+)\.", step).groups()
            assert first == here
            assert (first, last) in edges
            here = last
        assert here == right[0]
        assert 2 <= one["length"] <= 4


def test_both_orders_are_asked():
    made = prosqa.build(prosqa.Config(**SMALL), 0, {})["train"]
    first = sum(re.search(r"a (\w+) or", one["prompt"])[1] in one["target"] for one in made)
    assert 15 < first < 45


def test_gsm8k_in_sentences_and_in_equations():
    folder = DATA / "gsm8k"
    _published(folder / "test.jsonl")
    public = {"gsm8k": {"path": str(folder), "hub_id": "", "revision": "main"}}
    for form in ("natural", "equations"):
        made = gsm8k.build(gsm8k.Config(form=form, validation_items=100), 0, public)
        assert [len(split) for split in made.values()] == [7373, 1319, 100]
        assert not any(
            "<<" in step or ">>" in step for split in made.values() for one in split for step in one["steps"]
        )
        if form == "equations":
            assert sum(len(one["steps"]) for one in made["gsm8k_reasoning"]) == 4282
            assert all("=" in step and "\n" not in step for one in made["gsm8k_reasoning"] for step in one["steps"])
        else:
            assert all(one["steps"] for one in made["gsm8k_reasoning"])
        assert all(re.fullmatch(r"-?\d+(\.\d+)?", one["target"]) for one in made["gsm8k_reasoning"])


def test_digits_that_are_apart_are_compared_as_text():
    """The published form writes products so; a parser of numbers must find no thousands in them."""
    made = multiplication.build(multiplication.Config(digits=3, **SMALL), 0, {})["train"]
    for one in made:
        assert not _right(f"#### {one['target'].replace(' ', '')}", one)
        assert not _right(f"#### {one['target']} 0", one)
        assert _right(f"#### {one['target']}", one)
