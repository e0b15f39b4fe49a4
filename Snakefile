"""The graph: data -> tokenizer and base -> stages -> evaluation -> collect -> tables and figures.

Which stages there are follows from the preset (adaptbench/graph.py); the rules only say how each kind of job runs.
"""

import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.17")  # the first with a priority for each job
# Of this file, which workflow/Snakefile includes, and other workflows use as a module. On a remote host there is no package beside it.
PROJECT = workflow.current_basedir.get_path_or_uri(secret_free=True)
if not Path(PROJECT, "adaptbench").is_dir():
    sys.exit(
        f"error: {PROJECT}: not a folder of this machine; clone adaptbench, and name the clone's workflow/Snakefile"
    )
# Snakemake takes braces for a wildcard, and nothing can quote what separates the folders of PYTHONPATH.
if wrong := sorted({*"{}", os.pathsep} & {*PROJECT}):
    sys.exit(
        f"error: {PROJECT}: the path of a clone must not hold {wrong[0]!r}; rename the folder"
    )
sys.path.insert(0, PROJECT)
# A dry run writes nothing, compiled modules included; whether this is one is not known yet.
sys.dont_write_bytecode = True
from adaptbench import overrides, plan, warm, workflow as flow

GRAPH = flow.start(
    # As they were written: in `config` Snakemake has dropped quotes and turned text into numbers.
    overrides.of_entries(workflow.config_settings.config_args),
    workflow.config_settings.configfiles,
    None if workflow.modifier.is_main_snakefile() else config,
)
ROOT = str(GRAPH.root)
PLAN = flow.Plan(
    GRAPH, lambda: workflow.executor_plugin is not None and not workflow.dryrun
)
URGENCY = flow.urgency(GRAPH)
BETWEEN = plan.between(GRAPH) if GRAPH.preset.keep == "scored" else []
# What a job needs of this machine is in its environment and not in its command, whose change would make it run again.
# With --software-deployment-method each rule's own environment brings its Python; else the one that runs Snakemake does.
DEPLOYED = workflow.deployment_settings.deployment_method
os.environ["ADAPTBENCH_PYTHON"] = "python" if DEPLOYED else sys.executable
GIVEN = os.environ.get("PYTHONPATH")
if PROJECT not in (GIVEN or "").split(os.pathsep)[:1]:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [PROJECT, GIVEN]))
# glibc gives memory of more than 128 kB back to the system at once, and asks for it in pages of 4 kB: both cost time (docs/log.md).
os.environ.setdefault(
    "GLIBC_TUNABLES",
    f"glibc.malloc.mmap_threshold={2**30}:glibc.malloc.trim_threshold={2**32}:glibc.malloc.hugetlb=1",
)
# Jobs of this machine share its GPUs as far as their memory goes; --resources gpu=... says otherwise.
if (
    workflow.local_exec
    and workflow.is_main_process
    and "gpu" not in workflow.global_resources
):
    if (AT_ONCE := flow.jobs_on_gpus(GRAPH)) is not None:
        workflow.register_resource("gpu", AT_ONCE)
RUN = 'OMP_NUM_THREADS={threads} "$ADAPTBENCH_PYTHON" -m adaptbench'
ENVIRONMENT = "envs/adaptbench.yaml"


report: "adaptbench/captions/report.rst"


onstart:
    flow.check_writable(GRAPH)
    PLAN.write()
    to_make = {
        job.wildcards.node
        for job in workflow.dag.needrun_jobs()
        if job.rule.name in ("stage", "stage_between")
    }
    flow.check_start(GRAPH, to_make, here=workflow.local_exec)
    # Jobs on this machine, with this Python, share one process's imports.
    if workflow.local_exec and not DEPLOYED:
        warm.start(flow.done_once(GRAPH, to_make))
    # Snakemake 9 limits how many jobs start in a second, and to do so looks at everything anew once a second for every job that
    # has ended: 300 of them took a third of a core (docs/log.md). Jobs on this machine need no such limit.
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


envvars:
    "ADAPTBENCH_PYTHON",
    "PYTHONPATH",


wildcard_constraints:
    folder="data|tasks|stages",
    node=r"[^/]+",
    key=r"[^/]+/[^/]+/seed\d+",


rule all:
    default_target: True
    input:
        plan.runs(GRAPH, "main"),
        flow.tables(GRAPH, "main"),
        flow.paper_tables(GRAPH, "main"),
        flow.figures(GRAPH, "main"),
        flow.transcripts(GRAPH, "main"),
        f"{ROOT}/index.html",


rule ablation:
    input:
        [
            part_files
            for part in plan.parts(GRAPH)
            if part == "ablation"
            for part_files in (
                flow.tables(GRAPH, part),
                flow.paper_tables(GRAPH, part),
                flow.figures(GRAPH, part),
                flow.transcripts(GRAPH, part),
                f"{ROOT}/work/explorer-{part}",
            )
        ],


rule stage:
    input:
        lambda wildcards: flow.node_inputs(GRAPH, wildcards.node),
    output:
        directory(f"{ROOT}/{{folder}}/{{node}}"),
    log:
        f"{ROOT}/logs/{{folder}}/{{node}}.log",
    priority: lambda wildcards: URGENCY.get(wildcards.node, 0)
    conda:
        ENVIRONMENT
    # One a process: more lose their time waiting for each other as soon as anything else runs (docs/log.md).
    threads: lambda wildcards: flow.processes(GRAPH, wildcards.node)
    resources:
        gpu=lambda wildcards: flow.stage_gpus(GRAPH, wildcards.node),
    params:
        spec=lambda wildcards: PLAN.read(plan.stage_file(GRAPH, wildcards.node)),
        code=lambda wildcards: flow.stage_code(GRAPH, wildcards.node),
    shell:
        f"{RUN} --log {{log}} stage {{params.spec}} {{output}}"


# A model that no run is scored on can go when all that is made of it is made (tools/disk.py).
if BETWEEN:

    use rule stage as stage_between with:
        output:
            temp(directory(f"{ROOT}/{{folder}}/{{node}}")),
        wildcard_constraints:
            node="|".join(BETWEEN),

    ruleorder: stage_between > stage


rule evaluate:
    input:
        lambda wildcards: flow.evaluation_inputs(GRAPH, wildcards.key),
    output:
        run=f"{ROOT}/runs/{{key}}/run.json",
        samples=f"{ROOT}/runs/{{key}}/samples.parquet",
    log:
        f"{ROOT}/logs/runs/{{key}}.log",
    priority: lambda wildcards: URGENCY.get(wildcards.key, 0)
    conda:
        ENVIRONMENT
    resources:
        gpu=lambda wildcards: flow.evaluation_gpus(GRAPH, wildcards.key),
    params:
        spec=lambda wildcards: PLAN.read(plan.evaluation_file(GRAPH, wildcards.key)),
        # The run's directory is named after the run, not after its content; a changed preset changes this.
        digest=lambda wildcards: GRAPH.evaluation(wildcards.key).digest,
        code=lambda wildcards: flow.evaluation_code(GRAPH, wildcards.key),
    shell:
        f"{RUN} --log {{log}} evaluate {{params.spec}} $(dirname {{output.run}})"


for PART in plan.parts(GRAPH):
    COLLECTED = flow.collected(GRAPH, PART)

    rule:
        name:
            f"collect_{PART}"
        input:
            runs=plan.runs(GRAPH, PART),
        output:
            runs=f"{COLLECTED}/runs.json",
            samples=f"{COLLECTED}/samples.parquet",
            scores=f"{COLLECTED}/scores.csv",
        log:
            f"{ROOT}/logs/collect-{PART}.log",
        conda:
            ENVIRONMENT
        params:
            code=flow.report_code(GRAPH, PART, "collect"),
        shell:
            f"{RUN} --log {{log}} collect $(dirname {{output.runs}}) {{input.runs}}"

    rule:
        name:
            f"conclude_{PART}"
        input:
            samples=f"{COLLECTED}/samples.parquet",
        output:
            f"{COLLECTED}/comparisons.csv",
        log:
            f"{ROOT}/logs/conclude-{PART}.log",
        conda:
            ENVIRONMENT
        params:
            report=PLAN.read(plan.report_file(GRAPH, PART)),
            planned=PLAN.digest(plan.report_file(GRAPH, PART)),
            code=flow.report_code(GRAPH, PART, "conclude"),
        shell:
            f"{RUN} --log {{log}} conclude $(dirname {{input.samples}}) {{params.report}}"

    rule:
        name:
            f"tables_{PART}"
        input:
            runs=f"{COLLECTED}/runs.json",
            scores=f"{COLLECTED}/scores.csv",
            comparisons=f"{COLLECTED}/comparisons.csv",
            sweep=flow.sweep(GRAPH),
        output:
            flow.in_report(flow.tables(GRAPH, PART), "csv", "table", "Tables"),
        log:
            f"{ROOT}/logs/tables-{PART}.log",
        conda:
            ENVIRONMENT
        params:
            report=PLAN.read(plan.report_file(GRAPH, PART)),
            planned=PLAN.digest(plan.report_file(GRAPH, PART)),
            code=flow.report_code(GRAPH, PART, "tables"),
        shell:
            f"{RUN} --log {{log}} tables $(dirname {{input.runs}}) {{params.report}} {ROOT}/tables"

    rule:
        name:
            f"figures_{PART}"
        input:
            runs=f"{COLLECTED}/runs.json",
            scores=f"{COLLECTED}/scores.csv",
            samples=f"{COLLECTED}/samples.parquet",
            comparisons=f"{COLLECTED}/comparisons.csv",
        output:
            flow.in_report(flow.figures(GRAPH, PART), "svg", "figure", "Figures"),
        log:
            f"{ROOT}/logs/figures-{PART}.log",
        conda:
            ENVIRONMENT
        params:
            report=PLAN.read(plan.report_file(GRAPH, PART)),
            planned=PLAN.digest(plan.report_file(GRAPH, PART)),
            code=flow.report_code(GRAPH, PART, "figures"),
        shell:
            f"{RUN} --log {{log}} figures $(dirname {{input.runs}}) {{params.report}} {ROOT}/figures"

    # paper.* of main's runs, ablation_paper.* of all runs: a claim may need both. One table that either part writes would have two
    # rules for one file; one of whatever parts there are would have inputs that nothing declares, and be stale or made twice.
    rule:
        name:
            f"paper_{PART}"
        input:
            runs=[f"{folder}/runs.json" for folder in flow.paper_parts(GRAPH, PART)],
            samples=[
                f"{folder}/samples.parquet" for folder in flow.paper_parts(GRAPH, PART)
            ],
        output:
            flow.in_report(flow.paper_tables(GRAPH, PART), "csv", "paper", "Tables"),
        log:
            f"{ROOT}/logs/paper-{PART}.log",
        conda:
            ENVIRONMENT
        params:
            out=lambda wildcards, output: str(Path(output[0]).with_suffix("")),
            collected=flow.paper_parts(GRAPH, PART),
            report=PLAN.read(plan.paper_file(GRAPH)),
            planned=PLAN.digest(plan.paper_file(GRAPH)),
            code=flow.report_code(GRAPH, PART, "paper"),
        shell:
            f"{RUN} --log {{log}} paper {{params.report}} {{params.out}} {{params.collected}}"

    if flow.transcripts(GRAPH, PART):

        rule:
            name:
                f"transcripts_{PART}"
            input:
                runs=f"{COLLECTED}/runs.json",
                samples=f"{COLLECTED}/samples.parquet",
            output:
                flow.in_report(
                    flow.transcripts(GRAPH, PART), "html", "transcripts", "Pages"
                ),
            log:
                f"{ROOT}/logs/transcripts-{PART}.log",
            conda:
                ENVIRONMENT
            params:
                report=PLAN.read(plan.report_file(GRAPH, PART)),
                planned=PLAN.digest(plan.report_file(GRAPH, PART)),
                code=flow.report_code(GRAPH, PART, "transcripts"),
            shell:
                f"{RUN} --log {{log}} transcripts $(dirname {{input.runs}}) {{params.report}} {ROOT}/transcripts"

    # One page shows all parts that were made. A file has one rule, so what the other parts' rules promise is a mark that the
    # page was made again with them.
    rule:
        name:
            f"explorer_{PART}"
        input:
            runs=f"{COLLECTED}/runs.json",
            scores=f"{COLLECTED}/scores.csv",
            comparisons=f"{COLLECTED}/comparisons.csv",
            samples=f"{COLLECTED}/samples.parquet",
        output:
            flow.in_report([f"{ROOT}/index.html"], "html", "page", "Pages")
            if PART == "main"
            else touch(f"{ROOT}/work/explorer-{PART}"),
        log:
            f"{ROOT}/logs/explorer-{PART}.log",
        conda:
            ENVIRONMENT
        params:
            parts=flow.explorer_parts(GRAPH),
            report=PLAN.read(plan.report_file(GRAPH, PART)),
            planned=PLAN.digest(plan.report_file(GRAPH, PART)),
            code=flow.report_code(GRAPH, PART, "explorer"),
        shell:
            f"{RUN} --log {{log}} explorer {ROOT}/index.html {{params.parts}}"


onsuccess:
    print(
        f"\nDone. Tables: {ROOT}/tables   Figures: {ROOT}/figures   Look around: {ROOT}/index.html   One run: {ROOT}/runs/<track>/<run>/seed<k>/run.json"
    )
    shell(f"rm -rf {ROOT}/partial")


onerror:
    for command in flow.after_failure(GRAPH, log):
        shell(RUN.format(threads=1) + f" {command}")
