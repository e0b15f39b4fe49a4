"""Presets: what is accepted, and that every mistake is one line that names the file, the key and the mend.

Run: pytest tests/config/test_config.py
"""

import copy
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from adaptbench import registry
from adaptbench.config import load, training, yaml_text
from adaptbench.config.preset_model import json_schema
from adaptbench.contracts import Phase
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import nodes, plan_files, rules, surroundings, targets
from tests.support.presets import changed_preset, preset_values
from tests.support.project import PROJECT

PRESETS = sorted((PROJECT / "config").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_every_preset_in_the_repository_is_valid(preset):
    assert load.load(preset).name == preset.stem


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("runs.2.tuner.rank", 0, "runs.2.tuner.lora.rank: must be > 0"),
        ("runs.2.tuner.rang", 4, "runs.2.tuner.lora.rang: unknown key"),
        ("runs.2.tuner.rank", "four", "runs.2.tuner.lora.rank: must be a whole number"),
        ("runs.0.tuner.kind", "fill", "runs.0.tuner: kind must be one of 'adept', 'full', 'llama_pro', 'lora', 'osf'"),
        ("runs.0.tuner", {}, "runs.0.tuner: kind is missing"),
        ("runs.0.track", "domane", "runs.0.track: must be one of 'agent', 'domain', 'general' or 'reasoning'"),
        ("ablation", [{"name": "full", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}}],
         "ablation.0.name: 'full' names another domain run already"),
        ("ablation", [{"name": "x", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "llama_pro",
         "layers": 7}, "tables": ["t"]}], "ablation.0.tuner.layers: must be <= 6, the base's layers"),
        ("ablation", [{"name": "x", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"}}],
         "ablation.0.tables: name the ablation's own table, not a track's"),
        ("ablation", [{"name": "x", "track": "domain", "curriculum": {"kind": "cpt"}, "tuner": {"kind": "full"},
         "tables": ["domain"]}], "ablation.0.tables: name the ablation's own table, not a track's"),
        ("runs.0.tables", ["domain", "domain"], "runs.0.tables: each table once"),
        ("runs.0.decode", {"kind": "magic"}, "runs.0.decode.kind: must be one of agent, latent, plain"),
        ("runs.0.name", "LORA", "runs.2.name: 'lora' names another domain run already"),
        ("runs.2.tuner.target_modules", "", "runs.2.tuner.lora.target_modules: must have at least 1 entries"),
        ("name", "reference", "name: results/reference holds what is kept; choose another"),
        ("name", "Reference", "name: results/reference holds what is kept; choose another"),
        ("seeds", [2**32], "seeds.0: must be < 4294967296"),
        ("training", {"steps": 5, "betas": [0.9, 1.5]}, "training.betas.1: must be < 1"),
        ("base.architecture", {"hidden_size": 10, "num_attention_heads": 2},
         "base.architecture: hidden_size / num_attention_heads must be even"),
        ("base.training", {"steps": 5, "sequence_length": 4096},
         "base: training.sequence_length must be <= architecture.max_position_embeddings"),
        ("training", {"steps": 5, "sequence_length": 2048},
         "runs.0.training.sequence_length: must be <= 1024, the base's longest input"),
        ("runs.1.training", {"sequence_length": 2048},
         "runs.1.training.sequence_length: must be <= 1024, the base's longest input"),
        ("training", {"steps": 10**80}, "training.steps: must be <= 1000000000"),
        ("training", {"epochs": 1e308}, "training.epochs: must be <= 1000000"),
        ("runs.0.training", {"batch_size": 10**80}, "runs.0.training.batch_size: must be <= 1000000"),
        ("data.domain.entities", 10**80, "data.domain.world.entities: must be <= 1000000000000"),
        ("runs.2.tuner.rank", 10**80, "runs.2.tuner.lora.rank: must be <= 1000000000000"),
        ("runs.0.decode", {"kind": "agent", "max_turns": 10**80}, "runs.0.decode: must be <= 1000000000000"),
        ("base.seed", 2**32, "base.seed: must be < 4294967296"),
        ("base", {"per_seed": True, "seed": 1},
         "base: per_seed pre-trains a base under each of the preset's seeds; remove it, or seed"),
        ("base", {"per_seed": True, "model": "owner/name"},
         "base: per_seed pre-trains a base under each of the preset's seeds; remove it, or model"),
        ("tokenizer.corpora", ["seed"], "tokenizer.corpora: no data.seed"),
        ("tokenizer.corpora", ["model_fields"], "tokenizer.corpora: no data.model_fields"),
        ("runs.0.tables", ["x/y"], "runs.0.tables.0: must match"),
        ("data.domain_tests", [{"kind": "world"}], "data.domain_tests: each kind once, and none that data.domain has"),
        ("data.domain_tests", [{"kind": "nothing"}], "data.domain_tests.0: kind must be one of"),
        ("runs.0.name", "a/b", "runs.0.name: must match"),
        ("runs.0.name", "base", "runs.0.name: 'base' is a baseline that every domain table has"),
        ("runs.0.name", "lora", "runs.2.name: 'lora' names another domain run already"),
        ("runs.0.curriculum.replay", 1.5, "runs.0.curriculum.replay: must be < 1"),
        ("runs.2.curriculum.l2_sp", 0.1,
         "runs.2.curriculum.l2_sp: needs a tuner that moves the base's own weights; lora does not"),
        ("runs.0.track", "general", "runs.0.curriculum.kind: cpt trains on domain, not on general"),
        ("runs.1.tuner.layers", 7, "runs.1.tuner.layers: must be <= 6, the base's layers"),
        ("runs.0.training", {"learning_rate": -1.0}, "runs.0.training.learning_rate: must be > 0"),
        ("runs.0.training", {"batch_size": 10, "micro_batch_size": 3},
         "runs.0.training: micro_batch_size must divide batch_size"),
        ("runs.0.posthoc", {"kind": "wise_ft", "alpha": 2.0}, "runs.0.posthoc.alpha: must be <= 1"),
        ("training", {"steps": 5, "epochs": 2.0}, "training: set exactly one of steps and epochs"),
        ("training", {"steps": 5, "learning_rate": "fast"}, "training.learning_rate: must be a number"),
        ("training", {"steps": 5, "learning_rate": float("nan")}, "training.learning_rate: must be a finite number"),
        ("base.architecture", {"hidden_size": 65}, "base.architecture: num_attention_heads must divide hidden_size"),
        ("seeds", [], "seeds: must have at least 1 entries"),
        ("seeds", [0, 0], "seeds: each seed once"),
        ("runs", [], "runs: must have at least 1 entries"),
        ("data.domain", None, "data.domain: missing, but runs.0 is on that track"),
        ("tokenizer", {"corpora": ["nowhere"]}, "tokenizer.corpora: no data.nowhere"),
        ("evaluation", {"batch_size": 0}, "evaluation.batch_size: must be > 0"),
        ("colour", "red", "colour: unknown key"),
        ("base.revision", "\ud83d", "base.revision: must be text without half a character (a lone surrogate)"),
        ("base.revision", 1.0, "base.revision: must be text, and YAML reads a number; put it in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_file_key_and_mend(path, value, line):
    with pytest.raises(AdaptbenchError) as caught:
        load.validate(changed_preset(path, value), "config/toy.yaml")
    message = str(caught.value)
    # While a union has one member only, the key has no tag; tags are left out of what is compared.
    assert message.replace(".cpt.", ".").startswith(f"config/toy.yaml: {line}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"latent_training": {"sequence_length": 2048}},
         "latent_training.sequence_length: must be <= 1024, the base's longest input"),
        ({"stages": 20_000}, "coconut.stages: must be <= 100"),
        ({"latents_per_step": 10**12}, "coconut.latents_per_step: must be <= 100"),
    ],
)  # fmt: skip
def test_what_a_curriculum_with_latents_cannot_be_is_refused(options, line):
    with pytest.raises(AdaptbenchError) as caught:
        load.validate(_coconut(options), "toy.yaml")
    assert str(caught.value) == f"toy.yaml: runs.0.curriculum.{line}"


def test_a_stages_rate_that_is_no_number_is_refused():
    with pytest.raises(
        AdaptbenchError, match=r"runs\.0\.curriculum: of the stage 'latent1', learning_rate: must be > 0"
    ):
        load.validate(_coconut({"later_rate_ratio": 1e-323}), "toy.yaml")


def _coconut(options: dict) -> dict:
    values = preset_values()
    values["data"]["reasoning"] = {"kind": "chains"}
    values["runs"] = [
        {"name": "x", "track": "reasoning", "curriculum": {"kind": "coconut"} | options, "tuner": {"kind": "full"}}
    ]
    return values


@pytest.mark.parametrize("where", ["run", "preset", "stage"])
def test_an_optimizer_option_that_the_tuner_would_ignore_is_refused(where, monkeypatch):
    full = registry.method("tuners", "full")
    monkeypatch.setattr(full, "optimizer", lambda config, model, training: None, raising=False)
    muon, values = {"optimizer": "muon"}, preset_values()
    if where == "stage":
        cpt = registry.method("curricula", "cpt")
        monkeypatch.setattr(cpt, "phases", lambda config, track, training: (Phase(data=(track,), training=muon),))
    else:
        place = values["runs"][0] if where == "run" else values
        place["training"] = place.get("training", {}) | {"steps": 10} | muon
    with pytest.raises(AdaptbenchError) as caught:
        load.validate(values, "x.yaml")
    line = "must be adamw, not muon; full makes the optimizer of the stage 'tune'"
    assert str(caught.value) == f"x.yaml: runs.0.training.optimizer: {line}"


def test_several_mistakes_are_counted():
    values = changed_preset("colour", "red")
    values["seeds"] = []
    with pytest.raises(AdaptbenchError, match=r"\(and 1 more\)$"):
        load.validate(values, "x.yaml")


def test_scientific_notation_without_a_dot_is_a_number():
    values = changed_preset("training", {"steps": 5, "learning_rate": "1e-3"})
    assert load.validate(values, "x.yaml").training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "line"),
    [("runs: [", "not YAML"), ("- a", "must be a mapping"), ("", "must be a mapping")],
)
def test_a_file_that_is_no_preset_is_said_so(tmp_path, text, line):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(AdaptbenchError, match=line):
        load.load(path)


def test_a_missing_preset_is_said_so(tmp_path):
    with pytest.raises(AdaptbenchError, match="no such preset"):
        load.load(tmp_path / "none.yaml")


def test_steps_and_epochs_replace_each_other():
    base = training.Training(steps=10)
    assert training.merge_training(base, {"epochs": 2.0}).steps is None
    assert training.merge_training(training.Training(epochs=1.0), {"steps": 3}).epochs is None


def _paths(value, prefix=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*prefix, key)
            yield from _paths(inner, (*prefix, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield (*prefix, i)
            yield from _paths(inner, (*prefix, i))


PATHS = sorted(_paths(preset_values()), key=str)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(PATHS),
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=5), st.just({}), st.just([]),
        st.just({"k": 1})),
)  # fmt: skip
def test_any_change_is_either_valid_or_one_line(path, value):
    values = copy.deepcopy(preset_values())
    place = values
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    try:
        accepted = load.validate(values, "x.yaml")
    except AdaptbenchError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert str(error).startswith("x.yaml: ")  # noqa: PT017
    else:
        assert accepted.runs


STRANGE = st.sampled_from([
    None, True, False, 0, -1, 1, 3, 10**12, 0.5, -0.1, 1e308, float("nan"), float("inf"), "", "x", "a/b", "../x",
        "base", "full", "\u202e", "x" * 300,
    "-x", "a b", [], [None], [0, 0], ["x"], {}, {"k": 1}, {"kind": "world"}, {"kind": "full"}, {"kind": "nothing"},
    [[]], {"": 1}, {1: 2},
    10**80, -(10**80), 2**63, 10**400, 5e-324,
]) | st.integers() | st.floats() | st.text(max_size=5)  # fmt: skip


ODD = [
    "\t",
    "\u202e",
    "\x00",
    "\ufeff",
    "'",
    '"',
    ":",
    "- ",
    "#",
    "%",
    "@",
    "`",
    "|",
    "&x ",
    "*x",
    "<<: ",
    "? ",
    "{",
    "]",
    "---",
    "9" * 5000,
    "1e999",
]
TAGS = ["!!int ", "!!float ", "!!bool ", "!!null ", "!!timestamp ", "!!binary ", "!!set ", "!!map ", "!!seq ", "!!str ",
    "!function ", "!!python/name:os.system "]  # fmt: skip


def _mutate(values, draw):
    """Set, delete, rename, double, add or swap something, anywhere."""
    paths = list(_paths(values))
    path = draw(st.sampled_from(paths))
    place = values
    for part in path[:-1]:
        place = place[part]
    key = path[-1]
    what = draw(st.sampled_from(["set", "delete", "rename", "double", "add", "swap"]))
    if what == "delete":
        del place[key]
    elif what == "rename" and isinstance(place, dict):
        place[f"{key}{draw(st.sampled_from(['s', '_', ' ', 'X']))}"] = place.pop(key)
    elif what == "double" and isinstance(place, list):
        place.append(copy.deepcopy(place[key]))
    elif what == "add" and isinstance(place[key], dict):
        more = draw(st.sampled_from(["kind", "steps", "x", "name", "learning_rate", "seed"]))
        place[key][more] = copy.deepcopy(draw(STRANGE))
    elif what == "swap":
        there = values
        for part in draw(st.sampled_from(paths)):
            there = there[part]
        place[key] = copy.deepcopy(there)
    else:
        place[key] = copy.deepcopy(draw(STRANGE))


def _mutate_text(text: str, draw) -> str:
    """Delete, double, move, indent or cut a line, or put an odd character or tag somewhere."""
    lines = text.split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    line = lines[at]
    what = draw(st.sampled_from(["delete", "double", "move", "indent", "cut", "odd", "tag"]))
    if what == "delete":
        del lines[at]
    elif what == "double":
        lines.insert(at, line)
    elif what == "move":
        lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
    elif what == "indent":
        lines[at] = draw(st.sampled_from([" ", "  ", "\t"])) + line if draw(st.booleans()) else line[1:]
    elif what == "tag":
        key, colon, value = line.partition(": ")
        lines[at] = f"{key}{colon}{draw(st.sampled_from(TAGS))}{value}"
    else:
        place = draw(st.integers(0, len(line)))
        odd = draw(st.sampled_from(ODD) | st.characters()) if what == "odd" else ""
        lines[at] = line[:place] + odd + (line[place:] if what == "odd" else "")
    return "\n".join(lines)


def _given(preset: Path, draw) -> tuple[bytes, dict]:
    """What a user could give: a changed file, and what --config says besides."""
    how = draw(st.sampled_from(["values", "values", "text", "config"]))
    overrides: dict = {}
    text = _text(preset)
    if how == "text":
        for _ in range(draw(st.integers(1, 3))):
            text = _mutate_text(text, draw)
    else:
        values = copy.deepcopy(_read(preset))
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            _mutate(values, draw)
        if how == "values":
            text = yaml.dump(values, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True)
        else:  # as `--config key=value`, which Snakemake leaves as text or has read as text inside
            changed = {
                key: value for key, value in values.items() if isinstance(key, str) and value != _read(preset).get(key)
            }
            overrides = {
                key: draw(st.sampled_from([value, str(value), _as_text(value)])) for key, value in changed.items()
            }
    return text.encode("utf-8", "surrogatepass"), overrides


def _as_text(value):
    if isinstance(value, dict):
        return {str(key): _as_text(inner) for key, inner in value.items()}
    return [_as_text(inner) for inner in value] if isinstance(value, list) else str(value)


@cache
def _text(preset: Path) -> str:
    """The preset under one seed: the same kinds of stages, a third as many."""
    return re.sub(r"^seeds: .*$", "seeds: [0]", preset.read_text(), flags=re.MULTILINE)


@cache
def _read(preset: Path) -> dict:
    return yaml_text.parse(_text(preset))


def _planned(unfolded: nodes.Graph) -> None:
    """What the Snakefile asks of a graph when it is parsed, and of its stages and runs before a job starts."""
    for part in plan_files.parts(unfolded):
        assert {Path(file).parent.name for file in targets.reports(unfolded, part)} >= {"tables", "figures"}
        assert plan_files.runs(unfolded, part)
    figures = targets.by_name(unfolded, targets.figure_names)
    assert rules.drawing(unfolded).keys() <= figures.keys()
    assert all(rules.report_code("figures", starts) for starts in rules.drawing(unfolded).values())
    targets.explorer_parts(unfolded)
    assert all(place >= 0 for place in rules.job_priorities(unfolded).values())
    for node in unfolded.nodes:
        rules.node_inputs(unfolded, node)
        rules.stage_code(unfolded, node)
        rules.stage_gpus(unfolded, node)
    for one in unfolded.evaluations:
        rules.evaluation_inputs(unfolded, one.key)
        rules.evaluation_code(unfolded, one.key)
        rules.evaluation_gpus(unfolded, one.key)


def test_what_a_line_cannot_hold_stands_as_its_escape():
    error = AdaptbenchError("stock_tasks.1: a\r\nb\u2028\x1b[31m: no task of lm-eval é")
    assert str(error) == r"stock_tasks.1: a\r\nb\u2028\x1b[31m: no task of lm-eval é"


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"sweep": "x" * 300}, "sweep: x+: no such file"),
        ({"data": {"gsm8k": {"path": "x" * 300}}}, "data.gsm8k.path: x+: no such folder"),
    ],
)
def test_a_name_that_no_file_can_have_is_one_line(changed, line):
    with pytest.raises(SystemExit) as end:
        surroundings.load_graph(changed, [PROJECT / "config/tiny.yaml"])
    assert re.fullmatch(f"error: {line}", str(end.value))


@pytest.mark.parametrize("place", ["results", "results/tiny", "results/tiny/stages"])
@pytest.mark.parametrize("instead", ["file", "link", "loop"])
def test_what_is_in_the_place_of_a_results_folder_is_one_line(tmp_path, monkeypatch, place, instead):
    """Snakemake would look into it before it says anything. A link to a folder is one."""
    monkeypatch.chdir(tmp_path)
    there = tmp_path / place
    there.parent.mkdir(parents=True, exist_ok=True)
    there.touch() if instead == "file" else there.symlink_to("nowhere" if instead == "link" else there.name)
    with pytest.raises(SystemExit) as end:
        surroundings.load_graph({}, [])
    assert str(end.value) == f"error: {place}: no folder, and results go there; remove or rename it"
    there.unlink()
    (tmp_path / "elsewhere").mkdir()
    there.symlink_to(tmp_path / "elsewhere")
    assert surroundings.load_graph({}, []).nodes


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_any_changes_to_a_preset_are_a_plan_or_one_line(preset, tmp_path, monkeypatch):
    """200 changes to the file, its values or --config, taken as the Snakefile takes them: no job starts that has no
    plan.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        os, "fsync", lambda file: None
    )  # thousands of plan files, of which none must outlive the machine
    locks: list[int] = []
    really = os.open

    def remembered(path, *arguments, **named):
        file = really(path, *arguments, **named)
        if str(path).endswith(".lock"):
            locks.append(file)
        return file

    monkeypatch.setattr(os, "open", remembered)
    ends: Counter[str] = Counter()

    # The same 200 each time, so that a change is tested and not luck; ADAPTBENCH_FUZZ=1 draws others.
    same = "ADAPTBENCH_FUZZ" not in os.environ

    @settings(
        max_examples=200,
        deadline=None,
        derandomize=same,
        print_blob=not same,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def take(data):
        path = Path("given.yaml")
        content, overrides = _given(preset, data.draw)
        path.write_bytes(content)
        note(f"{path}: {content!r}, --config {overrides!r}")
        try:
            _planned(surroundings.load_graph(overrides, [path]))
        except SystemExit as end:
            assert re.match(r"error: (given\.yaml|--config|base\.model|sweep|data\.|evaluation\.)", end.code), end.code  # noqa: PT017
            assert len(end.code.splitlines()) == 1, end.code  # noqa: PT017
            ends["refused"] += 1
        else:
            ends["planned"] += 1
        finally:
            while locks:
                os.close(locks.pop())  # as the process's end does it

    take()
    assert min(ends["refused"], ends["planned"]) > 10, ends


def test_the_schema_in_the_repository_is_up_to_date():
    assert (PROJECT / "config" / "schema.json").read_text() == json_schema(), "run `make schema`"


def test_configuration_and_graph_import_nothing_heavy():
    code = (
        "import sys; from pathlib import Path; from adaptbench.config import load;"
        "from adaptbench.graph import snakefile, unfolding; unfolding.unfold(load.load(Path('config/tiny.yaml')));"
        "print([m for m in ('torch', 'transformers', 'datasets', 'pandas', 'lm_eval', 'peft') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv=['x','--help']\ntry:\n import adaptbench.cli as m; m.main(['--help'])\nexcept "
        "SystemExit: pass\nprint('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"name: a\nname: b\n", "toy.yaml: not YAML: key 'name' twice"),
        (b"name: a\nruns:\n  - {name: x, tuner: {kind: full}, name: y}\n", "toy.yaml: not YAML: key 'name' twice"),
        (b"name: \xff\xfe\n", "toy.yaml: not UTF-8 text"),
        (b"[" * 5000 + b"]" * 5000, "toy.yaml: "),
        (b"- a\n", "toy.yaml: must be a mapping of options"),
        (b"", "toy.yaml: must be a mapping of options"),
        (b"name: 2020-99-99\n", "toy.yaml: not YAML: '2020-99-99' is no timestamp in "),
        (b"name: !!timestamp x\n", "toy.yaml: not YAML: 'x' is no timestamp in "),
        (b"name: !!int x\n", "toy.yaml: not YAML: 'x' is no int in "),
        (b"name: !!int ''\n", "toy.yaml: not YAML: '' is no int in "),
        (b"name: !!bool x\n", "toy.yaml: not YAML: 'x' is no bool in "),
        (b"name: " + b"9" * 5000 + b"\n", "toy.yaml: not YAML: '9999"),
        (b"name: " + b"59:" * 300 + b"0.5\n", "toy.yaml: not YAML: '59:59"),
        (b"!!map x\n", "toy.yaml: not YAML: expected a mapping"),
    ],
    ids=[
        "twice",
        "twice-inside",
        "encoding",
        "deep",
        "list",
        "empty",
        "date",
        "timestamp",
        "int",
        "empty-int",
        "bool",
        "long-int",
        "float",
        "map",
    ],
)
def test_a_file_that_is_no_preset_is_one_line(tmp_path, monkeypatch, content, line):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_bytes(content)
    with pytest.raises(AdaptbenchError) as error:
        load.load(Path("toy.yaml"))
    assert str(error.value).startswith(line)
    assert "\n" not in str(error.value)


def test_scoring_on_validation_needs_validation_items():
    values = preset_values()
    values["data"]["domain"] = {"kind": "gsm8k"}
    values["evaluation"] = {"split": "validation"}
    with pytest.raises(AdaptbenchError, match=r"data\.domain\.validation_items: must be > 0 to score on validation"):
        load.validate(values, "toy.yaml")
    values["data"]["domain"]["validation_items"] = 10
    load.validate(values, "toy.yaml")


def test_what_a_penalty_on_moved_weights_needs_depends_on_adepts_expansion():
    tuner = {"kind": "adept", "layers": 2}
    with pytest.raises(AdaptbenchError, match="l2_sp: needs a tuner that moves the base's own weights; adept does not"):
        load.validate(changed_preset("runs.0", _run(tuner)), "toy.yaml")
    load.validate(changed_preset("runs.0", _run(tuner | {"expansion": "none"})), "toy.yaml")


def _run(tuner: dict) -> dict:
    return {"name": "x", "track": "domain", "curriculum": {"kind": "cpt", "l2_sp": 0.1}, "tuner": tuner}


@pytest.mark.parametrize("table", ["overall", "ablation_overall", "fairness", "ablation_fairness", "ablation_paper"])
def test_a_table_that_every_preset_has_is_no_name_for_another(table):
    values = preset_values()
    values["runs"][0]["tables"] = [table]
    own = table.removeprefix("ablation_")
    with pytest.raises(AdaptbenchError, match=rf"runs\.0\.tables: {own} and ablation_{own} are made of .*; choose"):
        load.validate(values, "toy")


def test_a_presets_byte_order_mark_is_no_part_of_its_first_key(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("\ufeff" + yaml.safe_dump(preset_values()), encoding="utf-8")
    assert load.load(path).name == "toy"


@pytest.mark.parametrize("instead", ["folder", "pipe"])
def test_a_preset_that_is_no_plain_file_is_one_line(tmp_path, instead):
    path = tmp_path / "x.yaml"
    path.mkdir() if instead == "folder" else os.mkfifo(path)
    with pytest.raises(AdaptbenchError, match=r"x\.yaml: no plain file; write the preset into one$"):
        load.load(path)
