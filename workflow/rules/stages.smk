"""One job for each stage: data, tokenizer, base, preparation, training, assembly."""


rule stage:
    input:
        lambda wildcards: flow.node_inputs(GRAPH, wildcards.node),
    output:
        directory(f"{ROOT}/{{folder}}/{{node}}"),
    log:
        f"{ROOT}/logs/{{folder}}/{{node}}.log",
    priority: lambda wildcards: PRIORITIES.get(wildcards.node, 0)
    conda:
        ENVIRONMENT
    # One for each process: more threads wait for each other as soon as anything else runs (docs/log.md).
    threads: lambda wildcards: flow.processes(GRAPH, wildcards.node)
    resources:
        gpu=lambda wildcards: flow.stage_gpus(GRAPH, wildcards.node),
    params:
        spec=lambda wildcards: PLAN.read(plan.stage_file(GRAPH, wildcards.node)),
        code=lambda wildcards: flow.stage_code(GRAPH, wildcards.node),
    shell:
        f"{RUN} --log {{log}} stage {{params.spec}} {{output}}"


# With `keep: scored`, an intermediate model is removed when all its descendants are made.
if INTERMEDIATE := flow.removed_models(GRAPH):

    use rule stage as intermediate_stage with:
        output:
            temp(directory(f"{ROOT}/{{folder}}/{{node}}")),
        wildcard_constraints:
            node="|".join(INTERMEDIATE),

    ruleorder: intermediate_stage > stage
