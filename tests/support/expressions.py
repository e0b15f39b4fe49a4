"""Arithmetic as text, right and wrong, and the time that reading it takes."""

import time

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from adaptbench.agent.calculator import MAX_DEPTH, MAX_DIGITS, MAX_LENGTH

BATCH = 100  # hypothesis costs more than the calculator: each of its examples is made into many texts
THOROUGH = settings(
    max_examples=1000, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
numbers = st.sampled_from("0 1 2 7 10 007 5. .5 0.01 3.125 99".split())
blanks = st.sampled_from(["", "", " ", "\t"])
trees = st.recursive(
    numbers,
    lambda inner: (
        st.tuples(inner, blanks, st.sampled_from("+-*/%"), blanks, inner).map("".join)
        | st.tuples(
            inner, blanks, st.just("**"), blanks, st.sampled_from(["0", "1", "2", "-1", "-(2)", "3.", ".5"])
        ).map("".join)
        | st.tuples(st.just("("), blanks, inner, st.just(")")).map("".join)
        | st.tuples(st.sampled_from("+-"), blanks, inner).map("".join)
    ),
    max_leaves=12,
)
GIANTS = (
    "9" * 600,
    "9" * MAX_DIGITS,
    "." + "9" * (MAX_DIGITS - 1),
    "9**9**9**9",
    "9**314%7**-300",
    "(1/3)**628",
    "(" * 600,
    "(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH,
    "-" * MAX_LENGTH + "1",
    "1**" * 160 + "1",
    "1" + "*9" * 249,
    "1" + "/7" * 249,
    "+".join(f"1/{divisor}" for divisor in range(101, 180)),
    "%".join(["9" * 150, "." + "1" * 149, "." + "3" * 131]),
    "1" * 10**6,
    "(" * 10**5 + ")" * 10**5,
    "\u0663\u00b2\uff11\u2167",
    "\ud800\0\x1b\u2028\U0010ffff",
)
ALPHABET = "0123456789..+-*/%()()** \t"
words = (
    st.text(max_size=20) | st.text(ALPHABET, max_size=40) | st.text(st.characters(categories=["Cs", "Cc", "Nd", "No"]))
)


def variants(rng, pieces, alphabet=ALPHABET):
    """BATCH texts: each piece as it is, then their mutations: cut, doubled, joined, with characters changed."""
    yield from pieces
    for _ in range(BATCH - len(pieces)):
        text = rng.choice(pieces)
        for _ in range(rng.randint(1, 4)):
            at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
            middle = rng.choice(["", text[at:to] * 2, rng.choice(alphabet), rng.choice(pieces), f"({text[at:to]})"])
            text = text[:at] + middle + text[to:]
        yield text


def cpu_seconds(work):
    """Of this thread's own work: a clock on the wall would also count the other programs of a busy machine.

    The least of up to three times, as a collection of garbage may fall into any one.
    """
    least = float("inf")
    for _ in range(3):
        before = time.thread_time()
        work()
        least = min(least, time.thread_time() - before)
        if least < 0.1:
            break
    return least
