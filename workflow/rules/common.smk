"""Names that all rules share: the preset's graph, and the command that starts a job."""

import os
import sys
from pathlib import Path

# Directory of the project, also when this file is included or used as a module.
PROJECT = workflow.current_basedir.join("../..").get_path_or_uri(secret_free=True)
if not Path(PROJECT, "adaptbench").is_dir():  # on a remote host
    sys.exit(
        f"error: {PROJECT}: not a folder of this machine; clone adaptbench, and name the clone's workflow/Snakefile"
    )
PROJECT = os.path.normpath(PROJECT)
# Snakemake reads braces as a wildcard, and PYTHONPATH cannot quote its separator.
if wrong := sorted({*"{}", os.pathsep} & {*PROJECT}):
    sys.exit(
        f"error: {PROJECT}: the path of a clone must not hold {wrong[0]!r}; rename the folder"
    )
sys.path.insert(0, PROJECT)
# A dry run must write nothing, not even compiled modules, and it is not known yet if this is one.
sys.dont_write_bytecode = True
from adaptbench.graph import plan_files as plan, rules as flow, snakefile, targets

GRAPH = snakefile.graph_of(workflow, config)
ROOT = str(GRAPH.root)
PLAN = flow.Plan(GRAPH, lambda: snakefile.is_running(workflow))
PRIORITIES = flow.job_priorities(GRAPH)
snakefile.set_environment(workflow, PROJECT)
snakefile.share_gpus(workflow, GRAPH)
RUN = 'OMP_NUM_THREADS={threads} "$ADAPTBENCH_PYTHON" -m adaptbench'
ENVIRONMENT = "../../envs/adaptbench.yaml"


report: "../../adaptbench/report/captions/report.rst"


envvars:
    "ADAPTBENCH_PYTHON",
    "PYTHONPATH",


wildcard_constraints:
    folder="data|tasks|stages",
    node=r"[^/]+",
    key=r"[^/]+/[^/]+/seed\d+",
    part="|".join(targets.SUFFIXES.values()),
