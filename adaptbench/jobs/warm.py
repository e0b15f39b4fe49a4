"""Keeps one process that has imported torch and transformers; the jobs of a graph are forks of it.

Importing takes 4 to 5 seconds, as long as many jobs of a small preset. Snakemake starts this process beside its jobs.
`python -m adaptbench` hands a job over to it and waits, or runs the job itself if there is none. A job runs with the
arguments, environment, folder and output of the process that handed it over, receives its signals, and ends when it
ends. The project's own code is not imported beforehand: every job imports it again. Linux only (pidfd), one machine
only.
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMANDS = "adaptbench.cli"  # what a fork runs; imported in the fork, as every job reads the code again
VARIABLE = "ADAPTBENCH_WARM"  # where the socket is


MODULES = (
    "torch", "transformers", "transformers.models.qwen3.modeling_qwen3", "transformers.models.auto.tokenization_auto",
    "transformers.conversion_mapping:get_checkpoint_conversion_mapping:qwen3",  # compiles 1000 regular expressions
    "transformers.optimization", "transformers.trainer_utils", "accelerate", "peft", "pydantic.main", "psutil",
    "pandas", "lm_eval", "lm_eval.tasks", "lm_eval.evaluator", "lm_eval.models.huggingface", "rouge_score.rouge_scorer",
)  # fmt: skip


PRELOAD_COMPILER = (
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch._inductor.cpu_vec_isa:valid_vec_isa_list",
    "torch._inductor.codecache:torch_key",
    "torch._inductor.codecache:triton_key",
    "torch.distributed.tensor.experimental",
)
"""Imports and calls that take seconds, for stages that compile.

The calls fill torch's caches: the instructions of the processor that work, and the digests of torch's and Triton's
files, by which torch finds code that it compiled before.
"""
FORWARDED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


# --- client: the process that hands a job over


def forwarded(arguments: Sequence[str]) -> int | None:
    """Run the command in a fork of the warm process and return its exit status; None if there is no such process."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            request = json.dumps({"arguments": list(arguments), "environment": dict(os.environ), "folder": os.getcwd()})
            socket.send_fds(connection, [struct.pack("!I", len(request.encode()))], [0, 1, 2])
            connection.sendall(request.encode())
        except OSError:
            return None
        for number in FORWARDED:
            signal.signal(number, lambda received, _: connection.send(bytes([received])))
        try:
            answer = connection.recv(4)
        except ConnectionError:
            answer = b""
    if len(answer) < 4:
        print("error: the process that ran this job has ended; run again to go on", file=sys.stderr)
        return 1
    status: int = struct.unpack("!i", answer)[0]
    if status < 0:  # ended by a signal, so this process ends by it, too
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


# --- server: the warm process


def start(further: Sequence[str] = ()) -> "subprocess.Popen[bytes] | None":
    """Start the warm process and tell later jobs where it is; return None on systems that cannot have one.

    Args:
        further: more modules to import, as `module`, or `module:function` or `module:function:argument` to call.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(socket, "send_fds"):
        return None
    path = Path(tempfile.mkdtemp(prefix="adaptbench-")) / "socket"
    os.environ[VARIABLE] = str(path)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Importing torch.utils.cpp_extension looks for a GPU. It must not initialise CUDA, which no fork could use then.
    without_cuda = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "adaptbench.jobs.warm", str(path), *further],
        env=os.environ | one_thread | without_cuda,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a terminal's signals reach jobs through the processes that handed them over
    )


def serve(path: Path, further: Sequence[str]) -> None:
    """Import what jobs need, then fork for every job that is handed over; end when the parent process ends."""
    parent = os.getppid()
    for name in (*MODULES, *further):
        module, *call = name.split(":")
        imported = importlib.import_module(module)
        if call:
            with contextlib.suppress(Exception):  # it fails in the job again, which can say so
                function, *arguments = call
                getattr(imported, function)(*arguments)
    # Keep half a million permanent objects out of every job's garbage collection, which would copy their memory.
    gc.collect()
    gc.freeze()
    waiting = selectors.DefaultSelector()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        waiting.register(listening, selectors.EVENT_READ)
        while os.getppid() == parent:
            # Ends of jobs (integer file descriptors) come after signals for them.
            for event, _ in sorted(waiting.select(timeout=1.0), key=lambda one: isinstance(one[0].fileobj, int)):
                if event.fileobj is listening:
                    _take(listening, waiting)
                else:
                    event.data(event.fileobj)
    shutil.rmtree(path.parent, ignore_errors=True)  # jobs that still run end with this process


def _take(listening: socket.socket, waiting: selectors.BaseSelector) -> None:
    """Fork for one job, and watch the process that handed it over and the fork."""
    connection, _ = listening.accept()
    head, outputs, _, _ = socket.recv_fds(connection, 4, 3)
    if len(head) < 4 or len(outputs) < 3:
        connection.close()
        return
    size = struct.unpack("!I", head)[0]
    request = b""
    while len(request) < size and (part := connection.recv(size - len(request))):
        request += part
    warm = os.getpid()
    process = os.fork()
    if not process:
        waiting.close()
        listening.close()
        connection.close()
        os._exit(_run(json.loads(request), outputs, warm))
    for output in outputs:
        os.close(output)
    ended = os.pidfd_open(process)

    def pass_on(source: Any) -> None:
        """Pass a signal on to the job; kill the job if the process that handed it over has ended."""
        received = connection.recv(16) if source is connection else b""
        with contextlib.suppress(ProcessLookupError):
            for number in received or bytes([signal.SIGKILL]):
                os.kill(process, number)
        if source is connection and not received:
            waiting.unregister(connection)

    def done(source: Any) -> None:
        """Send the exit status of the fork to the process that handed the job over."""
        _, status = os.waitpid(process, 0)
        waiting.unregister(ended)
        os.close(ended)
        if connection in waiting.get_map():
            waiting.unregister(connection)
        with contextlib.suppress(OSError):  # the other process may have ended
            connection.send(struct.pack("!i", os.waitstatus_to_exitcode(status)))
        connection.close()

    waiting.register(connection, selectors.EVENT_READ, pass_on)
    waiting.register(ended, selectors.EVENT_READ, done)


def _run(request: dict[str, Any], outputs: Sequence[int], warm: int) -> int:
    """Run the job as if in the process that handed it over: its arguments, environment, folder and output."""
    import ctypes
    import traceback

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no job outlives the warm process
    if os.getppid() != warm:
        return 1
    for number, output in enumerate(outputs):
        os.dup2(output, number)
        os.close(output)
    try:
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = ["adaptbench", *request["arguments"]]
        if sys.modules["torch"].cuda._is_in_bad_fork():  # CUDA was initialised all the same: start a new process
            del os.environ[VARIABLE]
            os.execv(sys.executable, [sys.executable, "-m", "adaptbench", *request["arguments"]])
        if threads := os.environ.get("OMP_NUM_THREADS"):
            sys.modules["torch"].set_num_threads(int(threads))
        return importlib.import_module(COMMANDS).main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2:])
