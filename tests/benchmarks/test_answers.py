r"""What an answer says, by tables: what is equal, what differs, what is no number, and that no text takes long or
fails.

Run: python -m pytest tests/benchmarks/test_answers.py
"""

# ruff: noqa: RUF001

import ast
import json
import re
import sys
import time
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lm_eval.tasks import TaskManager

from adaptbench import registry
from adaptbench.agent.scores import episode_scores
from adaptbench.benchmarks.shared import answers
from adaptbench.benchmarks.shared.answers import (
    MAX_DIGITS,
    exact_match,
    marked_number,
    number,
    same_ending,
    same_words,
    written,
)
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.latent import text
from tests.support.project import PROJECT

THOROUGH = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

EQUAL = {
    "5": r"5|+5|5.|5,|5!|5.0|5.000|005|$5|+$5|$ 5|$5.00|5€|5 €|€5|₹5|5kg|5 kg.|5 apples|5 m^2|5 m²|5 km/h|5°C|5 "
    r"°C|5%|5 %|5.0%|5-year|(5)|[5]|{5}|"
    r"**5**|*5*|_5_|`5`|'5'|“5”|5。|<b>5</b>|٥|５|５．０|५|\boxed{5}|\boxed{5}.|$\boxed{5}$|\fbox{5}|\text{5}|\mathrm{5}|\boxed{\text{5}}|"
    '\\text{5 apples}|"5".|5\\text{ apples}|\\$5|5\\%|$5$|\\(5\\)|\\[5\\]|5^\\circ|10/'
    "2|5e0|0.5e1|5×10⁰|\u200e5|\ufeff5|5\u200b|5\u00a0€|5\u202f%| 5\n",
    "-5": "-5|−5|‐5|–5|－5|-$5|$-5|−€5|-5.0|-5€|\\boxed{-5}|-10/2|\u200e-5|- 5|− 5|-$ 5|-(5)|-( 5 "
    ")|-**5**|-\\left(5\\right)",
    "1000": "1000|1,000|1.000,0|1'000|1’000|1_000|1 "
    "000|1\u00a0000|1\u202f000|1\u2009000|1\u2060000|１，０００|1,000.00|١٬٠٠٠|1{,}000|1\\,000|1 000 m|1 000,0|"
    r"1e3|1E3|1E+3|10^3|10^{3}|10**3|10³|1×10^3|1 × 10^3|1x10^3|1·10³|1\times10^{3}|1 \times "
    r"10^{3}|1\cdot10^3|1k|1K|$1k|1,000kg|1 thousand|10 hundred|1.e3|1\times 10^{3}|1\cdot 10^3",
    "100000": "100000|100,000|1,00,000|1e5|10^{5}|1.0e+5|100 000|0.1 million",
    "1234567.5": "1234567.5|1,234,567.5|1'234'567.5|1 234 567.5|1.234.567,5|1 234 "
    "567,5|12,34,567.5|1_234_567.5|1234567,5",
    "0.5": r"0.5|.5|0,5|0,500|00.50|½|1/2|1⁄2|1 / 2|2/"
    r"4|5e-1|5×10⁻¹|٠٫٥|\frac{1}{2}|\frac12|\dfrac{1}{2}|\tfrac12|$\frac{1}{2}$|\boxed{\frac{1}{2}}|$.50|1/2 cup",
    "2.5": r"2.5|2½|2 1/2|2 ½|5/2|2,5|2\frac{1}{2}|25e-1|2 1/2 cups|2 and 1/2|2~\frac12|2.5~\text{cm}",
    "-2.5": r"-2.5|−2½|-2 1/2|-\frac{5}{2}|-(5/2)|-\left(\frac{5}{2}\right)",
    "1/3": r"1/3|⅓|2/6|\frac{1}{3}",
    "3000000": "3e6|3,000,000|3.000.000|3 000 000|30,00,000|3M|3 million|3 Million|3.0 millions|$3 million",
    "12.34": "12.34|12,34|$12.34|12.340",
}
TEXT = (
    r"five|x|A1|H2O|x5|v1.2|covid-19|NaN|nan|-nan|inf|-inf|Infinity|∞|e5|Alex is a bumpus.|Room 5 is free.|5 is a "
    r"prime|5 apples and 3 pears|5 6|1 2 3 4|"
    r"1/0|5/0|1/2/3|1.2.3|1.2.3.4|192.168.0.1|2031-05-14|14/05/2031|14.05.2031|5:30|3:4|3 : 4|5-7|5–7|5 - 7|5+3|5 + "
    r"3|25*4|25 × 4|25x4|3÷4|2^10|2**10|2¹⁰|"
    r"5π|5\pi|5√2|√5|\sqrt{5}|2\sqrt{3}|\frac{\sqrt{3}}{2}|\frac{1}{\frac{2}{3}}|±5|5±1|<5|< 5|> 5|>=5|≤5|≥ "
    r"5|≠5|1,2,3|1,000,00|1,23,4|1,0000,000|10₂|x_5|--5|"
    r"5e3.2|1_00|0x1F|½½|1/-2|\frac{1}{-2}|1 000/2|3\times 4|5x-3|10^(-2)|-(-5)|-(5+3)|.|,|-|+|$|%|/"
    r"|1e999999999|1e-999999999|-1e99999"
)  # fmt: skip


@pytest.mark.parametrize(("value", "said"), [(value, one) for value, many in EQUAL.items() for one in many.split("|")])
def test_a_number_in_any_writing_has_its_exact_value(value, said):
    assert number(said) == Fraction(value)
    assert exact_match({"target": value}, [f"3 + 4 #### {said}"]) == {"exact_match": 1.0}
    assert exact_match({"target": f"worked\n#### {said}"}, [f"so\n#### {value}"]) == {"exact_match": 1.0}
    assert exact_match({"target": "7"}, [f"#### {said}"]) == {"exact_match": 0.0}
    assert same_ending(f"It is {value}.", f"So it is {said}")
    assert not same_ending("It is 7.", f"So it is {said}")


@pytest.mark.parametrize("said", TEXT.split("|"))
def test_what_is_no_number_equals_the_same_text_alone(said):
    assert number(said) is None
    assert exact_match({"target": said}, [f"#### {said}"]) == {"exact_match": 1.0}
    assert same_ending(said, said)
    for value in ("5", "1", "2", "3", "7", "10", "30", "5000", "-5", "five."):
        assert exact_match({"target": said}, [f"#### {value}"]) == {"exact_match": 0.0}


def test_numbers_that_differ_are_not_equal():
    texts = [
        *EQUAL,
        "5.0000000000000000001",
        "4.9999999999999999999",
        "50",
        "0",
        "12345678901234567890",
        "12345678901234567891",
    ]
    texts += ["0.1", "0.10000000000000000555", "1e-20", "1e-21", "9" * 5000, "9" * 4999 + "8", "1e9999", "1e9998"]
    for place, one in enumerate(texts):
        for other in texts[:place]:
            assert number(one) != number(other)
            assert exact_match({"target": one}, [f"#### {other}"]) == {"exact_match": 0.0}
            assert not same_ending(f"It is {one}", f"It is {other}")


def test_per_cent_is_a_unit_as_in_the_sources_and_a_comma_before_three_digits_separates_thousands():
    assert number("50 %") == number("50%") == 50 != number("0.5")
    assert number("1,234") == 1234
    assert number("1.234") == Fraction("1.234")


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("so\n#### 72", "72"),
        ("#### 1,234", "1234"),
        ("#### -3.50", "-3.5"),
        ("####5", "5"),
        ("####\n\n5\n6", "5"),
        ("#### 5 apples", "5"),
        ("#### The answer is 5.", "5"),
        ("#### Answer: $5.", "5"),
        ("#### US$5", "5"),
        ("#### USD 5", "5"),
        ("#### R$ 5", "5"),
        ("#### 5 dollars for 2 tickets", "5"),  # GSM8K's own evaluation takes the first
        ("#### x = 5", "5"),
        ("#### 25 + 30 = 55", "55"),
        ("#### 5 = 2 + 3", "5"),
        ("#### => 5", "5"),
        ("#### 6\n#### 5", "5"),
        ("#### 5 ####", "5"),
        ("<thinking>#### 1<thinking>2", "12"),
        ("#### 5/7 of it", "5/7"),
        ("#### 25 + 30", None),
        ("#### 5:30", None),
        ("#### 1.2.3 or 5", None),
        ("#### five", None),
        ("#### 5 #### x", None),
        ("#### x", None),
        ("####", None),
        ("5", None),
        ("The answer is 5.", None),
        ("", None),
    ],
)
def test_the_number_after_the_last_mark_is_what_counts(response, value):
    assert marked_number(response) == (None if value is None else Fraction(value))
    right = {"exact_match": float(value is not None)}
    assert exact_match({"target": value or "5"}, [response]) == right


@pytest.mark.parametrize(
    ("right", "answer", "equal"),
    [
        ("The cost is 72.", "The cost is 72", True),
        ("The cost is 72.", "It costs 72 coins.", True),
        ("The cost is 72.", "It costs $72.0 for the three lamps", True),
        ("The cost is 72.", "24 x 3 = 72", True),
        ("The cost is 72.", "72 of the 80", False),  # the last number
        ("The cost is 72.", "The cost is 72 - 3", False),
        ("The cost is 72.", "seventy-two", False),
        ("The cost is 72.", "", False),
        ("It is 5 €", "It is 7 €", False),
        ("It is 5 €", "It is €5.00", True),
        ("It is 5 coins", "It is 7 coins", False),
        ("It is 5 %", "It is 7 %", False),
        ("It has 5 square feet", "It has 7 square feet", False),
        ("It has 5 square feet", "it has 5.0 square feet!", True),
        ("It is 5 m²", "It is 6 m²", False),
        ("It is 5 °C.", "It is 5 °F.", True),  # units are not compared
        ("The maker is Tavro.", "It was made by TAVRO!", True),
        ("The maker is Tavro.", "The maker of 3 lamps is “Tavro”", True),
        ("The maker is Tavro.", "The maker is Tavlin.", False),
        ("The maker is Tavro.", "72", False),
        ("Today is 2031-05-14.", "It is 2031-05-14", True),
        ("Today is 2031-05-14.", "It is 2031-05-15", False),
        ("Today is 2031-05-14.", "It is 14", False),
        ("Это Москва.", "москва", True),
        ("Это Москва.", "Казань", False),
        ("caf\u00e9", "cafe\u0301", True),
        ("caf\u00e9", "cafe", False),
        ("की", "का", False),
        ("It is ٧٢", "It is 72", True),
        ("", "", True),
    ],
)
def test_sentences_end_alike_in_the_right_one_s_number_or_word(right, answer, equal):
    assert same_ending(right, answer) is equal
    doc = {"solvable": True, "answer": right, "calls": 1}
    episode = '{"stopped": "answer", "turns": 1, "tokens": 1, "errors": 0, "missing": 0, "steps": [{"answer": %s}]}'
    assert episode_scores(doc, [episode % text_as_json(answer)])["solved"] == equal


def text_as_json(answer):
    return '"' + answer.replace('"', '\\"') + '"'


@pytest.mark.parametrize(
    ("right", "answer", "equal"),
    [
        ("It is 5.", " it  IS 5", True),
        ("It is 5.", "It is 5.0", True),
        ("It is 1,000.", "It is 1000", True),
        ("It is 0.", "It is 0.0", True),
        ("It is .5", "It is 5", False),
        ("It is .5", "It is 0.5", True),
        ("It is $5", "It is €5", False),
        ("It is 5%", "It is 5", False),
        ("It is 5", "It is 6", False),
        ("It is 5", "5", False),
        ("«Да», сказал он…", "да сказал он", True),
        ("हाँ।", "हाँ", True),
        ("की", "को", False),
    ],
)
def test_whole_answers_have_the_same_words(right, answer, equal):
    assert same_words(right, answer) is equal


@pytest.mark.parametrize(
    "value", ["72", "-72", "500", "0", "0.5", "-3.5", "1/3", "-22/7", "1e50", "1e-20", "123456789123.456", "1e5000"]
)
def test_what_is_written_is_read_as_the_same_number(value):
    assert number(written(Fraction(value))) == Fraction(value)
    assert "e" not in written(Fraction(value)).lower()


def test_numbers_are_bounded_and_5000_digits_are_no_bound():
    assert number("7" * 5000) == number("7" * 5000 + ".0") == (10**5000 - 1) // 9 * 7
    assert number(f"{'7' * 5000}/{'7' * 5000}") is None or number(f"{'7' * 4000}/{'7' * 4000}") == 1
    assert number("7" * (MAX_DIGITS + 1)) is None
    assert written(number("1" + "0" * 5000)) == "1" + "0" * 5000


HOSTILE = [
    "1", "1/", "/", "(", "[", "{", "}", "\\frac{", "\\frac{1}{", "\\boxed{", "\\", "\\text", "*", "_", "*a", "(*", " *",
    "1,", "1 ", "1.", "1'", "1,000", "1 000 ",
    "1.000", ",000", ",00", "1,00", "<a", "<", ">", "=", "= ", "10^", "10**", "1e", "e1", "1x", "5 x ", "1+", "+", "-",
    "- ", "$", "-$", "5 million ", "a.1", "a-", "½",
    "⁵", "₅", "٥", "####", "#### ", "'", ".", "\n", "5\n", "\u200e", "%", "5%", "’", "中", "é", "\u0301", "#",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=ascii)
def test_no_text_takes_long(piece):
    """Whatever is repeated, alone and between numbers: a reader in quadratic time would need a minute for 20,000
    characters.
    """
    size = 20_000 // len(piece)
    texts = [piece * size, "5" + piece * size + "x", "1/2 " + piece * size + "7"]
    started = time.process_time()
    for one in texts:
        exact_match({"target": one}, [f"#### {one}"])
        exact_match({"target": "5"}, [f"#### {one}"])
        same_ending(one, one)
        same_ending("It is 5", one)
    assert time.process_time() - started < 15


@pytest.mark.parametrize(
    "said",
    [
        "1e999999999",
        "1e-999999999",
        "1" + "0" * 99_999,
        "1e" + "9" * 99_999,
        "10^999999999",
        "1/" + "3" * 99_999,
        "9" * 9999 + "e9999",
        "1" * 100_000,
        "1/" * 50_000,
        "(" * 100_000,
        "\\frac{" * 20_000,
        "1 " * 50_000,
    ],
)
def test_a_number_beyond_all_bounds_is_no_trouble(said):
    started = time.process_time()
    assert exact_match({"target": "5"}, [f"#### {said}"]) == {"exact_match": 0.0}
    assert exact_match({"target": said}, [f"#### {said}"]) == {"exact_match": 1.0}
    assert not same_ending("It is 5", f"It is {said}")
    assert time.process_time() - started < 10


@THOROUGH
@given(
    st.text()
    | st.text(alphabet="0123456789eE+-.,'/^*x%$€ \\{}()frac½²٣#=")
    | st.floats().map(str)
    | st.integers().map("{:,}".format)
)
def test_any_text_is_read_and_is_right_where_it_is_the_right_one(said):
    assert same_ending(said, said)
    assert same_words(said, said)
    value = number(said)
    assert value is None or (number(written(value)) == value and "nan" not in said.lower())
    plain = said.replace("#", "").strip()
    assert exact_match({"target": plain}, [f"#### {plain}"]) == {"exact_match": float(plain != "")}


@THOROUGH
@given(
    st.fractions()
    | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(Fraction)
    | st.integers().map(Fraction)
)
def test_every_number_that_is_written_is_read(value):
    assert number(written(value)) == value
    assert marked_number(f"so #### {written(value)}.") == value


def test_the_marks_are_those_of_the_problems():
    assert (answers.MARK, answers.LATENT) == (text.MARK, text.LATENT)


@pytest.mark.parametrize("target", ["Alex is a bumpus.", "1 2 3 4", "0 0 5 1 ", "yes, no"])
def test_a_right_answer_that_is_text_stays_text(target):
    assert exact_match({"target": target}, [text.response(["Every worpus is a bumpus."], target)]) == {
        "exact_match": 1.0
    }
    assert exact_match({"target": target}, [f"{text.LATENT}#### {text.LATENT}{target}"]) == {"exact_match": 1.0}
    for other in ("Alex is a lumpus.", "1 2 3 5", "0051", "yes", f"{target} 7", f"No, {target}"):
        assert exact_match({"target": target}, [f"#### {other}"]) == {"exact_match": 0.0}
    assert exact_match({"target": target}, [target]) == {"exact_match": 0.0}, "there is no mark"


# --- as lm-eval runs it, from a copy

BENCHMARKS = [(track, kind) for track in registry.tracks() for kind in registry.discover(f"benchmarks.{track}")]


@pytest.mark.parametrize(("track", "kind"), BENCHMARKS)
def test_a_benchmark_s_tasks_have_the_code_that_they_name_beside_them_and_need_nothing_of_the_project(track, kind):
    module = registry.benchmark(track, kind)
    beside = [PROJECT / name for name in ("benchmarks/splits.py", *getattr(module, "TASK_FILES", ()))]
    tasks = [PROJECT / "benchmarks" / track / "tasks" / f"{task.name}.yaml" for task in module.TASKS]
    functions = {}
    for code in (path for path in beside if path.suffix == ".py"):
        tree = ast.parse(code.read_text())
        functions[code.stem] = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        for node in ast.walk(tree):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
            assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "datasets", "rouge_score"}
    for path in (path for path in [*tasks, *beside] if path.suffix != ".py"):
        for name, function in re.findall(r"!function (\w+)\.(\w+)", path.read_text()):
            assert function in functions[name], path.name


@pytest.mark.parametrize(("track", "kind"), [("domain", "gsm8k"), ("reasoning", "gsm8k"), ("reasoning", "prosqa")])
def test_lm_eval_scores_answers_by_the_copy_beside_the_tasks(track, kind, tmp_path):
    for split, numbers in (("train", (1, 2)), ("test", (1000, 4))):
        rows = [{"question": f"{split} {number}?", "answer": f"It is.\n#### {number}"} for number in numbers]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    module = registry.benchmark(track, kind)
    sizes = {"train_items": 2, "validation_items": 1, "test_items": 1} if kind == "prosqa" else {}
    public = {"gsm8k": {"path": str(tmp_path), "hub_id": "", "revision": "main"}} if kind == "gsm8k" else {}
    spec = {"track": track, "config": module.Config(**sizes).model_dump(mode="json"), "seed": 0, "public": public}
    for name in ("data", "laid.d"):
        (tmp_path / name).mkdir()
    benchmark_data.build(spec, StageContext(0, {}), tmp_path / "data")
    (task,) = (task.name for task in module.TASKS if task.metric == "exact_match" and task.split == "test")
    options = {"track": track, "tasks": [task], "files": ["benchmarks/splits.py", *module.TASK_FILES]}
    benchmark_data.lay_tasks(options, tmp_path / "data", tmp_path / "laid.d")
    manager = TaskManager(include_path=[str(tmp_path / "laid.d" / "tasks")], include_defaults=False)
    loaded = manager.load([task])["tasks"][task]
    doc = loaded.test_docs()[0]
    right = "1,000.0 apples." if kind == "gsm8k" else doc["target"]
    assert loaded.process_results(doc, [f"so #### {right}"]) == {"exact_match": 1.0}
    assert loaded.process_results(doc, ["so #### 1001"]) == {"exact_match": 0.0}
