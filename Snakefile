include: "workflow/Snakefile"


# Snakemake does not take the default target of an included file.
rule default:
    default_target: True
    input:
        rules.all.input,
