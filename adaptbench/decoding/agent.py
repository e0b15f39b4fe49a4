"""Agent decoding: one model, or a planner, a caller and a summarizer, at single steps and in live episodes.

Everything else that lm-eval asks (log-likelihoods, the general tasks) goes to one model, as in plain decoding: the
assistant, or of a team the planner, which reads what the user says first; `general` names another role.
"""

import json
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adaptbench import models, registry
from adaptbench.agent import dialogue, episodes
from adaptbench.agent.memory import Kept, Memory, layers_of
from adaptbench.agent.samples import prompt_ids
from adaptbench.agent.toolbox import Toolbox
from adaptbench.contracts import AdaptbenchError
from adaptbench.model.padding import padded_left
from adaptbench.scoring import ScoringLM, end_ids, greedily
from adaptbench.stops import before_stop

SECONDS = 10.0  # of a tool; none takes a thousandth of that, but a machine may stall and results must not
PART = 16  # new tokens after which a batch is looked at for rows that have ended
ASKED = ("instruction", "tools", "history")


def language_model(
    directory: Path,
    *,
    batch_size: int,
    tasks: Mapping[str, Path],
    roles: Mapping[str, str] | None = None,
    base: str | None = None,
    general: str = "",
    max_turns: int = 10,
):
    """An lm-eval `LM` over a model's or a team's directory; `roles` and `base` as adaptbench/agent/team.py writes them.

    Greedy; each role writes at most the task's `max_gen_toks` tokens a step, an episode has at most `max_turns` steps.

    Raises:
        AdaptbenchError: `general` is no role of this directory.
    """
    roles = roles or {"assistant": "."}
    front = general or next(iter(roles))
    if front not in roles:
        raise AdaptbenchError(f"decode.general: must be one of {', '.join(roles)}")
    members = _adapted(directory, roles, base) if base else _plain(directory, roles)
    return AgentLM(members, front, batch_size, tasks, max_turns=max_turns, lacks=models.lacks(directory))


def _plain(directory: Path, roles: Mapping[str, str]) -> "dict[str, Member]":
    """Roles with models of their own; those in the same directory share one."""
    loaded = {place: models.load_model(directory / place).eval().to(models.device()) for place in set(roles.values())}
    memories = {place: Memory() for place in loaded}
    return {
        role: Member(loaded[place], models.load_tokenizer(directory / place), lambda: None, memories[place])
        for role, place in roles.items()
    }


def _adapted(directory: Path, roles: Mapping[str, str], base: str) -> "dict[str, Member]":
    """One model and an adapter a role."""
    from peft import PeftModel

    first, *others = roles
    model = PeftModel.from_pretrained(
        models.load_model(directory / base), str(directory / roles[first]), adapter_name=first
    )
    for role in others:
        model.load_adapter(str(directory / roles[role]), adapter_name=role)
    model.eval().to(models.device())
    tokenizer = models.load_tokenizer(directory / base)

    def switch(role: str):
        return lambda: model.set_adapter(role)

    return {role: Member(model, tokenizer, switch(role), Memory()) for role in roles}


class Member:
    """A role's model; `use` makes it ready where roles share one model. What it has read is in `memory`, if it can be kept."""

    def __init__(self, model: Any, tokenizer: Any, use: Any, memory: Memory | None = None) -> None:
        self.model, self.tokenizer, self.use = model, tokenizer, use
        self.memory = memory if _has_separable_cache(model, windows=False) else None


class AgentLM(ScoringLM):
    """Steps and episodes for documents that ask for them, all other requests as in plain decoding.

    A document of an agent task has "ask": "step" (the history is given; the answer is the whole step's text) or "episode"
    (the answer is the played episode as JSON).
    """

    def __init__(
        self,
        members: Mapping[str, Member],
        front: str,
        batch_size: int,
        tasks: Mapping[str, Path],
        *,
        max_turns: int,
        lacks: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.members, self.tasks, self.max_turns = members, tasks, max_turns
        self.single = "assistant" in members
        self.front = members[front]
        self.front.use()
        self.cut: dict[Hashable, dict[int, str]] = {}  # by dialogue, after how many steps a prompt did not fit
        super().__init__(self.front.model, self.front.tokenizer, batch_size, lacks)
        for member in members.values():
            member.memory = member.memory if self.cached else None

    def forget(self) -> None:
        """Drop what the members have read, which never changes an answer, only its time."""
        for member in self.members.values():
            if member.memory is not None:
                member.memory.clear()

    def loglikelihood(self, requests, disable_tqdm: bool = False):
        self.front.use()
        return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False):
        self.front.use()
        return super().loglikelihood_rolling(requests, disable_tqdm)

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        """The answers to all generative requests of all tasks, in order."""
        self.cut.clear()
        answers = answer(requests, self.respond, self.tasks, single=self.single, max_turns=self.max_turns)
        for request in (requests[i] for i in answers):
            after = self.cut.get(dialogue_key(request.doc), {})
            steps = max(after, default=0) if request.doc["ask"] == "episode" else len(request.doc["history"])
            if steps in after:
                self.note(request, after[steps])
        rest = [i for i in range(len(requests)) if i not in answers]
        if rest:
            self.front.use()
            found = super().generate_until([requests[i] for i in rest], disable_tqdm)
            answers |= dict(zip(rest, found, strict=True))
        return [answers[i] for i in range(len(requests))]

    def respond(self, role: str, asked: Sequence[episodes.Asked], max_new_tokens: int) -> list[episodes.Written]:
        """What the role's model writes, greedily, prompts of like length side by side."""
        member = self.members[role]
        member.use()
        room = self.max_length - max_new_tokens
        prompts = [self._prompt(member.tokenizer, role, one, room) for one in asked]
        dialogues = [dialogue_key(one) for one in asked]
        # Turn by turn: a later prompt of a dialogue goes on from the one before.
        fitting = sorted(
            (i for i, ids in enumerate(prompts) if ids is not None),
            key=lambda i: (len(asked[i]["history"]), len(prompts[i] or ())),
        )
        written = {i: episodes.Written(None, 0) for i, ids in enumerate(prompts) if ids is None}
        for first in range(0, len(fitting), self.generation_batch_size):
            batch = fitting[first : first + self.generation_batch_size]
            read, keys = [prompts[i] or [] for i in batch], [dialogues[i] for i in batch]
            made = greedy(member.model, member.tokenizer, read, max_new_tokens, member.memory, keys, cached=self.cached)
            for i, ids in zip(batch, made, strict=True):
                text = member.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                written[i] = episodes.Written(text, len(ids))
        return [written[i] for i in range(len(asked))]

    def _prompt(self, tokenizer: Any, role: str, asked: episodes.Asked, room: int) -> list[int] | None:
        """Return at most `room` tokens of what is asked, without its oldest steps where need be; None where that does not suffice."""
        whole = prompt_ids(tokenizer, role, {"thought": "", **asked}, None) or []
        if len(whole) <= room:
            return whole
        ids = prompt_ids(tokenizer, role, {"thought": "", **asked}, room)
        done = "without its oldest steps" if ids is not None else "not asked: no room for its prompt"
        self.cut.setdefault(dialogue_key(asked), {})[len(asked["history"])] = done
        return ids


def answer(
    requests: Sequence[Any],
    respond: Callable[[str, Sequence[episodes.Asked], int], Sequence[episodes.Written]],
    tasks: Mapping[str, Path],
    *,
    single: bool,
    max_turns: int,
) -> dict[int, str]:
    """The answers to those of lm-eval's requests that ask for a step or an episode, by their place.

    `respond` is also given the most tokens that a role may write, which is the task's.
    """
    answers: dict[int, str] = {}
    of_task: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(requests):
        if "ask" in one.doc:
            of_task.setdefault((one.task_name, one.doc["ask"]), []).append(i)
    for (task, ask), places in of_task.items():
        docs = [requests[i].doc for i in places]
        write = _limited(respond, requests[places[0]].args[1])

        if ask == "step":
            turns = episodes.steps([{name: doc[name] for name in ASKED} for doc in docs], write, single=single)
            texts = [_text(turn) for turn in turns]
        else:
            box = toolbox(task, tasks)
            played = episodes.play(docs, write, [box] * len(docs), single=single, max_turns=max_turns)
            texts = [json.dumps(episode.record(), ensure_ascii=False) for episode in played]
        answers |= dict(zip(places, texts, strict=True))
    return answers


def _limited(
    respond: Callable[[str, Sequence[episodes.Asked], int], Sequence[episodes.Written]], options: Mapping[str, Any]
) -> episodes.Respond:
    """`respond` under a task's generation options: as many tokens at most, and nothing from a stop text on."""

    def write(role: str, asked: Sequence[episodes.Asked]) -> Sequence[episodes.Written]:
        return [
            episodes.Written(one.text and before_stop(one.text, options["until"]), one.tokens)
            for one in respond(role, asked, options["max_gen_toks"])
        ]

    return write


def greedy(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    memory: Memory | None = None,
    dialogues: Sequence[Hashable] = (),
    *,
    cached: bool = True,
) -> list[list[int]]:
    """The likeliest token again and again until the end of text, for all prompts at once, with a cache of keys and values.

    Every PART tokens the rows that have ended leave the batch, if the model keeps nothing but keys and values. What `memory`
    holds of a prompt's dialogue is not computed again, and what was computed here is kept in it.
    Returns each prompt's new tokens, the end of text left out.
    """
    import torch

    longest = max(map(len, prompts))
    ids, seen = (one.to(model.device) for one in padded_left(prompts, tokenizer.pad_token_id))
    made: list[list[int]] = [[] for _ in prompts]
    rows, cache = list(range(len(prompts))), None
    if memory is not None:
        left = max(len(one) - memory.known(key, one) for key, one in zip(dialogues, prompts, strict=True))
        cache = memory.cache(dialogues, [max(0, len(one) - left) for one in prompts])
    part = PART if cached and _has_separable_cache(model) else max_new_tokens
    ends = end_ids(model, tokenizer)
    with torch.inference_mode(), greedily(model, tokenizer, cached=cached):
        while rows:
            out = model.generate(
                input_ids=ids,
                attention_mask=seen,
                past_key_values=cache,
                max_new_tokens=min(part, max_new_tokens - len(made[rows[0]])),
                return_dict_in_generate=True,
            )
            new = out.sequences[:, ids.shape[1] :]
            for row, tokens in zip(rows, new.tolist(), strict=True):
                made[row] += tokens
            going = [
                i for i, row in enumerate(rows) if len(before_end(made[row], ends)) == len(made[row]) < max_new_tokens
            ]
            if memory is not None:
                for i in sorted(set(range(len(rows))).difference(going)):
                    row = rows[i]
                    # The last token that was written has not been read.
                    known = [*prompts[row], *before_end(made[row][:-1], ends)]
                    begin = longest - len(prompts[row])
                    of_row = layers_of(out.past_key_values, i, begin, begin + len(known))
                    memory.keep(dialogues[row], Kept(known, of_row))
            rows = [rows[i] for i in going]
            if rows:
                cache = out.past_key_values
                cache.batch_select_indices(torch.tensor(going, device=model.device))
                ids, seen = out.sequences[going], torch.cat([seen, torch.ones_like(new)], dim=1)[going]
    return [before_end(one, ends) for one in made]


def before_end(ids: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens before the first of `ends`, all where there is none."""
    return list(takewhile(lambda token: token not in ends, ids))


def dialogue_key(asked: Mapping[str, Any]) -> Hashable:
    """What all prompts of one dialogue share: tools and instruction."""
    return asked["instruction"], tuple(tool["name"] for tool in asked["tools"])


def _has_separable_cache(model: Any, *, windows: bool = True) -> bool:
    """Whether rows can be taken out of the model's cache: keys and values of every layer, no recurrent state.

    Without `windows` the cache must also hold every token that was read.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    layers = DynamicCache(config=model.config.get_text_config(decoder=True)).layers
    kinds = (DynamicLayer, DynamicSlidingWindowLayer) if windows else (DynamicLayer,)
    return bool(layers) and all(type(layer) in kinds for layer in layers)


def toolbox(task: str, tasks: Mapping[str, Path]) -> Toolbox:
    """The executable tools of the benchmark that an episode's task belongs to."""
    folder = next(path for path in tasks.values() if (path / "tasks" / f"{task}.yaml").exists())
    made = json.loads((folder / "manifest.json").read_text())["options"]
    module = registry.benchmark(made["track"], made["config"]["kind"])
    return Toolbox(module.functions(module.Config.model_validate(made["config"]), made["seed"]), seconds=SECONDS)


def _text(turn: episodes.Turn) -> str:
    """A step as a single model would have written it, which is what scores read."""
    if turn.step is None:
        return dialogue.UNASKED
    thought = f"{turn.step['thought']} {dialogue.ASSUMED}" if turn.missing else turn.step["thought"]
    return dialogue.target("assistant", {**turn.step, "thought": thought})
