"""What the Snakefile asks of Snakemake beyond its documented interface, each with what would let it go."""

import os
import sys
from typing import Any

from adaptbench.config import overrides
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import rules, surroundings
from adaptbench.graph.nodes import Graph
from adaptbench.jobs import warm

STAGE_RULES = ("stage", "intermediate_stage")


def graph_of(workflow: Any, config: dict[str, Any]) -> Graph:
    """Return the graph of the preset in force; a mistake in it ends the process with one line.

    `config_settings.config_args` are the entries of --config as they were written. In `config` Snakemake has dropped quotes and turned text
    into numbers: it goes when Snakemake keeps an option's text. `modifier` says whether another workflow uses this one as a module, and
    gives its `config`: it goes when a workflow can ask that.
    """
    given = None if workflow.modifier.is_main_snakefile() else config
    written = overrides.of_entries(workflow.config_settings.config_args)
    return surroundings.start(written, workflow.config_settings.configfiles, given)


def is_running(workflow: Any) -> bool:
    """Return whether jobs run: no dry run, no report, no list of rules. It goes when a parameter can ask that."""
    return workflow.executor_plugin is not None and not workflow.dryrun


def set_environment(workflow: Any, project: str) -> None:
    """Set what jobs need of this machine.

    It is in the environment and not in a command, whose change would make a job run again. With --software-deployment-method each rule's
    environment brings its Python (`deployment_settings`: goes when a rule can ask that); else it is the one that runs Snakemake.
    """
    deployed = workflow.deployment_settings.deployment_method
    os.environ["ADAPTBENCH_PYTHON"] = "python" if deployed else sys.executable
    given = os.environ.get("PYTHONPATH")
    if project not in (given or "").split(os.pathsep)[:1]:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [project, given]))
    # glibc returns memory of more than 128 kB to the system at once, and asks for it in pages of 4 kB: both cost time (docs/log.md).
    os.environ.setdefault(
        "GLIBC_TUNABLES",
        f"glibc.malloc.mmap_threshold={2**30}:glibc.malloc.trim_threshold={2**32}:glibc.malloc.hugetlb=1",
    )


def share_gpus(workflow: Any, graph: Graph) -> None:
    """Let jobs of this machine share its GPUs as far as their memory goes, unless --resources gpu=... says otherwise.

    It goes when a Snakefile can set a global resource.
    """
    if not workflow.local_exec or not workflow.is_main_process or "gpu" in workflow.global_resources:
        return
    if (at_once := rules.jobs_on_gpus(graph)) is not None:
        workflow.register_resource("gpu", at_once)


def start_jobs(workflow: Any, graph: Graph, plan: rules.Plan) -> None:
    """Check what is about to be made, write the plan, and start the process whose imports the jobs of this machine share.

    `dag.needrun_jobs` are the jobs that will run: it goes when `onstart` is given them.
    """
    surroundings.check_writable(graph)
    plan.write()
    to_make = {job.wildcards.node for job in workflow.dag.needrun_jobs() if job.rule.name in STAGE_RULES}
    _check(graph, to_make, here=workflow.local_exec)
    if not workflow.local_exec:
        return
    if not workflow.deployment_settings.deployment_method:
        warm.start(rules.modules_to_preload(graph, to_make))
    # Snakemake 9 limits how many jobs start in a second, and to do so looks at everything again once a second for every job that has
    # ended: 300 of them took a third of a core (docs/log.md). It goes when --max-jobs-per-timespan can be switched off.
    workflow.scheduler.job_rate_limiter = None


def _check(graph: Graph, nodes: set[str], *, here: bool) -> None:
    """End the process with one line if what is about to be made cannot be."""
    from adaptbench.graph import preflight  # not needed to plan

    try:
        preflight.check(graph, nodes, here=here)
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")
