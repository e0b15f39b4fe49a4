"""Reports: the scores of all runs of a part, then one job for each table, figure and page.

The wildcard `part` is the suffix of folders: empty for the preset's runs, "-ablation" for its ablation.
"""

COLLECTED = f"{ROOT}/collected{{part}}"
CAPTIONS = "../../adaptbench/report/captions"
TABLES, FIGURES = (
    targets.by_name(GRAPH, names)
    for names in (targets.table_names, targets.figure_names)
)
DRAWING = flow.drawing(GRAPH)


rule collect:
    input:
        lambda wildcards: plan.runs(GRAPH, targets.part(wildcards)),
    output:
        runs=f"{COLLECTED}/runs.json",
        samples=f"{COLLECTED}/samples.parquet",
        scores=f"{COLLECTED}/scores.csv",
    log:
        f"{ROOT}/logs/collect{{part}}.log",
    conda:
        ENVIRONMENT
    params:
        code=lambda wildcards: flow.report_code("collect"),
    shell:
        f"{RUN} --log {{log}} collect $(dirname {{output.runs}}) {{input}}"


rule conclude:
    input:
        f"{COLLECTED}/samples.parquet",
    output:
        f"{COLLECTED}/comparisons.csv",
    log:
        f"{ROOT}/logs/conclude{{part}}.log",
    conda:
        ENVIRONMENT
    params:
        report=lambda wildcards: PLAN.report(targets.part(wildcards)),
        planned=lambda wildcards: PLAN.report_digest(targets.part(wildcards)),
        code=lambda wildcards: flow.report_code("conclude"),
    shell:
        f"{RUN} --log {{log}} conclude $(dirname {{input}}) {{params.report}}"


rule tables:
    input:
        unpack(
            lambda wildcards: targets.scores(
                GRAPH,
                TABLES[wildcards.table],
                "runs",
                "scores",
                "comparisons",
            )
        ),
        targets.sweep(GRAPH),
    output:
        report(
            f"{ROOT}/tables/{{table}}.csv",
            caption=f"{CAPTIONS}/table.rst",
            category="Tables",
            labels={"name": "{table}"},
        ),
        f"{ROOT}/tables/{{table}}.md",
        f"{ROOT}/tables/{{table}}.tex",
    log:
        f"{ROOT}/logs/tables/{{table}}.log",
    wildcard_constraints:
        table=targets.one_of(TABLES),
    conda:
        ENVIRONMENT
    params:
        report=lambda wildcards: PLAN.report(TABLES[wildcards.table]),
        planned=lambda wildcards: PLAN.report_digest(TABLES[wildcards.table]),
        code=lambda wildcards: flow.report_code("tables"),
    shell:
        f"{RUN} --log {{log}} tables $(dirname {{input.runs}}) {{params.report}} {ROOT}/tables --only {{wildcards.table}}"


rule figures:
    input:
        unpack(lambda wildcards: targets.scores(GRAPH, FIGURES[wildcards.figure])),
    output:
        report(
            f"{ROOT}/figures/{{figure}}.svg",
            caption=f"{CAPTIONS}/figure.rst",
            category="Figures",
            labels={"name": "{figure}"},
        ),
        f"{ROOT}/figures/{{figure}}.pdf",
        f"{ROOT}/figures/{{figure}}.png",
    log:
        f"{ROOT}/logs/figures/{{figure}}.log",
    wildcard_constraints:
        figure=targets.one_of(FIGURES),
    conda:
        ENVIRONMENT
    params:
        report=lambda wildcards: PLAN.report(FIGURES[wildcards.figure]),
        planned=lambda wildcards: PLAN.report_digest(FIGURES[wildcards.figure]),
        code=lambda wildcards: flow.report_code(
            "figures", DRAWING.get(wildcards.figure, ())
        ),
    shell:
        f"{RUN} --log {{log}} figures $(dirname {{input.runs}}) {{params.report}} {ROOT}/figures --only {{wildcards.figure}}"


rule transcripts:
    input:
        unpack(
            lambda wildcards: targets.scores(
                GRAPH, TABLES[wildcards.table], "runs", "samples"
            )
        ),
    output:
        report(
            f"{ROOT}/transcripts/{{table}}.html",
            caption=f"{CAPTIONS}/transcripts.rst",
            category="Pages",
            labels={"name": "{table}"},
        ),
    log:
        f"{ROOT}/logs/transcripts/{{table}}.log",
    wildcard_constraints:
        table=targets.one_of(targets.by_name(GRAPH, targets.transcript_names)),
    conda:
        ENVIRONMENT
    params:
        report=lambda wildcards: PLAN.report(TABLES[wildcards.table]),
        planned=lambda wildcards: PLAN.report_digest(TABLES[wildcards.table]),
        code=lambda wildcards: flow.report_code("transcripts"),
    shell:
        f"{RUN} --log {{log}} transcripts $(dirname {{input.runs}}) {{params.report}} {ROOT}/transcripts --only {{wildcards.table}}"


# `paper` compares the preset's runs with what papers report, `ablation_paper` all runs, because a claim may need both.
rule paper:
    input:
        lambda wildcards: [
            file
            for part in targets.paper_parts(wildcards.paper)
            for file in targets.scores(GRAPH, part, "runs", "samples").values()
        ],
    output:
        report(
            f"{ROOT}/tables/{{paper}}.csv",
            caption=f"{CAPTIONS}/paper.rst",
            category="Tables",
            labels={"name": "{paper}"},
        ),
        f"{ROOT}/tables/{{paper}}.md",
        f"{ROOT}/tables/{{paper}}.tex",
    log:
        f"{ROOT}/logs/tables/{{paper}}.log",
    wildcard_constraints:
        paper=targets.one_of(targets.by_name(GRAPH, targets.paper_names)),
    conda:
        ENVIRONMENT
    params:
        collected=lambda wildcards: [
            targets.collected(GRAPH, part)
            for part in targets.paper_parts(wildcards.paper)
        ],
        report=lambda wildcards: PLAN.read(plan.paper_file(GRAPH)),
        planned=PLAN.digest(plan.paper_file(GRAPH)),
        code=lambda wildcards: flow.report_code("paper"),
    shell:
        f"{RUN} --log {{log}} paper {{params.report}} {ROOT}/tables/{{wildcards.paper}} {{params.collected}}"


rule page:
    input:
        unpack(lambda wildcards: targets.scores(GRAPH, targets.part(wildcards))),
    output:
        report(f"{ROOT}/index.html", caption=f"{CAPTIONS}/page.rst", category="Pages"),
    log:
        f"{ROOT}/logs/page.log",
    conda:
        ENVIRONMENT
    params:
        parts=targets.explorer_parts(GRAPH),
        report=lambda wildcards: PLAN.report(targets.part(wildcards)),
        planned=lambda wildcards: PLAN.report_digest(targets.part(wildcards)),
        code=lambda wildcards: flow.report_code("explorer"),
    shell:
        f"{RUN} --log {{log}} explorer {ROOT}/index.html {{params.parts}}"


# The page shows all parts that were made. A file has one rule, so this rule's output marks that the page has the part.
use rule page as page_of_part with:
    output:
        touch(f"{ROOT}/work/explorer{{part}}"),
    log:
        f"{ROOT}/logs/page{{part}}.log",
