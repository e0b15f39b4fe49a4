"""What steps and episodes are worth: hand-counted cases, an independent reference, and lm-eval's own reading of the
tasks.

Run: python -m pytest tests/agent/test_scores.py
"""

# ruff: noqa: RUF001

import ast
import json
import math
import sys
import unicodedata
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import DefaultTokenizer

from adaptbench.agent import dialogue
from adaptbench.agent.scores import DECISIONS, AnyScript, argument_f1, episode_scores, rouge_l, same, step_scores
from adaptbench.benchmarks import splits
from adaptbench.benchmarks.agent import world
from adaptbench.benchmarks.agent.measures import HALLUCINATION_PER_CALL, MACRO_F1
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.evaluate import harness
from adaptbench.evaluate import metrics as evaluate_metrics
from adaptbench.evaluate.metrics import sample_rows
from adaptbench.statistics import collect, interval_of_sums
from tests.support.project import PROJECT

THOROUGH = settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
OFFERED = [{"name": name, "description": "", "parameters": "{}"} for name in ("add", "price", "a b")]
ROUGE = RougeScorer(["rougeL"], use_stemmer=False)


def _call(action="add", arguments='{"a": 1}'):
    return dialogue.step("t", "caller", action=action, arguments=arguments, observation="o")


def _answer(answer="It is 5."):
    return dialogue.step("t", "summarizer", answer=answer)


GIVE_UP = dialogue.step("t", "give up")


def _scores(gold, text):
    return step_scores({"step": gold, "tools": OFFERED}, [text])


# --- arguments


@pytest.mark.parametrize(
    ("gold", "predicted", "score"),
    [
        ({}, {}, 1),
        ({}, {"a": 1}, 0),
        ({"a": 1}, {}, 0),
        ({"a": 1}, {"a": 1}, 1),
        ({"a": 1}, {"a": 2}, 0.5),
        ({"a": 1}, {"b": 1}, 0),
        ({"a": 1, "b": 2}, {"a": 1}, 2 / 3),  # recall 1/2, precision 1
        ({"a": 1}, {"a": 1, "b": 2}, 2 / 3),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, 0.75),
        ({"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 0, "d": 0, "e": 0}, 3 / 7),  # score 1.5: recall 1/2, precision 3/8
        ({"a": None}, {"a": None}, 1),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}, 1),
        ({"a": "1"}, {"a": 1}, 0.5),
    ],
)
def test_the_f1_of_arguments(gold, predicted, score):
    assert argument_f1(gold, predicted) == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, 1.0, True),
        (0.1, 0.1, True),
        (True, True, True),
        (True, 1, False),
        (1.0, True, False),
        (False, 0, False),
        (0, "", False),
        (None, False, False),
        ("a", "A", False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}, True),
        ([True], [True], True),
        ([True], [1], False),
        ({"a": {"b": False}}, {"a": {"b": 0}}, False),
        ({"a": [[1]]}, {"a": [[True]]}, False),
    ],
)
def test_true_is_not_1_wherever_it_stands(one, other, equal):
    assert same(one, other) is equal
    assert same(other, one) is equal


# --- what an answer ends in; tests/benchmarks/test_answers.py has the tables


@pytest.mark.parametrize("text", ["1e1000000", "1E+99999999.", "9" * 100 + "e999999", "-1e999999999999999999",
    "1e-9999999"])  # fmt: skip
def test_a_number_beyond_all_bounds_is_wrong_and_no_more(text):
    assert _scores(_answer(), f"t\nAnswer: It is {text}")["exact"] == 0


@pytest.mark.parametrize(
    ("gold", "said", "right"),
    [
        ("It is 5.", "It is 5.0 coins", 1),
        ("It is 5 €.", "It is 7 €.", 0),
        ("It is 1,000.", "So it is 1 000", 1),
        ("It is 3/4.", "It is 3", 0),
        ("It is 3/4.", "It is 0.75", 1),
        ("It is 100000.", "It is 1e5", 1),
        ("It is 1.", "It is 1e5", 0),
        ("Das ist Köln.", "Ko\u0308ln", 1),
    ],
)
def test_an_answer_is_right_where_it_ends_in_the_same_value(gold, said, right):
    assert _scores(_answer(gold), f"t\nAnswer: {said}")["exact"] == right


@THOROUGH
@given(st.text() | st.text(alphabet="0123456789eE+-.,$%'\" naif") | st.floats().map(str))
def test_any_answer_is_read_and_equals_itself(text):
    scores = _scores(_answer(text), f" t\nAnswer: {text}")
    assert scores["exact"] == 1
    assert 0 <= scores["rouge_l"] <= 1


# --- Rouge-L


@pytest.mark.parametrize(
    ("gold", "predicted", "value"),
    [
        ("the cat sat", "the cat", 0.8),  # recall 2/3, precision 1
        ("the cat sat", "The CAT sat.", 1),
        ("a b c d", "a c b d", 0.75),
        ("one", "two", 0),
        ("one", "", 0),
        ("cats run", "cat running", 0),  # nothing is stemmed
    ],
)
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence(gold, predicted, value):
    assert rouge_l(gold, predicted) == pytest.approx(value, abs=1e-12)


ASCII = st.characters(max_codepoint=127)


@THOROUGH
@given(
    st.text(alphabet="abAB1 ._'-\n") | st.text(alphabet=ASCII),
    st.text(alphabet="abAB1 ._'-\n") | st.text(alphabet=ASCII),
)
def test_rouge_l_of_ascii_text_is_rouge_score_s(gold, predicted):
    assert rouge_l(gold, predicted) == ROUGE.score(gold, predicted)["rougeL"].fmeasure
    assert AnyScript().tokenize(gold) == DefaultTokenizer().tokenize(gold)


@pytest.mark.parametrize(
    "text",
    [
        "Привет, мир", "Γειά σου", "हिन्दी में", "مرحبا بالعالم", "שלום", "你好，世界", "こんにちは", "カタカナ",
        "안녕 하세요",
        "ภาษาไทย",
        "ພາສາລາວ", "தமிழ்", "ქართული",
        "Ἑλληνική", "ñandú", "naïve café", "۱۲۳", "½", "👍", "5 €", "Ørsted", "İstanbul", "ﬁn", "𝐱𝐲", "\u0301",
        "か\u3099",
    ],
)  # fmt: skip
def test_rouge_l_of_a_text_and_itself_is_1_in_any_script(text):
    assert rouge_l(text, text) == 1
    assert rouge_l(text, unicodedata.normalize("NFD", text)) == 1
    assert rouge_l(text, "xyz") == rouge_l("xyz", text) == rouge_l(text, "") == rouge_l("", text) == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Привет, мир!", ["привет", "мир"]),
        ("की को का", ["की", "को", "का"]),
        ("می\u200cخواهم", ["میخواهم"]),
        ("l’été", ["l", "été"]),
        ("你好 GPT-4。", ["你", "好", "gpt", "4"]),  # no spaces between words: each character
        ("カレー", ["カ", "レ", "ー"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("한국어 책", ["한국어", "책"]),
        ("5€ 👍🏽", ["5", "€", "👍", "🏽"]),
        ("x²+y₁", ["x²", "y₁"]),
        ("\u0301a", ["\u0301a"]),
        ("", []),
        ("... !?", []),
    ],
)
def test_words_of_any_script_keep_their_letters_and_marks(text, tokens):
    assert AnyScript().tokenize(text) == tokens


def test_rouge_l_tells_words_apart_that_differ_in_a_mark():
    assert rouge_l("की", "का") == rouge_l("cafe", "café") == 0
    assert rouge_l("кот сидел там", "кот сидел") == pytest.approx(0.8)
    assert rouge_l("你好世界", "你好") == pytest.approx(2 / 3)


# --- a step, counted by hand

ZERO = {"plan_acc": 0, "hallucination": 0, "called": 0, "missing": 0, "unasked": 0, "exact": 0}
UNASKED = ZERO | {"unasked": 1, "predicted": -1}
CALLED = ZERO | {"called": 1, "predicted": 0}
RIGHT_PLACE = CALLED | {"plan_acc": 1, "gold": 0}


@pytest.mark.parametrize(
    ("gold", "text", "scores"),
    [
        (
            _call(),
            'any\nAction: add\nAction Input: {"a": 1.0}',
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 1, "arg_f1_filled": 1, "exact": 1},
        ),
        (
            _call(),
            't\nAction: add\nAction Input: {"a": 2}',
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 0.5, "arg_f1_filled": 0.5},
        ),
        (
            _call(),
            't\nAction: price\nAction Input: {"a": 1}',
            RIGHT_PLACE | {"act_em": 0, "arg_f1": 0, "arg_f1_filled": 0},
        ),
        (
            _call(),
            't\nAction: divide\nAction Input: {"a": 1}',
            RIGHT_PLACE | {"act_em": 0, "arg_f1": 0, "arg_f1_filled": 0, "hallucination": 1},
        ),
        (_call(), "t\nAction: add\nAction Input: {", RIGHT_PLACE | {"act_em": 1, "arg_f1": 0, "arg_f1_filled": 0}),
        (_call(), "t\nAction: add", RIGHT_PLACE | {"act_em": 1, "arg_f1": 0, "arg_f1_filled": 0}),
        (
            _call(arguments="{}"),
            "t\nAction: add\nAction Input: {}",
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 1, "arg_f1_empty": 1, "exact": 1},
        ),
        # As in the authors' evaluation: a call without an input has no arguments; an input that is empty is no JSON.
        (
            _call(arguments="{}"),
            "t\nAction: add",
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 1, "arg_f1_empty": 1, "exact": 1},
        ),
        (
            _call(arguments="{}"),
            "t\nAction: add\nAction Input:",
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 0, "arg_f1_empty": 0},
        ),
        (
            _call(arguments="{}"),
            "t\nAction: add\nAction Input: []",
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 0, "arg_f1_empty": 0},
        ),
        (
            _call(arguments="{}"),
            't\nAction: add\nAction Input: {"a": 1}',
            RIGHT_PLACE | {"act_em": 1, "arg_f1": 0, "arg_f1_empty": 0},
        ),
        (
            _call(arguments="{}"),
            "t\nAction: price\nAction Input: {}",
            RIGHT_PLACE | {"act_em": 0, "arg_f1": 0, "arg_f1_empty": 0},
        ),
        (
            _call(),
            "t\nAnswer: It is 5.",
            ZERO | {"gold": 0, "predicted": 1, "act_em": 0, "arg_f1": 0, "arg_f1_filled": 0},
        ),
        (
            _call(arguments="{}"),
            "t\nGive up",
            ZERO | {"gold": 0, "predicted": 2, "act_em": 0, "arg_f1": 0, "arg_f1_empty": 0},
        ),
        # No decision: taken for a call, of no tool.
        (
            _call(),
            "whatever",
            RIGHT_PLACE | {"missing": 1, "called": 0, "act_em": 0, "arg_f1": 0, "arg_f1_filled": 0},
        ),
        # A planner's decision that was missing and the call that its caller then wrote.
        (
            _call(),
            f't {dialogue.ASSUMED}\nAction: add\nAction Input: {{"a": 1}}',
            RIGHT_PLACE | {"missing": 1, "act_em": 1, "arg_f1": 1, "arg_f1_filled": 1, "exact": 1},
        ),
        (
            _answer(),
            "t\nAnswer: It is 5.",
            ZERO | {"plan_acc": 1, "gold": 1, "predicted": 1, "rouge_l": 1, "exact": 1},
        ),
        (
            _answer(),
            "t\nAnswer: It comes to 5.0",
            ZERO | {"plan_acc": 1, "gold": 1, "predicted": 1, "rouge_l": 4 / 8, "exact": 1},
        ),
        (
            _answer(),
            "t\nAnswer: It is 6.",
            ZERO | {"plan_acc": 1, "gold": 1, "predicted": 1, "rouge_l": 2 / 3, "exact": 0},
        ),
        (_answer(), "It is 5.\nGive up", ZERO | {"gold": 1, "predicted": 2, "rouge_l": 0}),
        (_answer(), "t\nAction: add\nAction Input: {}", CALLED | {"gold": 1, "rouge_l": 0}),
        (_answer(), "It is 5.", CALLED | {"gold": 1, "rouge_l": 0, "missing": 1, "called": 0}),
        (GIVE_UP, "other\nGive up", ZERO | {"plan_acc": 1, "gold": 2, "predicted": 2, "exact": 1}),
        (GIVE_UP, "t\nAnswer: Give up", ZERO | {"gold": 2, "predicted": 1}),
        (GIVE_UP, "t\nAction: none\nAction Input: {}", CALLED | {"gold": 2, "hallucination": 1}),
        (GIVE_UP, "", CALLED | {"gold": 2, "missing": 1, "called": 0}),
        (GIVE_UP, dialogue.UNASKED, UNASKED | {"gold": 2}),
        (_answer(), dialogue.UNASKED, UNASKED | {"gold": 1, "rouge_l": 0}),
    ],
    ids=range(28),
)
def test_a_step_s_scores_counted_by_hand(gold, text, scores):
    assert _scores(gold, text) == pytest.approx(scores, abs=1e-12)
    assert all(isinstance(value, float) for value in _scores(gold, text).values())


def test_where_the_whole_answer_counts_its_last_word_is_not_enough():
    doc = {"step": _answer(), "tools": OFFERED, "whole_answer": True}
    for text, right in [("It is 5.", 1.0), (" it  is 5", 1.0), ("Or: 5.", 0.0), ("It is 5. Or so", 0.0), ("5", 0.0)]:
        assert step_scores(doc, [f"t\nAnswer: {text}"])["exact"] == right
        if "5" in text[-2:]:
            assert step_scores(doc | {"whole_answer": False}, [f"t\nAnswer: {text}"])["exact"] == 1.0


# --- a step against a reference of its own

arguments = st.dictionaries(st.sampled_from("abc"), st.sampled_from([1, 2, "x", None, True]), max_size=3)
actions = st.sampled_from(["add", "price", "a b", "divide", ""])
ends = st.sampled_from(["5", "5.0", "6", "Tavro", "tavro."])
sentences = st.tuples(st.lists(st.sampled_from(["It", "is", "Tavro", "."]), max_size=4), ends).map(
    lambda parts: " ".join([*parts[0], parts[1]])
)
written = (
    st.tuples(st.just("caller"), actions, arguments)
    | st.tuples(st.just("summarizer"), sentences, st.none())
    | st.sampled_from([("give up", None, None), ("", None, None), ("broken", "add", None)])
)


def _text(decision, what, given):
    """As a model would write it, put together here and not by the code under test."""
    ends = {
        "caller": f"\nAction: {what}\nAction Input: {json.dumps(given)}",
        "summarizer": f"\nAnswer: {what}",
        "give up": "\nGive up",
        "": "",
        "broken": f"\nAction: {what}\nAction Input: {{",
    }
    return " I think" + ends[decision]


def _reference(gold, decision, what, given):
    """The metrics as the paper (section 4) and our choices define them, one after the other."""
    decided = decision if decision in DECISIONS else "caller"
    names = [tool["name"] for tool in OFFERED]
    name = what if decision in ("caller", "broken") else ""
    expected = {
        "plan_acc": decided == gold["decision"],
        "hallucination": name != "" and name not in names,
        "called": name != "",
        "missing": decision == "",
        "unasked": False,
        "gold": ["caller", "summarizer", "give up"].index(gold["decision"]),
        "predicted": ["caller", "summarizer", "give up"].index(decided),
    }
    if gold["decision"] == "caller":
        wanted = json.loads(gold["arguments"])
        right = decided == "caller" and name == gold["action"]
        f1 = 0.0
        if right and given is not None:
            if not wanted and not given:
                f1 = 1.0
            elif wanted and given:
                points = 0.0
                for key, value in wanted.items():
                    if key in given:
                        points += 1 if json.dumps(value) == json.dumps(given[key]) else 0.5
                recall, precision = points / len(wanted), points / len(given)
                f1 = 2 * precision * recall / (precision + recall) if points else 0.0
        expected |= {"act_em": right, "arg_f1": f1, "arg_f1_filled" if wanted else "arg_f1_empty": f1}
        expected |= {"exact": right and f1 > 0.999999}
    elif gold["decision"] == "summarizer":
        said = what if decision == "summarizer" else None
        ends = [text.split()[-1].rstrip(".").lower() for text in (gold["answer"], said or "?")]
        expected["rouge_l"] = 0 if said is None else ROUGE.score(gold["answer"], said)["rougeL"].fmeasure
        expected["exact"] = said is not None and len({"5" if end == "5.0" else end for end in ends}) == 1
    else:
        expected["exact"] = decided == "give up"
    return {key: float(value) for key, value in expected.items()}


@THOROUGH
@given(written.filter(lambda one: one[0] in DECISIONS and one[1] != ""), written)  # a right call names a tool
def test_a_step_s_scores_are_the_reference_s(gold, predicted):
    decision, what, given_ = gold
    step = {
        "caller": lambda: _call(what, json.dumps(given_)),
        "summarizer": lambda: _answer(what),
        "give up": lambda: GIVE_UP,
    }[decision]()
    assert _scores(step, _text(*predicted)) == pytest.approx(_reference(step, *predicted), abs=1e-12)


@pytest.mark.parametrize("gold", [_call(), _answer(), GIVE_UP], ids=DECISIONS)
@THOROUGH
@given(text=st.text() | st.text(alphabet="\nActionsweGvupIput: {}").map(lambda text: f" t\nAction: {text}"))
def test_any_text_is_scored_with_the_metrics_of_its_step(gold, text):
    expected = {"plan_acc", "hallucination", "called", "missing", "unasked", "gold", "predicted", "exact"}
    expected |= {"caller": {"act_em", "arg_f1", "arg_f1_filled"}, "summarizer": {"rouge_l"}, "give up": set()}[
        gold["decision"]
    ]
    scores = _scores(gold, text)
    assert scores.keys() == expected, "which metrics a document has must not depend on what the model answers"
    assert all(math.isfinite(value) for value in scores.values())


def test_the_decisions_are_those_of_the_dialogue():
    assert DECISIONS == dialogue.DECISIONS


# --- an episode


def _episode(stopped="answer", answer="The cost is 72.", **more):
    steps = [_call(), _answer(answer) if stopped == "answer" else GIVE_UP if stopped == "give up" else _call()]
    return json.dumps({"stopped": stopped, "turns": 2, "tokens": 30, "errors": 1, "missing": 0, "steps": steps} | more)


@pytest.mark.parametrize(
    ("solvable", "episode", "expected"),
    [
        (True, _episode(), {"success": 1, "solved": 1, "gave_up": 0, "gave_up_wrong": 0}),
        (True, _episode(answer="It is $72.0"), {"success": 1, "solved": 1, "gave_up": 0, "gave_up_wrong": 0}),
        (True, _episode(answer="It is 71."), {"success": 0, "solved": 0, "gave_up": 0, "gave_up_wrong": 0}),
        (True, _episode(answer=""), {"success": 0, "solved": 0, "gave_up": 0, "gave_up_wrong": 0}),
        (True, _episode("give up"), {"success": 0, "solved": 0, "gave_up": 1, "gave_up_wrong": 1}),
        (True, _episode("turns"), {"success": 0, "solved": 0, "gave_up": 0, "gave_up_wrong": 0}),
        (True, _episode("repeat"), {"success": 0, "solved": 0, "gave_up": 0, "gave_up_wrong": 0}),
        (True, _episode("too long", steps=[]), {"success": 0, "solved": 0, "gave_up": 0, "gave_up_wrong": 0}),
        (False, _episode("give up"), {"success": 1, "gave_up": 1, "gave_up_right": 1}),
        (False, _episode(answer=""), {"success": 0, "gave_up": 0, "gave_up_right": 0}),
        (False, _episode(), {"success": 0, "gave_up": 0, "gave_up_right": 0}),
        (False, _episode("turns"), {"success": 0, "gave_up": 0, "gave_up_right": 0}),
        (False, _episode("too long", steps=[]), {"success": 0, "gave_up": 0, "gave_up_right": 0}),
    ],
)
def test_an_episode_s_scores_counted_by_hand(solvable, episode, expected):
    doc = {"solvable": solvable, "answer": "72" if solvable else "", "calls": 2}
    whole = expected | {"turns": 2, "tokens": 30, "errors": 1, "missing": 0, "calls": 2}
    assert episode_scores(doc, [episode]) == whole


@pytest.mark.parametrize("text", ["", "The cost is 72.", "{", "[]", "72", "null", '"steps"', "{}", '{"steps": []}'])
def test_a_model_that_plays_no_episode_is_told_what_the_task_needs(text):
    with pytest.raises(ValueError, match="it needs adaptbench's agent decoding"):
        episode_scores({"solvable": True, "answer": "72", "calls": 2}, [text])


# --- metrics of all documents together


def _macro_f1(gold, predicted):
    """scikit-learn's f1_score(gold, predicted, average="macro"), written out."""
    scores = []
    for label in sorted({*gold, *predicted}):
        right = sum(g == label == p for g, p in zip(gold, predicted, strict=True))
        precision = right / predicted.count(label) if label in predicted else 0.0
        recall = right / gold.count(label) if label in gold else 0.0
        scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
    return sum(scores) / len(scores)


def _array(values):
    return np.array([values], dtype=float)


def _derived(metric, *values, groups=None):
    return interval_of_sums(metric.counts(*map(_array, values)), metric.combine, groups)


decisions = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("gold", "predicted", "value"),
    [
        ([0, 1, 2], [0, 1, 2], 1),
        ([0, 0, 1, 1], [0, 0, 0, 0], (4 / 6 + 0) / 2),
        ([0, 0], [0, 0], 1),
        ([0, 0], [1, 1], 0),
        ([2], [2], 1),
        ([0, 1, 2, 2], [0, 1, 1, 2], (1 + 2 / 3 + 2 / 3) / 3),
    ],
)
def test_macro_f1_counted_by_hand(gold, predicted, value):
    assert _macro_f1(gold, predicted) == pytest.approx(value)
    assert _derived(MACRO_F1, gold, predicted).mean == pytest.approx(value)


@settings(THOROUGH, max_examples=100)
@given(decisions)
def test_macro_f1_is_the_mean_over_the_decisions_that_occur(pairs):
    gold, predicted = (list(part) for part in zip(*pairs, strict=True))
    assert _derived(MACRO_F1, gold, predicted).mean == pytest.approx(_macro_f1(gold, predicted), abs=1e-12)


def test_macro_f1_is_scikit_learn_s():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    for classes in ([0], [0, 1], [1, 2], [0, 1, 2]):
        for _ in range(5):
            gold, predicted = rng.choice(classes, 40), rng.choice([0, 1, 2], 40)
            expected = metrics.f1_score(gold, predicted, average="macro", zero_division=0)
            assert _macro_f1(gold.tolist(), predicted.tolist()) == pytest.approx(expected)
            assert _derived(MACRO_F1, gold, predicted).mean == pytest.approx(expected)


def test_the_error_of_macro_f1_is_that_of_drawing_problems_with_all_their_steps():
    """Plain loops: the spread of macro F1 over problems drawn with replacement."""
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(120), rng.integers(1, 5, 120))
    gold = rng.choice([0, 0, 0, 1, 2], len(groups))
    predicted = np.where(rng.random(len(groups)) < 0.7, gold, 0)
    found = _derived(MACRO_F1, gold, predicted, groups=groups)
    drawn = []
    for _ in range(400):
        documents = np.concatenate([np.flatnonzero(groups == group) for group in rng.integers(0, 120, 120)])
        drawn.append(_macro_f1(gold[documents].tolist(), predicted[documents].tolist()))
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.15)


def test_steps_of_one_problem_are_no_evidence_of_their_own():
    gold, predicted = [0, 0, 1, 2], [0, 1, 1, 0]
    together = _derived(MACRO_F1, gold, predicted, groups=np.zeros(4))
    assert together.mean == pytest.approx(_macro_f1(gold, predicted))
    assert np.isnan(together.low)


def test_hallucination_per_call_is_over_calls_alone():
    found = _derived(HALLUCINATION_PER_CALL, [1, 0, 0, 0, 1], [1, 1, 1, 0, 1])
    assert found.mean == 0.5
    assert math.isnan(_derived(HALLUCINATION_PER_CALL, [0, 0], [0, 0]).mean)


def _rows(called):
    """Samples of a run at two steps, as evaluation writes them."""
    values = {"exact": 0.0, "gold": 1.0, "predicted": 1.0, "hallucination": 0.0, "called": called}
    return pd.DataFrame(
        {
            "track": "agent", "run": "base", "seed": 0, "task": "agent_steps", "document": i, "group": 0, "weight": 1.0,
            "document_hash": str(i), "prompt_hash": str(i), "metric": metric, "value": value,
        }
        for i in range(2) for metric, value in values.items()
    )  # fmt: skip


@pytest.mark.parametrize("called", [0.0, 1.0])
def test_a_run_that_never_calls_has_no_row_for_its_share_of_calls(called):
    runs = [{"key": {"track": "agent", "run": "base"}, "status": "done"}]
    scores = collect.scores(runs, collect.answers(_rows(called))).set_index("metric")["mean"]
    assert ("hallucination_per_call" in scores.index) == bool(called)
    assert scores["macro_f1"] == 1
    (task,) = (task for task in world.TASKS if task.name == "agent_steps")
    more = evaluate_metrics.metric(_rows(called), task)["more"]
    assert ("hallucination_per_call" in more) == bool(called)
    json.dumps(more, allow_nan=False)


# --- the tasks, as lm-eval reads them


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """Data and tasks directories of a small world, as the graph makes them."""
    root = tmp_path_factory.mktemp("agent")
    config = {"kind": "world", "train_problems": 40, "validation_problems": 5, "test_problems": 12}
    for name in ("data", "tasks"):
        (root / name).mkdir()
    benchmark_data.build(
        {"track": "agent", "config": config, "seed": 0, "public": {}}, StageContext(0, {}), root / "data"
    )
    options = {
        "track": "agent",
        "tasks": [task.name for task in world.TASKS],
        "files": ["benchmarks/splits.py", *world.TASK_FILES],
    }
    benchmark_data.lay_tasks(options, root / "data", root / "tasks")
    return root


def test_lm_eval_reads_the_tasks_and_scores_every_document_as_we_do(laid):
    names = [task.name for task in world.TASKS]
    found, _ = harness.evaluate(
        laid / "data", {"kind": "policy", "policy": "majority"}, names, {"agent": laid / "tasks"}, batch_size=1,
            limit=None
    )  # fmt: skip
    kept = benchmark_data.read_splits(laid / "tasks")
    assert kept.keys() == set(names), "what is trained on does not lie beside the tasks"
    for task in world.TASKS:
        samples = sorted(found["samples"][task.name], key=lambda sample: sample["doc_id"])
        assert [sample["doc"] for sample in samples] == kept[task.name], "a document changes when it is loaded"
        score = episode_scores if task.episodes else step_scores
        for sample, doc in zip(samples, kept[task.name], strict=True):
            assert sample["arguments"][0][0] == doc["prompt"]
            assert sample["target"] == doc["target"]
            expected = score(doc, sample["filtered_resps"])
            reported = {name: sample.get(name) for name in (task.metric, *task.more)}
            assert {name: value for name, value in reported.items() if value is not None} == expected
        rows = sample_rows(found["samples"], [task])
        assert Counter(rows["metric"])[task.metric] == len(samples)


def test_the_task_files_need_nothing_of_the_project(laid):
    allowed = {*sys.stdlib_module_names, "datasets", "numpy", "rouge_score"}
    files = sorted((laid / "tasks/tasks").glob("*.py"))
    assert [file.name for file in files] == ["answers.py", "dialogue.py", "scores.py", "splits.py"]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= allowed, file.name


def test_a_split_is_read_whatever_its_documents_say(tmp_path, monkeypatch):
    """The published GSM8K holds a line separator, U+2028, that is no end of a line of JSON."""
    (tmp_path / "tasks").mkdir()
    documents = [
        {"prompt": "one\u2028two\x85three\x0bfour\x1cfive", "target": "日本 \r\n"},
        {"prompt": "", "target": ""},
    ]
    benchmark_data.write_jsonl(tmp_path / "splits/some.jsonl", documents)
    monkeypatch.setattr(splits, "__file__", str(tmp_path / "tasks/splits.py"))
    assert list(splits.load("some")["test"]) == documents


def test_every_task_says_how_its_metrics_are_put_together():
    """A metric that a task's file does not list is dropped by lm-eval."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: node.value)
    for task in world.TASKS:
        folder = PROJECT / "benchmarks/agent/tasks"
        own = yaml.load((folder / f"{task.name}.yaml").read_text(), Loader)
        shared = yaml.load((folder / own["include"]).read_text(), Loader)
        assert {one["metric"] for one in shared["metric_list"]} == {task.metric, *task.more}
        assert own["dataset_kwargs"] == {"split": task.name}
