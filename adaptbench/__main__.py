"""`python -m adaptbench`: a command, in a process that has its imports already where there is one (adaptbench/jobs/warm.py)."""

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
    # torch and its thread pools take seconds to tear down; everything is written and closed by now.
    os._exit(status)
