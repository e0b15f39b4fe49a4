"""ToolAlpaca and API-Bank as single steps: what becomes a document, what is left out, and what is said about bad files.

Run: pytest tests/benchmarks/test_evaluation_only_sets.py
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from adaptbench.agent import dialogue
from adaptbench.benchmarks.agent import api_bank, toolalpaca
from adaptbench.errors import AdaptbenchError
from tests.support.project import PROJECT
from tests.support.single_steps import asked_and_right, one_line, reads_back

SHARED = PROJECT.parent / "shared" / "data"


def _published(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        not (SHARED / name).is_dir(), reason=f"the published {name} file is not beside the project"
    )


def toolalpaca_documents(folder: Path) -> list[dict]:
    return toolalpaca.build(toolalpaca.Config(), 0, {"toolalpaca": {"path": str(folder)}})["toolalpaca_steps"]


def api_bank_documents(folder: Path, seed: int = 0, **options: int) -> list[dict]:
    return api_bank.build(api_bank.Config(**options), seed, {"api_bank": {"path": str(folder)}})["api_bank_steps"]


# --- ToolAlpaca


def an_api() -> dict:
    described = 'Find a dog.\nParameters: {"name": "string. Its name.", "age": "integer."}\nOutput: A dog.'
    return {
        "Name": "Dogs",
        "Function_Description": {
            "find": described,
            "list": "All dogs.\nParameters: {}\nOutput: Dogs.",
            "components": "",
        },
        "Function_Projection": {"find": ["/find", "get"], "list": ["/list", "get"]},
        "Instructions": ["Find Rex.", "List the dogs, then find Rex."],
        "Golden_Answers": [
            [{"Action": "find", "Action_Input": '{"name":"Rex"}'}],
            [{"Action": "list", "Action_Input": "{}"}, {"Action": "find", "Action_Input": '{"name": "Rex", "age": 2}'}],
        ],
    }


def alpaca_folder(folder: Path, *apis: object) -> Path:
    (folder / toolalpaca.FILE).write_text(json.dumps(apis))
    return folder


def test_every_golden_call_is_a_document_with_those_before_as_its_history(tmp_path):
    documents = toolalpaca_documents(alpaca_folder(tmp_path, an_api(), an_api()))
    assert [document["problem"] for document in documents] == [0, 1, 1, 2, 3, 3]
    for document in documents:
        asked_and_right(document)
    last = documents[2]
    assert [tool["name"] for tool in last["tools"]] == ["find", "list", "getDetails"]
    assert last["tools"][0] == {
        "name": "find",
        "description": "Find a dog.",
        "parameters": '{"name": "string. Its name.", "age": "integer."}',
    }
    seen = {"arguments": "{}", "observation": toolalpaca.OBSERVATION}
    assert last["history"] == [dialogue.step(toolalpaca.THOUGHT, dialogue.CALL, action="list", **seen)]
    assert (last["step"]["action"], last["step"]["arguments"]) == ("find", '{"name": "Rex", "age": 2}')


@pytest.mark.parametrize(
    ("calls", "kept"),
    [
        ([("find", '{"name": "Rex"}'), ("find", '{"name": "Max"}')], 2),
        ([("find", '{"name": ${name from list}}'), ("list", "{}")], 0),
        ([("find", '{"name": "${name}"}'), ("list", "{}")], 0),
        ([("list", "{}"), ("[Optional]find", '{"name": "Rex"}')], 1),
        ([("list", "{}"), ("components", "{}")], 1),
        ([("list", "[]")], 0),
        ([("getDetails", '{"Question": "Which?"}'), ("find", '{"name": "Rex"}')], 1),
        ([("list", "{}"), ("getDetails", '{"Question": "Which?"}')], 2),
        ([], 0),
    ],
)
def test_a_call_that_cannot_be_known_ends_what_is_asked(tmp_path, calls, kept):
    golden = [{"Action": action, "Action_Input": arguments} for action, arguments in calls]
    api = an_api() | {"Instructions": ["Go."], "Golden_Answers": [golden]}
    assert len(toolalpaca_documents(alpaca_folder(tmp_path, api))) == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"Golden_Answers": [{"Action": "find"}, []]},
            "API 2, instruction 1: its golden answer must be a list of calls",
        ),
        ({"Golden_Answers": [[], ["find"]]}, "API 2, instruction 2: call 1: field 'Action' must be text"),
        (
            {"Golden_Answers": [[], [{"Action": "find", "Action_Input": {}}]]},
            "API 2, instruction 2: call 1: field 'Action_Input' must be text",
        ),
        ({"Golden_Answers": [[]]}, "API 2: 'Instructions' and 'Golden_Answers' must be equally many"),
        ({"Golden_Answers": None}, "API 2: field 'Golden_Answers' must be a list"),
        ({"Function_Projection": None}, "API 2: field 'Function_Projection' must be an object"),
        ({"Function_Description": {"find": "Find."}}, "API 2: 'find' has no line 'Parameters: ' with a JSON object"),
        ({"Function_Description": {}}, "API 2: 'Function_Description' must describe 'find' as text"),
        ({"Instructions": ["x", 3]}, "API 2, instruction 2, trajectory 1: 'instruction' must be text"),
    ],
)
def test_what_is_wrong_with_an_api_is_named(tmp_path, change, message):
    api = an_api() | change
    if set(change) == {"Function_Description"} and change["Function_Description"]:
        api["Function_Projection"] = {"find": ["/find", "get"]}
    with pytest.raises(AdaptbenchError) as caught:
        toolalpaca_documents(alpaca_folder(tmp_path, an_api(), api))
    assert str(caught.value) == f"{tmp_path / toolalpaca.FILE}: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[\n{"Name": }]', r"eval_simulated\.json:2: not JSON: Expecting value \(column 10\)$"),
        (b'{"Name": "Dogs"}', r"eval_simulated\.json: must be a list of APIs$"),
        (b'["Dogs"]', r"eval_simulated\.json: API 1: must be a JSON object$"),
        (b"\xff", r"eval_simulated\.json:1: not UTF-8 text \(byte 1 of the line\)$"),
        (None, r"eval_simulated\.json: no such file$"),
    ],
)
def test_a_bad_file_of_toolalpaca_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / toolalpaca.FILE).write_bytes(content)
    with pytest.raises(AdaptbenchError, match=message) as caught:
        toolalpaca_documents(tmp_path)
    assert one_line(caught)


@_published("toolalpaca")
def test_the_published_toolalpaca_gives_115_documents():
    apis = json.loads((SHARED / "toolalpaca" / toolalpaca.FILE).read_text())
    documents = toolalpaca_documents(SHARED / "toolalpaca")
    assert len(documents) == 115
    assert len({document["problem"] for document in documents}) == 92
    assert Counter(len(document["history"]) for document in documents) == {0: 92, 1: 16, 2: 4, 3: 2, 4: 1}
    assert Counter(document["step"]["action"] for document in documents)[toolalpaca.ASK] == 8
    for document in documents:
        asked_and_right(document)
        reads_back(document["step"])
    # Every golden call is a document, or left out for one of these reasons.
    left_out: Counter[str] = Counter()
    for api in apis:
        for golden in api["Golden_Answers"]:
            cut = after_question = False
            for call in golden:
                if dialogue.parse_arguments(call["Action_Input"]) is None:
                    reason = "not JSON"
                elif "${" in call["Action_Input"]:
                    reason = "placeholder"
                elif call["Action"].startswith("[Optional]"):
                    reason = "optional"
                elif after_question:
                    reason = "after a question"
                else:
                    reason = "gap before" if cut else ""
                cut = cut or bool(reason)
                after_question = after_question or call["Action"] == toolalpaca.ASK
                left_out[reason] += 1
    assert left_out == {
        "": 115, "not JSON": 32, "placeholder": 1, "optional": 1, "after a question": 4, "gap before": 1
    }  # fmt: skip
    assert left_out.total() == 154


# --- API-Bank


def said(role: str, text: str) -> dict:
    return {"role": role, "text": text}


def called(api: str, output: object, /, **parameters: object) -> dict:
    result = {"api_name": api, "input": parameters, "output": output, "exception": None}
    return {"role": "API", "api_name": api, "param_dict": parameters, "result": result}


DIALOGUES = (
    {
        "id": "first",
        "turns": [
            said("User", "Wake me\nat 7."),
            said("AI", "Who are you?"),
            said("User", "Ann."),
            called("GetToken", {"token": "t1"}, name="Ann"),
            called("AddAlarm", "success", token="t1", time="07:00"),
            said("AI", "Done."),
            said("User", "Delete it."),
            called("DeleteAlarm", "success", token="t1"),
            said("User", "Thanks."),
        ],
    },
    {"id": "empty", "turns": []},
    {
        "id": "second",
        "turns": [
            said("User", "Is an alarm set?"),
            called("AddAlarm", None, repeat=True),
            said("AI", "I look."),
            said("AI", "No."),
        ],
    },
)


def bank_folder(folder: Path, *dialogues: object) -> Path:
    (folder / api_bank.FILE).write_text("".join(json.dumps(one) + "\n" for one in dialogues or DIALOGUES))
    return folder


def test_a_dialogue_is_asked_call_by_call_and_then_for_what_is_said(tmp_path):
    documents = api_bank_documents(bank_folder(tmp_path))
    for document in documents:
        asked_and_right(document)
        reads_back(document["step"])
    assert [document["problem"] for document in documents] == [0, 0, 0, 0, 2, 2]
    assert [document["step"]["action"] or document["step"]["answer"] for document in documents] == [
        "GetToken", "AddAlarm", "Done.", "DeleteAlarm", "AddAlarm", "I look."
    ]  # fmt: skip
    assert [len(document["history"]) for document in documents] == [0, 1, 2, 0, 0, 1]
    opening = "User: Wake me at 7.\nAI: Who are you?\nUser: Ann."
    assert [document["instruction"] for document in documents[:3]] == [opening] * 3
    assert documents[2]["history"][0]["observation"] == '{"token": "t1"}'
    assert documents[3]["instruction"] == (
        f'{opening}\nAPI: GetToken {{"name": "Ann"}} -> {{"token": "t1"}}\n'
        'API: AddAlarm {"token": "t1", "time": "07:00"} -> success\nAI: Done.\nUser: Delete it.'
    )


def test_a_tool_is_its_name_and_all_parameters_that_a_call_gave_it(tmp_path):
    offered = {tool["name"]: tool for tool in api_bank_documents(bank_folder(tmp_path))[0]["tools"]}
    assert offered["AddAlarm"] == {
        "name": "AddAlarm",
        "description": "add alarm",
        "parameters": '{"token": "", "time": "", "repeat": ""}',
    }


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"output": "on\nSunday ", "exception": None}, "on Sunday"),
        ({"output": {"a": "é"}}, '{"a": "é"}'),
        ({"output": 4.5}, "4.5"),
        ({"output": "", "exception": None}, "(nothing)"),
        ({"output": None, "exception": "no\nuser"}, "error: no user"),
    ],
)
def test_a_result_is_one_line(result, text):
    assert api_bank.observation(result) == text


def test_the_own_apis_are_always_offered_and_others_up_to_the_number(tmp_path):
    more = [
        {"id": f"d{i}", "turns": [said("User", "Go."), called("AddAlarm", "success", token="t")]} for i in range(20)
    ]
    wide = {"id": "wide", "turns": [said("User", "Go."), *(called(f"Api{i}", i) for i in range(20))]}
    folder = bank_folder(tmp_path, *DIALOGUES, *more, wide)

    def offers(seed: int, tools: int) -> list[list[str]]:
        return [[tool["name"] for tool in one["tools"]] for one in api_bank_documents(folder, seed, tools=tools)]

    few = offers(0, 8)
    assert offers(0, 8) == few != offers(1, 8)
    assert {len(names) for names in few} == {8, 20}
    assert all("AddAlarm" in names for names in few[: len(few) - 20])
    assert len({tuple(names) for names in few}) > 10
    assert len({names.index("AddAlarm") for names in few[6:26]}) > 3
    assert {len(names) for names in offers(0, 100)} == {23}
    assert {len(names) for names in offers(0, 1)} == {1, 3, 20}


@pytest.mark.parametrize(
    ("turn", "message"),
    [
        (said("Bot", "Hi."), "turn 1: 'role' must be one of User, AI, API, not 'Bot'"),
        ({"role": "User"}, "turn 1: field 'text' must be text"),
        ("Hi.", "turn 1: must be a JSON object"),
        ({"role": "API", "param_dict": {}, "result": {}}, "turn 1: field 'api_name' must be text"),
        (called("A", "x") | {"param_dict": "x"}, "turn 1: field 'param_dict' must be an object"),
        (called("A", "x") | {"result": {}}, "turn 1: field 'result' needs 'output' or 'exception'"),
        (called("A", "x"), "trajectory 1: 'instruction' must be text"),
    ],
)
def test_a_bad_turn_is_named(tmp_path, turn, message):
    with pytest.raises(AdaptbenchError) as caught:
        api_bank_documents(bank_folder(tmp_path, *DIALOGUES, {"id": "bad", "turns": [turn]}))
    where = f"{tmp_path / api_bank.FILE}: dialogue 4 (bad)"
    assert str(caught.value).startswith(where)
    assert str(caught.value).endswith(message)
    assert one_line(caught)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "x", "turns": [', r"dialogues\.jsonl:1: not JSON"),
        ('{"turns": []}', r"dialogues\.jsonl:1: no field 'id'"),
        ('{"id": "x"}', r"dialogues\.jsonl: dialogue 1 \(x\): field 'turns' must be a list"),
        (None, r"dialogues\.jsonl: no such file"),
    ],
)
def test_a_bad_file_of_api_bank_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / api_bank.FILE).write_text(content)
    with pytest.raises(AdaptbenchError, match=message) as caught:
        api_bank_documents(tmp_path)
    assert one_line(caught)


@_published("api_bank")
def test_the_published_api_bank_gives_508_calls_and_478_answers():
    documents = api_bank_documents(SHARED / "api_bank")
    assert Counter(document["step"]["decision"] for document in documents) == {dialogue.CALL: 508, dialogue.ANSWER: 478}
    assert len({document["problem"] for document in documents}) == 261
    assert max(document["problem"] for document in documents) == 263
    assert (
        sum(document["step"]["decision"] == dialogue.CALL and not document["history"] for document in documents) == 482
    )
    assert {len(document["tools"]) for document in documents} == {8}
    assert Counter(document["step"]["action"] for document in documents)["ToolSearcher"] == 45
    for document in documents:
        asked_and_right(document)
        reads_back(document["step"])
    everything = api_bank_documents(SHARED / "api_bank", tools=100)
    assert {len(document["tools"]) for document in everything} == {50}


# --- both


@pytest.mark.parametrize(("module", "name"), [(toolalpaca, "toolalpaca"), (api_bank, "api_bank")])
def test_without_a_folder_it_is_said_where_to_get_the_set(module, name):
    assert module.EVALUATION_ONLY
    source = {"hub_id": module.PUBLIC_DATA[name], "revision": "main", "path": None}
    with pytest.raises(AdaptbenchError, match=rf"^data\.{name}: not on the hub; set data\.{name}\.path") as caught:
        module.build(module.Config(), 0, {name: source})
    assert f"https://github.com/{module.PUBLIC_DATA[name]}" in str(caught.value)
    assert one_line(caught)
