"""Samples: every role trains exactly what it should write, and is asked in the same tokens when it is trained and when
it works.

The references are the texts of adaptbench/agent/dialogue.py, read back from the tokens, and loops that need no class of
the project's. Three tokenizers stand for those that a base may bring: one token at both ends, two different ones, and
one that marks words by the space before them.

Run: python -m pytest tests/agent/test_samples.py
"""

import json
from collections import Counter

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from adaptbench.agent import dialogue, episodes, generate, language_model, samples
from adaptbench.agent.dialogue import TEAM
from adaptbench.agent.toolbox import Toolbox
from adaptbench.benchmarks.agent import world
from adaptbench.benchmarks.agent.steps import live_documents, step_documents
from adaptbench.contracts import StageContext
from adaptbench.data.packing import IGNORED, Example
from adaptbench.data.prefixes import share
from adaptbench.errors import AdaptbenchError
from adaptbench.io.jsonl import write_jsonl
from adaptbench.methods.curricula import glpft, multi_task, one_stage, single
from tests.support.models import toy_model

LONG = 10**6
FIRST, LAST = "<s>", "</s>"


@pytest.fixture(scope="module")
def trajectories():
    config = world.Config(train_problems=24, validation_problems=4, test_problems=4, unsolvable=0.3, nicknames=1.0)
    made = world.build(config, 0, {})["train"]
    assert {one["steps"][-1]["decision"] for one in made} == {"summarizer", "give up"}
    assert max(len(one["steps"]) for one in made) >= 4
    return made


def _with_ends(tokenizer, single: str):
    """A fast tokenizer of its own begin and end, which it adds as `single` says."""
    ids = [(token, tokenizer.token_to_id(token)) for token in (FIRST, LAST)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=FIRST, eos_token=LAST, pad_token=LAST)


@pytest.fixture(scope="module")
def bytewise(trajectories):
    """Ends what it encodes, as it begins it, with a token of its own."""
    made = Tokenizer(token_models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[FIRST, LAST], initial_alphabet=alphabet)
    made.train_from_iterator([one["text"] for one in trajectories], trainer)
    return _with_ends(made, f"{FIRST} $A {LAST}")


@pytest.fixture(scope="module")
def wordwise(trajectories):
    """As Llama 2's: spaces belong to the words after them, and the first word gets one that decoding takes away."""
    made = Tokenizer(token_models.BPE())
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=[FIRST, LAST])
    texts = [one["text"] for one in trajectories] + [dialogue.CUES[role] + "\nNext: give up" for role in dialogue.ROLES]
    made.train_from_iterator(texts, trainer)
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (FIRST, LAST)])
    return _with_ends(made, f"{FIRST} $A")


@pytest.fixture(params=["toy", "bytewise", "wordwise"])
def tokens(request):
    """A tokenizer; each puts one token before a text."""
    return request.getfixturevalue("tokenizer" if request.param == "toy" else request.param)


def _read(tokenizer, ids) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def _wanted(trajectories, roles) -> Counter:
    """What the samples should be: (prompt, target) of every step and role that it needs, said without the code under
    test.
    """
    wanted = []
    for one in trajectories:
        for number, step in enumerate(one["steps"]):
            for role in roles:
                needed = role in ("assistant", "planner") or role == step["decision"]
                assert (dialogue.target(role, step) is not None) == needed
                if needed:
                    asked = (one["instruction"], one["tools"], one["steps"][:number], step["thought"])
                    wanted.append((dialogue.prompt(role, *asked), dialogue.target(role, step)))
    return Counter(wanted)


def _pair(tokenizer, example) -> tuple[str, str]:
    """An example's prompt and target as text; every other promise about its tokens and labels is checked on the way."""
    ids, labels = list(example.input_ids), list(example.labels)
    assert len(ids) == len(labels)
    start = labels.index(next(label for label in labels if label != IGNORED))
    assert labels == [IGNORED] * start + ids[start:], "the prompt is context, all that follows is trained"
    end = tokenizer.eos_token_id
    assert ids[-1] == end
    between = ids[1:-1]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in between
    assert end not in between, "an end of text between prompt and target, or twice"
    return _read(tokenizer, ids[:start]), _read(tokenizer, ids[start:-1])


def _whole(example) -> list[Example]:
    """The separate examples that a shared one stands for: the trunk, and each branch behind what it shares.

    A target that is history to a later step is trained in the trunk, up to the token that the branch begins with again.
    """
    trunk, made = list(example.labels), []
    for shared, rest in example.branches:
        assert rest.labels[0] == IGNORED, "what predicts it is not its own row's last token"
        assert not rest.branches
        before, labels = list(example.input_ids[:shared]), [*[IGNORED] * shared, *rest.labels]
        place = shared
        while rest.labels[1] != IGNORED and trunk[place] != IGNORED:
            labels[place], trunk[place] = trunk[place], IGNORED
            place -= 1
        made.append(Example([*before, *rest.input_ids], labels))
    return [Example(list(example.input_ids), trunk), *made]


# --- what is trained

ROLES = [("assistant",), ("planner",), ("caller",), ("summarizer",), TEAM]


@pytest.mark.parametrize("roles", ROLES, ids="+".join)
def test_exactly_the_target_and_the_end_of_text_are_trained(trajectories, tokens, roles):
    found = samples.role_examples(trajectories, roles, tokens, LONG)
    assert Counter(_pair(tokens, one) for one in found) == _wanted(trajectories, roles)


@pytest.mark.parametrize("roles", ROLES, ids="+".join)
@pytest.mark.parametrize("room", ["any", "little"])
def test_the_same_is_trained_where_steps_share_their_beginning(trajectories, tokens, roles, room):
    longest = max(len(example.input_ids) for example in samples.role_examples(trajectories, roles, tokens, LONG))
    length = LONG if room == "any" else longest + 10
    found, joined = [], 0
    for one in trajectories:
        shared = share(samples.role_examples([one], roles, tokens, length), length)
        assert all(example.size <= length for example in shared)
        joined += sum(len(example.branches) for example in shared)
        found += [whole for example in shared for whole in _whole(example)]
    assert Counter(_pair(tokens, one) for one in found) == _wanted(trajectories, roles)
    assert joined or roles == ("summarizer",), "nothing was shared, so nothing was seen"


def test_a_step_has_no_sample_for_a_role_that_it_does_not_need(trajectories, tokenizer):
    for one in trajectories:
        decisions = [step["decision"] for step in one["steps"]]
        counts = {role: len(samples.role_examples([one], (role,), tokenizer, LONG)) for role in dialogue.ROLES}
        assert counts == {
            "assistant": len(decisions),
            "planner": len(decisions),
            "caller": decisions.count("caller"),
            "summarizer": decisions.count("summarizer"),
        }


# --- prompts that are too long


def _asked(one, number):
    """What is asked of step `number` of a trajectory, but for its history."""
    return {"instruction": one["instruction"], "tools": one["tools"], "thought": one["steps"][number]["thought"]}


def _sizes(tokenizer, role, one, number) -> list[int]:
    """The tokens of the sample of step `number` with the last 0, 1, ... steps of its history."""

    def count(text):
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    history, ends = one["steps"][:number], 2  # a token before the prompt and one after the target
    texts = [dialogue.prompt(role, **_asked(one, number), history=history[number - n :]) for n in range(number + 1)]
    return [count(text) + count(dialogue.target(role, one["steps"][number])) + ends for text in texts]


def _needing(one, role) -> list[int]:
    return [n for n, step in enumerate(one["steps"]) if dialogue.target(role, step) is not None]


@pytest.fixture(scope="module")
def longest(trajectories):
    return max(trajectories, key=lambda one: (len(one["steps"]), one["steps"][-1]["decision"] == "summarizer"))


@pytest.mark.parametrize("role", dialogue.ROLES)
def test_the_oldest_history_is_dropped_first_and_no_more_than_must_be(longest, tokens, role):
    sizes = {number: _sizes(tokens, role, longest, number) for number in _needing(longest, role)}
    least = max(its[0] for its in sizes.values())
    edges = {size - less for its in sizes.values() for size in its for less in (0, 1)} | {least}
    dropped = Counter()
    for length in sorted(edge for edge in edges if edge >= least):
        found = samples.role_examples([longest], (role,), tokens, length)
        for (number, its), example in zip(sizes.items(), found, strict=True):
            prompt, target = _pair(tokens, example)
            shown = max(count for count, size in enumerate(its) if size <= length)
            assert len(example.input_ids) == its[shown]
            assert target == dialogue.target(role, longest["steps"][number]), "the target is never cut"
            dropped[number - shown] += 1
            # Read by eye rather than by the formatter: what stays and what goes.
            history = longest["steps"][:number]
            head, after = prompt.split(f"Task: {longest['instruction']}\n")
            assert head.startswith("Tools:\n") if role != "summarizer" else head == ""
            assert all((tool["description"] in head) == (role != "summarizer") for tool in longest["tools"])
            kept = "".join(
                f"Thought: {past['thought']}\nAction: {past['action']}\nAction Input: {past['arguments']}\n"
                f"Observation: {past['observation']}\n"
                for past in history[number - shown :]
            )
            thought = f"Thought: {longest['steps'][number]['thought']}\n" if role in ("caller", "summarizer") else ""
            assert after == f"{kept}{thought}{dialogue.CUES[role]}"
    assert dropped[0]
    assert sum(dropped[count] for count in dropped if count >= 2), "never more than one step had to go"


@pytest.mark.parametrize("role", dialogue.ROLES)
def test_a_sample_that_cannot_fit_names_the_length_that_it_needs_and_exactly_that_one_works(longest, tokens, role):
    number = _needing(longest, role)[0]
    needed = _sizes(tokens, role, longest, number)[0]
    alone = {**longest, "steps": [longest["steps"][number]]}  # a step without a history
    (example,) = samples.role_examples([alone], (role,), tokens, needed)
    assert len(example.input_ids) == needed
    for length in (needed - 1, needed // 2, 8):
        with pytest.raises(AdaptbenchError) as caught:
            samples.role_examples([alone], (role,), tokens, length)
        message = str(caught.value)
        assert message.startswith(f"training.sequence_length: must be >= {needed} for the {role}'s prompt ")
        assert repr(longest["instruction"][:50]) in message
        assert len(message.splitlines()) == 1


def test_an_instruction_of_several_lines_is_still_a_message_of_one(longest, tokenizer):
    several = {**longest, "instruction": "Line one.\nLine two.\r\nLine three."}
    with pytest.raises(AdaptbenchError) as caught:
        samples.role_examples([several], ("planner",), tokenizer, 40)
    assert len(str(caught.value).splitlines()) == 1


# --- which trajectories


@pytest.fixture(scope="module")
def benchmark(trajectories, tmp_path_factory):
    """The directory of a benchmark with numbered trajectories, an odd number of them."""
    folder = tmp_path_factory.mktemp("agent")
    numbered = [{**one, "instruction": f"{one['instruction']} ({number})"} for number, one in enumerate(trajectories)]
    write_jsonl(folder / "splits" / "train.jsonl", numbered[:23])
    return folder


def test_the_halves_are_disjoint_and_together_all(benchmark):
    path = benchmark / "splits" / "train.jsonl"
    numbers = {
        part: [one["instruction"].rsplit("(", 1)[1] for one in samples.read(path, part)]
        for part in ("all", "first_half", "second_half")
    }
    first, second = set(numbers["first_half"]), set(numbers["second_half"])
    assert not first & second
    assert sorted(numbers["first_half"] + numbers["second_half"]) == sorted(numbers["all"])
    assert (len(first), len(second)) == (12, 11)


def _told(module, config, phase, context, model) -> Counter:
    """A curriculum's samples as texts, each shared one as the separate ones it stands for."""
    made = module.examples(config, phase, model, context)
    return Counter(_pair(context.tokenizer, whole) for example in made for whole in _whole(example))


@pytest.mark.parametrize("architecture", ["qwen3", "mistral"], ids=["shared", "separate"])
def test_every_stage_of_every_curriculum_sees_its_roles_steps_of_its_trajectories(benchmark, tokenizer, architecture):
    everything = samples.read(benchmark / "splits" / "train.jsonl")
    context = StageContext(0, {"agent": benchmark}, tokenizer, 800)
    model = toy_model(architecture, layers=1)

    def told(module, config, phase):
        return _told(module, config, phase, context, model)

    assert told(single, single.Config(), "global") == _wanted(everything, ("assistant",))
    assert told(multi_task, multi_task.Config(), "roles") == _wanted(everything, TEAM)
    for role in TEAM:
        assert told(one_stage, one_stage.Config(), role) == _wanted(everything, (role,))
        assert told(glpft, glpft.Config(), role) == _wanted(everything, (role,))
        assert told(glpft, glpft.Config(reuse=False), role) == _wanted(everything[1::2], (role,))
    assert told(single, single.Config(trajectories="first_half"), "global") == _wanted(everything[::2], ("assistant",))


@pytest.mark.parametrize("lacking", ["sharing", "packing"])
def test_a_base_that_cannot_share_gets_separate_samples_and_any_other_shared_ones(benchmark, tokenizer, lacking):
    contexts = [StageContext(0, {"agent": benchmark}, tokenizer, 800, lacks=one) for one in ({lacking: "a reason"}, {})]
    separate, shared = (samples.examples(one, ("planner",)) for one in contexts)
    assert not any(example.branches for example in separate)
    assert len(shared) < len(separate)
    assert any(example.branches for example in shared)
    assert [context.instead for context in contexts] == [{lacking: "a reason"}, {}]


def test_a_bad_record_is_named_with_its_place(benchmark, tokenizer, tmp_path):
    records = samples.read(benchmark / "splits" / "train.jsonl")
    records[2]["steps"][-1]["decision"] = "caller"
    write_jsonl(tmp_path / "splits" / "train.jsonl", records)
    with pytest.raises(AdaptbenchError, match=r"train\.jsonl:3: step \d+: "):
        samples.examples(StageContext(0, {"agent": tmp_path}, tokenizer, 800), ("planner",))


# --- the same tokens when the model works


class _Taught:
    """Stands in for greedy decoding: a model that has learned its samples by heart. What it is asked is kept."""

    def __init__(self, learned):
        self.learned, self.asked = learned, Counter()

    def __call__(self, model, tokenizer, prompts, max_new_tokens, *memory, **_):
        self.asked.update(tuple(ids) for ids in prompts)
        return [self.learned[tuple(ids)] for ids in prompts]


@pytest.mark.parametrize("roles", [("assistant",), TEAM], ids=["single", "team"])
def test_static_and_live_evaluation_ask_in_the_tokens_that_were_trained(trajectories, tokens, roles, monkeypatch):
    examples = samples.role_examples(trajectories, roles, tokens, LONG)
    trained = [next(i for i, label in enumerate(one.labels) if label != IGNORED) for one in examples]
    learned = {
        tuple(one.input_ids[:start]): list(one.input_ids[start:-1])
        for one, start in zip(examples, trained, strict=True)
    }
    model = toy_model("qwen3", layers=1, vocabulary=len(tokens))
    model.config.max_position_embeddings = 2048
    members = {role: generate.Member(model, tokens, lambda: None) for role in roles}
    lm = language_model.AgentLM(members, roles[0], 5, {}, max_turns=10)

    def respond(role, asked):
        return lm.respond(role, asked, 200)

    single_model = roles == ("assistant",)
    for place in ("static", "live"):
        taught = _Taught(learned)
        monkeypatch.setattr(language_model, "greedy", taught)
        if place == "static":
            # As lm-eval hands documents over: through JSON.
            documents = json.loads(json.dumps(step_documents(trajectories, "here")))
            asked = [{name: document[name] for name in language_model.ASKED} for document in documents]
            turns = episodes.steps(asked, respond, single=single_model)
            assert [turn.step for turn in turns] == [document["step"] | {"observation": ""} for document in documents]
        else:
            box = Toolbox(world.functions(world.Config(), 0), seconds=60)
            problems = json.loads(json.dumps(live_documents(trajectories)))
            played = episodes.play(problems, respond, [box] * len(problems), single=single_model, max_turns=10)
            assert [one.steps for one in played] == [one["steps"] for one in trajectories]
        assert set(taught.asked) == set(learned)
        assert taught.asked.total() == len(examples)
