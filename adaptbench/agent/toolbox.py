"""Run a call that a model wrote, and always return an observation.

Action and arguments are untrusted text. Whatever they are and whatever the tool does, the model reads one line and the
evaluation continues. An error says what the model can fix. Tools run in this process, since they are ours and pure
Python; the time limit is for arguments that make them slow.
"""

import inspect
import reprlib
import signal
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import FrameType

from adaptbench.agent.calculator import CalculationError, number_text
from adaptbench.agent.dialogue import canonical, parse_arguments

MAX_OBSERVATION = 1024  # characters
NOTHING = "(nothing)"
_REPEAT_SECONDS = 0.1  # between two alarms; far longer than handling one takes


@dataclass(frozen=True)
class Observation:
    """The result of a call: one non-empty line that can be written as UTF-8 and begins "error: " if it is an error."""

    text: str
    error: bool


class ToolError(Exception):
    """An error of a tool's arguments; the model reads its message as one line."""


class _TimeUp(BaseException):
    """Ends a tool that is late; not an Exception, so that a tool's `except Exception` does not catch it."""


class Toolbox:
    def __init__(self, functions: Mapping[str, Callable[..., object]], *, seconds: float = 1.0) -> None:
        """Take the functions of tools by name, each called with keyword arguments for at most `seconds` seconds.

        A function returns text, a number, None, or a value that JSON can hold.
        """
        if not 0 < seconds < float("inf"):
            raise ValueError(f"seconds must be positive and finite: {seconds}")
        self._tools = {name: (function, inspect.signature(function)) for name, function in functions.items()}
        self._seconds = seconds

    def call(self, action: str, arguments: str, offered: Collection[str]) -> Observation:
        """Call the tool `action` with `arguments`, a JSON object as text; the model knows only tools in `offered`.

        Raises only KeyboardInterrupt. In the main thread the time limit interrupts a tool; in any other thread a late
        tool keeps running in the background.
        """
        if action not in offered:
            return _error(f"no tool {reprlib.repr(action)} is offered")
        if action not in self._tools:
            return _error(f"{action} cannot be run")
        function, signature = self._tools[action]
        try:
            named = parse_arguments(arguments)
        except MemoryError:
            named = None
        if named is None:
            return _error(f"the arguments of {action} must be a JSON object")
        try:
            signature.bind(**named)
        except TypeError:
            known, given = ", ".join(signature.parameters), ", ".join(named)
            return _error(f"{action} takes the arguments ({known}), not {reprlib.repr(given)}")
        try:
            observation = _limit()(lambda: _observe(action, function, named), self._seconds)
        except RuntimeError:  # the system has no thread left
            return _error(f"{action} cannot be run now")
        return observation or _error(f"{action} took longer than {self._seconds:g} s")


def _observe(name: str, function: Callable[..., object], named: Mapping[str, object]) -> Observation:
    try:
        return Observation(line(_rendered(function(**named))), error=False)
    except (KeyboardInterrupt, _TimeUp):
        raise
    except ToolError as problem:
        return _error(str(problem))
    except BaseException as problem:  # SystemExit, too; only its type, since a message may hold paths
        return _error(f"{name} failed: {type(problem).__name__}")


def _rendered(result: object) -> str:
    if result is None:
        return ""
    if isinstance(result, str):
        return result
    try:
        if isinstance(result, int | float | Fraction | Decimal) and not isinstance(result, bool):
            return number_text(result)
        return canonical(result)
    except CalculationError as problem:
        raise ToolError(str(problem)) from None
    except (TypeError, ValueError):
        raise ToolError("the result cannot be shown") from None


def line(text: str) -> str:
    """Return `text` on one line, cut to MAX_OBSERVATION characters, without lone surrogates."""
    cut = " ".join(text.split())[:MAX_OBSERVATION].rstrip()
    return cut.encode("utf-8", "replace").decode() or NOTHING


def _error(message: str) -> Observation:
    return Observation(line(f"error: {line(message)}"), error=True)


def _limit() -> Callable[[Callable[[], Observation], float], Observation | None]:
    """Return the limit by alarm where possible: only in the main thread, and not over a handler set outside Python."""
    main = threading.current_thread() is threading.main_thread()
    return _by_alarm if main and signal.getsignal(signal.SIGALRM) is not None else _by_thread


def _by_alarm(work: Callable[[], Observation], seconds: float) -> Observation | None:
    """Return `work()`, interrupted by a signal after `seconds`; None if it was late.

    The alarm repeats, for a tool that catches everything. The caller's handler and timer (a test runner's, say) are
    restored; if the caller's alarm was due meanwhile, it rings then.
    """
    observation, late, over = None, False, False

    def ring(_number: int, _frame: FrameType | None) -> None:
        nonlocal late
        if not over:
            late = True
            raise _TimeUp

    remaining, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    started = time.monotonic()
    handler = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, _REPEAT_SECONDS)
        observation = work()
    except _TimeUp:
        pass
    finally:
        over = True  # first, before any call: handlers run at calls, and one that raised here would skip the rest
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if remaining:
            remaining -= time.monotonic() - started
            signal.setitimer(signal.ITIMER_REAL, max(remaining, 1e-6), interval)
    # A tool may have caught the alarm and returned a value or an error.
    return None if late else observation


def _by_thread(work: Callable[[], Observation], seconds: float) -> Observation | None:
    """Return `work()` from a thread; None if it is late, and the thread is abandoned. Needed where no signal works."""
    future: Future[Observation] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as problem:
            future.set_exception(problem)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        return None
