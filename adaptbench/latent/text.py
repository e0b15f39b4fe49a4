"""A problem and its worked answer as text: the one wording for training, scoring and decoding.

Only the standard library is used: a copy lies beside the lm-eval tasks, which then run without this project.
"""

LATENT = "<thinking>"
MARK = "####"


def prompt(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def response(steps: list[str], target: str) -> str:
    """What follows the prompt: the worked steps, then the mark and the answer."""
    return " " + " ".join([*steps, MARK, target])


def answer(text: str) -> str | None:
    """What a response ends in, spaces and commas of numbers aside; None where there is no mark."""
    _, mark, last = text.replace(LATENT, "").rpartition(MARK)
    return " ".join(last.replace(",", "").split()) if mark else None


def exact_match(doc, results):
    """Whether the response ends in the right answer; a scoring function for lm-eval."""
    found = answer(results[0])
    return {"exact_match": float(found is not None and found == answer(f"{MARK} {doc['target']}"))}
