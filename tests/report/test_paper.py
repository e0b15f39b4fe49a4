"""What papers report beside what is measured here: their numbers as data, their claims on made-up runs, every verdict.

Run: pytest tests/report/test_paper.py
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adaptbench import statistics
from adaptbench.config import load
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import plan_files, rules, stock_tasks, targets, unfolding
from adaptbench.io import results
from adaptbench.report.paper import claims, numbers, ours, reader, source, tables
from tests.support.presets import preset_values
from tests.support.project import PROJECT

DOCUMENTS = 400
MADE_UP = """
name: Made up
arxiv: "2401.00001"
notes: ["Nobody wrote it."]
models: {Big-1B: owner/big}
runs:
  base: {base: true}
  all weights: {curriculum: {kind: cpt, replay: 0.0}, tuner: {kind: full}}
  copies: {curriculum: {kind: cpt}, tuner: {kind: llama_pro}}
  adapters: {curriculum: {kind: cpt}, tuner: {kind: lora}}
  rates: {curriculum: {kind: cpt}, tuner: {kind: adept}}
metrics:
  solved: {claim: {metric: main}, number: {benchmark: gsm8k, task: gsm8k_answers, metric: exact_match}}
  judged: {claim: {task: general_facts, metric: acc}, number: a judge scores it}
tables:
  one:
    title: a table
    source: nowhere
    reliability: weak
    data: {kind: gsm8k, train_items: null}
    reference: all weights
    across: method
    numbers: |
      model,metric,all weights,copies,adapters,rates,elsewhere,note
      Big-1B,solved,50,60,40.5,55,45,
      Big-1B,judged,20,25,,,,odd
claims:
  - {table: one, model: Big-1B, method: copies, against: all weights, metrics: [solved, judged]}
  - {table: one, model: Big-1B, method: adapters, against: all weights, metrics: [solved]}
  - {table: one, model: Big-1B, method: rates, against: all weights, metrics: [solved]}
  - {table: one, model: Big-1B, method: elsewhere, against: all weights, metrics: [solved]}
"""


def made_up(folder: Path, text: str = MADE_UP) -> source.Paper:
    path = folder / "made.yaml"
    path.write_text(text)
    return reader.load(path, "domain")


def planned(**changes) -> dict:
    """paper.json of a small preset: full, pro, lora on the domain, and ADEPT in its ablation."""
    values = preset_values()
    rates = {"name": "rates", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "adept"}}
    values["ablation"] = [rates | {"tables": ["ablation_rates"]}]
    preset = load.validate(values | changes, "toy")
    return plan_files.paper_content(unfolding.unfold(preset))


def answered(run: str, rights: int | np.ndarray, *, task="domain_facts", metric="acc", documents=DOCUMENTS, seeds=3):
    """Samples of a run that got the first so many documents right, under every seed; or of given values."""
    values = (
        rights if isinstance(rights, np.ndarray) else np.tile(np.arange(documents) < rights, (seeds, 1)).astype(float)
    )
    return pd.DataFrame(
        {
            "track": "domain", "run": run, "seed": seed, "task": task, "document": i, "group": i,
            "document_hash": f"{task}{i}",
            "prompt_hash": f"{task}{i}", "metric": metric, "value": value, "weight": 1.0,
            "prompt": "p", "prediction": "x", "target": "y",
        }
        for seed, row in enumerate(values) for i, value in enumerate(row)
    )  # fmt: skip


def entry(run: str, status="done", reason="") -> dict:
    return {"key": {"track": "domain", "run": run, "seed": 0}, "status": status, "reason": reason}


def untrained(*samples: pd.DataFrame) -> list[pd.DataFrame]:
    """A base that has nothing right, on the tasks of the first samples of each."""
    first = {(one["task"].iloc[0], one["metric"].iloc[0]): one for one in reversed(samples)}
    return [one[one["seed"] == 0].assign(run="base", value=0.0) for one in first.values()]


def made(*samples: pd.DataFrame, parts=("main", "ablation"), more=(), **changes) -> ours.Ours:
    if not any("base" in set(one["run"]) for one in samples):
        samples = (*samples, *untrained(*samples))
    names = dict.fromkeys(str(one["run"].iloc[0]) for one in samples)
    runs = {("domain", name): [entry(name)] for name in names} | {("domain", one["key"]["run"]): [one] for one in more}
    together = pd.concat(samples) if samples else answered("none", 0).iloc[:0]
    return ours.Ours(planned(**changes), runs, together, parts)


def judged(tmp_path: Path, mine: ours.Ours) -> dict[tuple[str, str], claims.Row]:
    rows = claims.rows({"made": ("domain", made_up(tmp_path))}, mine)
    return {(row.method, row.metric): row for row in rows}


# --- what papers report


def of(name: str) -> source.Paper:
    track, path = next((track, path) for track, path in reader.files() if path.stem == name)
    return reader.load(path, track)


@pytest.mark.parametrize(
    ("paper", "method", "against", "place", "effect", "same_way"),
    [
        ("glpft", "GLPFT with reuse", "single model", ("7B", "in", "plan_acc"), 88.92 - 81.92, (4, 4)),
        ("glpft", "GLPFT with reuse", "single model", ("7B", "in", "rouge_l"), 43.17 - 42.66, (2, 4)),
        ("glpft", "GLPFT with reuse", "one-stage", ("7B", "in", "act_em"), 58.94 - 45.11, (4, 4)),
        ("glpft", "one-stage", "single model", ("7B", "in", "act_em"), 45.11 - 53.26, (4, 4)),
        ("adept", "ADEPT", "LLaMA-Pro", ("Qwen3-1.7B-Base", "math", "GSM8K"), 70.51 - 60.03, (3, 3)),
        ("adept", "without stage 1", "ADEPT", ("Qwen3-1.7B-Base", "medical", "MMLU"), 57.31 - 62.80, (2, 2)),
        ("adept", "full tuning", "base", ("Qwen3-1.7B-Base", "math", "GSM8K"), 51.86 - 57.62, (2, 4)),
        ("llama_pro", "suffix stacking", "8 blocks, interleaved", ("LLaMA2-7B", "", "law_unfair_tos"), 60.98 - 75.11,
         (1, 1)),
        ("lt_tuning", "LT-Tuning", "Explicit CoT", ("Llama-3.2-1B", "", "average"), 36.4 - 29.9, (6, 8)),
        ("lt_tuning", "Explicit CoT", "Coconut", ("Llama-3.2-1B", "", "average"), 29.9 - 25.2, (10, 12)),
    ],
)  # fmt: skip
def test_the_papers_effects_are_differences_of_its_numbers(paper, method, against, place, effect, same_way):
    track = next(track for track, path in reader.files() if path.stem == paper)
    nothing = ours.Ours({"tracks": {}}, {}, pd.DataFrame(), ("main",))
    rows = claims.rows({paper: (track, of(paper))}, nothing)
    row = next(r for r in rows if (r.method, r.against, r.model, r.setting, r.metric) == (method, against, *place))
    assert row.paper_value == pytest.approx(effect)
    assert (row.same_way, row.places) == same_way


PUBLISHED = PROJECT.parent / "shared" / "paper"
COLUMNS = {"vanilla": "base", "pt_full": "full tuning", "llama_pro": "LLaMA-Pro", "adept": "ADEPT",
    "without_stage_1": "without stage 1", "without_stage_2": "without stage 2",
    "uniform_expansion": "even placement"}  # fmt: skip
METHODS = {
    "7B Single-LLM": "7B single model", "13B Single-LLM": "13B single model", "7B Multi-LLM one-stage": "7B one-stage",
    "13B Multi-LLM one-stage": "13B one-stage", "7B Single-LLM multi-task": "7B multi-task",
    "13B Single-LLM multi-task":
    "13B multi-task", "add 8 blocks (interleaved)": "8 blocks, interleaved", "full fine-tuning": "full tuning",
    "ToolLLaMA-7B (4096)": "ToolLLaMA-7B 4096 tokens",
    "ToolLLaMA-7B (8192)": "ToolLLaMA-7B 8192 tokens", "ChatGPT (0-shot)": "ChatGPT 0-shot",
    "GPT-4 (0-shot)": "GPT-4 0-shot",
}  # fmt: skip


def published(name: str) -> dict[tuple[str, ...], float]:
    """Every number of a collected file, by the names that the project gives to its place."""
    found = {}
    for row in csv.DictReader((PUBLISHED / name).open()):
        for column, text in row.items():
            try:
                value = float(text)
            except ValueError:
                continue
            if name == "adept.csv":
                place = (row["model"], row["domain_run"], COLUMNS[column], row["metric"])
            elif name == "glpft_static.csv":
                place = (METHODS.get(row["model"], row["model"]), row["domain"], column)
            elif name == "llama_pro_law.csv":
                place = (METHODS.get(row["setting"], row["setting"].removeprefix("add ")), column)
            else:
                place = (row["model"], row["method"], column)
            found[place] = value
    return found


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the collected numbers are not beside the project")
@pytest.mark.parametrize(
    ("file", "paper"),
    [("adept.csv", "adept"), ("glpft_static.csv", "glpft"), ("llama_pro_law.csv", "llama_pro"),
     ("lt_tuning.csv", "lt_tuning")],
)  # fmt: skip
def test_every_collected_number_is_here_and_no_other(file, paper):
    here = {}
    for table in of(paper).tables.values():
        for cell in table.cells:
            place: tuple[str, ...] = (cell.model, cell.setting, cell.method, cell.metric)
            if paper == "glpft":
                place = (f"{cell.model} {cell.method}", cell.setting, cell.metric)
            elif paper == "llama_pro":
                place = (cell.method, cell.metric)
            elif paper == "lt_tuning":
                place = (cell.model, cell.method, cell.metric)
            here[place] = cell.value
    assert here == published(file)
    assert len(here) > 20


def test_a_claim_is_tested_on_the_papers_own_task_where_the_preset_asks_it(tmp_path):
    text = MADE_UP.replace("claim: {metric: main}", "claim: {metric: main, stock: gsm8k}")
    assert text != MADE_UP
    rows = [answered(run, rights, task="gsm8k", metric="exact_match") for run, rights in (("full", 20), ("pro", 60))]
    for stock, task in (
        ({}, "domain_facts"),
        ({"domain": ["gsm8k"]}, "gsm8k"),
        ({"general": ["gsm8k"]}, "general_gsm8k"),
    ):
        mine = made(*rows, evaluation={"stock_tasks": stock})
        row = claims.rows({"made": ("domain", made_up(tmp_path, text))}, mine)[0]
        assert row.task == task
        assert (row.ours is not None) == (task == "gsm8k")
    assert {paper.metrics[name].claim.stock for paper in (of("adept"),) for name in ("GSM8K", "MedQA", "MMLU",
        "CMMLU")} == {
        stock_tasks.describe(name).name for name in ("gsm8k", "medqa_4options", "mmlu", "cmmlu")
    }  # fmt: skip


def test_a_paper_that_counts_up_is_not_held_against_a_test_that_counts_down(tmp_path):
    values = {"general": {"kind": "corpus"}, "domain": {"kind": "corpus"}}
    rows = [
        answered(run, rights, task="corpus_text", metric="bits_per_byte") for run, rights in (("full", 20), ("pro", 60))
    ]
    mine = made(*rows, data=values, base={"model": "owner/name"})
    row = judged(tmp_path, mine)["copies", "solved"]
    assert (row.verdict, row.ours) == ("not run", None)
    assert row.why == "less is better of corpus text, this preset's main test, and more of the paper's metric"


# --- what is written in the files


def test_every_paper_is_valid_and_claims_something():
    names = [path.stem for _, path in reader.files()]
    assert {"adept", "llama_pro", "glpft", "lt_tuning"} <= set(names)
    for name in names:
        assert of(name).claims


def test_the_example_of_the_page_on_papers_is_valid(tmp_path):
    example = (PROJECT / "docs/papers.md").read_text().split("```yaml\n")[1].split("```")[0]
    assert made_up(tmp_path, example).claims[0].metrics == ("law", "general")


def test_the_default_preset_has_a_run_for_every_claim():
    whole = plan_files.paper_content(unfolding.unfold(load.load(PROJECT / "config/tiny.yaml")))
    done = {("agent", "base"): [entry("base")]} | {(run["track"], run["run"]): [entry("x")] for run in whole["runs"]}
    done |= {(track, "base"): [entry("base")] for track in whole["tracks"]}
    everything = ours.Ours(whole, done, pd.DataFrame(columns=results.SAMPLE_COLUMNS), ("main", "ablation"))
    papers = {path.stem: (track, reader.load(path, track)) for track, path in reader.files()}
    found = {}
    for row in claims.rows(papers, everything):
        assert row.run, f"{row.paper}: {row.method}: {row.why}"
        assert row.against_run, f"{row.paper}: {row.against}: {row.why}"
        assert row.run != row.against_run
        assert row.task
        found[row.paper, row.method, row.against] = (row.run, row.against_run)
    assert found["adept", "without stage 2", "ADEPT"] == ("adept-uniform-rate", "adept")
    assert found["adept", "even placement", "ADEPT"] == ("adept-spread", "adept")
    assert found["glpft", "GLPFT with reuse", "GLPFT without reuse"] == ("glpft", "glpft-no-reuse")
    assert found["llama_pro", "suffix stacking", "8 blocks, interleaved"] == ("adept-suffix", "adept-spread")
    assert found["lt_tuning", "LT-Tuning", "Coconut"] == ("lt-tuning", "coconut")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"2401.00001"', "2401.1", "arxiv: must be text"),
        ("notes:", "remarks:", "remarks: unknown key"),
        ("kind: llama_pro", "kind: llama", "runs.copies.tuner.kind: must be one of adept, full, llama_pro, lora, osf"),
        ("replay: 0.0", "replays: 0.0", "runs.all weights.curriculum.replays: unknown key"),
        ("base: {base: true}", "base: {}", "runs.base: name a curriculum and a tuner, or base: true"),
        ("task: gsm8k_answers", "task: gsm8k_answer",
         "metrics.solved.number.task: must be one of gsm8k_answers, gsm8k_text"),
        ("metric: exact_match", "metric: acc", "metrics.solved.number.metric: must be one of exact_match"),
        ("benchmark: gsm8k, ", "",
         "metrics.solved.number.benchmark: name benchmark, task and metric, or stock, or all four"),
        ("benchmark: gsm8k", "benchmark: gsm", "metrics.solved.number.benchmark: must be one of corpus, gsm8k, world"),
        ("task: general_facts", "task: general_fact",
         "metrics.judged.claim.task: no test of domain or general is called 'general_fact'"),
        ("general_facts, metric: acc", "general_facts, metric: f1",
         "metrics.judged.claim.metric: no such task measures 'f1' of each document"),
        ("train_items: null", "train: null", "tables.one.data.train: unknown key"),
        ("reference: all weights", "reference: none", "tables.one: reference: no method 'none' in numbers"),
        ("50,60", "50,sixty", "tables.one: numbers: line 2: copies: 'sixty' is not a number"),
        ("Big-1B,judged,20,25,,,,odd", "Big-1B,judged,20",
         "tables.one: numbers: line 3 has not as many columns as the first"),
        ("Big-1B,judged", "Big-1B,solved", "tables.one: numbers: Big-1B all weights solved twice"),
        ("Big-1B,judged", "Big-2B,judged", "tables.one.numbers: model 'Big-2B' is not among models"),
        ("Big-1B,judged", "Big-1B,guessed", "tables.one.numbers: metric 'guessed' is not among metrics"),
        ("{table: one, model: Big-1B, method: rates", "{table: two, model: Big-1B, method: rates",
         "claims.2.table: must be one of one"),
        ("method: adapters, against: all weights, metrics: [solved]",
         "method: adapters, against: all weights, metrics: [judged]",
         "claims.1.metrics: the table has no number of 'adapters' and of 'all weights' for Big-1B judged"),
        ("50,60", "50,50", "claims.0.metrics: both numbers for Big-1B solved are the same, which has no direction"),
        ("method: rates, against", "ours: {rates: x}, method: rates, against", "claims.2.ours: 'x' is not among runs"),
        ("claim: {task: general_facts, metric: acc}, ", "",
         "claims.0.metrics: 'judged' has no claim among metrics, so nothing is measured for it"),
        ("tables:", "tables:\ntables:", "not YAML: key 'tables' twice"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_papers_file_is_one_line_that_names_file_and_key(tmp_path, old, new, message):
    assert old in MADE_UP
    with pytest.raises(AdaptbenchError) as raised:
        made_up(tmp_path, MADE_UP.replace(old, new, 1))
    said = str(raised.value)
    assert "\n" not in said
    assert said.startswith(f"{tmp_path / 'made.yaml'}: {message}")


# --- claims


def test_a_claim_is_reproduced_by_its_sign_alone_and_opposite_with_the_other(tmp_path):
    rows = judged(tmp_path, made(answered("full", 200), answered("pro", 360), answered("lora", 300)))
    copies, adapters = rows["copies", "solved"], rows["adapters", "solved"]
    assert (copies.paper_value, copies.verdict) == (10, "direction reproduced")
    assert copies.ours == pytest.approx(0.4)
    assert (copies.run, copies.against_run, copies.task) == ("pro", "full", "domain_facts")
    # The paper's adapters are 9.5 points below full tuning, ours are above.
    assert (adapters.paper_value, adapters.verdict) == (-9.5, "opposite")


def test_a_claim_is_a_tie_where_a_tenth_would_have_been_seen_and_untestable_where_not(tmp_path):
    rng = np.random.default_rng(0)
    alike = [answered(run, rng.integers(0, 2, (3, 6000)).astype(float)) for run in ("full", "pro")]
    assert judged(tmp_path, made(*alike))["copies", "solved"].verdict == "not reproduced: tie"
    few = [answered(run, rng.integers(0, 2, (3, 60)).astype(float)) for run in ("full", "pro")]
    row = judged(tmp_path, made(*few))["copies", "solved"]
    assert row.verdict == "untestable"
    assert row.detectable > 0.1


def test_two_seeds_or_few_documents_make_a_claim_untestable_with_the_reason(tmp_path):
    two = made(answered("full", 10, seeds=2), answered("pro", 390, seeds=2))
    row = judged(tmp_path, two)["copies", "solved"]
    assert (row.verdict, row.why) == ("untestable", "2 seeds")
    other = answered("pro", 390).assign(document_hash="other")
    row = judged(tmp_path, made(answered("full", 10), other))["copies", "solved"]
    assert row.verdict == "untestable"
    assert "did not answer the same documents" in row.why
    assert row.ours is None


@pytest.mark.parametrize(
    ("full", "pro", "why"),
    [
        (0, 390, "full is not shown to be better than base, which is not trained"),
        (390, 0, "pro is not shown to be better than base, which is not trained"),
        (4, 390, "full is not shown to be better than base, which is not trained"),
        (40, 390, ""),
    ],
)
def test_a_direction_is_untestable_where_an_arm_learned_nothing(tmp_path, full, pro, why):
    row = judged(tmp_path, made(answered("full", full), answered("pro", pro), answered("base", 2, seeds=1)))[
        "copies", "solved"
    ]
    assert row.why == why
    assert row.verdict == ("untestable" if why else "direction reproduced")
    assert row.ours == pytest.approx((pro - full) / DOCUMENTS), "what was measured is shown all the same"


def test_what_is_not_learned_has_no_floor_and_a_base_may_be_an_arm(tmp_path):
    """Full tuning may fall to guessing on the general tasks; that is the claim."""
    general = [answered(run, rights, task="general_facts") for run, rights in (("full", 0), ("pro", 300))]
    row = judged(tmp_path, made(*general))["copies", "judged"]
    assert (row.verdict, row.why) == ("direction reproduced", "")
    text = MADE_UP.replace("model,metric,all weights,", "model,metric,base,all weights,").replace(
        "Big-1B,solved,50", "Big-1B,solved,70,50"
    )
    text = text.replace("Big-1B,judged,20", "Big-1B,judged,,20").replace(
        "method: rates, against: all weights", "method: all weights, against: base"
    )
    rows = claims.rows(
        {"made": ("domain", made_up(tmp_path, text))}, made(answered("full", 9), answered("base", 390, seeds=1))
    )
    assert [(row.verdict, row.why) for row in rows if row.against == "base"] == [("direction reproduced", "")]


def test_without_a_base_nobody_knows_whether_something_was_learned(tmp_path):
    alone = made(answered("full", 100), answered("pro", 300))
    alone = ours.Ours(alone.plan, alone.runs, alone.samples[alone.samples["run"] != "base"], alone.parts)
    row = judged(tmp_path, alone)["copies", "solved"]
    assert (row.verdict, row.why) == ("untestable", "base has no acc on domain_facts")


def reasoning(latents: float, *, coconut: int = 300, policy: int | None = None) -> ours.Ours:
    """Runs of LT-Tuning's claims: a chain of thought, LT-Tuning with so many latents an answer, Coconut."""
    values = preset_values()
    values["data"]["reasoning"] = {"kind": "prosqa"}
    kinds = {"cot": "cot", "staged": "cot_staged", "coconut": "coconut", "lt": "lt_tuning"}
    values["runs"] = [
        {"name": name, "track": "reasoning", "curriculum": {"kind": kind}, "tuner": {"kind": "full"}}
        for name, kind in kinds.items()
    ]
    plan_of = plan_files.paper_content(unfolding.unfold(load.validate(values, "toy")))
    rights = {"base": 0, "cot": 330, "staged": 330, "coconut": coconut, "lt": 390} | (
        {"in-degree": policy} if policy else {}
    )
    samples = [
        answered(run, right, task="prosqa", metric="exact_match", seeds=1 if run == "in-degree" else 3)
        for run, right in rights.items()
    ]
    held = {"coconut": 4.0, "lt": latents}
    samples += [
        answered(run, np.full((3, DOCUMENTS), count), task="prosqa", metric="latent_tokens")
        for run, count in held.items()
    ]
    together = pd.concat(samples).assign(track="reasoning")
    return ours.Ours(plan_of, {("reasoning", run): [entry(run)] for run in rights}, together, ("main",))


@pytest.mark.parametrize(
    ("latents", "options", "untestable"),
    [
        (2.0, {}, {}),
        (0.41, {}, {"LT-Tuning": "lt has 0.41 latent tokens an answer, of which fewer than 1 say little"}),
        (2.0, {"coconut": 0}, {"Coconut": "coconut is not shown to be better than base, which is not trained"}),
        (
            2.0,
            {"coconut": 205, "policy": 204},
            {"Coconut": "coconut is not shown to be better than in-degree, which is not trained"},
        ),
    ],
)
def test_a_claim_of_latents_needs_some_in_the_answers(latents, options, untestable):
    rows = claims.rows({"lt": ("reasoning", of("lt_tuning"))}, reasoning(latents, **options))
    assert len(rows) == 4
    for row in rows:
        whys = [why for side, why in untestable.items() if side in (row.method, row.against)]
        assert (row.verdict == "untestable") == bool(whys), row
        assert row.why in (whys or [""])
        assert row.ours is not None


def test_what_is_not_run_says_why_and_shows_no_number(tmp_path):
    skipped = entry("lora", "skipped", "needs a GPU")
    rows = judged(tmp_path, made(answered("full", 200), answered("pro", 360), more=[skipped], parts=("main",)))
    assert {place: row.why for place, row in rows.items() if row.verdict == "not run"} == {
        ("copies", "judged"): "pro has no acc on general_facts",
        ("adapters", "solved"): "lora: skipped: needs a GPU",
        ("rates", "solved"): "`make ablation` makes rates",
        ("elsewhere", "solved"): "no method here is elsewhere",
    }
    assert all(row.ours is None for row in rows.values() if row.verdict == "not run")
    rows = judged(tmp_path, made(answered("full", 200)))
    assert rows["rates", "solved"].why == "rates: missing"
    other_track = claims.rows({"made": ("agent", made_up(tmp_path))}, made(answered("full", 200)))
    assert {row.why for row in other_track} == {"this preset has no run on the agent track"}
    validation = made(answered("full", 200), evaluation={"split": "validation"})
    assert judged(tmp_path, validation)["copies", "solved"].why == "this preset scores validation, not tests"


def test_p_values_are_corrected_over_all_claims_that_are_tested(tmp_path):
    rng = np.random.default_rng(1)
    samples = [answered(run, (rng.random((3, DOCUMENTS)) < share).astype(float)) for run,
        share in (("full", 0.5), ("pro", 0.58), ("lora", 0.53))]  # fmt: skip
    rows = judged(tmp_path, made(*samples))
    tested = [row for row in rows.values() if row.p is not None]
    assert len(tested) == 2
    assert [row.p_holm for row in tested] == pytest.approx(statistics.holm([row.p for row in tested]))
    assert max(row.p_holm / row.p for row in tested) == pytest.approx(2)


def test_a_run_that_is_changed_afterwards_or_decodes_otherwise_stands_for_nothing():
    selector = source.Selector(curriculum={"kind": "cpt", "replay": 0.0}, tuner={"kind": "full"})
    run = planned()["runs"][0]["config"]
    assert ours.selects(selector, run)
    assert not ours.selects(selector, run | {"posthoc": {"kind": "wise_ft", "alpha": 0.5}})
    assert not ours.selects(selector, run | {"decode": {"budget": 0}})
    assert not ours.selects(selector, run | {"curriculum": run["curriculum"] | {"replay": 0.1}})
    assert not ours.selects(selector, run | {"tuner": {"kind": "lora"}})


# --- numbers


def as_the_paper(**changes) -> dict:
    general = {"kind": "world"}
    data = {"general": general, "domain": {"kind": "gsm8k"}} | changes.pop("data", {})
    return {"base": {"model": "owner/big"}, "data": data, "tokenizer": {"corpora": ["general"]}} | changes


def numbered(tmp_path: Path, *samples: pd.DataFrame, **changes) -> dict[tuple[str, str], numbers.Row]:
    mine = made(*samples, **as_the_paper(**changes))
    rows = numbers.rows({"made": ("domain", made_up(tmp_path))}, mine)
    return {(row.method, row.metric): row for row in rows}


def solved(run: str, rights: int) -> pd.DataFrame:
    return answered(run, rights, task="gsm8k_answers", metric="exact_match")


def test_a_number_is_held_against_ours_where_model_and_data_are_the_papers(tmp_path):
    # The paper: full 50, copies 60, adapters 40.5, rates 55 per cent; ours of 400 documents.
    rows = numbered(tmp_path, solved("full", 204), solved("pro", 340), solved("lora", 380))
    full, copies, adapters = (rows[name, "solved"] for name in ("all weights", "copies", "adapters"))
    assert full.verdict == "reproduced"
    assert (full.ours, full.difference) == (pytest.approx(51), pytest.approx(1))
    assert full.low < 50 < full.high
    assert copies.verdict == "direction reproduced"
    assert (copies.paper_value, copies.difference) == (60, pytest.approx(25))
    assert adapters.verdict == "not reproduced"
    assert rows["rates", "solved"].why == "rates: missing"
    assert rows["elsewhere", "solved"].why == "no method here is elsewhere"
    judged = rows["copies", "judged"]
    assert (judged.verdict, judged.why, judged.note) == ("not run", "a judge scores it", "odd")


@pytest.mark.parametrize("floored", ["full", "pro"])
def test_a_number_has_no_direction_where_a_run_learned_nothing(tmp_path, floored):
    rights = {"full": 204, "pro": 340} | {floored: 0 if floored == "full" else 300}
    base = solved("base", 0 if floored == "full" else 300)
    rows = numbered(tmp_path, *(solved(run, right) for run, right in rights.items()), base)
    assert rows["copies", "solved"].verdict == "not reproduced"


def test_a_number_of_another_model_or_other_data_is_never_shown(tmp_path):
    samples = [solved("full", 204), solved("pro", 340)]
    for changes, why in (
        ({"base": {}}, "needs owner/big; this preset starts from a base of its own"),
        ({"base": {"model": "owner/small"}}, "needs owner/big; this preset starts from owner/small"),
        ({"data": {"domain": {"kind": "world"}}}, "needs training on gsm8k as the paper did"),
        ({"data": {"domain": {"kind": "gsm8k", "train_items": 7}}}, "needs training on gsm8k as the paper did"),
        ({"evaluation": {"limit": 7}}, "this preset asks only the first documents of each task"),
    ):
        rows = numbered(tmp_path, *samples, **changes)
        assert {row.verdict for row in rows.values()} == {"not run"}
        assert rows["copies", "solved"].why == why
        assert all(row.ours is None for row in rows.values())


def test_a_setting_may_be_asked_by_another_task(tmp_path):
    other = (
        "number: {benchmark: gsm8k, task: gsm8k_answers, metric: exact_match}, settings: {far: {benchmark: "
        "world, task: domain_facts, metric: acc}}"
    )
    text = MADE_UP.replace("number: {benchmark: gsm8k, task: gsm8k_answers, metric: exact_match}", other)
    text = text.replace("model,metric,", "model,setting,metric,").replace("Big-1B,solved,50", "Big-1B,far,solved,50")
    text = text.replace("Big-1B,judged", "Big-1B,near,solved").partition("claims:")[0]
    mine = made(solved("full", 204), answered("full", 8), **as_the_paper())
    rows = numbers.rows({"made": ("domain", made_up(tmp_path, text))}, mine)
    asked = {row.setting: (row.task, row.why) for row in rows if row.method == "all weights"}
    assert asked == {
        "near": ("gsm8k_answers", ""),
        "far": ("", "needs the benchmark world, which this preset does not ask"),
    }
    with pytest.raises(AdaptbenchError, match=r"metrics\.solved\.settings\.far\.task: must be one of domain_"):
        made_up(tmp_path, text.replace("task: domain_facts", "task: domain_fact"))


def test_a_number_is_held_against_lm_evals_task_where_the_preset_asks_it(tmp_path):
    asked = {"general": ["mmlu"], "domain": ["gsm8k"]}
    samples = [
        answered(run, rights, task=task, metric=metric, seeds=1)
        for run, rights in (("base", 250), ("full", 240))
        for task, metric in (("general_mmlu", "acc"), ("gsm8k", "exact_match"))
    ]
    base = {"model": "Qwen/Qwen3-1.7B-Base"}

    def held(**changes) -> dict[tuple[str, str, str], numbers.Row]:
        mine = made(*samples, data={"general": {"kind": "corpus"}, "domain": {"kind": "corpus"}}, **changes)
        rows = numbers.rows({"adept": ("domain", of("adept"))}, mine)
        return {(row.method, row.metric, row.setting): row for row in rows if row.model == "Qwen3-1.7B-Base"}

    rows = held(base=base, evaluation={"stock_tasks": asked})
    assert {(row.method, row.metric): (row.task, row.ours) for row in rows.values() if row.ours is not None} == {
        ("base", "MMLU"): ("general_mmlu", 62.5),
        ("base", "GSM8K"): ("gsm8k", 62.5),
    }
    assert rows["base", "MMLU", "math"].verdict == "reproduced"  # the paper's is 62.57
    # What was trained was not trained on the paper's corpora.
    assert rows["full tuning", "MMLU", "math"].why == "the paper's corpora are no benchmark of this project"
    assert rows["base", "MedQA", "medical"].why == "needs lm-eval's task medqa_4options, which this preset does not ask"
    unasked = held(base=base)
    assert unasked["base", "MMLU", "math"].why == "needs lm-eval's task mmlu, which this preset does not ask"
    assert all(row.ours is None for row in unasked.values())
    other = held(base={"model": "owner/small"}, evaluation={"stock_tasks": asked})
    assert other["base", "MMLU", "math"].why == "needs Qwen/Qwen3-1.7B-Base; this preset starts from owner/small"
    limited = held(base=base, evaluation={"stock_tasks": asked, "limit": 7})
    assert limited["base", "MMLU", "math"].why == "this preset asks only the first documents of each task"


def test_a_trained_models_number_on_lm_evals_task_needs_the_papers_data(tmp_path):
    text = MADE_UP.replace("number: a judge scores it", "number: {stock: mmlu}")
    rows = [answered(run, 100, task="general_mmlu") for run in ("full", "pro")]
    for items, why in ((None, ""), (7, "needs training on gsm8k as the paper did")):
        changes = as_the_paper(data={"domain": {"kind": "gsm8k", "train_items": items}})
        mine = made(*rows, **changes, evaluation={"stock_tasks": {"general": ["mmlu"]}})
        row = numbers.rows({"made": ("domain", made_up(tmp_path, text))}, mine)[5]
        assert (row.method, row.metric, row.why) == ("all weights", "judged", why)
        assert (row.verdict, row.task) == (("not run", "") if why else ("not reproduced", "general_mmlu"))


@pytest.mark.parametrize("path", [path for _, path in reader.files()], ids=lambda path: path.stem)
def test_lm_eval_has_every_task_that_stands_for_a_number_or_a_claim(path):
    for metric in of(path.stem).metrics.values():
        for one in (metric.claim, metric.number, *metric.settings.values()):
            if one is not None and not isinstance(one, str) and one.stock is not None:
                assert stock_tasks.describe(one.stock).higher_is_better


# --- the table


@pytest.fixture
def written(tmp_path) -> Path:
    """The table of the papers of the project, from made-up runs of the default preset's domain."""
    folder = tmp_path / "collected"
    shares = {"base": 80, "full": 300, "llama-pro": 380, "adept": 350, "lora": 240}
    samples = [answered(run, rights, seeds=1 if run == "base" else 3) for run, rights in shares.items()]
    results.write_samples(folder.parent / "collected/samples.parquet", pd.concat(samples))
    runs = [entry(run) for run in shares] + [entry("adept-no-copy", "left out", "damaged; run again")]
    (folder / "runs.json").write_text(json.dumps(runs))
    whole = plan_files.paper_content(unfolding.unfold(load.load(PROJECT / "config/tiny.yaml")))
    (tmp_path / "paper.json").write_text(json.dumps(whole))
    tables.write(tmp_path / "paper.json", [folder], tmp_path / "tables/paper")
    return tmp_path / "tables"


def test_the_csv_has_every_number_and_every_claim_with_its_source(written):
    rows = pd.read_csv(written / "paper.csv")
    papers = [of(path.stem) for _, path in reader.files()]
    known = sum(len(table.cells) for paper in papers for table in paper.tables.values())
    assert (rows["kind"] == "number").sum() == known
    assert (rows["kind"] == "claim").sum() == sum(len(claim.metrics) for paper in papers for claim in paper.claims)
    assert rows[["paper", "arxiv", "source", "reliability", "paper_value", "verdict"]].notna().all(axis=None)
    assert set(rows[rows["paper"] == "ADEPT"]["reliability"]) == {"weak"}
    assert (rows[rows["kind"] == "number"]["verdict"] == "not run").all()
    assert rows[rows["verdict"] == "not run"]["ours"].isna().all()
    assert rows[rows["verdict"] == "not run"]["why"].notna().all()


def test_the_markdown_has_claims_with_effects_and_counts_what_is_not_run(written):
    text = (written / "paper.md").read_text()
    learned = next(line for line in text.splitlines() if "ADEPT above full tuning" in line and "GSM8K" in line)
    cells = [cell.strip() for cell in learned.split("|")[1:-1]]
    assert cells[1:5] == ["+18.65", "5 of 5", "adept - full", "domain_facts: accuracy"]
    assert cells[5].startswith("+0.125 [")
    assert cells[8] == "direction reproduced"
    assert "not run: adept-no-copy: left out: damaged; run again" in text
    assert "not run: `make ablation` makes adept-spread" in text
    assert "| main: GSM8K | 6 | the paper's corpora are no benchmark of this project |" in text
    assert "Weak source" in text
    assert "nan" not in text.lower().replace("finan", "")
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_latex_is_balanced_and_escaped(written):
    text = (written / "paper.tex").read_text()
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") > 4
    assert text.count(r"\begingroup") == text.count(r"\endgroup") == 1
    for part in text.split(r"\begin{longtable}")[1:]:
        columns = len(re.sub(r"L\{\d+mm\}", "r", part[1 : part.index("}\n")]))
        body = part.split(r"\endhead")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert all(len(re.findall(r"(?<!\\)&", line)) == columns - 1 for line in body)
        assert all(line.endswith(r"\\") for line in body)
    assert not re.findall(r"(?<!\\)[_#$]", text.replace("p{#1}", "").replace("$-$", "-"))
    assert r"p & detectable" in text
    assert "<" not in text


def test_a_run_in_both_parts_counts_once(tmp_path):
    for name, runs in (("collected", {"full": 200, "pro": 300}), ("collected-ablation", {"full": 200, "rates": 100})):
        samples = [answered(run, n) for run, n in ({"base": 0} | runs).items()]
        results.write_samples(tmp_path / name / "samples.parquet", pd.concat(samples))
        (tmp_path / name / "runs.json").write_text(json.dumps([entry(run) for run in ("base", *runs)]))
    (tmp_path / "paper.json").write_text(json.dumps(planned()))
    both = ours.read(tmp_path / "paper.json", [tmp_path / "collected", tmp_path / "collected-ablation"])
    assert {run for _, run in both.runs} == {"base", "full", "pro", "rates"}
    assert len(both.samples) == 4 * 3 * DOCUMENTS
    assert judged(tmp_path, both)["rates", "solved"].verdict == "opposite"


def test_the_ablations_table_is_made_of_both_parts_and_no_run_table_takes_its_name():
    unfolded = unfolding.unfold(load.load(PROJECT / "config/smoke.yaml"))
    names = [targets.paper_names(unfolded, part) for part in plan_files.parts(unfolded)]
    assert names == [["paper"], ["ablation_paper"]]
    assert [targets.paper_parts(name) for (name,) in names] == [["main"], ["main", "ablation"]]
    read = targets.files_of_project(*rules.PROJECT_FILES["paper"])
    assert {Path(file).stem for file in read} == {path.stem for _, path in reader.files()}
    values = preset_values()
    values["runs"][0]["tables"] = ["paper"]
    with pytest.raises(
        AdaptbenchError, match=r"runs\.0\.tables: paper and ablation_paper are made of what papers report"
    ):
        load.validate(values, "toy")
