"""GSM8K as tool trajectories: every mark is a true call, and no thought hands the call over ready-made.

Run: pytest tests/benchmarks/test_agent_gsm8k.py
"""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from adaptbench.agent import dialogue
from adaptbench.agent.toolbox import Toolbox
from adaptbench.agent.trajectory import check
from adaptbench.benchmarks.agent import gsm8k
from adaptbench.benchmarks.domain import gsm8k as domain
from adaptbench.data import benchmark_data
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import read_jsonl
from tests.support.project import PROJECT

SHARED = PROJECT.parent / "shared" / "data" / "gsm8k"
published = pytest.mark.skipif(not SHARED.is_dir(), reason="the published GSM8K files are not beside the project")


def public(folder: Path) -> dict:
    return {"gsm8k": {"hub_id": "openai/gsm8k", "revision": "main", "path": str(folder)}}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Nine training problems, the last of which is the first test problem, and three test problems."""
    rows = [
        {
            "question": f"Tom has {i} pens, buys 2 and shares all with Ann. How many has she?",
            "answer": f"He has {i} + 2 = <<{i}+2={i + 2}>>{i + 2} pens.\nAnn has ${i + 2}/2 = "
            f"$<<{i + 2}/2={(i + 2) / 2}>>{(i + 2) / 2} of them.\n#### {(i + 2) / 2:g}",
        }
        for i in range(11)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:9]))
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[8:]))
    return tmp_path


def played(answer: str) -> list[tuple[str, str, str, str]]:
    """The steps of an answer: (thought, action, arguments, observation or answer)."""
    problem = {"question": "How many?", "answer": answer}
    one = gsm8k.trajectory(problem, 0, Toolbox(gsm8k.functions(gsm8k.Config(), 0)), "here")
    check(one, "here")
    return [(s["thought"], s["action"], s["arguments"], s["observation"] + s["answer"]) for s in one["steps"]]


# --- one problem


def test_an_answer_becomes_calls_and_a_last_step():
    answer = "Each of 3 boxes holds 4 x 5 = <<4*5=20>>20 pens.\nThat is 20*3 = <<20*3=60>>60 in all.\n#### 60"
    assert played(answer) == [
        ("Each of 3 boxes holds", "multiply", '{"a": 4, "b": 5}', "20"),
        ("pens. That is", "multiply", '{"a": 20, "b": 3}', "60"),
        ("in all.", "", "", "The answer is 60."),
    ]


def test_an_answer_without_marks_is_only_answered():
    assert played("It is as many\nas before.\n#### 1,200") == [
        ("It is as many as before.", "", "", "The answer is 1200.")
    ]


def test_where_nothing_is_said_the_thought_is_a_fixed_one():
    assert played("5+6=<<5+6=11>>11\n11*2=<<11*2=22>>22\n#### 22") == [
        (gsm8k.CALL_THOUGHT, "add", '{"a": 5, "b": 6}', "11"),
        (gsm8k.CALL_THOUGHT, "multiply", '{"a": 11, "b": 2}', "22"),
        (gsm8k.LAST_THOUGHT, "", "", "The answer is 22."),
    ]


@pytest.mark.parametrize(
    ("mark", "observation"),
    [
        ("2*20*.01=.4", "0.4"),
        ("40+10+7=57.00", "57"),
        ("125=125", "125"),
        ("3/4=3/4", "0.75"),
        ("560//10=56", "56"),
        ("71+-3=68", "68"),
        ("-21/3=-7", "-7"),
        ("3*(2/3)=2", "2"),
        ("-48+21+(-3)=-30", "-30"),
    ],
)
def test_the_observation_is_ours_however_the_result_is_written(mark, observation):
    assert played(f"It is <<{mark}>>{mark.split('=')[1]} now.\n#### 1")[0][3] == observation
    assert played(f"It is <<{mark}>>{mark.split('=')[1]} now.\n#### 1")[1][0] == "now."


@pytest.mark.parametrize(
    ("expression", "action", "arguments"),
    [
        ("48/2", "divide", '{"a": 48, "b": 2}'),
        ("560//10", "divide", '{"a": 560, "b": 10}'),
        (".01*1.50", "multiply", '{"a": 0.01, "b": 1.5}'),
        ("20.00-5.", "subtract", '{"a": 20, "b": 5}'),
        ("71+-3", "add", '{"a": 71, "b": -3}'),
        ("-20+10", "add", '{"a": -20, "b": 10}'),
        ("-18/-2", "divide", '{"a": -18, "b": -2}'),
        ("3*+6", "multiply", '{"a": 3, "b": 6}'),
        ("+10", "calculate", '{"expression": "+10"}'),
        ("125", "calculate", '{"expression": "125"}'),
        ("1+2+3", "calculate", '{"expression": "1+2+3"}'),
        ("(3)*2", "calculate", '{"expression": "(3)*2"}'),
    ],
)
def test_the_operator_picks_the_tool(expression, action, arguments):
    name, given = gsm8k.call(expression)
    assert (name, dialogue.canonical(given)) == (action, arguments)


@pytest.mark.parametrize(
    ("before", "expression", "said"),
    [
        ("Tom has 48/2 = ", "48/2", "Tom has"),
        ("Tom pays $40 x 1,000= $", "40*1000", "Tom pays"),
        ("Tom pays $100 000 + $10 000 = $", "100000+10000", "Tom pays"),
        ("He has 9 bicycles \u00d7 2 wheels/bicycle = ", "9*2", "He has"),
        ("so 12 times 12 equals ", "12*12", "so"),
        ("so 150 divided by 5 is ", "150/5", "so"),
        ("A fifth is 20% * 50 = ", "20*.01*50", "A fifth is"),
        ("Both have (3 + 4)*2 = ", "(3+4)*2", "Both have"),
        ("He runs 4(5) = ", "4*5", "He runs"),
        ("He has 4 times 29: 4*29 = ", "4*29", "He has"),
        ("Then 8 + 2 = ten = ", "8+2", "Then 8 + 2 = ten"),
        ("He makes $", "125", "He makes"),
        ("He has 17 pens because 12 + 5 = ", "12+5", "He has 17 pens because"),
        ("In 3 boxes of 5 there are ", "3*5", "In 3 boxes of 5 there are"),
        ("It costs 15 = ", "3*5", "It costs"),
        ("Half of 30 is ", "30/2", "Half of 30 is"),
        ("First.\n\nThen he buys 2+2 = ", "2+2", "First. Then he buys"),
        ("", "2+2", ""),
    ],
)
def test_a_thought_does_not_end_in_its_calculation(before, expression, said):
    result = {"3*5": "15", "125": "125"}.get(expression, "?")
    assert gsm8k.thought(before, "", expression, result) == said


@pytest.mark.parametrize(
    ("before", "earlier", "said"),
    [
        ("12,000 feet. Then ", "12000", "feet. Then"),
        ("$7.50. Then", "7.5", "Then"),
        (".4\nThen", ".4", "Then"),
        ("20% of it", "20", "of it"),
        ("-10 degrees", "-10", "degrees"),
        ("125 pens", "12", "125 pens"),
        ("15+3 = ", "15", ""),
    ],
)
def test_a_thought_does_not_begin_with_the_result_before(before, earlier, said):
    assert gsm8k.thought(before, earlier, "15+3", "18") == said


# --- the tools


@pytest.mark.parametrize(
    ("tool", "arguments", "observation"),
    [
        ("add", '{"a": 0.1, "b": 0.2}', "0.3"),
        ("subtract", '{"a": 3, "b": 5.5}', "-2.5"),
        ("multiply", '{"a": "3", "b": "-.5"}', "-1.5"),
        ("divide", '{"a": 1, "b": 3}', "0.333333"),
        ("divide", '{"a": 1, "b": 0}', "error: division by zero"),
        ("add", '{"a": true, "b": 1}', "error: True is not a number"),
        ("add", '{"a": "2+2", "b": 1}', "error: 2+2 is not a number"),
        ("add", '{"a": 1}', "error: add takes the arguments (a, b), not 'a'"),
        ("calculate", '{"expression": "2*(3+.5)"}', "7"),
        ("calculate", '{"expression": "2*("}', "error: expected a number, not the end"),
        ("calculate", '{"expression": 7}', "error: the expression must be text"),
    ],
)
def test_the_tools_are_exact_and_say_what_they_cannot_do(tool, arguments, observation):
    functions = gsm8k.functions(gsm8k.Config(), 0)
    assert Toolbox(functions).call(tool, arguments, functions).text == observation


# --- the splits


def test_a_folder_becomes_splits(folder):
    made = gsm8k.build(gsm8k.Config(validation_items=2, test_items=2), 0, public(folder))
    sizes = {name: len(records) for name, records in made.items()}
    # The ninth training problem is also a test problem and so is not trained on; every problem has three steps.
    assert sizes == {"train": 6, "gsm8k_steps": 6, "gsm8k_live": 2, "gsm8k_agent_validation": 6}
    benchmark_data._check_leakage(made, {})
    assert "gsm8k_agent_validation" not in gsm8k.build(gsm8k.Config(train_items=1), 0, public(folder))
    live = made["gsm8k_live"][1]
    assert {name: live[name] for name in ("problem", "answer", "calls", "solvable", "target")} == {
        "problem": 1,
        "answer": "5.5",
        "calls": 2,
        "solvable": True,
        "target": "The answer is 5.5.",
    }
    assert live["prompt"] == dialogue.prompt("assistant", live["instruction"], live["tools"], [])


def test_no_test_problem_is_trained_on_even_if_it_is_not_asked(folder):
    made = gsm8k.build(gsm8k.Config(test_items=1), 0, public(folder))
    tested = {problem["question"] for problem in read_jsonl(folder / "test.jsonl")}
    assert not tested & {record["instruction"] for record in made["train"]}


def test_the_validation_problems_are_those_of_the_domain(folder):
    here = gsm8k.build(gsm8k.Config(validation_items=3), 5, public(folder))["gsm8k_agent_validation"]
    there = domain.build(domain.Config(validation_items=3), 5, public(folder))["gsm8k_validation"]
    assert {f"Question: {document['instruction']}\nAnswer:" for document in here} == {one["prompt"] for one in there}


def test_all_tools_are_offered_in_an_order_of_the_seed_and_the_problem(folder):
    def orders(seed: int, **options: int) -> dict[str, tuple[str, ...]]:
        made = gsm8k.build(gsm8k.Config(**options), seed, public(folder))["train"]
        return {record["instruction"]: tuple(tool["name"] for tool in record["tools"]) for record in made}

    first = orders(0)
    assert all(sorted(order) == ["add", "calculate", "divide", "multiply", "subtract"] for order in first.values())
    assert len(set(first.values())) > 1
    assert first != orders(1)
    assert orders(0, train_items=2).items() <= first.items()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"question": "x", "answer": ', r"train\.jsonl:4: not JSON"),
        ('{"question": "x"}', r"train\.jsonl:4: no field 'answer'"),
        ('{"question": "x", "answer": "five"}', r"data\.gsm8k: train problem 4: no number after ####"),
        (
            '{"question": "x", "answer": "<<2+2=5>>5\\n#### 5"}',
            r"data\.gsm8k: train problem 4: <<2\+2=5>> comes out as 4$",
        ),
        (
            '{"question": "x", "answer": "<<2/0=5>>5\\n#### 5"}',
            r"data\.gsm8k: train problem 4: <<2/0=5>> comes out as error: division by zero$",
        ),
        ('{"question": "x", "answer": "<<2+2>>4\\n#### 4"}', r"train problem 4: a mark in its answer is not <<exp"),
    ],
)
def test_a_corrupt_problem_is_named(folder, line, message):
    path = folder / "train.jsonl"
    lines = path.read_text().splitlines()
    lines[3] = line
    path.write_text("\n".join(lines))
    with pytest.raises(AdaptbenchError, match=message) as caught:
        gsm8k.build(gsm8k.Config(), 0, public(folder))
    assert "\n" not in str(caught.value)


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(AdaptbenchError, match=r"train\.jsonl: no such file"):
        gsm8k.build(gsm8k.Config(), 0, public(tmp_path))


def test_more_validation_problems_than_there_are_is_refused(folder):
    with pytest.raises(AdaptbenchError, match=r"data\.agent\.validation_items: must be < 8, the training problems"):
        gsm8k.build(gsm8k.Config(validation_items=8), 0, public(folder))


# --- the published sets


@pytest.fixture(scope="module")
def everything() -> dict[str, list[dict]]:
    """The published problems as trajectories, each with its marks: [(expression, result), ...]."""
    toolbox = Toolbox(gsm8k.functions(gsm8k.Config(), 0))
    made: dict[str, list[dict]] = {}
    for name in ("train", "test"):
        problems = read_jsonl(SHARED / f"{name}.jsonl")
        made[name] = [
            gsm8k.trajectory(problem, 0, toolbox, f"{name} {number}")
            | {"marks": re.findall(r"<<([^=]*)=([^>]*)>>", problem["answer"])}
            for number, problem in enumerate(problems, 1)
        ]
    return made


@published
def test_the_published_calls_are_all_there_and_come_out_as_published(everything):
    calls = {name: sum(one["calls"] for one in made) for name, made in everything.items()}
    without = {name: sum(not one["calls"] for one in made) for name, made in everything.items()}
    assert calls == {"train": 23716, "test": 4282}
    assert without == {"train": 95, "test": 18}
    differing = Counter()
    for name, made in everything.items():
        for one in made:
            check(one, name)
            assert len(one["marks"]) == one["calls"]
            for step, (expression, result) in zip(one["steps"], one["marks"], strict=False):
                if "/" in result or float(step["observation"]) != float(result):
                    differing[name, f"{expression}={result}", step["observation"]] += 1
    assert differing == {("test", "3/4=3/4", "0.75"): 1}


@published
def test_the_published_calls_use_every_tool(everything):
    used = Counter(step["action"] for made in everything.values() for one in made for step in one["steps"])
    assert used == {"multiply": 9986, "add": 5186, "subtract": 4605, "divide": 4025, "calculate": 4196, "": 8792}


@published
def test_the_arguments_are_exactly_the_published_numbers(everything):
    """Beyond what the results show: calling the tool again with the arguments gives the same text."""
    toolbox = Toolbox(gsm8k.functions(gsm8k.Config(), 0))
    for one in everything["test"]:
        for step in one["steps"][:-1]:
            again = toolbox.call(step["action"], step["arguments"], [step["action"]])
            assert (again.text, again.error) == (step["observation"], False)


def squeezed(text: str) -> str:
    """A calculation as its bare signs: 4 times $29 and 4 x 29 are 4*29."""
    text = re.sub(r"(?<![a-z])x(?![a-z])", "*", text.casefold())
    for word, sign in {"plus": "+", "minus": "-", "times": "*", "divided by": "/"}.items():
        text = text.replace(word, sign)
    for other, sign in {"\u00d7": "*", "\u00f7": "/", "\u2013": "-", "\u2212": "-"}.items():
        text = text.replace(other, sign)
    return re.sub(r"[\s$€£¢,%]", "", text)


@published
def test_no_thought_ends_in_its_own_expression(everything):
    found: Counter[str | tuple[str, bool]] = Counter()
    for made in everything.values():
        for one in made:
            for step, (expression, _) in zip(one["steps"], one["marks"], strict=False):
                own = rf"(?<![\d.]){re.escape(squeezed(expression))}"
                said = squeezed(step["thought"])
                found["ends"] += bool(re.search(own + r"[=.:;]*$", said))
                operation = re.search(r"\d[-+*/]", expression)
                found["elsewhere", bool(operation)] += bool(re.search(own + r"(?!\.?\d)", said))
                found["equals sign"] += step["thought"].endswith("=")
    # What stays: calculations that the text holds further ahead, and numbers that are all of an "expression" (<<5=5>>).
    assert found == {"ends": 0, "equals sign": 0, ("elsewhere", True): 15, ("elsewhere", False): 80}


@published
def test_every_role_reads_back_what_it_is_taught(everything):
    for made in everything.values():
        for one in made:
            for step in one["steps"]:
                written = {role: dialogue.target(role, step) for role in dialogue.ROLES}
                read = {role: dialogue.parse(role, text) for role, text in written.items() if text is not None}
                assert read["assistant"] == {**step, "observation": ""}
                assert read["planner"] == dialogue.step(step["thought"], step["decision"])
                if step["decision"] == dialogue.CALL:
                    given = {"action": step["action"], "arguments": step["arguments"]}
                    assert read["caller"] == dialogue.step("", dialogue.CALL, **given)
                    assert "summarizer" not in read
                else:
                    assert read["summarizer"] == dialogue.step("", dialogue.ANSWER, answer=step["answer"])
                    assert "caller" not in read


@published
def test_the_published_splits_have_their_sizes_and_do_not_overlap():
    made = gsm8k.build(gsm8k.Config(validation_items=500), 0, public(SHARED))
    sizes = {name: len(records) for name, records in made.items()}
    steps = sum(len(record["steps"]) for record in made["train"]) + sizes["gsm8k_agent_validation"]
    assert (sizes["train"], sizes["gsm8k_steps"], sizes["gsm8k_live"]) == (6973, 4282 + 1319, 1319)
    assert steps == 23716 + 7473
    benchmark_data._check_leakage(made, {})
