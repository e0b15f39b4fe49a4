"""Uses of Snakemake's undocumented attributes, each with the feature that would replace it."""

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
    """Return the graph of the preset in use; a mistake in it ends the process with one line.

    `config_settings.config_args` are the entries of --config as they were written. In `config`, Snakemake has dropped
    quotes and converted text to numbers. It can go when Snakemake keeps an option's text. `modifier` tells whether
    another workflow uses this one as a module with its own `config`. It can go when a workflow can query that.
    """
    given = None if workflow.modifier.is_main_snakefile() else config
    written = overrides.of_entries(workflow.config_settings.config_args)
    return surroundings.load_graph(written, workflow.config_settings.configfiles, given)


def is_running(workflow: Any) -> bool:
    """Return whether jobs run: no dry run, no report, no list of rules.

    `executor_plugin` and `dryrun` can go when a parameter can query that.
    """
    return workflow.executor_plugin is not None and not workflow.dryrun


def set_environment(workflow: Any, project: str) -> None:
    """Set the environment variables that jobs need on this machine.

    They are not in a command, because a changed command makes a job run again. With --software-deployment-method, each
    rule's environment has its own Python; otherwise jobs use the Python that runs Snakemake. `deployment_settings` can
    go when a rule can query that.
    """
    deployed = workflow.deployment_settings.deployment_method
    os.environ["ADAPTBENCH_PYTHON"] = "python" if deployed else sys.executable
    given = os.environ.get("PYTHONPATH")
    if project not in (given or "").split(os.pathsep)[:1]:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [project, given]))
    # glibc returns blocks of more than 128 kB to the system at once, and requests pages of 4 kB. Both cost time
    # (docs/log.md).
    os.environ.setdefault(
        "GLIBC_TUNABLES",
        f"glibc.malloc.mmap_threshold={2**30}:glibc.malloc.trim_threshold={2**32}:glibc.malloc.hugetlb=1",
    )


def share_gpus(workflow: Any, graph: Graph) -> None:
    """Let jobs on this machine share its GPUs as far as their memory allows, unless --resources sets gpu.

    `register_resource` can go when a Snakefile can set a global resource.
    """
    if not workflow.local_exec or not workflow.is_main_process or "gpu" in workflow.global_resources:
        return
    if (at_once := rules.jobs_on_gpus(graph)) is not None:
        workflow.register_resource("gpu", at_once)


def start_jobs(workflow: Any, graph: Graph, plan: rules.Plan) -> None:
    """Check the stages that will be made, write the plan, and start the process whose imports jobs share.

    `dag.needrun_jobs` are the jobs that will run. It can go when `onstart` gets them.
    """
    surroundings.check_writable(graph)
    plan.write()
    to_make = {job.wildcards.node for job in workflow.dag.needrun_jobs() if job.rule.name in STAGE_RULES}
    _check(graph, to_make, here=workflow.local_exec)
    if not workflow.local_exec:
        return
    if not workflow.deployment_settings.deployment_method:
        warm.start(rules.modules_to_preload(graph, to_make))
    # Snakemake 9 limits how many jobs start in a second. To do so, it checks everything once a second for each finished
    # job: 300 of them used a third of a core (docs/log.md). It can go when --max-jobs-per-timespan can be switched off.
    workflow.scheduler.job_rate_limiter = None


def _check(graph: Graph, nodes: set[str], *, here: bool) -> None:
    """End the process with one line if the stages cannot be made."""
    from adaptbench.graph import preflight  # slow to import, and not needed to plan

    try:
        preflight.check(graph, nodes, here=here)
    except AdaptbenchError as error:
        sys.exit(f"error: {error}")
