"""What --config sets: text stays as it was written where an option is text, numbers are read where it is a number.

Run: pytest tests/config/test_overrides.py
"""

import re
from pathlib import Path

import pytest
import yaml

from adaptbench.config import load, overrides, yaml_text
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import surroundings
from tests.support.presets import preset_values
from tests.support.processes import snakemake
from tests.support.project import PROJECT

A_RUN = "runs=[{{name: {0}, track: domain, curriculum: {{kind: cpt}}, tuner: {{kind: full}}}}]"


def taken(*entries: str, there: dict | None = None) -> dict:
    """The values of the entries, over a small preset."""
    return overrides.typed(overrides.of_entries(entries), there or preset_values())


@pytest.mark.parametrize(
    "text",
    ["2024", "1.0", "007", "0x10", "1:30", "1_000", "1e5", "nan", ".inf", "no", "on", "True", "null", "~", "2024-01-01",
     "=", "a: b: c", "x #2", "[1].csv", "&a b", "*a", "%x", "{x}.csv"],
)  # fmt: skip
def test_text_is_text_as_it_was_written(text):
    assert taken(f"name={text}") == {"name": text}
    assert taken(f'name="{text}"') == taken(f"name='{text}'") == {"name": text}
    assert taken(f'data={{"gsm8k": {{"path": "{text}"}}}}') == {"data": {"gsm8k": {"path": text}}}
    assert taken(A_RUN.format(f'"{text}"'))["runs"][0]["name"] == text


@pytest.mark.parametrize("text", ["2024", "1.0", "007", "1:30", "1_000", "no", "True", "2024-01-01", "x/gsm#2", "a b"])
def test_text_needs_no_quotes_where_yaml_ends_it_by_itself(text):
    assert taken(f"data={{gsm8k: {{path: {text}, revision: 1.0}}}}") == {"data": {"gsm8k": {"path": text,
        "revision": "1.0"}}}  # fmt: skip
    assert taken(f"base={{model: {text}}}") == {"base": {"model": text}}
    assert taken(A_RUN.format(text))["runs"][0]["name"] == text


def test_nothing_is_nothing_where_an_option_may_be_nothing():
    assert taken("sweep=") == taken("sweep=null") == taken("sweep=~") == {"sweep": None}
    assert taken('sweep="null"') == {"sweep": "null"}
    assert taken("base={model: null}") == taken("base={model: }") == {"base": {"model": None}}
    assert taken('base={model: "null"}') == {"base": {"model": "null"}}
    assert taken("data={domain: null}") == {"data": {"domain": None}}


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("checkpoint_seconds=5", 5),
        ("checkpoint_seconds=0.5", 0.5),
        ('checkpoint_seconds="5"', 5),
        ("seeds=[0, 1]", [0, 1]),
        ("training={steps: 20, learning_rate: 1e-3, compile: yes, betas: [0.9, 0.5]}",
         {"steps": 20, "learning_rate": "1e-3", "compile": True, "betas": [0.9, 0.5]}),
        ('training={"steps": "20"}', {"steps": 20}),
        ("keep=scored", "scored"),
        ("evaluation={stock_tasks: {general: [mmlu, {task: 007, num_fewshot: 5}]}}",
         {"stock_tasks": {"general": ["mmlu", {"task": "007", "num_fewshot": 5}]}}),
    ],
)  # fmt: skip
def test_what_is_no_text_is_read(entry, value):
    assert taken(entry) == {entry.partition("=")[0]: value}


def test_where_both_may_be_quotes_say_which():
    decode = "{kind: plain, a: 1, b: '1', c: no, d: 'no', e: 0.5, f: x}"
    run = f"{{name: x, track: domain, curriculum: {{kind: cpt}}, tuner: {{kind: full}}, decode: {decode}}}"
    found = taken(f"runs=[{run}]")
    assert found["runs"][0]["decode"] == {"kind": "plain", "a": 1, "b": "1", "c": False, "d": "no", "e": 0.5, "f": "x"}


def test_the_kind_that_is_there_says_what_an_options_type_is():
    """A corpus's text_field is text; the world's entities are a number."""
    there = preset_values()
    there["data"]["domain"] = {"kind": "corpus"}
    assert taken("data={domain: {text_field: 2024, subset: no, train_items: 5}}", there=there) == {
        "data": {"domain": {"text_field": "2024", "subset": "no", "train_items": 5}}
    }
    assert taken("data={domain: {entities: 20}}") == {"data": {"domain": {"entities": 20}}}
    assert taken("data={domain: {kind: corpus, text_field: 1.0}}")["data"]["domain"]["text_field"] == "1.0"


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("seeds=[007]", "--config: '007' would be read as 7; write the number that is meant"),
        ("checkpoint_seconds=010", "--config: '010' would be read as 8; write the number that is meant"),
        ("checkpoint_seconds=1:30", "--config: '1:30' would be read as 90; write the number that is meant"),
        ("training={steps: 1:00}", "--config: '1:00' would be read as 60; write the number that is meant"),
        ("base={model: ./my #1}", "--config: '{model: ./my #1}' is not YAML; quote it"),
        ("data={gsm8k: {path: x/gsm #2}}", "--config: '{gsm8k: {path: x/gsm #2}}' is not YAML; quote it"),
        ("training={steps: 5, steps: 6}", "--config: '{steps: 5, steps: 6}' is not YAML; quote it"),
        ("seeds", "--config 'seeds': must be KEY=VALUE"),
        ("=3", "--config '=3': must be KEY=VALUE"),
        ("data=" + "[" * 5000, "--config: '" + "[" * 79),
    ],
)
def test_what_would_be_read_as_something_else_is_one_line(entry, line):
    with pytest.raises(AdaptbenchError) as caught:
        taken(entry)
    assert str(caught.value).startswith(line)
    assert len(str(caught.value)) < 200


def test_entries_of_one_key_change_each_other():
    assert taken("base={seed: 1}", "base={per_seed: no}", "name=a",
        "name=2") == {"base": {"seed": 1, "per_seed": False}, "name": "2"}  # fmt: skip


@pytest.mark.parametrize(
    "given", [{"name": "2024", "training": "{steps: 9}"}, {"training": {"steps": "9"}, "name": "2024"}]
)
def test_text_that_snakemake_has_read_already_is_taken_too(given):
    assert overrides.typed(given, preset_values()) == {"name": "2024", "training": {"steps": 9}}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("revision: 1.0", "base.revision: must be text, and YAML reads a number; put it in quotes"),
        ("revision: 123456", "base.revision: must be text, and YAML reads a number; put it in quotes"),
        ("revision: no", "base.revision: must be text, and YAML reads true or false; put it in quotes"),
        ("revision: 2024-01-01", "base.revision: must be text, and YAML reads a date; put it in quotes"),
        ("model: 1_000", "base.model: must be text, and YAML reads a number; put it in quotes"),
        ("model: [a]", "base.model: must be text"),
        ("revision: ", "base.revision: must be text, and YAML reads nothing; put it in quotes"),
    ],
)
def test_a_presets_text_that_yaml_takes_for_something_else_is_to_be_quoted(tmp_path, line, said):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(preset_values()) + f"base: {{{line}}}\n")
    with pytest.raises(AdaptbenchError) as caught:
        load.load(path)
    assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seeds: [0, 010]", "'010' would be read as 8"),
        ("training: {steps: 1:30}", "'1:30' would be read as 90"),
        ("checkpoint_seconds: 1:30.5", "'1:30.5' would be read as 90.5"),
        ("training: {steps: -0100}", "'-0100' would be read as -64"),
        ("base: {revision: 0123456}", "'0123456' would be read as 42798"),
        ("007: 5", "'007' would be read as 7"),
    ],
)
def test_a_presets_number_that_yaml_reads_as_another_is_one_line(tmp_path, line, said):
    path = tmp_path / "x.yaml"
    path.write_text("name: mine\n" + line + "\n")
    with pytest.raises(AdaptbenchError) as caught:
        yaml_text.read(path)
    assert str(caught.value) == f"{path}:2: {said}; write the number that is meant, or text in quotes"


@pytest.mark.parametrize("text", ["1.0", "0123456", "no", "2024-01-01"])
def test_a_presets_text_in_quotes_is_text(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(yaml.safe_dump(preset_values()) + f"base: {{model: owner/name, revision: '{text}'}}\n")
    assert load.load(path).base.revision == text


@pytest.mark.graph
def test_snakemake_hands_over_what_was_written(project_copy):
    """The folder's name holds what YAML takes for a comment; the preset's is a number."""
    (project_copy / "x").mkdir()
    (project_copy / "x/gsm").mkdir()
    data = 'data={"gsm8k": {"path": "x/gsm #2"}}'
    options = ("--cores", "1", "--dry-run", "--configfile", "config/gsm8k.yaml", "--config", data, "name=2024")
    done = snakemake(project_copy, *options)
    assert done.stderr.strip().splitlines()[-1] == "error: data.gsm8k.path: x/gsm #2: no such folder"
    (project_copy / "x/gsm #2").mkdir()
    for name in ("train", "test"):
        (project_copy / f"x/gsm #2/{name}.jsonl").write_text('{"question": "a", "answer": "#### 1"}\n')
    done = snakemake(project_copy, *options)
    assert done.returncode == 0, done.stderr
    assert re.search(r"results/2024/", done.stdout + done.stderr)


def test_the_command_line_takes_the_same_entries():
    found = surroundings.load_preset(
        overrides.of_entries(["name=2024", "seeds=[7]"]), [Path(PROJECT / "config/smoke.yaml")]
    )
    assert (found.name, found.seeds) == ("2024", (7,))
