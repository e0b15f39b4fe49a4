"""Agent decoding: one model, or a planner, a caller and a summarizer, at single steps and in live episodes.

All other requests of lm-eval (log-likelihoods, the general tasks) go to one model, as in plain decoding. That is the
assistant, or the planner of a team, which reads the user's words first; `general` names another role.
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adaptbench import registry
from adaptbench.agent import dialogue, episodes
from adaptbench.agent.generate import Member, greedy
from adaptbench.agent.memory import Memory
from adaptbench.agent.samples import prompt_ids
from adaptbench.agent.toolbox import Toolbox
from adaptbench.errors import AdaptbenchError
from adaptbench.io import model_folder
from adaptbench.jobs import gpus
from adaptbench.model import storage
from adaptbench.model.scoring import ScoringLM
from adaptbench.model.stops import before_stop

SECONDS = 10.0  # for a tool call; none takes a thousandth of that, but a stalled machine must not change results


ASKED = ("instruction", "tools", "history")  # fields of a document that make its prompt


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
    """Return an lm-eval `LM` over a model's or a team's directory.

    `roles` and `base` are as adaptbench/agent/team.py writes them. The LM decodes greedily. Each role writes at most
    the task's `max_gen_toks` tokens a step, and an episode has at most `max_turns` steps.

    Raises:
        AdaptbenchError: `general` is not a role of this directory.
    """
    roles = roles or {"assistant": "."}
    front = general or next(iter(roles))
    if front not in roles:
        raise AdaptbenchError(f"decode.general: must be one of {', '.join(roles)}")
    members = _adapted(directory, roles, base) if base else _plain(directory, roles)
    return AgentLM(members, front, batch_size, tasks, max_turns=max_turns, lacks=model_folder.lacks(directory))


def _plain(directory: Path, roles: Mapping[str, str]) -> "dict[str, Member]":
    """Load a model for each role; roles in the same directory share one."""
    loaded = {place: storage.load_model(directory / place).eval().to(gpus.device()) for place in set(roles.values())}
    memories = {place: Memory() for place in loaded}
    return {
        role: Member(loaded[place], storage.load_tokenizer(directory / place), lambda: None, memories[place])
        for role, place in roles.items()
    }


def _adapted(directory: Path, roles: Mapping[str, str], base: str) -> "dict[str, Member]":
    """Load one model, and an adapter for each role."""
    from peft import PeftModel

    first, *others = roles
    model = PeftModel.from_pretrained(
        storage.load_model(directory / base), str(directory / roles[first]), adapter_name=first
    )
    for role in others:
        model.load_adapter(str(directory / roles[role]), adapter_name=role)
    model.eval().to(gpus.device())
    tokenizer = storage.load_tokenizer(directory / base)

    def switch(role: str):
        return lambda: model.set_adapter(role)

    return {role: Member(model, tokenizer, switch(role), Memory()) for role in roles}


class AgentLM(ScoringLM):
    """An LM that writes steps and plays episodes for documents that ask for them, and else decodes plainly.

    A document of an agent task has "ask": "step" (the history is given; the answer is the whole step's text) or
    "episode" (the answer is the played episode as JSON).
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
        self.cut: dict[Hashable, dict[int, str]] = {}  # by dialogue and number of past steps: a prompt that did not fit
        super().__init__(self.front.model, self.front.tokenizer, batch_size, lacks)
        for member in members.values():
            member.memory = member.memory if self.cached else None

    def forget(self) -> None:
        """Clear the members' memories, which changes the time of answers but never the answers."""
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
        """Return the answers to all generative requests of all tasks, in order."""
        self.cut.clear()
        answers = answer_requests(requests, self.respond, self.tasks, single=self.single, max_turns=self.max_turns)
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
        """Return the text that the role's model writes greedily for each prompt; prompts of like length are batched."""
        member = self.members[role]
        member.use()
        room = self.max_length - max_new_tokens
        prompts = [self._prompt(member.tokenizer, role, one, room) for one in asked]
        dialogues = [dialogue_key(one) for one in asked]
        # Turn by turn: a later prompt of a dialogue continues the one before.
        fitting = sorted(
            (i for i, ids in enumerate(prompts) if ids is not None),
            key=lambda i: (len(asked[i]["history"]), len(prompts[i] or ())),
        )
        written = {i: episodes.Written(None, 0) for i, ids in enumerate(prompts) if ids is None}
        for first in range(0, len(fitting), self.generation_batch_size):
            batch = fitting[first : first + self.generation_batch_size]
            read, keys = [prompts[i] or [] for i in batch], [dialogues[i] for i in batch]
            made = greedy(
                member.model, member.tokenizer, read, max_new_tokens,
                memory=member.memory, dialogues=keys, cached=self.cached,
            )  # fmt: skip
            for i, ids in zip(batch, made, strict=True):
                text = member.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                written[i] = episodes.Written(text, len(ids))
        return [written[i] for i in range(len(asked))]

    def _prompt(self, tokenizer: Any, role: str, asked: episodes.Asked, room: int) -> list[int] | None:
        """Return a prompt in at most `room` tokens, without its oldest steps if need be; None if it does not fit."""
        whole = prompt_ids(tokenizer, role, {"thought": "", **asked}, None) or []
        if len(whole) <= room:
            return whole
        ids = prompt_ids(tokenizer, role, {"thought": "", **asked}, room)
        done = "without its oldest steps" if ids is not None else "not asked: no room for its prompt"
        self.cut.setdefault(dialogue_key(asked), {})[len(asked["history"])] = done
        return ids


def answer_requests(
    requests: Sequence[Any],
    respond: Callable[[str, Sequence[episodes.Asked], int], Sequence[episodes.Written]],
    tasks: Mapping[str, Path],
    *,
    single: bool,
    max_turns: int,
) -> dict[int, str]:
    """Return the answers to those of lm-eval's requests that ask for a step or an episode, by their place.

    `respond(role, asked, max_new_tokens)` returns the role's text for each prompt.
    """
    answers: dict[int, str] = {}
    of_task: dict[tuple[str, str], list[int]] = {}
    for i, one in enumerate(requests):
        if "ask" in one.doc:
            of_task.setdefault((one.task_name, one.doc["ask"]), []).append(i)
    for (task, ask), places in of_task.items():
        docs = [requests[i].doc for i in places]
        write = _with_generation_options(respond, requests[places[0]].args[1])

        if ask == "step":
            turns = episodes.steps([{name: doc[name] for name in ASKED} for doc in docs], write, single=single)
            texts = [_text(turn) for turn in turns]
        else:
            box = toolbox(task, tasks)
            played = episodes.play(docs, write, [box] * len(docs), single=single, max_turns=max_turns)
            texts = [json.dumps(episode.record(), ensure_ascii=False) for episode in played]
        answers |= dict(zip(places, texts, strict=True))
    return answers


def _with_generation_options(
    respond: Callable[[str, Sequence[episodes.Asked], int], Sequence[episodes.Written]], options: Mapping[str, Any]
) -> episodes.Respond:
    """Return `respond` under a task's generation options: at most `max_gen_toks` tokens, cut at a stop text."""

    def write(role: str, asked: Sequence[episodes.Asked]) -> Sequence[episodes.Written]:
        return [
            episodes.Written(one.text and before_stop(one.text, options["until"]), one.tokens)
            for one in respond(role, asked, options["max_gen_toks"])
        ]

    return write


def dialogue_key(asked: Mapping[str, Any]) -> Hashable:
    """Return the key that all prompts of one dialogue share: its instruction and the names of its tools."""
    return asked["instruction"], tuple(tool["name"] for tool in asked["tools"])


def toolbox(task: str, tasks: Mapping[str, Path]) -> Toolbox:
    """Return the executable tools of the benchmark that an episode's task belongs to."""
    folder = next(path for path in tasks.values() if (path / "tasks" / f"{task}.yaml").exists())
    made = json.loads((folder / "manifest.json").read_text())["options"]
    module = registry.benchmark(made["track"], made["config"]["kind"])
    return Toolbox(module.functions(module.Config.model_validate(made["config"]), made["seed"]), seconds=SECONDS)


def _text(turn: episodes.Turn) -> str:
    """Return a step as a single model would have written it, the form that is scored."""
    if turn.step is None:
        return dialogue.UNASKED
    thought = f"{turn.step['thought']} {dialogue.ASSUMED}" if turn.missing else turn.step["thought"]
    return dialogue.target("assistant", {**turn.step, "thought": thought})
