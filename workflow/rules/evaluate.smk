"""One job for each run: score its model on the tasks of its track and on the general ones."""


rule evaluate:
    input:
        lambda wildcards: flow.evaluation_inputs(GRAPH, wildcards.key),
    output:
        run=f"{ROOT}/runs/{{key}}/run.json",
        samples=f"{ROOT}/runs/{{key}}/samples.parquet",
    log:
        f"{ROOT}/logs/runs/{{key}}.log",
    priority: lambda wildcards: PRIORITIES.get(wildcards.key, 0)
    conda:
        ENVIRONMENT
    resources:
        gpu=lambda wildcards: flow.evaluation_gpus(GRAPH, wildcards.key),
    params:
        spec=lambda wildcards: PLAN.read(plan.evaluation_file(GRAPH, wildcards.key)),
        # The run's directory has the run's name and no hash; this digest tells Snakemake of a changed preset.
        digest=lambda wildcards: GRAPH.evaluation(wildcards.key).digest,
        code=lambda wildcards: flow.evaluation_code(GRAPH, wildcards.key),
    shell:
        f"{RUN} --log {{log}} evaluate {{params.spec}} $(dirname {{output.run}})"
