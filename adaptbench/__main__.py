"""Runs a command of `python -m adaptbench`, in a process with preloaded imports if there is one.

See adaptbench/jobs/warm.py.
"""

import os
import sys

from adaptbench.jobs.warm import forwarded

if __name__ == "__main__":
    status = forwarded(sys.argv[1:])
    if status is None:
        from adaptbench.cli import main

        status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # torch and its thread pools take seconds to shut down; everything is written and closed by now.
    os._exit(status)
