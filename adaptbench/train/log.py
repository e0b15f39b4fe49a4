"""Writes a training's log, and turns signals into a request to stop."""

import json
import signal
import sys
import time
from pathlib import Path

from adaptbench.io.files import naming, write_text


class StopSignal:
    """Turns SIGINT and SIGTERM into a flag inside a `with` block, so that the current step is finished and saved."""

    def __init__(self) -> None:
        self.received = ""

    def __enter__(self) -> "StopSignal":
        self._before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: object) -> None:
        self.received = signal.Signals(number).name


class Log:
    """Writes a JSON line per step to a file, and shows a progress bar in a terminal, else ten lines in all."""

    def __init__(self, path: Path, steps: int, done: int) -> None:
        kept = path.read_text().splitlines()[:done] if path.exists() else []
        write_text(path, "".join(f"{line}\n" for line in kept))
        self.path, self.file = path, path.open("a")
        self.steps = steps
        self.began, self.began_step = time.monotonic(), done
        self.bar = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=done, unit="step", dynamic_ncols=True)

    def write(self, step: int, **values: float) -> None:
        """Log one step."""
        with naming(self.path):
            self.file.write(json.dumps({"step": step} | values) + "\n")
            self.file.flush()
        if self.bar is not None:
            self.bar.update()
            self.bar.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
        elif step % max(1, self.steps // 10) == 0 or step == self.steps:
            pace = (step - self.began_step) / max(1e-9, time.monotonic() - self.began)
            print(
                f"step {step}/{self.steps}  loss {values['loss']:.4f}  {pace:.1f} steps/s", file=sys.stderr, flush=True
            )

    def close(self) -> None:
        self.file.close()
        if self.bar is not None:
            self.bar.close()
