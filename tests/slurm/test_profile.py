"""What jobs ask a cluster for, without one: which use a GPU, and that the profile speaks of rules that exist.

Run: pytest tests/slurm/test_profile.py
"""

import re

import yaml
from conftest import PROJECT

from adaptbench import config, graph, workflow


def test_jobs_that_train_or_score_a_model_use_a_gpu_and_no_others():
    unfolded = graph.unfold(config.load(PROJECT / "config/smoke.yaml"))
    asked = {(node.kind, workflow.stage_gpus(unfolded, node.id)) for node in unfolded.nodes.values()}
    none = ("data", "tasks", "tokenizer", "assemble", "posthoc")
    assert asked == {(kind, 0) for kind in none} | {(kind, 1) for kind in ("base", "prepare", "train")}
    of_policies = {one.run: workflow.evaluation_gpus(unfolded, one.key) for one in unfolded.evaluations if one.policy}
    assert of_policies == {"majority": 0, "always-call": 0, "always-give-up": 0}
    assert {workflow.evaluation_gpus(unfolded, one.key) for one in unfolded.evaluations if not one.policy} == {1}


def test_the_profile_gives_the_rules_that_compute_memory_and_time():
    profile = yaml.safe_load((PROJECT / "profiles/slurm/config.yaml").read_text())
    rules = re.findall(r"^rule (\w+):", (PROJECT / "Snakefile").read_text(), re.MULTILINE)
    assert set(profile["set-resources"]) == {"stage", "evaluate"} < set(rules)
    for resources in (profile["default-resources"], *profile["set-resources"].values()):
        assert resources.keys() == {"mem_mb", "runtime"}
    assert profile["executor"] == "slurm"
    assert profile["retries"] > 0
