"""Format a problem and its worked answer as text, for training and decoding; benchmarks/shared/answers.py scores it."""

LATENT = "<thinking>"
MARK = "####"


def prompt(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def response(steps: list[str], target: str) -> str:
    """Return the text after the prompt: the worked steps, then the mark and the answer."""
    return " " + " ".join([*steps, MARK, target])
