"""Files of a user's data folder that are not what they should be: one line with the file and its line, before anything
is trained.

Run: pytest tests/data/test_data_files.py
"""

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from adaptbench import registry
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.errors import AdaptbenchError
from adaptbench.io import local_files

GOOD = {
    "gsm8k": {"question": "How many?", "answer": "It is <<1+1=2>>2.\n#### 2"},
    "svamp": {"Body": "Two cups.", "Question": "How many?", "Answer": 2.0},
    "multiarith": {"question": "How many?", "final_ans": "2"},
    "asdiv_aug": {"question": "How many?", "answer": "#### 2"},
    "api_bank": {"id": "a", "turns": [{"role": "User", "text": "Go."}, {"role": "API", "api_name": "x",
    "param_dict": {}, "result": {"output": 1}}]},
    "domain_corpus": {"text": "A text."},
}  # fmt: skip
READERS = [
    ("domain", "gsm8k", "gsm8k", "train.jsonl"),
    ("agent", "gsm8k", "gsm8k", "test.jsonl"),
    ("reasoning", "gsm8k", "gsm8k", "train.jsonl"),
    ("agent", "api_bank", "api_bank", "dialogues.jsonl"),
    ("reasoning", "svamp", "svamp", "test.jsonl"),
    ("reasoning", "multiarith", "multiarith", "test.json"),
    ("reasoning", "asdiv_aug", "asdiv_aug", "data/test-0.jsonl"),
    ("domain", "corpus", "domain_corpus", "a.jsonl"),
]
"""Track, kind, public set and file: every reader of JSON lines."""


def folder_of(tmp_path: Path, name: str, file: str, content: bytes) -> Path:
    """A folder whose file holds `content`, and the set's other files a good record each."""
    folder = tmp_path / "set"
    for one in {file} | ({"train.jsonl", "test.jsonl"} if name == "gsm8k" else set()):
        (folder / one).parent.mkdir(parents=True, exist_ok=True)
        (folder / one).write_bytes(content if one == file else json.dumps(GOOD[name] | {"question": one}).encode())
    return folder


def built(tmp_path: Path, track: str, kind: str, name: str, folder: Path, **options) -> dict[str, list]:
    """The splits, built and written as a job does it."""
    module = registry.benchmark(track, kind)
    sizes = {"train_items": 1, "test_items": 1} if kind == "corpus" else {}
    public = {key: {"hub_id": "owner/set", "revision": "main", "path": str(folder)} for key in module.PUBLIC_DATA}
    spec = {"track": track, "config": {"kind": kind, **sizes, **options}, "seed": 0, "public": public}
    (tmp_path / "out").mkdir()
    benchmark_data.build(spec, StageContext(0, {}), tmp_path / "out")
    return benchmark_data.read_splits(tmp_path / "out")


def problem(call, *arguments, **named) -> str:
    with pytest.raises(AdaptbenchError) as caught:
        call(*arguments, **named)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "\\ud83d"}', "holds half a character (a lone surrogate), which no text can"),
        (b'{"text": "\\ude00\\ud83d"}', "holds half a character (a lone surrogate), which no text can"),
        (b'{"\\udfff": 1}', "holds half a character (a lone surrogate), which no text can"),
        (b'{"text": "\xed\xa0\x80"}', "not UTF-8 text (byte 11 of the line)"),
        (b'{"text": "caf\xe9"}', "not UTF-8 text (byte 14 of the line)"),
        (b'{"number": ' + b"9" * 5000 + b"}", "holds a number of too many digits"),
        (b'{"number": -' + b"1" * 4301 + b"}", "holds a number of too many digits"),
        (b"[" * 100_000, "not JSON: nested too deeply"),
        (b'{"a":' * 100_000, "not JSON: nested too deeply"),
        (b'{"a": NaN}', "not JSON: NaN is no number of JSON"),
        (b'{"a": [-Infinity]}', "not JSON: -Infinity is no number of JSON"),
        (b'{"a": 1e999}', "not JSON: 1e999 is too large a number"),
        (b'{"a": 1, "a": 2}', "not JSON: key 'a' twice in one object"),
        (b'{"b": {"a": 1, "a": 1}}', "not JSON: key 'a' twice in one object"),
        (b'{"a": "x\0"}', "holds a NUL character; no text file, or not UTF-8"),
        (b"\0\0\0", "holds a NUL character; no text file, or not UTF-8"),
        (b'{"a": "x\x01"}', "not JSON: Invalid control character at (column 9)"),
        (b'{"a": 1} x', "not JSON: Extra data (column 10)"),
        (b'{"a": "' + b"x" * 10_000_000, "not JSON: Unterminated string starting at (column 7)"),
        (b"[1]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
@pytest.mark.parametrize(("track", "kind", "name", "file"), READERS, ids=lambda value: value)
def test_a_line_that_is_no_record_is_named_by_file_and_line(tmp_path, track, kind, name, file, line, said):
    good = json.dumps(GOOD[name]).encode() + b"\r\n"
    content = b"\xef\xbb\xbf" + good + b"\r\n" + line + b"\n" + good
    folder = folder_of(tmp_path, name, file, content)
    message = problem(built, tmp_path, track, kind, name, folder)
    assert message.endswith(f"{folder / file}:3: {said}")


@pytest.mark.parametrize(("track", "kind", "name", "file"), READERS, ids=lambda value: value)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no records"),
        (b"\n \r\n\t\n", "holds no records"),
        (b"\xef\xbb\xbf", "holds no records"),
        ("{}".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        ("{}".encode("utf-16-be").join([b"\xfe\xff", b""]), "UTF-16 text; save it as UTF-8"),
    ],
    ids=["empty", "blank", "mark", "utf-16", "utf-16-be"],
)
def test_a_file_without_records_or_in_another_encoding_is_named(tmp_path, track, kind, name, file, content, said):
    folder = folder_of(tmp_path, name, file, content)
    assert problem(built, tmp_path, track, kind, name, folder).endswith(f"{folder / file}: {said}")


@pytest.mark.parametrize(("track", "kind", "name", "file"), READERS, ids=lambda value: value)
@pytest.mark.parametrize("instead", ["folder", "pipe"])
def test_what_is_no_plain_file_is_named_and_not_waited_for(tmp_path, track, kind, name, file, instead):
    folder = folder_of(tmp_path, name, file, b"")
    (folder / file).unlink()
    (folder / file).mkdir() if instead == "folder" else os.mkfifo(folder / file)
    assert re.search(rf"{folder / file}: no plain file(; |$)", problem(built, tmp_path, track, kind, name, folder))


@pytest.mark.parametrize(("track", "kind", "name", "file"), READERS, ids=lambda value: value)
def test_a_byte_order_mark_and_the_line_ends_of_windows_are_no_part_of_a_record(tmp_path, track, kind, name, file):
    good = [json.dumps(GOOD[name] | ({"text": text} if kind == "corpus" else {})) for text in ("First.", "Second.")]
    folder = folder_of(tmp_path, name, file, ("\ufeff" + "\r\n\r\n".join(good) + "\r\n").encode())
    splits = built(tmp_path, track, kind, name, folder)
    assert "\ufeff" not in json.dumps(splits, ensure_ascii=False)
    assert "\\r" not in json.dumps(splits)


@pytest.mark.parametrize(
    ("track", "kind", "name", "file", "field"),
    [(*one, "question") for one in READERS if one[2] == "gsm8k"]
    + [("domain", "gsm8k", "gsm8k", "test.jsonl", "answer"), (*READERS[-1], "text")],
)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "must be text, not null"),
        (5, "must be text, not 5"),
        (["a"], "must be text, not ['a']"),
        ("", "is empty"),
        (" \u00a0\n", "is empty"),
    ],
)
def test_a_field_that_is_no_text_is_named_by_file_and_line(tmp_path, track, kind, name, file, field, value, said):
    lines = [json.dumps(GOOD[name]), json.dumps(GOOD[name] | {field: value})]
    folder = folder_of(tmp_path, name, file, "\n".join(lines).encode())
    message = problem(built, tmp_path, track, kind, name, folder)
    assert message.endswith(f"{folder / file}:2: field {field!r} {said}")


@pytest.mark.parametrize("name", ["svamp", "multiarith", "asdiv_aug"])
@pytest.mark.parametrize("value", [None, "", " ", 5, ["x"]])
def test_a_word_problem_without_a_question_is_named(tmp_path, name, value):
    field = "Question" if name == "svamp" else "question"
    bad = GOOD[name] | {field: value} | ({"Body": ""} if value in ("", " ") and name == "svamp" else {})
    folder = folder_of(tmp_path, name, "test.jsonl", f"{json.dumps(GOOD[name])}\n{json.dumps(bad)}".encode())
    message = problem(built, tmp_path, "reasoning", name, name, folder)
    assert message.startswith(f"data.{name}: test problem 2: ")


def test_training_problems_that_are_all_test_problems_are_said_so(tmp_path):
    folder = folder_of(
        tmp_path, "gsm8k", "train.jsonl", json.dumps(GOOD["gsm8k"] | {"question": "test.jsonl"}).encode()
    )
    message = problem(built, tmp_path, "domain", "gsm8k", "gsm8k", folder)
    assert message == "data.domain: no training problem is left; all are test problems, too"


# --- the other kinds of files


def read_all(path: Path) -> list[tuple[str, dict]]:
    return list(local_files.records("x", path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"One.\nTw\0o.\n", ":2: holds a NUL character; no text file, or not UTF-8"),
        ("One.".encode("utf-16-le"), ":1: holds a NUL character; no text file, or not UTF-8"),
        (b"One.\ncaf\xe9\n", ":2: not UTF-8 text (byte 4 of the line)"),
        ("One.".encode("utf-16"), ": UTF-16 text; save it as UTF-8"),
        (b"", ": holds no records"),
        (b"\xef\xbb\xbf\r\n  \r\n", ": holds no records"),
    ],
)
def test_a_text_file_that_is_none_is_named_by_line(tmp_path, content, said):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert problem(read_all, path) == f"data.x.path: {path}{said}"


def test_a_text_file_is_read_by_lines_without_its_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffEins.\r\n\r\nZwei \u2028 und\x85drei.\n".encode())
    texts = [record["text"] for _, record in read_all(tmp_path / "a.txt")]
    assert texts == ["Eins.", "Zwei \u2028 und\x85drei."]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a,b\n1,2\n3\n", ":3: 1 fields under 2 headings"),
        (b"a,b\n1,2,3\n", ":2: 3 fields under 2 headings"),
        (b"a,a\n1,2\n", ":1: a heading twice"),
        (b'a,b\n1,"2\n3,4\n', ":3: not CSV: unexpected end of data"),
        (b"a,b\n1,\0\n", ":2: holds a NUL character; no text file, or not UTF-8"),
        (b"a,b\n1,\xff\n", ":2: not UTF-8 text (byte 3 of the line)"),
        (b"a,b\n", ": holds no records"),
        (b"", ": holds no records"),
    ],
)
def test_a_csv_file_that_is_none_is_named_by_line(tmp_path, content, said):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert problem(read_all, path) == f"data.x.path: {path}{said}"


def test_a_csv_field_is_text_whatever_it_holds(tmp_path):
    (tmp_path / "a.csv").write_bytes('\ufeffa,b\r\n007,"x, ""y""\r\n\r\nz"\r\n'.encode())
    assert [record for _, record in read_all(tmp_path / "a.csv")] == [{"a": "007", "b": 'x, "y"\n\nz'}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'[{"a": 1}, 5]', ": record 2: must be a JSON object"),
        (b'[{"a": 1},\n{"a": "\\ud800"}]', ":2: holds half a character (a lone surrogate), which no text can"),
        (b'[{"a": 1},\n\n{"a": ' + b"1" * 5000 + b"}]", ":3: holds a number of too many digits"),
        (b"[" * 100_000 + b"\n", ": not JSON: nested too deeply"),
        (b'[{"a": 1},\n{"a": }]', ":2: not JSON: Expecting value (column 7)"),
        (b'[{"a": NaN}]\n', ": not JSON: NaN is no number of JSON"),
        (b"[]", ": holds no records"),
    ],
)
def test_a_list_in_a_json_file_is_read_or_its_mistake_named(tmp_path, content, said):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf\n[{"a": 1},\n{"a": 2}]')
    assert [record for _, record in read_all(path)] == [{"a": 1}, {"a": 2}]
    path.write_bytes(content)
    assert problem(read_all, path) == f"data.x.path: {path}{said}"


@pytest.fixture
def damaged(tmp_path):
    """Makes a corpus's folder with one Parquet file, good or not."""

    def make(column, *, kind=None, name: str = "text", cut: int | None = None) -> Path:
        folder = tmp_path / "set"
        folder.mkdir()
        parquet.write_table(pa.table({name: pa.array(column, kind)}), folder / "a.parquet")
        content = (folder / "a.parquet").read_bytes()
        (folder / "a.parquet").write_bytes(content[:cut])
        return folder

    return make


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"column": ["One.", None, "Two."]}, "a.parquet: row 2: field 'text' must be text, not null"),
        ({"column": ["One.", " "]}, "a.parquet: row 2: field 'text' is empty"),
        ({"column": [1, 2]}, "a.parquet: row 1: field 'text' must be text, not 1"),
        ({"column": [["One."]]}, "a.parquet: row 1: field 'text' must be text, not ['One.']"),
        ({"column": [b"One."]}, "a.parquet: row 1: field 'text' must be text, not b'One.'"),
        ({"column": ["One."], "name": "content"}, "a.parquet: row 1: no column 'text'; there are content"),
        ({"column": [], "kind": pa.string()}, "a.parquet: holds no records"),
        ({"column": ["One."], "cut": -20}, "a.parquet: no Parquet file, or a damaged one: "),
        ({"column": ["One."], "cut": 100}, "a.parquet: no Parquet file, or a damaged one: "),
        ({"column": ["One."], "cut": 0}, "a.parquet: no Parquet file, or a damaged one: "),
    ],
)
def test_a_parquet_file_that_is_none_is_named_by_row(tmp_path, damaged, made, said):
    folder = damaged(**made)
    message = problem(built, tmp_path, "domain", "corpus", "domain_corpus", folder)
    assert message.startswith(f"data.domain_corpus.path: {folder}/{said}")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ([2**31 - 1], pa.date32()),
        ([2**62], pa.timestamp("us")),
        ([2**62], pa.duration("s")),
        ([0], pa.timestamp("us", tz="Mars/Olympus")),
    ],
)
def test_a_value_that_python_has_not_is_named_by_its_file(tmp_path, column, kind):
    table = pa.table(
        {"text": ["One."], "more": pa.array(column, kind if kind != pa.date32() else pa.int32()).view(kind)}
    )
    (tmp_path / "set").mkdir()
    parquet.write_table(table, tmp_path / "set/a.parquet")
    message = problem(built, tmp_path, "domain", "corpus", "domain_corpus", tmp_path / "set")
    assert message.startswith(f"data.domain_corpus.path: {tmp_path}/set/a.parquet: no Parquet file, or a damaged one: ")


def test_a_column_twice_is_not_read_as_its_last(tmp_path):
    (tmp_path / "set").mkdir()
    table = pa.table([pa.array(["One.", "Two."]), pa.array(["1", "2"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "set/a.parquet")
    message = problem(built, tmp_path, "domain", "corpus", "domain_corpus", tmp_path / "set")
    assert message == f"data.domain_corpus.path: {tmp_path}/set/a.parquet: a column twice"


def test_a_field_that_is_missing_is_no_null(tmp_path):
    folder = folder_of(tmp_path, "gsm8k", "train.jsonl", b'{"Question": "How many?", "answer": "#### 2"}')
    message = problem(built, tmp_path, "domain", "gsm8k", "gsm8k", folder)
    assert message.endswith(f"{folder}/train.jsonl:1: no field 'question'; there are Question, answer")


def test_why_no_problem_is_left_is_said(tmp_path, capsys):
    folder = folder_of(tmp_path, "svamp", "test.jsonl", json.dumps(GOOD["svamp"] | {"Answer": None}).encode())
    assert (
        problem(built, tmp_path, "reasoning", "svamp", "svamp", folder) == "data.reasoning: the split 'svamp' is empty"
    )
    assert capsys.readouterr().err == "data.reasoning: test: 1 left out: its answer is not a number\n"


def test_a_mark_of_thousands_of_signs_is_not_repeated_whole(tmp_path):
    bad = {"question": "How many?", "answer": "<<" + "(" * 50_000 + "1" + ")" * 50_000 + "=1>>1\n#### 1"}
    folder = folder_of(tmp_path, "gsm8k", "train.jsonl", json.dumps(bad).encode())
    message = problem(built, tmp_path, "agent", "gsm8k", "gsm8k", folder)
    assert message.startswith("data.gsm8k: train problem 1: <<((((")
    assert len(message) < 400


def test_an_empty_file_among_good_ones_is_named(tmp_path):
    """And not passed over: somebody thinks that it holds something."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.jsonl").write_text("")
    (tmp_path / "set/b.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
    message = problem(built, tmp_path, "domain", "corpus", "domain_corpus", tmp_path / "set")
    assert message == f"data.domain_corpus.path: {tmp_path}/set/a.jsonl: holds no records"


def test_what_arguments_in_a_published_file_escape_is_not_written_either(tmp_path):
    """JSON within JSON: the outer text is whole, the inner one holds half a character."""
    from adaptbench.agent.dialogue import parse_arguments

    assert parse_arguments('{"a": "\\ud83d"}') is None
    assert parse_arguments('{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
