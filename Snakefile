"""The graph: data -> tokenizer and base -> stages -> evaluation -> collect -> tables and figures.

Which stages there are follows from the preset (adaptbench/graph.py); the rules only say how each kind of job runs.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(workflow.basedir))
from adaptbench import plan, workflow as flow

GRAPH = flow.start(
    workflow.config_settings.config,
    workflow.config_settings.configfiles,
    Path(workflow.basedir),
)
ROOT = str(GRAPH.root)
# With --software-deployment-method each rule's own environment brings its Python; else the one that runs Snakemake does.
PYTHON = "python" if workflow.deployment_settings.deployment_method else sys.executable
RUN = (
    f"OMP_NUM_THREADS={{threads}} PYTHONPATH={workflow.basedir} {PYTHON} -m adaptbench"
)
ENVIRONMENT = "envs/adaptbench.yaml"


wildcard_constraints:
    folder="data|tasks|stages",
    node=r"[^/]+",
    key=r"[^/]+/[^/]+/seed\d+",


rule all:
    default_target: True
    input:
        plan.runs(GRAPH),
        flow.tables(GRAPH),
        flow.figures(GRAPH),


rule stage:
    input:
        lambda wildcards: flow.node_inputs(GRAPH, wildcards.node),
    output:
        directory(f"{ROOT}/{{folder}}/{{node}}"),
    log:
        f"{ROOT}/logs/{{folder}}/{{node}}.log",
    conda:
        ENVIRONMENT
    threads: lambda wildcards: flow.node_threads(GRAPH, wildcards.node)
    params:
        spec=f"{ROOT}/plan/{{node}}.json",
    shell:
        f"{RUN} --log {{log}} stage {{params.spec}} {{output}}"


rule evaluate:
    input:
        lambda wildcards: flow.evaluation_inputs(GRAPH, wildcards.key),
    output:
        run=f"{ROOT}/runs/{{key}}/run.json",
        samples=f"{ROOT}/runs/{{key}}/samples.parquet",
    log:
        f"{ROOT}/logs/runs/{{key}}.log",
    conda:
        ENVIRONMENT
    params:
        spec=lambda wildcards: plan.evaluation_file(GRAPH, wildcards.key),
        # The run's directory is named after the run, not after its content; a changed preset changes this.
        digest=lambda wildcards: GRAPH.evaluation(wildcards.key).digest,
    shell:
        f"{RUN} --log {{log}} evaluate {{params.spec}} $(dirname {{output.run}})"


rule collect:
    input:
        plan.runs(GRAPH),
    output:
        runs=f"{ROOT}/collected/runs.json",
        samples=f"{ROOT}/collected/samples.parquet",
        scores=f"{ROOT}/collected/scores.csv",
    log:
        f"{ROOT}/logs/collect.log",
    conda:
        ENVIRONMENT
    shell:
        f"{RUN} --log {{log}} collect $(dirname {{output.runs}}) {{input}}"


rule tables:
    input:
        runs=rules.collect.output.runs,
        scores=rules.collect.output.scores,
        report=plan.report_file(GRAPH),
    output:
        flow.tables(GRAPH),
    log:
        f"{ROOT}/logs/tables.log",
    conda:
        ENVIRONMENT
    shell:
        f"{RUN} --log {{log}} tables $(dirname {{input.runs}}) {{input.report}} {ROOT}/tables"


rule figures:
    input:
        runs=rules.collect.output.runs,
        scores=rules.collect.output.scores,
        report=plan.report_file(GRAPH),
        sources=flow.figure_sources(GRAPH),
    output:
        flow.figures(GRAPH),
    log:
        f"{ROOT}/logs/figures.log",
    conda:
        ENVIRONMENT
    shell:
        f"{RUN} --log {{log}} figures $(dirname {{input.runs}}) {{input.report}} {ROOT}/figures"


onsuccess:
    print(
        f"\nDone. Tables: {ROOT}/tables   Figures: {ROOT}/figures   One run: {ROOT}/runs/<track>/<run>/seed<k>/run.json"
    )


onerror:
    command = flow.after_failure(GRAPH, log)
    if command:
        shell(RUN.format(threads=1) + f" {command}")
