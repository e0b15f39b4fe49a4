"""Documents and files: a bad line is named, a leak is found, and nothing is ever half-written.

Run: python -m pytest tests/data/test_documents.py
"""

import errno
import os

import pytest

from adaptbench.data.leakage import check_disjoint, document_hash, full_text, normalise, without_tested
from adaptbench.errors import AdaptbenchError
from adaptbench.io.files import whole_directory, write_if_changed, write_text
from adaptbench.io.jsonl import read_jsonl, write_jsonl


def _problem(call, *arguments, **named):
    with pytest.raises(AdaptbenchError) as caught:
        call(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- JSON lines


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "a"', "not JSON"),
        (b"text", "not JSON"),
        (b'["text"]', "must be a JSON object"),
        (b"3", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"{}", "no field 'text'"),
        (b'{"text": null}', "field 'text' must be text"),
        (b'{"text": ["a"]}', "field 'text' must be text"),
        (b'{"text": "caf\xe9"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, said):
    path = tmp_path / "train.jsonl"
    # Far enough in that a count of bytes or of decoded blocks would not do for the line; blank lines count.
    path.write_bytes(b'{"text": "good"}\n' * 3000 + b"\n" + line + b'\n{"text": "good"}\n')
    message = _problem(read_jsonl, path, require=("text",))
    assert message.startswith(f"{path}:3002: ")
    assert said in message


@pytest.mark.parametrize("name", ["none.jsonl", "file/none.jsonl"])
def test_a_missing_file_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    assert _problem(read_jsonl, tmp_path / name) == f"{tmp_path / name}: no such file"


def test_what_is_written_is_read_whatever_the_characters(tmp_path):
    records = [
        {"text": "line\nbreak and \u2028 separator \x85 next\r line", "n": 1},
        {"text": 'quote " 日本語 ä', "nested": {"a": [1, 2.5, None]}},
        {"text": ""},
    ]
    write_jsonl(tmp_path / "new" / "x.jsonl", records)
    assert read_jsonl(tmp_path / "new" / "x.jsonl") == records


# --- leaks


@pytest.mark.parametrize(
    "copy",
    [
        "the cat sat on the mat",
        "The CAT sat -- on the mat!",
        "  the\tcat, sat\non the mat. ",
        "The cat sat on the mat?",
    ],
)
def test_copies_that_differ_in_case_and_punctuation_are_found_and_both_splits_named(copy):
    trained = {"pretrain": [{"text": "Something else."}], "replay": [{"text": "The cat sat on the mat."}]}
    tested = {"test": [{"text": "A third thing."}], "validation": [{"text": copy}]}
    message = _problem(check_disjoint, trained, tested)
    assert message.startswith("validation and replay share a document: ")
    assert repr(copy) in message


@pytest.mark.parametrize(
    "item",
    [
        {"prompt": "The capital of X is", "choices": ["Rome", "Oslo"], "gold": 1},
        {"prompt": "The capital of X is", "target": "Oslo"},
    ],
)
def test_an_item_leaks_where_its_prompt_with_the_right_answer_is_trained_on(item):
    message = _problem(check_disjoint, {"train": [{"text": "the capital of X is Oslo."}]}, {"test": [item]})
    assert message.startswith("test and train share a document")
    check_disjoint({"train": [{"text": "The capital of X is Rome."}]}, {"test": [item]})


def test_a_tested_beginning_is_found_beside_a_longer_test_that_begins_alike():
    tested = {"test": [{"text": "the cat"}, {"text": "the cat ran"}, {"text": "the cat sat down there"}]}
    message = _problem(check_disjoint, {"train": [{"text": "The cat sat down."}]}, tested)
    assert message == "test and train share a document: 'the cat'"
    check_disjoint({"train": [{"text": "The category sat."}, {"text": "the"}]}, tested)


def test_documents_that_differ_in_a_word_or_a_digit_are_no_leak():
    check_disjoint({"train": [{"text": "Number 12 is kept."}]}, {"test": [{"text": "Number 13 is kept."}]})
    check_disjoint({"train": [{"text": "now here"}]}, {"test": [{"text": "nowhere"}]})
    with pytest.raises(AdaptbenchError):
        check_disjoint({"train": [{"text": "Number 12 is kept."}]}, {"test": [{"text": "number 12 is kept"}]})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0915\u0940", "\u0915\u094b"),  # Hindi ki and ko: a letter and another vowel mark
        ("\u0915\u0940", "\u0915"),
        ("\u0e01\u0e34\u0e19", "\u0e01\u0e31\u0e19"),  # Thai
        ("\u05d1\u05bc", "\u05d1"),  # Hebrew
        ("caf\u00e9", "cafe"),
        ("2 \u00d7 3", "2 \u00f7 3"),
        ("2 + 3", "2 - 3"),
        ("2 \u2212 3", "2 3"),
        ("10\u201320", "10 20"),
        ("a * b", "a / b"),
        ("x - y", "x y"),
        ("x \u2264 y", "x \u2265 y"),
        ("\u2200x", "\u2203x"),
        ("2 * (3 + 4)", "(2 * 3) + 4"),
        ("x\u00b2", "x2"),
        ("\u221a2", "2"),
        ("$5", "\u20ac5"),
        ("5 %", "5"),
        ("5 %", "5 \u2030"),
        ("5 \u00b0", "5"),
        ("C#", "C++"),
        ("C#", "C"),
        ("R & D", "R D"),
        ("\\alpha", "alpha"),
        ("\U0001f600", "\U0001f622"),
        ("...", "!!!"),
        ("", "?"),
    ],
)
def test_texts_that_differ_in_a_letter_a_mark_or_a_symbol_are_two(one, other):
    assert normalise(one) != normalise(other)
    if one != "..." and other != "?":  # a text of nothing but punctuation
        a, b = ({"text": f"What is {inside} here?"} for inside in (one, other))
        check_disjoint({"train": [a]}, {"test": [b]})
        assert without_tested([a, b], [b]) == [a]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The cat sat.", "the  CAT\n\u201csat\u201d!"),
        ("caf\u00e9", "CAFE\u0301"),
        ("\u0390", "\u03b9\u0308\u0301"),  # a Greek letter with two marks, composed and not
        ("2\u00d73", "2 \u00d7 3"),
        ("2 - 3", "2\u22123"),
        ("10-20", "10\u201320"),
        ("well-known", "well\u2010known"),
        ("he came - she left", "he came \u2014 she left"),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645",
        ),  # a joiner is no letter
        ("na\u00adive", "naive"),
        ("Stra\u00dfe", "STRASSE"),
        ("\u0939\u093e\u0901\u0964", "\u0939\u093e\u0901"),  # the Hindi full stop
        ("\u4f60\u597d\u3002", "\u4f60\u597d"),
    ],
)
def test_copies_in_other_case_spacing_punctuation_or_composition_are_one(one, other):
    assert normalise(one) == normalise(other)
    with pytest.raises(AdaptbenchError, match="test and train share a document"):
        check_disjoint({"train": [{"text": one}]}, {"test": [{"text": other}]})


def test_normalising_keeps_the_words_alone():
    assert normalise("  Größe: 12,5 -- 'Straße'!\n") == "grösse 12 5 strasse"
    assert full_text({"prompt": "a", "choices": ["b", "c"], "gold": 0}) == "a b"
    assert document_hash("a") != document_hash("b")
    assert document_hash("a") == document_hash("a") == "ca978112ca1bbdca"


# --- files


def test_a_directory_is_there_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "made"

    def fail():
        with whole_directory(target) as temporary:
            (temporary / "half").write_text("x")
            (temporary / "sub").mkdir()
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert list(target.parent.iterdir()) == []
    with whole_directory(target) as temporary:
        assert not target.exists()
        (temporary / "file").write_text("one")
    assert [path.name for path in target.parent.iterdir()] == ["made"]
    assert (target / "file").read_text() == "one"
    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert [path.name for path in target.iterdir()] == ["file"], "a failed replacement must leave what was there"


def test_a_directory_replaces_the_one_before_wholly(tmp_path):
    target = tmp_path / "made"
    for name in ("first", "second"):
        with whole_directory(target) as temporary:
            assert list(temporary.iterdir()) == []
            (temporary / name).write_text(name)
    assert [path.name for path in target.iterdir()] == ["second"]
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_leftover_of_a_killed_process_with_the_same_id_is_not_built_upon(tmp_path):
    leftover = tmp_path / f".made.{os.getpid()}.tmp"
    leftover.mkdir()
    (leftover / "half").write_text("x")
    with whole_directory(tmp_path / "made") as temporary:
        (temporary / "file").write_text("one")
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["file"]


def _full_disk(_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("write", [write_text, write_if_changed])
def test_a_write_that_fails_leaves_the_old_file_and_no_temporary(tmp_path, monkeypatch, write):
    path = tmp_path / "file.json"
    write(path, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _full_disk)
        with pytest.raises(OSError, match="No space left"):
            write(path, "new " * 10000)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["file.json"]
    write(path, "new")
    assert path.read_text() == "new"


def test_a_file_is_written_whole_with_its_folders_and_as_utf_8(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "ä 日本\n")
    assert (tmp_path / "a/b/c.txt").read_bytes() == "ä 日本\n".encode()
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["c.txt"]


def test_a_file_that_already_holds_the_text_keeps_its_time_stamp(tmp_path):
    path = tmp_path / "plan.json"
    write_if_changed(path, "one")
    os.utime(path, ns=(1, 1))
    before = path.stat()
    write_if_changed(path, "one")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (1, before.st_ino)
    write_if_changed(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mtime_ns > 1


def test_signs_make_two_problems_two_documents_and_a_tested_beginning_of_a_training_text_is_found():
    check_disjoint({"train": [{"text": "1 + 0 - 0 = 1"}]}, {"test": [{"text": "1 - 0 + 0 = 1"}]})
    check_disjoint({"train": [{"text": "Given a red. a red."}]}, {"test": [{"prompt": "Given a re", "target": "d"}]})
    tested = {
        "test": [{"prompt": "Given a red, b blue. a", "target": "red."}, {"text": "Given a red, b blue. b blue."}]
    }
    with pytest.raises(AdaptbenchError, match="test and train share a document"):
        check_disjoint({"train": [{"text": "Given a red, b blue. A red. b blue."}]}, tested)
