"""Score a step or an episode: the metrics of the agent track, a dictionary of numbers for each document.

Definitions: GLPFT, arXiv 2401.07324, section 4 (plan accuracy, action exact match, hallucination, argument F1,
Rouge-L). Each function says where the paper leaves a choice. Rouge-L is rouge_score's rougeL F-measure, over words of
any script; the authors' package computes another value. A copy accompanies the lm-eval tasks, with answers.py and
dialogue.py; it imports nothing of this project.
"""

import importlib.util
import json
import unicodedata
from functools import cache
from pathlib import Path


@cache
def _beside(name):
    """Load the module in the file next to this one, or in benchmarks/shared; lm-eval loads this file by its path."""
    here = Path(__file__).resolve()
    places = (here.parent, *(folder / "benchmarks" / "shared" for folder in here.parents))
    path = next(path for place in places if (path := place / f"{name}.py").exists())
    spec = importlib.util.spec_from_file_location(f"adaptbench_agent_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DECISIONS = ("caller", "summarizer", "give up")
WITHOUT_SPACES = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")


def step_scores(doc, results):
    """Return the metrics of one step after the reference history; `results` holds the whole step's text.

    plan_acc: the decision is right.
    act_em (gold calls): the tool's name is right.
    arg_f1 (gold calls): F1 of the arguments; also split by whether the gold call has arguments.
    hallucination: the step names a tool that is not offered, over all steps as in the paper. `called` (it names a tool)
        gives the share over calls.
    rouge_l (gold answers): 0 if the model does not answer.
    exact: the whole step does what the gold step does. An answer is right if its ending is (`whole_answer`: if all its
        words are).
    gold, predicted: the numbers of the decisions, for the F1 of each.
    unasked: the prompt did not fit; nothing is right, and no decision was made.
    """
    dialogue, answers = _beside("dialogue"), _beside("answers")
    gold, text = doc["step"], results[0]
    unasked = text == dialogue.UNASKED
    predicted = dialogue.parse("assistant", text)
    missing = predicted["decision"] is None or predicted["thought"].endswith(dialogue.ASSUMED)
    missing = missing and not unasked
    decision = None if unasked else predicted["decision"] or dialogue.FALLBACK
    called = decision == dialogue.CALL and bool(predicted["action"])
    offered = {tool["name"] for tool in doc["tools"]}
    scores = {
        "plan_acc": float(decision == gold["decision"]),
        "hallucination": float(called and predicted["action"] not in offered),
        "called": float(called),
        "missing": float(missing),
        "gold": float(DECISIONS.index(gold["decision"])),
        "predicted": float(-1 if unasked else DECISIONS.index(decision)),
        "unasked": float(unasked),
    }
    if gold["decision"] == dialogue.CALL:
        wanted = dialogue.parse_arguments(gold["arguments"])
        right = called and predicted["action"] == gold["action"]
        given = dialogue.parse_arguments(predicted["arguments"]) if right else None
        score = argument_f1(wanted, given) if given is not None else 0.0
        split = "arg_f1_filled" if wanted else "arg_f1_empty"
        return scores | {"act_em": float(right), "arg_f1": score, split: score, "exact": float(score == 1.0)}
    if gold["decision"] == dialogue.ANSWER:
        answered = decision == dialogue.ANSWER
        score = rouge_l(gold["answer"], predicted["answer"]) if answered else 0.0
        right = answers.same_words if doc.get("whole_answer") else answers.same_ending
        return scores | {"rouge_l": score, "exact": float(answered and right(gold["answer"], predicted["answer"]))}
    return scores | {"exact": scores["plan_acc"]}


def argument_f1(gold, predicted):
    """Return the F1 over arguments: a key counts 1 with the right value and 1/2 with another; 1 if both are empty."""
    if not gold and not predicted:
        return 1.0
    if not gold or not predicted:
        return 0.0
    score = sum(1.0 if same(gold[key], predicted[key]) else 0.5 for key in gold if key in predicted)
    return 2 * score / (len(gold) + len(predicted))  # = 2PR / (P + R) with P = score/|predicted|, R = score/|gold|


def same(one, other):
    """Return whether two JSON values are equal; true is not 1, but 1.0 is."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def rouge_l(gold, predicted):
    """Return the rougeL F-measure of the final answer, without stemming."""
    return float(_rouge().score(gold, predicted)["rougeL"].fmeasure)


@cache
def _rouge():
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=AnyScript())


class AnyScript:
    """Tokenizer for any script. On ASCII text it equals rouge_score's default one, which drops all other characters.

    A token is a run of letters and digits with their marks. In scripts without spaces between words every letter is a
    token, and so is every symbol that is not ASCII.
    """

    def tokenize(self, text):
        tokens: list[str] = []
        in_word = marks = False
        for sign in unicodedata.normalize("NFC", text.casefold()):
            kind = unicodedata.category(sign)
            if marks and kind[0] == "M":
                tokens[-1] += sign
            elif kind[0] in "LMN" or (kind[0] == "S" and not sign.isascii()):
                alone = kind[0] == "S" or (kind[0] == "L" and unicodedata.name(sign, "").startswith(WITHOUT_SPACES))
                if in_word and not alone:
                    tokens[-1] += sign
                else:
                    tokens.append(sign)
                in_word, marks = not alone, True
            elif kind != "Cf":  # joiners and soft hyphens are in words
                in_word = marks = False
        return tokens


def episode_scores(doc, results):
    """Return the metrics of one live episode.

    success: it ended in the right answer or, if the problem is unsolvable, in giving up. `solved` is the success on
    solvable problems, `gave_up_right` on the others; `gave_up_wrong` is giving up a solvable problem. `calls` is the
    number of calls that the problem needs.
    """
    try:
        episode = json.loads(results[0])
        steps, stopped = episode["steps"], episode["stopped"]
    except (ValueError, TypeError, KeyError):
        raise ValueError("this task plays episodes; it needs adaptbench's agent decoding") from None
    answered = stopped == "answer"
    right = answered and doc["solvable"] and _beside("answers").same_ending(doc["answer"], steps[-1]["answer"])
    gave_up = stopped == "give up"
    scores = {
        "success": float(right if doc["solvable"] else gave_up),
        "turns": float(episode["turns"]),
        "tokens": float(episode["tokens"]),
        "errors": float(episode["errors"]),
        "missing": float(episode["missing"]),
        "gave_up": float(gave_up),
        "calls": float(doc["calls"]),
    }
    if doc["solvable"]:
        return scores | {"solved": float(right), "gave_up_wrong": float(gave_up)}
    return scores | {"gave_up_right": float(gave_up)}
