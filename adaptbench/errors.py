"""Errors that a user can fix, each printed as one line: ours, pydantic's and the system's."""

import errno
import os
import re
from datetime import date
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from pydantic import ValidationError


class AdaptbenchError(Exception):
    """A user-fixable error, printed as one line; control characters are escaped."""

    def __str__(self) -> str:
        return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda match: ascii(match[0])[1:-1], super().__str__())


class Interrupted(AdaptbenchError):
    """A stop by a signal, after a checkpoint was written."""


OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def user_message(error: Exception, out: object) -> str:
    """Return one line for an error the user can fix, else an empty string; `out` names what was being written."""
    if isinstance(error, AdaptbenchError):
        return str(error)
    written = getattr(error, "filename2", None) or getattr(error, "filename", None)  # a copy's target is the second
    if reason := _out_of_space(error):
        return f"no space left for {written or out}: {reason}; free some and run again"
    return f"{written}: {error.strerror}" if isinstance(error, OSError) and written is not None else ""


def _out_of_space(error: Exception) -> str:
    """Return the system's message if an error means a full disk, a quota or a limit, else an empty string.

    Libraries wrap such errors, so their text is searched too.
    """
    wrapped = (int(number) for number in re.findall(r"(?:\[Errno |os error )(\d+)", str(error)))
    numbers = (getattr(error, "errno", None), *wrapped)
    return next((os.strerror(number) for number in numbers if number in OUT_OF_SPACE), "")


_MESSAGES = {
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "extra_forbidden": "unknown key",
    "missing": "missing",
    "literal_error": "must be one of {expected}",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "string_unicode": "must be text without half a character (a lone surrogate)",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} entries",
    "string_too_short": "must not be empty",
    "model_type": "must be a mapping of options",
    "union_tag_invalid": "kind must be one of {expected_tags}",
    "union_tag_not_found": "kind is missing",
    "model_attributes_type": "must be a mapping of options",
    "dict_type": "must be a mapping of options",
}


_YAML_TYPES = ((bool, "true or false"), ((int, float), "a number"), (date, "a date"), (type(None), "nothing"))
"""What YAML may read unquoted text as."""


def mistakes(error: "ValidationError") -> list[dict[str, Any]]:
    """Return the mistakes, without "too short" for a list whose entries are invalid themselves."""
    found = cast(list[dict[str, Any]], error.errors())
    inner = {one["loc"][:depth] for one in found for depth in range(1, len(one["loc"]))}
    return [one for one in found if not (one["type"] == "too_short" and one["loc"] in inner)]


def reason(error: "ValidationError") -> str:
    """Return the first mistake as `key.path: what it must be`."""
    first = mistakes(error)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    else:
        template = _MESSAGES.get(first["type"])
        context = {
            key: f"{value:g}" if isinstance(value, float) else value for key, value in first.get("ctx", {}).items()
        }
        message = template.format(**context) if template else first["msg"]
        read_as = next((name for kind, name in _YAML_TYPES if isinstance(first["input"], kind)), None)
        if first["type"] == "string_type" and read_as:
            message += f", and YAML reads {read_as}; put it in quotes"
    return f"{key}: {message}" if key else message
