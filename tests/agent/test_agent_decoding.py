"""Agents' decoding: what is written side by side is what each prompt alone gives, and every request gets its own
answer.

The references are a loop without a cache that takes the likeliest token again and again, matrices merged by hand, plain
decoding of the same directory, and episodes played one at a time. Models are toys in float64 where tokens are compared,
so that the order of sums does not decide; one has learned a few trajectories by heart, so that episodes call and
answer.

Run: python -m pytest tests/agent/test_agent_decoding.py
"""

import copy
import json
import random
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from lm_eval.api.instance import Instance
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from adaptbench import registry
from adaptbench.agent import dialogue, episodes, generate, language_model
from adaptbench.agent.dialogue import TEAM
from adaptbench.agent.generate import Member, greedy
from adaptbench.agent.language_model import AgentLM
from adaptbench.agent.memory import BYTES, Kept, Memory, layers_of
from adaptbench.agent.samples import prompt_ids, role_examples
from adaptbench.agent.scores import episode_scores, step_scores
from adaptbench.contracts import StageContext
from adaptbench.data import benchmark_data
from adaptbench.data.packing import collate, pack
from adaptbench.data.prefixes import share
from adaptbench.data.tokenizer import train
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate import harness, metrics, plain, policy
from adaptbench.io.jsonl import read_jsonl
from adaptbench.model import storage
from adaptbench.train.objectives import causal_lm
from tests.support.models import ARCHITECTURES, toy_model
from tests.support.presets import SMALL_GENERAL

LENGTH = 1024  # the toys' longest input
STEPS = 120
SIZES = {"kind": "world", "train_problems": 24, "validation_problems": 4, "test_problems": 8}
GENERAL = SMALL_GENERAL | {"test_items": 12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The tasks directories of a small agent world and of a general one, and the agent world's data."""
    root = tmp_path_factory.mktemp("worlds")
    made: dict[str, Path] = {}
    for track, sizes in (("general", GENERAL), ("agent", SIZES)):
        (root / track).mkdir()
        spec = {"track": track, "config": sizes, "seed": 0, "public": {}}
        benchmark_data.build(spec, StageContext(0, dict(made)), root / track)
        made[track] = root / track
        (root / f"{track}-tasks").mkdir()
        module = registry.benchmark(track, "world")
        files = ("benchmarks/splits.py", *getattr(module, "TASK_FILES", ()))
        options = {"track": track, "tasks": [task.name for task in module.TASKS], "files": files}
        benchmark_data.lay_tasks(options, root / track, root / f"{track}-tasks")
    return {"general": root / "general-tasks", "agent": root / "agent-tasks"}, root / "agent"


@pytest.fixture(scope="module")
def tasks(folders):
    return folders[0]


@pytest.fixture(scope="module")
def trajectories(folders):
    return read_jsonl(folders[1] / "splits" / "train.jsonl")


@pytest.fixture(scope="module")
def reader(folders, trajectories, tmp_path_factory):
    """A tokenizer that reads this world in few tokens."""
    folder = tmp_path_factory.mktemp("reader")
    train([one["text"] for one in trajectories], 450, folder)
    return storage.load_tokenizer(folder)


def _ending(model, end: int, weight: float = 3.0):
    """The model with an end of text that comes now and then: its logit is larger than others', to either side."""
    with torch.no_grad():
        model.get_output_embeddings().weight[end] *= weight
    return model


def _toy(reader, seed=0, architecture="qwen3", layers=2):
    return _ending(toy_model(architecture, layers=layers, vocabulary=len(reader), seed=seed), reader.eos_token_id)


def _by_hand(model, ids, most, end) -> list[int]:
    """The likeliest token again and again, the whole sequence anew each time."""
    ids, start = list(ids), len(ids)
    with torch.no_grad():
        while len(ids) < start + most:
            token = int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())
            if token == end:
                break
            ids.append(token)
    return ids[start:]


# --- greedy


@pytest.mark.parametrize("part", [3, 16], ids=["rows leave", "all at once"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_side_by_side_is_greedy_alone_and_without_a_cache(architecture, part, reader, monkeypatch):
    monkeypatch.setattr(generate, "PART", part)
    model = _toy(reader, architecture=architecture)
    if (
        architecture != "gemma2"
    ):  # whose eager softmax is float32, to which float64's mask is minus infinity: nan for padding
        model.double()
    rng = random.Random(0)
    prompts = [[0, *(rng.randrange(1, len(reader)) for _ in range(size))] for size in (0, 1, 2, 5, 8, 11, 12, 25, 40)]
    expected = [_by_hand(model, ids, 12, reader.eos_token_id) for ids in prompts]
    for most in (12, 4):
        shorter = [ids[:most] for ids in expected]
        assert greedy(model, reader, prompts, most) == shorter
        assert [greedy(model, reader, [ids], most)[0] for ids in prompts] == shorter
        assert greedy(model, reader, prompts[::-1], most) == shorter[::-1]
    lengths = {len(ids) for ids in expected}
    assert min(lengths) < 4 < max(lengths), "none ended by itself, or none at the most tokens"
    assert len(lengths) >= 2


def test_rows_that_have_ended_leave_the_batch(reader, monkeypatch):
    model, sizes = _toy(reader).double(), []
    forward = model.forward
    monkeypatch.setattr(generate, "PART", 2)
    monkeypatch.setattr(
        model, "forward", lambda *args, **kwargs: sizes.append(len(kwargs["input_ids"])) or forward(*args, **kwargs)
    )
    rng = random.Random(0)
    prompts = [[0, *(rng.randrange(1, len(reader)) for _ in range(size))] for size in (0, 1, 2, 5, 8, 11, 12, 25, 40)]
    made = greedy(model, reader, prompts, 12)
    # A row is in the batch until the part ends in which it wrote its end of text.
    going = [sum(len(ids) >= 2 * (step // 2) for ids in made) for step in range(12)]
    assert sizes == [size for size in going if size]
    assert sizes[-1] < len(prompts)


@pytest.mark.parametrize(
    ("config", "separable"),
    [
        (transformers.Qwen3Config(num_hidden_layers=2), True),
        (transformers.Gemma2Config(num_hidden_layers=2), True),
        (transformers.Qwen3NextConfig(num_hidden_layers=4), False),
        (transformers.JambaConfig(num_hidden_layers=8), False),
        (transformers.MambaConfig(num_hidden_layers=2), False),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)
def test_rows_stay_where_a_model_keeps_more_than_keys_and_values(config, separable):
    assert generate.has_separable_cache(SimpleNamespace(config=config)) is separable


def test_the_padding_token_does_not_matter(reader):
    other = copy.deepcopy(reader)
    other.pad_token = other.convert_ids_to_tokens(7)
    model = _toy(reader).double()
    prompts = [[0, *range(1, size)] for size in (2, 9, 30)]
    expected = [_by_hand(model, ids, 12, reader.eos_token_id) for ids in prompts]
    assert greedy(model, other, prompts, 12) == expected == greedy(model, reader, prompts, 12)


RECOMMENDED = {
    "sampling": {"do_sample": True, "temperature": 0.6, "top_p": 0.5, "top_k": 3, "min_p": 0.1},
    "repetition": {"repetition_penalty": 3.0},
    "n-grams": {"no_repeat_ngram_size": 1},
    "suppressed": {"suppress_tokens": list(range(5, 300))},
    "other ends": {"eos_token_id": [5, 6, 7]},
    "beams": {"num_beams": 3, "length_penalty": 2.0},
    "length": {"min_new_tokens": 12, "max_length": 8},
}


@pytest.mark.parametrize("name", RECOMMENDED)
def test_what_a_model_recommends_for_generation_changes_nothing(name, reader, tmp_path):
    """A base from the hub brings generation_config.json; every row of a table is decoded alike."""
    model = _toy(reader)
    prompts = [[0, *range(1, size)] for size in (3, 9, 20)]
    expected = [_by_hand(model, ids, 12, reader.eos_token_id) for ids in prompts]
    assert min(map(len, expected)) < 12
    model.generation_config = GenerationConfig(pad_token_id=0, bos_token_id=0, **RECOMMENDED[name])
    model.save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    assert (tmp_path / "generation_config.json").exists()
    lm = language_model.language_model(tmp_path, batch_size=8, tasks={})
    member = lm.members["assistant"]
    assert greedy(member.model, member.tokenizer, prompts, 12) == expected


# --- one role's answers


def _asked(trajectories) -> list[dict]:
    """What is asked at every step of the trajectories."""
    return [
        {
            "instruction": one["instruction"],
            "tools": one["tools"],
            "history": one["steps"][:n],
            "thought": step["thought"],
        }
        for one in trajectories
        for n, step in enumerate(one["steps"])
    ]


def _lm(model, reader, tasks=None, *, roles=("assistant",), batch_size=4, max_turns=10, most=BYTES) -> AgentLM:
    memory = Memory(most)
    members = {role: Member(model, reader, lambda: None, memory) for role in roles}
    model.config.max_position_embeddings = LENGTH
    return AgentLM(members, roles[0], batch_size, tasks or {}, max_turns=max_turns)


@pytest.mark.parametrize("most", [0, 200_000, BYTES], ids=["no memory", "little memory", "memory"])
@pytest.mark.parametrize("role", dialogue.ROLES)
def test_a_roles_answers_are_those_of_the_loop_and_stop_at_the_end_of_text(role, trajectories, reader, most):
    model = _toy(reader).double()
    lm = _lm(model, reader, roles=dialogue.ROLES, most=most)
    asked = _asked(trajectories[:4])
    assert len({len(one["history"]) for one in asked}) >= 3
    written = lm.respond(role, asked, 10)
    lengths = set()
    for one, answer in zip(asked, written, strict=True):
        prompt = reader(dialogue.prompt(role, **one)).input_ids
        ids = _by_hand(model, prompt, 10, reader.eos_token_id)
        text = reader.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        assert answer == episodes.Written(text, len(ids))
        lengths.add(len(ids))
    assert max(lengths) == 10
    assert min(lengths) < 10
    assert lm.members[role].memory.bytes <= most
    if most == BYTES:
        assert lm.respond(role, asked[::-1], 10) == written[::-1], "the same from what is remembered"


# --- memory


def _read(model, ids):
    """What a model has read, from a pass of its own."""
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
    return Kept(list(ids), layers_of(cache, 0, 0, len(ids)))


def test_a_memory_knows_the_common_beginning_but_never_all():
    memory = Memory()
    memory.keep("a", Kept([1, 2, 3, 4], []))
    assert memory.known("a", [1, 2, 3, 9, 9]) == 3
    assert memory.known("a", [1, 2, 3, 4]) == 3
    assert memory.known("a", [1, 2, 3, 4, 5]) == 4
    assert memory.known("a", [7]) == memory.known("b", [1, 2]) == 0
    memory.clear()
    assert memory.known("a", [1, 2, 3, 4, 5]) == 0


def test_a_memory_s_cache_is_that_of_the_beginnings_padded_on_the_left(reader):
    model = _toy(reader).double()
    memory, texts = Memory(), {"a": [0, 5, 6, 7, 8, 9], "b": [0, 11, 12], "c": [0, 3]}
    for key, ids in texts.items():
        memory.keep(key, _read(model, ids))
    cache = memory.cache(["b", "c", "a"], [3, 0, 4])
    assert cache.get_seq_length() == 4
    for number, layer in enumerate(_read(model, texts["a"]).layers):
        for whole, one in zip((cache.layers[number].keys, cache.layers[number].values), layer, strict=True):
            torch.testing.assert_close(whole[2], one[:, :4])
            assert not whole[1].any()
            assert not whole[0, :, :1].any()
            assert whole[0, :, 1:].any()
    assert memory.cache(["a", "b"], [0, 0]) is None


def test_the_oldest_are_forgotten_first(reader):
    model = _toy(reader)
    one = _read(model, list(range(10)))
    memory = Memory(3 * one.bytes)
    for key in "abcd":
        memory.keep(key, one)
    assert list(memory.kept) == ["b", "c", "d"]
    memory.keep("b", one)
    memory.keep("e", one)
    assert list(memory.kept) == ["d", "b", "e"]
    assert memory.bytes == sum(kept.bytes for kept in memory.kept.values()) == 3 * one.bytes


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_a_window_forgets_is_not_remembered(architecture, reader):
    member = Member(_toy(reader, architecture=architecture), reader, lambda: None, Memory())
    assert (member.memory is None) == (architecture in ("mistral", "gemma2"))


# --- requests of all kinds


def _step_request(task, document, most, idx=0):
    return Instance("generate_until", document,
        (document["prompt"], {"until": ["\nObservation:"], "max_gen_toks": most}), idx, (task, idx, 1))  # fmt: skip


def _documents(tasks, split):
    return read_jsonl(tasks["agent"] / "splits" / f"{split}.jsonl")


def _ordinary(text, most, idx=0):
    return Instance("generate_until", {"text": text}, (text, {"until": ["\n"], "max_gen_toks": most}), idx,
        ("plain", idx, 1))  # fmt: skip


@pytest.fixture(scope="module")
def mixed(tasks):
    """Steps of two tasks, episodes, and requests that ask no agent, in one list and in no order."""
    made = [_step_request("agent_steps", one, 9) for one in _documents(tasks, "agent_steps")[:7]]
    made += [_step_request("agent_validation", one, 4) for one in _documents(tasks, "agent_validation")[:5]]
    made += [_step_request("agent_live", one, 6) for one in _documents(tasks, "agent_live")[:5]]
    made += [_ordinary(f"The number {i} is" + " kept" * i, 5 + i % 2) for i in range(5)]
    random.Random(1).shuffle(made)
    return made


@pytest.mark.parametrize("roles", [("assistant",), TEAM], ids=["single", "team"])
def test_every_request_of_one_list_gets_its_own_answer(mixed, roles, tasks, reader):
    lm = _lm(_toy(reader).double(), reader, tasks, roles=roles)
    together = lm.generate_until(mixed, disable_tqdm=True)
    assert together == [lm.generate_until([one], disable_tqdm=True)[0] for one in mixed]
    assert len(set(together)) > len(mixed) // 2, "most answers are alike, so that their order does not show"
    for request, answer in zip(mixed, together, strict=True):
        if request.doc.get("ask") == "episode":
            assert json.loads(answer).keys() == {"stopped", "turns", "tokens", "errors", "missing", "steps"}
            assert episode_scores(request.doc, [answer])["turns"] >= 1
        elif request.doc.get("ask") == "step":
            assert step_scores(request.doc, [answer])["exact"] in (0.0, 1.0)
    assert lm.generate_until([], disable_tqdm=True) == []


def test_each_task_has_its_own_most_tokens(mixed, tasks, reader, monkeypatch):
    model = toy_model("qwen3", layers=1, vocabulary=len(reader))
    with torch.no_grad():
        model.lm_head.weight[reader.eos_token_id] = 0.0  # never the likeliest
    lm = _lm(model, reader, tasks)
    seen = Counter()

    def watched(model, tokenizer, prompts, max_new_tokens, **options):
        made = greedy(model, tokenizer, prompts, max_new_tokens, **options)
        seen.update((max_new_tokens, len(ids)) for ids in made)
        return made

    monkeypatch.setattr(language_model, "greedy", watched)
    answers = lm.generate_until(mixed, disable_tqdm=True)
    assert seen.keys() == {(9, 9), (4, 4), (6, 6)}
    assert (seen[9, 9], seen[4, 4]) == (7, 5)
    played = [
        json.loads(answer)
        for request, answer in zip(mixed, answers, strict=True)
        if request.doc.get("ask") == "episode"
    ]
    assert len(played) == 5
    assert all(one["tokens"] == 6 * one["turns"] for one in played)


def test_requests_that_ask_no_agent_are_answered_as_by_plain_decoding(mixed, tasks, reader, tmp_path):
    _toy(reader).save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    ours = language_model.language_model(tmp_path, batch_size=4, tasks=tasks)
    theirs = plain.language_model(tmp_path, batch_size=4, tasks=tasks)
    rest = [one for one in mixed if "ask" not in one.doc]
    answers = dict(zip(map(id, mixed), ours.generate_until(mixed, disable_tqdm=True), strict=True))
    assert [answers[id(one)] for one in rest] == theirs.generate_until(rest, disable_tqdm=True)
    asked = _likelihoods()
    assert ours.loglikelihood(asked) == theirs.loglikelihood(asked)


def _likelihoods():
    pairs = [("The red cup", " is kept."), ("", "The red cup is kept."), ("Task: add", " 3"), ("Task: add", " and see")]
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


# --- teams


@pytest.fixture(scope="module")
def team(reader, tmp_path_factory):
    """A team of three plain models in one directory."""
    folder = tmp_path_factory.mktemp("team")
    for seed, role in enumerate(TEAM):
        _toy(reader, seed).save_pretrained(folder / role)
        reader.save_pretrained(folder / role)
    return folder, {"roles": {role: role for role in TEAM}}


@pytest.fixture(scope="module")
def adapters(reader, tmp_path_factory):
    """A team of three adapters far from where they start, their base, and beside them each role merged by hand."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapters")
    _toy(reader).save_pretrained(folder / "base")
    reader.save_pretrained(folder / "base")
    for seed, role in enumerate(TEAM):
        torch.manual_seed(seed)
        options = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(storage.load_model(folder / "base"), options)
        merged = storage.load_model(folder / "base")
        matrices = dict(merged.named_parameters())
        with torch.no_grad():
            for name, b in model.named_parameters():
                if "lora_B" in name:
                    b.normal_(std=0.3)
                    a = model.get_parameter(name.replace("lora_B", "lora_A"))
                    matrix = name.removeprefix("base_model.model.").replace(".lora_B.default", "")
                    matrices[matrix].add_(8 / 4 * b @ a)
        model.save_pretrained(folder / role)
        merged.save_pretrained(folder / "merged" / role)
        reader.save_pretrained(folder / "merged" / role)
    return folder, {"roles": {role: role for role in TEAM}, "base": "base"}


def _double(lm):
    for member in lm.members.values():
        member.model.double()
    return lm


def test_adapters_are_switched_with_the_role(adapters, trajectories):
    """Asked in turn, and again, every role writes what its merged model writes and no other role's does."""
    folder, decode = adapters
    lm = _double(language_model.language_model(folder, batch_size=4, tasks={}, **decode))
    asked = _asked(trajectories[:2])
    expected = {}
    for role in TEAM:
        alone = _double(
            language_model.language_model(folder / "merged" / role, batch_size=4, tasks={}, roles={role: "."})
        )
        expected[role] = alone.respond(role, asked, 8)
    for role in (*TEAM, *reversed(TEAM), "caller", "planner"):
        assert lm.respond(role, asked, 8) == expected[role]
    prompt = torch.tensor([[0, 5, 6, 7]])
    logits = {}
    for role in TEAM:
        lm.members[role].use()
        logits[role] = lm.members[role].model(prompt).logits
    apart = [(logits[a] - logits[b]).abs().max() for a, b in (TEAM[:2], TEAM[1:], TEAM[::2])]
    assert min(apart) > 0.1


@pytest.mark.parametrize("kind", ["team", "adapters"])
def test_a_teams_steps_and_episodes_are_those_of_its_members_each_for_itself(kind, request, tasks, reader):
    """Against three models loaded apart, asked one prompt at a time by hand."""
    folder, decode = request.getfixturevalue(kind)
    lm = _double(language_model.language_model(folder, batch_size=4, tasks=tasks, **decode))
    places = {role: folder / "merged" / role if kind == "adapters" else folder / role for role in TEAM}
    members = {role: storage.load_model(place).double() for role, place in places.items()}

    def respond(role, asked):
        written = []
        for one in asked:
            ids = prompt_ids(reader, role, {"thought": "", **one}, None)
            made = _by_hand(members[role], ids, 6, reader.eos_token_id)
            text = reader.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            written.append(episodes.Written(text, len(made)))
        return written

    requests = [_step_request("agent_live", one, 6) for one in _documents(tasks, "agent_live")[:4]]
    documents = [one.doc for one in requests]
    boxes = [language_model.toolbox("agent_live", tasks)] * len(documents)
    played = episodes.play(documents, respond, boxes, single=False, max_turns=10)
    assert [json.loads(one) for one in lm.generate_until(requests, disable_tqdm=True)] == [
        one.record() for one in played
    ]
    assert any(step["thought"] for one in played for step in one.steps)


@pytest.mark.parametrize("kind", ["team", "adapters"])
@pytest.mark.parametrize("general", ["", *TEAM])
def test_the_planner_or_whom_general_names_answers_all_that_is_no_agents(kind, general, request, mixed, tasks):
    """Also after other roles have been asked."""
    folder, decode = request.getfixturevalue(kind)
    front = general or "planner"
    place = folder / "merged" / front if kind == "adapters" else folder / front
    ours = language_model.language_model(folder, batch_size=4, tasks=tasks, **decode, general=general)
    theirs = plain.language_model(place, batch_size=4, tasks=tasks)
    expected = [value for value, _ in theirs.loglikelihood(_likelihoods())]
    assert [value for value, _ in ours.loglikelihood(_likelihoods())] == pytest.approx(expected, abs=1e-4)
    rest = [one for one in mixed if "ask" not in one.doc]
    for role in TEAM:
        _ask(ours, role)
        assert [value for value, _ in ours.loglikelihood(_likelihoods())] == pytest.approx(expected, abs=1e-4)
        _ask(ours, role)
        assert ours.generate_until(rest, disable_tqdm=True) == theirs.generate_until(rest, disable_tqdm=True)


def _ask(lm, role):
    (written,) = lm.respond(role, [{"instruction": "Add.", "tools": [], "history": []}], 2)
    assert written.text is not None


@pytest.mark.parametrize("kind", ["team", "adapters"])
def test_a_whole_texts_likelihood_is_the_same_members_whoever_was_asked_before(kind, request):
    folder, decode = request.getfixturevalue(kind)
    place = folder / "merged" / "planner" if kind == "adapters" else folder / "planner"
    asked = [Instance("loglikelihood_rolling", {}, ("The red cup is kept, the blue one too.",), 0)]
    expected = plain.language_model(place, batch_size=4, tasks={}).loglikelihood_rolling(asked, disable_tqdm=True)
    ours = language_model.language_model(folder, batch_size=4, tasks={}, **decode)
    for role in (None, *TEAM):
        if role is not None:
            _ask(ours, role)
        assert ours.loglikelihood_rolling(asked, disable_tqdm=True) == pytest.approx(expected, abs=1e-4), role


def test_members_differ_so_that_it_shows_who_is_asked(team, adapters):
    for folder, place in ((team[0], "{}"), (adapters[0], "merged/{}")):
        values = set()
        for role in TEAM:
            lm = plain.language_model(folder / place.format(role), batch_size=4, tasks={})
            values.add(tuple(round(value, 1) for value, _ in lm.loglikelihood(_likelihoods())))
        assert len(values) == 3


@pytest.mark.parametrize("general", ["assistant", "Planner", "base", "."])
def test_a_role_that_the_directory_does_not_have_is_one_line(team, general):
    folder, decode = team
    with pytest.raises(AdaptbenchError) as caught:
        language_model.language_model(folder, batch_size=4, tasks={}, **decode, general=general)
    assert str(caught.value) == "decode.general: must be one of planner, caller, summarizer"


def test_the_general_tasks_of_a_team_are_scored_as_those_of_its_planner(team, tasks):
    """Through lm-eval, beside the agent tasks, as an evaluation asks them."""
    folder, decode = team
    general = [task for task in registry.benchmark("general", "world").TASKS if task.split == "test"]
    agents = [task for task in registry.benchmark("agent", "world").TASKS if task.split == "test"]
    names = [task.name for task in (*general, *agents)]
    found, _ = harness.evaluate(folder, {"kind": "agent", **decode}, names, tasks, batch_size=16, limit=6)
    alone, _ = harness.evaluate(
        folder / "planner", {"kind": "plain"}, [task.name for task in general], tasks, batch_size=16, limit=6
    )
    rows, expected = (
        metrics.sample_rows(found["samples"], [*general, *agents]),
        metrics.sample_rows(alone["samples"], general),
    )
    mine = rows[rows["task"].isin([task.name for task in general])].reset_index(drop=True)
    assert mine[["task", "document", "prediction"]].equals(expected[["task", "document", "prediction"]])
    assert mine["value"].tolist() == pytest.approx(expected["value"].tolist(), abs=1e-4)
    asked = rows[rows["task"].isin([task.name for task in agents])]
    assert set(asked["task"]) == {"agent_steps", "agent_live"}
    assert asked.groupby("task")["document"].nunique().tolist() == [6, 6]


# --- prompts that are too long


@pytest.mark.parametrize("roles", [("assistant",), TEAM], ids=["single", "team"])
def test_a_prompt_that_cannot_fit_is_answered_wrong_and_stops_nobody(roles, tasks, reader):
    lm = _lm(_toy(reader).double(), reader, tasks, roles=roles)
    requests = []
    for split, most in (("agent_steps", 9), ("agent_live", 6)):
        for number, document in enumerate(_documents(tasks, split)[:4]):
            long = {**document, "instruction": document["instruction"] + " And then?" * 500}
            requests.append(_step_request(split, long if number % 2 else document, most))
    answers = lm.generate_until(requests, disable_tqdm=True)
    for number, (request, answer) in enumerate(zip(requests, answers, strict=True)):
        if number % 2 == 0:
            assert answer == lm.generate_until([request], disable_tqdm=True)[0], "another's length changed this answer"
        elif request.doc["ask"] == "step":
            scores = step_scores(request.doc, [answer])
            assert (scores["exact"], scores["plan_acc"]) == (0.0, 0.0), (
                "the fallback for a missing decision is no answer"
            )
        else:
            episode = json.loads(answer)
            assert (episode["stopped"], episode["steps"], episode["tokens"]) == (episodes.TOO_LONG, [], 0)
            assert episode_scores(request.doc, [answer])["success"] == 0.0


def test_a_history_that_is_too_long_is_cut_as_in_training(tasks, reader, trajectories, monkeypatch):
    """At the room that is left beside the tokens that may be written."""
    long = max(trajectories, key=lambda one: len(one["steps"]))
    history = long["steps"][:-1] * 40
    asked = {"instruction": long["instruction"], "tools": long["tools"], "history": history}
    lm = _lm(_toy(reader), reader, tasks)
    seen = []
    monkeypatch.setattr(
        language_model,
        "greedy",
        lambda model, tokenizer, prompts, most, *more, **_: seen.extend(prompts) or [[] for _ in prompts],
    )
    lm.respond("assistant", [asked], 100)
    (prompt,) = seen
    text = reader.decode(prompt, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    shown = text.count("Observation:")
    assert 3 < shown < len(history)
    assert text == dialogue.prompt("assistant", **{**asked, "history": history[-shown:]})
    more = reader(dialogue.prompt("assistant", **{**asked, "history": history[-shown - 1 :]})).input_ids
    assert len(prompt) <= LENGTH - 100 < len(more)


def test_no_room_at_all_is_a_wrong_answer_too(tasks, reader):
    lm = _lm(_toy(reader), reader, tasks)
    for document in _documents(tasks, "agent_steps"):
        (answer,) = lm.generate_until([_step_request("agent_steps", document, LENGTH + 5)], disable_tqdm=True)
        scores = step_scores(document, [answer])
        assert (scores["exact"], scores["plan_acc"]) == (0.0, 0.0)


def test_a_model_that_writes_on_is_read_up_to_the_tasks_stop(tasks, reader, monkeypatch):
    """An observation of the model's own invention is none: as plain decoding cuts it, and alike in steps and
    episodes.
    """
    call = ' I add.\nAction: add\nAction Input: {"a": 1, "b": 2}'
    written = reader(f"{call}\nObservation: 3\nThought: I know.", add_special_tokens=False).input_ids
    monkeypatch.setattr(
        language_model, "greedy", lambda model, tokenizer, prompts, most, *more, **_: [written for _ in prompts]
    )
    lm = _lm(_toy(reader), reader, tasks, max_turns=1)
    step, live = (_step_request(split, _documents(tasks, split)[0], 90) for split in ("agent_steps", "agent_live"))
    answer, episode = lm.generate_until([step, live], disable_tqdm=True)
    expected = dialogue.step("I add.", "caller", action="add", arguments='{"a": 1, "b": 2}')
    assert dialogue.parse("assistant", answer) == expected
    (played,) = json.loads(episode)["steps"]
    assert played | {"observation": ""} == expected


# --- baselines


@pytest.mark.parametrize("name", registry.benchmark("agent", "world").BASELINES)
def test_a_policy_answers_as_the_baseline_of_the_benchmark_says(name, folders, trajectories):
    tasks, directory = folders
    lm = policy.language_model(directory, batch_size=4, tasks=tasks, policy=name)
    write = registry.benchmark("agent", "world").BASELINES[name](trajectories)
    requests = [_step_request("agent_steps", one, 9) for one in _documents(tasks, "agent_steps")]
    requests += [_step_request("agent_live", one, 6) for one in _documents(tasks, "agent_live")]
    random.Random(2).shuffle(requests)
    for request, answer in zip(requests, lm.generate_until(requests), strict=True):
        if request.doc["ask"] == "step":
            written = dialogue.parse("assistant", write(request.doc))
            assert dialogue.parse("assistant", answer) == written
            assert step_scores(request.doc, [answer]) == step_scores(request.doc, [write(request.doc)])
            continue
        episode = json.loads(answer)
        for step in episode["steps"]:
            assert step | {"observation": ""} == dialogue.parse("assistant", write(request.doc))
        decision = dialogue.parse("assistant", write(request.doc))["decision"]
        expected = {"caller": ("repeat", 3), "summarizer": ("answer", 1), "give up": ("give up", 1)}[decision]
        assert (episode["stopped"], episode["turns"]) == expected
        assert episode["tokens"] == 0
    texts = {write(request.doc) for request in requests}
    assert len(texts) == 1 or name == "always-call", "it read what it was asked"


def test_a_policy_has_no_likelihoods(folders):
    tasks, directory = folders
    lm = policy.language_model(directory, batch_size=4, tasks=tasks, policy="majority")
    for asked in (lm.loglikelihood, lm.loglikelihood_rolling):
        with pytest.raises(NotImplementedError, match="it has no likelihoods"):
            asked(_likelihoods())


# --- live episodes side by side


@pytest.fixture(scope="module", params=[("assistant",), TEAM], ids=["single", "team"])
def by_heart(request, reader, trajectories):
    """A small model that has learned some trajectories by heart, whole or in roles, in joined samples; and its
    roles.
    """
    torch.manual_seed(0)
    by_steps = {len(one["steps"]): one for one in sorted(trajectories, key=lambda one: -len(one["text"]))}
    known = [by_steps[count] for count in (1, 2, 3, 4)]
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(reader), hidden_size=64, intermediate_size=128, num_hidden_layers=2, head_dim=32,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=LENGTH, tie_word_embeddings=True,
            pad_token_id=0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    joined = [example for one in known for example in share(role_examples([one], request.param, reader, 400), 400)]
    assert any(example.branches for example in joined)
    batch = collate(pack(joined, 400, range(len(joined))), 400, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (step + 1) / 10) * (1 - step / STEPS)
        loss = causal_lm(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.02, "not learned"
    return model.eval().double(), known, request.param


def test_episodes_side_by_side_are_those_played_one_at_a_time(by_heart, tasks, reader, trajectories, capsys):
    model, known, roles = by_heart
    others = [one for one in trajectories if one not in known][:4]
    documents = [
        {
            "ask": "episode",
            "problem": i,
            "prompt": "",
            **{name: one[name] for name in ("instruction", "tools", "answer", "calls", "solvable")},
        }
        for i, one in enumerate((*known, *others))
    ]
    lm = _lm(model, reader, tasks, roles=roles, batch_size=16)
    requests = [_step_request("agent_live", one, 40) for one in documents]
    lm.generate_until(requests[:1], disable_tqdm=True)
    started = time.perf_counter()
    together = lm.generate_until(requests, disable_tqdm=True)
    lm.forget()
    between = time.perf_counter()
    alone = [lm.generate_until([one], disable_tqdm=True)[0] for one in requests]
    ratio = (time.perf_counter() - between) / (between - started)
    with capsys.disabled():
        print(f"\n{len(requests)} episodes of {'+'.join(roles)}: {ratio:.1f} times as fast side by side")
    assert together == alone
    played = [json.loads(one) for one in together]
    assert [one["steps"] for one in played[: len(known)]] == [one["steps"] for one in known], "learned by heart"
    for document, one in zip(documents[: len(known)], together, strict=False):
        assert episode_scores(document, [one])["success"] == 1.0
    assert len({one["turns"] for one in played}) >= 3, "all end at once, so that nothing runs on without the others"
