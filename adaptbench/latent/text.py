"""A problem and its worked answer as text: the one wording for training and decoding; benchmarks/shared/answers.py scores it."""

LATENT = "<thinking>"
MARK = "####"


def prompt(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def response(steps: list[str], target: str) -> str:
    """What follows the prompt: the worked steps, then the mark and the answer."""
    return " " + " ".join([*steps, MARK, target])
