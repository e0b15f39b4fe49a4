r"""Parse an answer and decide whether it is right, in the same way for every track.

The right answer determines what is compared: the exact value if it is one number, else the text.

    thousands    1,000   1 000   1'000   1_000   1,00,000   1.000.000   1.234,5
    decimals     5.0   5.   .5   0,5   1,25   (before three digits a comma separates thousands, as in the sources)
    fractions    3/4   1 3/4   ½   2½   \frac{3}{4}
    powers       1e5   10^5   1.5 × 10⁵   \times 10^{5}   2 million   5k
    around it    +5   −5   $5   -$5   5 €   50 %   5 kg   5 apples   **5**   (5)   \boxed{5}   \text{5}   "5".

Currency, per cent and units are not compared, so that 50 % is 50, as in GSM8K's own evaluation. A formula (5 + 3, 2^10,
5π), a bound, a range, a ratio, a time, a date, a version and NaN are text, not numbers. Number words are text.

It needs the standard library only: a copy accompanies the lm-eval tasks, which then run without this project.
"""

import re
import unicodedata
from decimal import Context, Decimal, Inexact
from fractions import Fraction

MARK = "####"
LATENT = "<thinking>"
MAX_DIGITS = 10_000  # of a number and of its exponent's value; beyond that it is text
_EXACT = Context(prec=3 * MAX_DIGITS, traps=[Inexact])

_CURRENCY = "[$\u00a2-\u00a5\u0e3f\u20a0-\u20cf]"
_OPERATION = rf"\ ?(?:\*\*|[-+*/^:x\u00d7\u00f7])\ ?[-+]?{_CURRENCY}?\(?[-+]?"
_PIECE = re.compile(
    rf"""
    # Not the arrow "=> 5".
    (?P<bound> (?:(?<![-=])[<>]=?|[\u2260\u2264\u2265\u00b1\u221a]) \ ? [-+]? {_CURRENCY}? [\d.] [\d.,'_:/^*]*+ )
    |
    (?P<number>
      (?<![\w.+^/-]) (?<!-\() (?:(?P<sign>[-+])\ ?(?:\(\ ?)?)? (?:{_CURRENCY}{{1,2}}+\ ?(?P<later_sign>[-+])?)?
      (?:
        (?:(?P<units>\d++)\ (?:and\ )?)? (?P<over>\d++) \ ?/\ ? (?P<under>\d++)
        |
        10\ ?(?:\^|\*\*)\ ? (?P<power>[-+]?\d++)
        |
        (?:
          (?P<grouped> [1-9]\d{{0,2}} (?P<separator>[,'\ _]) \d{{3}} (?:(?P=separator)\d{{3}})*+ (?:\.\d++)?
                     | [1-9]\d? (?:,\d\d)+ ,\d{{3}} (?:\.\d++)? )
          |
          (?P<continental> [1-9]\d{{0,2}} (?:(?:\.\d{{3}})+|(?:[\ ']\d{{3}})+) ,\d++
                         | [1-9]\d{{0,2}} (?:\.\d{{3}}){{2,}}
                         | \d++,\d++ )
          |
          (?P<plain> \d++(?:\.\d++|\.(?=[eE][-+]?\d))? | \.\d++ )
        )
        (?: [eE](?P<exponent>[-+]?\d++) | \ ?[*x\u00d7]\ ?10\ ?(?:\^|\*\*)\ ?(?P<times_power>[-+]?\d++) )?
      )
      (?: \ ?(?P<scale>(?i:hundred|thousand|million|billion|trillion))s?\b | (?P<short>[kKM]|bn)\b )?
      # The end of a number, not a part of a longer one or of a formula.
      (?! \d | [.,'_]\d | [eE][-+]?\d | \ ?%?{_OPERATION}\d | \ ?[\u03c0\u221a\u00b1\u221e] )
    )
    |
    (?P<word> [^\W\d_] \w*+ (?:[-.^]\d++)*+ )  # with its digits: H2O, m^2, covid-19, v1.2
    |
    (?P<formula> \d [\d.,'_:/^*]*+ (?:{_OPERATION}\d[\d.,'_:/^*]*+)*+ )
    """,
    re.VERBOSE,
)
_SCALES = {"hundred": 2, "thousand": 3, "k": 3, "million": 6, "m": 6, "billion": 9, "bn": 9, "trillion": 12}

_QUIET = " .,;!?\"'`()[]%\u00b0\u201c\u201d\u00ab\u00bb\u3002"
_ENDS = ".,;:!?\"'\u2018\u2019\u201c\u201d\u00ab\u00bb\u2026\u3002\u0964\u060c\u061f"
_START = re.compile(rf"\A(?:(?!\.\d)[{re.escape(_ENDS)}])++")
_UNIT = re.compile(
    rf"(?:[{re.escape(_QUIET)}]|{_CURRENCY})*+(?:-?[^\W\d_][\w/^*-]*+)?+(?:[{re.escape(_QUIET)}]|{_CURRENCY})*+"
)

_BEFORE_VULGAR = re.compile("(?=[\u00bc-\u00be\u2150-\u215f\u2189])")
_BEFORE_RAISED = re.compile("(?<![\u2070-\u207f\u00b2\u00b3\u00b9])(?=[\u2070-\u207f\u00b2\u00b3\u00b9])")
_BEFORE_LOWERED = re.compile("(?=[\u2080-\u208e])")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")
_SIGNS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | dict.fromkeys("\u2715\u22c5\u00b7\u2219\u2217", "\u00d7")
    | dict.fromkeys("\u2044\u2215", "/")
    | dict.fromkeys("\u2018\u2019\u02bc", "'")
    | {"\u066b": ".", "\u066c": ",", "\u066a": "%"}
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2066\u2067\u2068\u2069\ufeff")  # not seen
)
_LATEX = [
    (re.compile(r"\\[dtc]?frac *(?:\{([^{}]*)\}|(\d)) *(?:\{([^{}]*)\}|(\d))"), r" \1\2/\3\4 "),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])"), "\u00d7"),
    (re.compile(r"~|\\[,;: \\]|\\(?:q?quad|therefore|implies|Rightarrow|approx)(?![a-zA-Z])"), " "),
    (re.compile(r"\\(?:boxed|[fm]box|text[a-z]*|math[a-z]+|operatorname|displaystyle|left|right)(?![a-zA-Z])"), ""),
    (re.compile(r"\^?\\(?:circ|degree)(?![a-zA-Z])"), "\u00b0"),
    (re.compile(r"\\([$%&#_()\[\]])"), r"\1"),
    (re.compile(r"\\?[{}]|\\!"), ""),
]
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_EMPHASIS = re.compile(r"(?<![^ (-])[*_]++(?=[^ ])|(?<=[^ *_])[*_]++(?![^ .,;:!?)])")
_EQUALS = re.compile(r"(?<![<>!=])=+(?![>=])")


def number(text: str) -> Fraction | None:
    """Return the value of a text that is one number, with at most one word for its unit; None for any other text."""
    plain = _plain(text)
    figure = _end(plain)
    return _value(figure) if figure and not plain[: figure.start()].strip(_QUIET) else None


def marked_number(text: str) -> Fraction | None:
    """Return the number in the first line after the last MARK; None if there is none.

    Of several it is the first, as in GSM8K's own evaluation, but in an equation the one after the equals sign.
    """
    line = next((line for line in (_after_mark(text) or "").splitlines() if line.strip()), "")
    sides = [_value(figures[0]) for side in _EQUALS.split(_plain(line)) if (figures := _figures(side))]
    return next((value for value in reversed(sides) if value is not None), None)


def exact_match(doc, results):
    """Score whether a response ends in the right answer, for lm-eval.

    The document's "target" may have worked steps and the MARK before the answer. A response must have the MARK.
    """
    target, said = doc["target"].rpartition(MARK)[2], _after_mark(results[0])
    wanted = number(target)
    equal = _text(said or "") == _text(target) if wanted is None else marked_number(results[0]) == wanted
    return {"exact_match": float(said is not None and equal)}


def same_ending(right: str, answer: str) -> bool:
    """Return whether two sentences end in the same number, or in the same word if the right one ends in a word.

    Of several numbers in the answer the last counts. A number before the right one's last word must be the same, too.
    """
    plain = _plain(right)
    if (figure := _end(plain)) and (value := _value(figure)) is not None:
        return _last_number(answer) == value
    return _words(right)[-1:] == _words(answer)[-1:] and _last_number(right) in (None, _last_number(answer))


def same_words(right: str, answer: str) -> bool:
    """Return whether two sentences have the same words, apart from case, spacing and punctuation at the words' ends.

    Bare numbers are compared by value.
    """
    return _words(right) == _words(answer)


def written(value: Fraction) -> str:
    """Return a number as text that `number` reads as the same value: 72, 0.5, 1/3."""
    over, under = Decimal(value.numerator), Decimal(value.denominator)
    try:
        return f"{_EXACT.divide(over, under).normalize(_EXACT):f}"
    except Inexact:
        return f"{over:f}/{under:f}"


def _after_mark(text):
    _, mark, said = text.replace(LATENT, "").rstrip(" \n#").rpartition(MARK)
    return said if mark else None


def _text(said):
    return " ".join(_composed(said).replace(",", "").split())


def _composed(text):
    return unicodedata.normalize("NFC", text)


def _words(text):
    parts = (_START.sub("", part.rstrip(_ENDS)) for part in _composed(text.casefold()).split())
    return [part if (value := _bare_number(part)) is None else value for part in parts if part]


def _bare_number(word):
    return number(word) if word[-1].isdecimal() and (word[0].isdecimal() or word[0] in "+-.\u2212") else None


def _last_number(text):
    figures = _figures(_plain(text))
    return _value(figures[-1]) if figures else None


def _end(plain):
    """Return the figure at the end of a text, with at most one word for its unit."""
    figures = _figures(plain)
    return figures[-1] if figures and _UNIT.fullmatch(plain, figures[-1].end()) else None


def _figures(plain):
    """Return the numbers, bounds and formulas of a text; empty if a LaTeX command is left, which may make a formula."""
    return [] if "\\" in plain else [one for one in _PIECE.finditer(plain) if one.lastgroup != "word"]


def _value(figure):
    """Return the exact value of a figure; None if it is not a number."""
    if figure.lastgroup != "number" or len(figure[0]) > MAX_DIGITS:
        return None
    part = figure.groupdict()
    exponent = _integer(part["power"] or part["exponent"] or part["times_power"] or "0")
    if abs(exponent) > MAX_DIGITS:
        return None
    exponent += _SCALES[(part["scale"] or part["short"]).lower()] if part["scale"] or part["short"] else 0
    if part["over"]:
        over, under = _integer(part["over"]), _integer(part["under"])
        mixed = over < under and not part["over"].startswith("0")  # unlike 1 000/2 and 1 500/2
        if not under or (part["units"] and not mixed):
            return None
        value = _integer(part["units"] or "0") + Fraction(over, under)
    elif part["power"]:
        value = Fraction(1)
    elif part["continental"]:
        value = Fraction(Decimal(re.sub("[.' ]", "", part["continental"]).replace(",", ".")))
    else:
        value = Fraction(Decimal(re.sub("[,' _]", "", part["grouped"] or part["plain"])))
    value *= Fraction(10) ** exponent
    return -value if "-" in (part["sign"], part["later_sign"]) else value


def _integer(digits):
    return int(Decimal(digits))  # int("...") refuses more than 4,300 digits


def _plain(text):
    """Return the text with ASCII digits, signs and separators, single spaces, and no LaTeX, HTML and Markdown marks."""
    text = _BEFORE_VULGAR.sub(" ", text)  # 2½ is 2 1/2 and not 21/2
    text = _BEFORE_LOWERED.sub("_", _BEFORE_RAISED.sub("^", text))
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), _TAG.sub(" ", text))
    if "\\" in text or "{" in text:
        for mark, plain in _LATEX:
            text = mark.sub(plain, text)
    lines = (" ".join(line.split()) for line in text.splitlines())
    return _EMPHASIS.sub("", " ; ".join(line for line in lines if line))
