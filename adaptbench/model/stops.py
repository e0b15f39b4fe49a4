"""Ends an answer where lm-eval ends it."""

from collections.abc import Sequence


def before_stop(text: str, stops: str | Sequence[str]) -> str:
    """Return the text up to the first of the stops."""
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.partition(stop)[0]
    return text
