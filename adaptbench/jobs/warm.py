"""One process that has imported torch and transformers; the jobs of a graph are forks of it and need not import them again.

Importing takes 4 to 5 seconds, as long as much of what the jobs of a small preset do. Snakemake starts this process beside its own
jobs; `python -m adaptbench` hands a job over to it and waits, and does the job itself where there is none. A job runs with the
arguments, environment, folder and output of the process that handed it over, gets its signals, and ends when it ends.
The project's own code is not imported beforehand: every job reads it anew. Linux only (pidfd), one machine only.
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
    "transformers.conversion_mapping:get_checkpoint_conversion_mapping:qwen3",  # compiles a thousand regular expressions
    "transformers.optimization", "transformers.trainer_utils", "accelerate", "peft", "pydantic.main", "psutil", "pandas",
    "lm_eval", "lm_eval.tasks", "lm_eval.evaluator", "lm_eval.models.huggingface", "rouge_score.rouge_scorer",
)  # fmt: skip


PRELOAD_COMPILER = (
    "torch._dynamo",
    "torch._inductor.compile_fx",
    "torch._inductor.cpu_vec_isa:valid_vec_isa_list",
    "torch._inductor.codecache:torch_key",
    "torch._inductor.codecache:triton_key",
    "torch.distributed.tensor.experimental",
)
"""What takes a process seconds, for the one that does it for all jobs: imports, and what torch then remembers: which of the processor's
instructions work, and the digests of its own files and Triton's, by which it knows what it compiled before."""
FORWARDED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


# --- the process that hands a job over


def forwarded(arguments: Sequence[str]) -> int | None:
    """The exit status of the command in a fork of the warm process; None where there is none to ask."""
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
    if status < 0:  # ended by a signal, and so does this process
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


# --- the warm process


def start(further: Sequence[str] = ()) -> "subprocess.Popen[bytes] | None":
    """Start it and tell later jobs where it is; None where it cannot be. It imports what is `further` named, too: `module`, or
    `module:function`, which is called, or `module:function:argument`.
    """
    if not hasattr(os, "pidfd_open") or not hasattr(socket, "send_fds"):
        return None
    path = Path(tempfile.mkdtemp(prefix="adaptbench-")) / "socket"
    os.environ[VARIABLE] = str(path)
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    # Modules that ask for a GPU while they are imported (torch.utils.cpp_extension) must not start CUDA, which no fork could use then.
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
    """Import what jobs need, then fork for every job that is handed over; end when the process that started this one does."""
    parent = os.getppid()
    for name in (*MODULES, *further):
        module, *call = name.split(":")
        imported = importlib.import_module(module)
        if call:
            with contextlib.suppress(Exception):  # it fails in the job again, which can say so
                function, *arguments = call
                getattr(imported, function)(*arguments)
    # Half a million objects that stay: no job's garbage collector need look at them, nor copy their memory by doing so.
    gc.collect()
    gc.freeze()
    waiting = selectors.DefaultSelector()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        waiting.register(listening, selectors.EVENT_READ)
        while os.getppid() == parent:
            # Ends of jobs, known by a number, after what was heard of them.
            for event, _ in sorted(waiting.select(timeout=1.0), key=lambda one: isinstance(one[0].fileobj, int)):
                if event.fileobj is listening:
                    _take(listening, waiting)
                else:
                    event.data(event.fileobj)
    shutil.rmtree(path.parent, ignore_errors=True)  # jobs that still run end with this process


def _take(listening: socket.socket, waiting: selectors.BaseSelector) -> None:
    """Fork for one job, and listen to the process that handed it over and to the fork's end."""
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

    def heard(source: Any) -> None:
        """A signal for the job; or the process that handed it over has gone, and the job goes, too."""
        received = connection.recv(16) if source is connection else b""
        with contextlib.suppress(ProcessLookupError):
            for number in received or bytes([signal.SIGKILL]):
                os.kill(process, number)
        if source is connection and not received:
            waiting.unregister(connection)

    def done(source: Any) -> None:
        _, status = os.waitpid(process, 0)
        waiting.unregister(ended)
        os.close(ended)
        if connection in waiting.get_map():
            waiting.unregister(connection)
        with contextlib.suppress(OSError):  # perhaps nobody waits for it any more
            connection.send(struct.pack("!i", os.waitstatus_to_exitcode(status)))
        connection.close()

    waiting.register(connection, selectors.EVENT_READ, heard)
    waiting.register(ended, selectors.EVENT_READ, done)


def _run(request: dict[str, Any], outputs: Sequence[int], warm: int) -> int:
    """Be the process that handed the job over, as far as the job can see."""
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
        if sys.modules["torch"].cuda._is_in_bad_fork():  # CUDA was started all the same: the job imports all again
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
