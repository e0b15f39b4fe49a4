"""ToolBench's conversations in both published forms: what becomes a trajectory, what is left out and why, what is said
about bad files.

The conversations are made by hand after the published ones, their oddities included: reminders of other branches,
undecided speech, cut JSON, empty observations, names of tools that do not exist.

Run: pytest tests/benchmarks/test_toolbench.py
"""

import copy
import json
import random
import re
from pathlib import Path

import pytest

from adaptbench.agent import dialogue, samples
from adaptbench.agent.trajectory import check
from adaptbench.benchmarks.agent import toolbench, toolbench_out_of_domain
from adaptbench.benchmarks.agent.conversations import trajectories, trajectory
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.errors import AdaptbenchError
from tests.support.single_steps import asked_and_right, one_line, reads_back

REMINDER = (
    "This is not the first time you try this task, all previous trails failed.\nHere are some previous actions "
    "candidates:\n"
    '[\n  {\n    "name": "quiz_for_moodring",\n    "arguments": "{}"\n  }\n]\n\nRemember you are now in the '
    "intermediate state."
)
CALL = 'Action: quiz_for_moodring\nAction Input: {\n  "quizid": "2"\n}'
SEEN = {"from": "observation", "value": "{'answers': [1, 2]}"}


def said(speaker: str, text: str) -> dict:
    return {"from": speaker, "value": text}


def called(text: str = CALL, thought: str = "I look\nit up.\n") -> list[dict]:
    return [said("assistant", f"{thought} Next: caller."), said("caller", text), SEEN]


ANSWERED = [said("assistant", "I know it. Next: conclusion."), said("conclusion", "Two answers:\n1. yes\n2. no")]
GAVE_UP = [said("assistant", "Nothing works.\n Next: give up.")]


def glpft(*turns: dict, instruction: str = "Show the second quiz.") -> dict:
    """A record in GLPFT's form."""
    return copy.deepcopy({
        "tools": [
            {"Name": "quiz_for_moodring", "function": 'Get one quiz\nby "quizId".',
             "input": {"quizid": "string, its number"}},
            {"Name": "users_for_moodring", "function": "All users.", "input": {}},
        ],
        "instruction": instruction,
        "conversations": [said("user", instruction), *turns],
    })  # fmt: skip


APIS = [
    {
        "name": "quiz_for_moodring",
        "description": "Get one quiz. " + "x" * 300,
        "parameters": {
            "type": "object",
            "properties": {"quizid": {"type": "string", "description": "y" * 300 + "its number", "example_value": "1"},
            "page": {"type": "integer"}},
            "required": ["quizid"],
            "optional": [],
        },
    },
    {"name": "Finish", "description": "Call it at the end.",
     "parameters": {"type": "object", "properties": {"return_type": {"type": "string", "enum": ["give_answer"]}}}},
]  # fmt: skip
SYSTEM = f"You are AutoGPT.\nSpecifically, you have access to the following APIs: {APIS}"


def act(action: str, arguments: str, thought: str = "\nThought: I look.") -> dict:
    return said("assistant", f"{thought}\nAction: {action}\nAction Input: {arguments}")


def own(step: int, *turns: dict, instruction: str = "Show the second quiz.", system: str = SYSTEM) -> dict:
    """A record in ToolBench's own form."""
    first = [said("system", system), said("user", f"\n{instruction}\nBegin!\n")]
    return {"id": f"Step {step}: {instruction}", "conversations": [*first, *turns]}


FINISH = act("Finish", '{\n  "return_type": "give_answer",\n  "final_answer": "It is 2."\n}', "\nThought: ")
RETURNED = said("function", json.dumps({"error": "", "response": "{'answers': 2}"}))
WHOLE = (act("quiz_for_moodring", '{"quizid": "2"}'), RETURNED, FINISH)


def public(folder: Path | None) -> dict:
    return {"toolbench": {"hub_id": "some/set", "revision": "main", "path": folder and str(folder)}}


def folder(path: Path, train: object, test: object, form: str = "glpft") -> Path:
    for name, content in zip(toolbench.FILES[form], (train, test), strict=True):
        (path / name).write_text(json.dumps(content))
    return path


# --- GLPFT's form


def test_a_conversation_becomes_steps_whose_texts_every_role_reads_back():
    one = trajectory(glpft(*called(), *ANSWERED))
    check(one, "here")
    assert one["tools"][0] == {
        "name": "quiz_for_moodring",
        "description": 'Get one quiz by "quizId".',
        "parameters": '{"quizid": "string, its number"}',
    }
    call, answer = one["steps"]
    assert call == dialogue.step(
        "I look it up.",
        dialogue.CALL,
        action="quiz_for_moodring",
        arguments='{"quizid": "2"}',
        observation="{'answers': [1, 2]}",
    )
    assert answer == dialogue.step("I know it.", dialogue.ANSWER, answer="Two answers:\n1. yes\n2. no")
    for step in one["steps"]:
        reads_back(step)
    assert trajectory(glpft(*GAVE_UP))["steps"] == [dialogue.step("Nothing works.", dialogue.GIVE_UP)]


def test_what_is_said_between_steps_is_history_of_the_next_one_and_no_step():
    undecided = said("assistant", "I am sorry.\nLet me see.")
    one = trajectory(glpft(said("user", REMINDER), *called(), said("user", REMINDER), undecided, *GAVE_UP))
    reminded = " ".join(REMINDER.split())
    assert one["instruction"] == f"Show the second quiz. {reminded}"
    assert one["question"] == "Show the second quiz."
    assert [step["decision"] for step in one["steps"]] == [dialogue.CALL, dialogue.GIVE_UP]
    assert one["steps"][0]["observation"] == f"{{'answers': [1, 2]}} {reminded} I am sorry. Let me see."
    asked = dialogue.prompt("planner", one["instruction"], one["tools"], one["steps"][:1])
    assert asked.index("Let me see.") > asked.index("{'answers'"), "read before the step after it"
    assert "sorry" not in dialogue.target("planner", one["steps"][1])


def test_a_long_reminder_and_long_undecided_speech_are_whole_as_released():
    """The published out-of-domain test has a user's turn of more than 1,024 characters in 84 of its 400
    conversations.
    """
    long = "word " * 600 + "end"
    one = trajectory(glpft(said("user", long), said("assistant", long), *called(), said("user", long), *GAVE_UP))
    assert one["instruction"] == f"Show the second quiz. {long} {long}"
    assert one["steps"][0]["observation"] == f"{{'answers': [1, 2]}} {long}"
    asked = dialogue.prompt("planner", one["instruction"], one["tools"], one["steps"][:1])
    assert asked.count(long) == 3


def test_an_observation_is_cut_and_what_is_said_after_it_is_not():
    turns = called()
    turns[2] = said("observation", "x" * 2000)
    (call, _) = trajectory(glpft(*turns, said("user", "y" * 2000), *GAVE_UP))["steps"]
    assert call["observation"] == "x" * 1024 + " " + "y" * 2000


@pytest.mark.parametrize(
    ("published", "kept"),
    [
        ("", "(nothing)"),
        (" \"[{'_id': 114,\n 'x'...", "[{'_id': 114, 'x'..."),
        ("403 - Forbidden\n", "403 - Forbidden"),
        ("half \ud83d", "half ?"),
    ],
)
def test_observations_are_one_line_that_is_not_empty(published, kept):
    turns = called()
    turns[2] = said("observation", published)
    assert trajectory(glpft(*turns, *ANSWERED))["steps"][0]["observation"] == kept


def test_an_empty_thought_and_a_name_longer_than_64_characters_are_kept():
    name = "a_very_long_name_" * 5
    record = glpft(*called(f"Action: {name}\nAction Input: {{}}", thought=""), *ANSWERED)
    record["tools"].append({"Name": name[-64:], "function": "", "input": {}})
    record["tools"].append({"Name": name[-64:], "function": "another of that end", "input": {}})
    one = trajectory(record)
    assert one["steps"][0]["thought"] == ""
    assert one["steps"][0]["action"] == name[-64:]
    assert [tool["description"] for tool in one["tools"] if tool["name"] == name[-64:]] == [""]


def broken() -> dict[str, object]:
    """A record by what is wrong with it."""
    no_tools = glpft(*ANSWERED) | {"tools": []}
    odd_tool = glpft(*ANSWERED) | {"tools": [{"Name": "x", "function": "y"}]}
    numbers = glpft(*ANSWERED)
    numbers["conversations"][1]["value"] = 3
    two_lines = glpft(*ANSWERED)
    two_lines["tools"][0]["Name"] = "quiz\nfor"
    surrogate = glpft(*ANSWERED, instruction="half \ud83d")
    return {
        "'conversations' is not a list of turns with 'from' and 'value'": [3, None, {}, {"conversations": "x"},
        numbers],
        "no instruction": [glpft(*ANSWERED, instruction=" "), glpft(*ANSWERED) | {"instruction": None}],
        "no tools": [no_tools],
        "a tool without 'Name', 'function' or 'input'": [odd_tool, no_tools | {"tools": ["quiz_for_moodring"]}],
        "a tool's name must be one line without spaces at its ends: 'quiz\\nfor'": [two_lines],
        "a call whose input is not a JSON object": [
            glpft(*called(f"Action: quiz_for_moodring{rest}"), *ANSWERED)
            for rest in ("", "\nAction Input: ", '\nAction Input: {"quizid": "2"', "\nAction Input: [2]",
            "\nAction Input: NaN", '\nAction Input: {"a": "\\ud83d"}')
        ],
        "a call of a tool that is not offered": [glpft(*called("Action: "
        "invalid_hallucination_function_name\nAction Input: {}"), *ANSWERED)],
        "a decision to call without a call": [glpft(said("assistant", "Next: caller.")), glpft(called()[0], *ANSWERED)],
        "a call without an observation": [glpft(*called()[:2]), glpft(*called()[:2], *ANSWERED)],
        "a decision to answer without an answer": [
            glpft(*called(), ANSWERED[0], *rest) for rest in ([], [said("conclusion", "none")],
                [said("conclusion", " ")])
        ],
        "it goes on after its end": [glpft(*GAVE_UP, *called(), *ANSWERED), glpft(*ANSWERED, said("user", "Thanks."))],
        "no end": [glpft(), glpft(*called()), glpft(*called(), said("assistant", "I stop here."))],
        "a turn from 'observation' where none can be": [glpft(SEEN, *ANSWERED)],
        "half a character": [surrogate],
    }  # fmt: skip


def test_every_record_that_is_no_trajectory_is_named_by_reason_and_number():
    cases = [(reason, record) for reason, records in broken().items() for record in records]
    good = glpft(*called(), *ANSWERED)
    records = [one for _, record in cases for one in (good, record)]
    made, left_out = trajectories(records)
    assert list(made) == list(range(1, len(records), 2))
    wanted: dict[str, list[int]] = {}
    for number, (reason, _) in enumerate(cases):
        wanted.setdefault(reason, []).append(2 * number + 2)
    assert left_out == wanted


def places(value: object, *way: str | int) -> list[tuple[str | int, ...]]:
    """The ways to everything inside a record."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, one in inside for found in [(*way, key), *places(one, *way, key)]]


def test_whatever_is_wrong_in_a_record_is_one_reason():
    rng = random.Random(0)
    odd = [None, 3, "", [], {}, "x", {"a": 1}, [[]], float("nan"), "Next: caller.", "\ud800", True]
    reasons = set()
    for _ in range(3000):
        record = copy.deepcopy(rng.choice([glpft(*called(), *ANSWERED), own(4, *WHOLE), glpft(*GAVE_UP)]))
        *way, last = rng.choice(places(record))
        place = record
        for key in way:
            place = place[key]
        if rng.random() < 0.3:
            del place[last]
        else:
            place[last] = rng.choice(odd)
        made, left_out = trajectories([record])
        assert len(made) + len(left_out) == 1
        for one in made.values():
            check(one, "here")
        reasons |= set(left_out)
    assert len(reasons) > 10
    assert all("\n" not in reason for reason in reasons)


# --- ToolBench's own form


def test_toolbenchs_own_form_is_read_as_glpfts():
    one = trajectory(own(5, said("user", REMINDER), *WHOLE))
    assert one["question"] == "Show the second quiz."
    assert one["instruction"].startswith("Show the second quiz. This is not the first time")
    assert one["tools"] == [
        {
            "name": "quiz_for_moodring",
            "description": ("Get one quiz. " + "x" * 300)[:256],
            "parameters": json.dumps({"quizid": "string, " + ("y" * 300 + "its number")[-256:], "page": "integer"}),
        }
    ]
    assert one["steps"] == [
        dialogue.step(
            "I look.",
            dialogue.CALL,
            action="quiz_for_moodring",
            arguments='{"quizid": "2"}',
            observation="{'answers': 2}",
        ),
        dialogue.step("", dialogue.ANSWER, answer="It is 2."),
    ]


def test_thoughts_of_several_parts_and_with_the_words_of_the_form_in_them():
    thought = "\nThought: First.\nAction:\nI try it.\nThought: Then."
    (step,) = trajectory(own(3, act("Finish", '{"return_type": "give_up_and_restart"}', thought)))["steps"]
    assert step == dialogue.step("First. Action: I try it. Then.", dialogue.GIVE_UP)


@pytest.mark.parametrize(
    ("returned", "seen"),
    [
        ('{"error": "timeout", "response": ""}', "error: timeout"),
        ('{"error": "", "response": ""}', "(nothing)"),
        ('{"error": "", "response": {"a": 1}}', "{'a': 1}"),
        ('{"error": "", "response": "[{\'cut\': 1...', "[{'cut': 1..."),
        ("no JSON at all", "no JSON at all"),
    ],
)
def test_what_a_function_returned_is_its_response_or_its_error(returned, seen):
    turns = (WHOLE[0], said("function", returned), FINISH)
    assert trajectory(own(4, *turns))["steps"][0]["observation"] == seen


def test_of_the_records_of_one_path_the_last_counts_and_the_others_are_named():
    other = own(2, *GAVE_UP[:0], FINISH, instruction="Another task.")
    made, left_out = trajectories(
        [own(2, WHOLE[0]), own(4, *WHOLE), other, own(9, act("Finish", "{"), instruction="x")]
    )
    assert {number: len(one["steps"]) for number, one in made.items()} == {2: 2, 3: 1}
    assert left_out == {"a part of a longer path": [1], "an end whose input is not a JSON object": [4]}


@pytest.mark.parametrize(
    "system",
    ["You are AutoGPT.", f"{SYSTEM} and", SYSTEM.replace("'name'", "'nome'"), SYSTEM.replace("[{", "print([{")],
)
def test_a_system_text_without_apis_is_named(system):
    assert trajectories([own(4, *WHOLE, system=system)])[1] == {"its system text does not end in a list of APIs": [1]}


@pytest.mark.parametrize("name", ["('a', 'b')", "5", "None"])
def test_a_parameter_whose_name_is_no_text_leaves_out_its_record_alone(name):
    system = re.sub(r"('properties': \{)'[^']*'", rf"\g<1>{name}", SYSTEM, count=1)
    assert system != SYSTEM
    assert trajectories([own(4, *WHOLE, system=system)])[1] == {"a tool's parameter whose name is not text": [1]}


# --- the benchmark


def asking(count: int, **more: object) -> list[dict]:
    return [glpft(*called(), *ANSWERED, instruction=f"Show quiz {number}.", **more) for number in range(count)]


def test_train_and_test_are_the_published_ones_and_share_no_instruction(tmp_path):
    test = [*asking(2), glpft(*called(), said("user", REMINDER), *GAVE_UP, instruction="Other.")]
    train = [*asking(8), glpft(*called()), glpft(*GAVE_UP, instruction="SHOW quiz 5!"), glpft(*GAVE_UP)]
    made = toolbench.build(toolbench.Config(form="glpft", validation_items=2), 0, public(folder(tmp_path, train, test)))
    assert {name: len(split) for name, split in made.items()} == {
        "train": 5,
        "toolbench_steps": 6,
        "toolbench_validation": 4,
    }
    learned = {one["question"] for one in made["train"]} | {one["instruction"] for one in made["toolbench_validation"]}
    assert learned == {"Show the second quiz.", *(f"Show quiz {number}." for number in range(2, 8))}
    assert made.left_out == {
        "raw_data_stage_2.json": {
            "no end": [9],
            "its instruction is asked by the test": [1, 2],
            "its instruction a second time": [10],
        },
        "in_domain.json": {},
    }
    for document in made["toolbench_steps"] + made["toolbench_validation"]:
        asked_and_right(document)
        assert document["whole_answer"]
    assert [document["problem"] for document in made["toolbench_steps"]] == [0, 0, 1, 1, 2, 2]
    assert {task.name for task in toolbench.TASKS} == set(made) - {"train"}


def test_what_was_left_out_stands_in_the_manifest_and_in_the_log(tmp_path, capsys):
    train, test = [*asking(3), glpft(*called()), 7], [glpft(*GAVE_UP), glpft()]
    (tmp_path / "published").mkdir()
    source = public(folder(tmp_path / "published", train, test))
    spec = {"track": "agent", "config": {"kind": "toolbench", "form": "glpft"}, "seed": 0, "public": source}
    benchmark_data.build(spec, StageContext(0, {}), tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["left_out"] == {
        "raw_data_stage_2.json": {
            "no end": [4],
            "'conversations' is not a list of turns with 'from' and 'value'": [5],
        },
        "in_domain.json": {"no end": [2]},
    }
    assert "data.agent: in_domain.json: 1 left out: no end\n" in capsys.readouterr().err


def test_training_samples_that_cannot_fit_are_left_out_and_counted(tmp_path, tokenizer, capsys):
    long = glpft(*GAVE_UP, instruction="Word " * 400)
    (tmp_path / "published").mkdir()
    source = public(folder(tmp_path / "published", [*asking(3), long], [glpft(*GAVE_UP)]))
    spec = {"track": "agent", "config": {"kind": "toolbench", "form": "glpft"}, "seed": 0, "public": source}
    benchmark_data.build(spec, StageContext(0, {}), tmp_path)
    apart = StageContext(0, {"agent": tmp_path}, tokenizer, 600, lacks={"sharing": "a reason"})
    made = samples.examples(apart, ("planner",))
    assert len(made) == 6
    assert "1 of 7 samples left out, such as: training.sequence_length: must be >= " in capsys.readouterr().err


def test_the_out_of_domain_test_is_asked_alone(tmp_path):
    (tmp_path / "out_of_domain.json").write_text(json.dumps([*asking(2), glpft(*called())]))
    made = toolbench_out_of_domain.build(toolbench_out_of_domain.Config(), 0, public(tmp_path))
    assert [len(split) for split in made.values()] == [4]
    assert made.left_out == {"out_of_domain.json": {"no end": [3]}}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ({}, [], r"raw_data_stage_2\.json: must be a list of conversations"),
        ([], asking(1), r"raw_data_stage_2\.json: no conversation can be read: it is empty"),
        (asking(2), [3, glpft()],
         r"in_domain\.json: no conversation can be read: 1 times 'conversations' is not .*; 1 times no end"),
        (asking(1), asking(1), r"data\.agent: no training problem is left; all are test problems, too"),
    ],
)  # fmt: skip
def test_files_that_hold_nothing_to_train_or_ask_are_one_line(tmp_path, train, test, message):
    with pytest.raises(AdaptbenchError, match=message) as caught:
        toolbench.build(toolbench.Config(form="glpft"), 0, public(folder(tmp_path, train, test)))
    assert one_line(caught)


def test_a_missing_file_a_broken_one_and_no_folder_are_one_line(tmp_path):
    with pytest.raises(AdaptbenchError, match=r"raw_data_stage_2\.json: no such file"):
        toolbench.build(toolbench.Config(form="glpft"), 0, public(tmp_path))
    folder(tmp_path, [], [])
    (tmp_path / "raw_data_stage_2.json").write_text('[{"tools": [')
    with pytest.raises(AdaptbenchError, match=r"raw_data_stage_2\.json:1: not JSON"):
        toolbench.build(toolbench.Config(form="glpft"), 0, public(tmp_path))
    with pytest.raises(
        AdaptbenchError,
        match=r"^data\.toolbench\.path: must name a folder with raw_data_stage_2\.json and in_domain\.json$",
    ):
        toolbench.build(toolbench.Config(form="glpft"), 0, public(None))
    with pytest.raises(AdaptbenchError, match=r"^data\.toolbench\.path: must name a folder with out_of_domain\.json$"):
        toolbench_out_of_domain.build(toolbench_out_of_domain.Config(), 0, public(None))
