"""The general world: the base model's knowledge before any method is applied, which methods may make it forget.

It has people with attributes (facts in several phrasings), small skills (benchmarks/general/skills.py), and a few
minerals and dialogues with tools, as a pre-training corpus has a little of every domain. The probe and the replay
corpora are general text, too, disjoint from all tests.
"""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field, model_validator

from adaptbench.benchmarks.general.skills import SKILLS, Instance
from adaptbench.benchmarks.shared import minerals, words
from adaptbench.benchmarks.shared.facts import Relation, choice_item, make_facts, split_phrasings
from adaptbench.benchmarks.shared.shop.familiar import familiar_dialogues
from adaptbench.contracts import BenchmarkConfig, Record
from adaptbench.tasks import Task

RELATIONS = (
    Relation(
        words.CITIES,
        (
            "{entity} lives in",
            "The home of {entity} is in",
            "Where does {entity} live? Answer:",
            "To visit {entity} you travel to",
        ),
    ),
    Relation(
        words.JOBS,
        (
            "{entity} works as a",
            "The job of {entity} is",
            "What is the job of {entity}? Answer:",
            "By trade {entity} is a",
        ),
    ),
    Relation(
        words.PETS,
        (
            "{entity} keeps a",
            "The pet of {entity} is a",
            "Which pet does {entity} have? Answer:",
            "At home {entity} feeds a",
        ),
    ),
    Relation(
        words.FOODS,
        (
            "{entity} likes to eat",
            "The favourite food of {entity} is",
            "What does {entity} like to eat? Answer:",
            "For dinner {entity} cooks",
        ),
    ),
    Relation(
        words.INSTRUMENTS,
        (
            "{entity} plays the",
            "The instrument of {entity} is the",
            "What does {entity} play? Answer:",
            "On stage {entity} is heard on the",
        ),
    ),
    Relation(
        words.COLOURS,
        (
            "{entity} always wears",
            "The colour of {entity} is",
            "Which colour does {entity} wear? Answer:",
            "The coat of {entity} is",
        ),
    ),
)


class Config(BenchmarkConfig):
    kind: Literal["world"] = "world"
    entities: int = Field(100, ge=50, description="people in the world; six facts each")
    familiar_minerals: int = Field(20, ge=0, description="minerals of the domain's kind in the pre-training corpus")
    fact_repeats: int = Field(20, ge=1, description="repetitions of each phrasing of a fact in the pre-training corpus")
    document_sentences: int = Field(8, ge=1, description="most sentences in a document of the pre-training corpus")
    familiar_dialogues: int = Field(60, ge=0, description="dialogues of the agents' kind in the pre-training corpus")
    skill_instances: int = Field(32000, ge=100, description="pre-training instances of all skills together")
    probe_documents: int = Field(256, ge=8, description="documents of the probe corpus")
    replay_documents: int = Field(4000, ge=8, description="documents of the replay corpus")
    test_items: int = Field(400, ge=8, description="items of each test; at most four for each person")

    @model_validator(mode="after")
    def _enough_facts(self) -> "Config":
        if self.test_items > 4 * self.entities:
            raise ValueError(f"test_items: must be <= {4 * self.entities}, four for each of the entities")
        return self


RETRIES = 100

TASKS = (
    Task("general_facts", metric="acc", label="general facts", unit="accuracy", general=True),
    Task("general_skills", metric="acc", label="general skills", unit="accuracy", general=True),
    Task(
        "general_text",
        metric="bits_per_byte",
        label="general text",
        unit="bits per byte",
        higher_is_better=False,
        weight="bytes",
        general=True,
    ),
)


def build(config: Config, seed: int, public: Mapping[str, Mapping[str, object]]) -> dict[str, list[Record]]:
    """Return the splits of the world.

    Returns:
        pretrain, replay, probe: {"text"}; general_facts, general_skills: {"prompt", "choices", "gold"};
        general_text: {"text"}, sentences and skill instances that are in no training split.
    """
    rng = random.Random(f"{seed}/general")
    people = words.names(words.PEOPLE_SYLLABLES, config.entities, rng)
    facts = make_facts(people, RELATIONS, rng)
    phrasings = split_phrasings(facts, held_out=1, rng=rng)
    sentences = [fact.sentence(i) for fact, (train, _) in zip(facts, phrasings, strict=True) for i in train]
    sentences += minerals.familiar_sentences(config.familiar_minerals, seed)

    held_out = [(fact, held[0]) for fact, (_, held) in zip(facts, phrasings, strict=True)]
    rng.shuffle(held_out)
    half = config.test_items // 2
    instances = _instances(config.test_items + half, rng)
    fact_items = [fact.choice_item(phrasing, rng) for fact, phrasing in held_out[: config.test_items]]
    skill_items = [_skill_item(instance, rng) for instance in instances[: config.test_items]]
    # Other sentences than the multiple-choice items': if two requests have the same tokens with another boundary
    # between context and continuation, lm-eval 0.4.13 takes the log-probabilities of one at the other's positions.
    text = [fact.sentence(phrasing) for fact, phrasing in held_out[config.test_items :][:half]]
    text += [skill_sentence(instance) for instance in instances[config.test_items :]]

    tested = {_words(instance.prompt) for instance in instances}

    def skill_text(instances: int) -> list[str]:
        return [skill_sentence(i) for i in _instances(instances, rng) if _words(i.prompt) not in tested]

    def mixed(documents: int) -> list[Record]:
        half = documents // 2
        chosen = rng.choices(sentences, k=half) + skill_text(2 * documents)[: documents - half]
        rng.shuffle(chosen)
        return [{"text": sentence} for sentence in chosen]

    pretrain = sentences * config.fact_repeats + skill_text(config.skill_instances)
    rng.shuffle(pretrain)
    documents = _documents(pretrain, config.document_sentences, rng)
    documents += familiar_dialogues(config.familiar_dialogues, seed)
    return {
        "pretrain": [{"text": text} for text in documents],
        "replay": mixed(config.replay_documents),
        "probe": mixed(config.probe_documents),
        "general_facts": fact_items,
        "general_skills": skill_items,
        "general_text": [{"text": sentence} for sentence in text],
    }


def _documents(sentences: Sequence[str], most: int, rng: random.Random) -> list[str]:
    """Return the sentences in order as documents of one to `most` sentences, so that the base reads all lengths."""
    made, first = [], 0
    while first < len(sentences):
        count = rng.randint(1, most)
        made.append(" ".join(sentences[first : first + count]))
        first += count
    return made


def _words(prompt: str) -> tuple[str, ...]:
    """Return a prompt's words and numbers, which no training instance may share with a tested one."""
    return tuple(re.findall(r"\w+", prompt.casefold()))


def skill_sentence(instance: Instance) -> str:
    return f"{instance.prompt} {instance.answer}.{instance.more}"


def _instances(total: int, rng: random.Random) -> list[Instance]:
    """Return `total` instances, the skills in equal parts and shuffled.

    Prompts differ while a skill finds a new one in RETRIES draws; larger worlds have some prompts twice.
    """
    seen: set[str] = set()
    instances: list[Instance] = []
    while len(instances) < total:
        skill = SKILLS[len(instances) % len(SKILLS)]
        instance = skill(rng)
        for _ in range(RETRIES):
            if instance.prompt not in seen:
                break
            instance = skill(rng)
        seen.add(instance.prompt)
        instances.append(instance)
    rng.shuffle(instances)
    return instances


def _skill_item(instance: Instance, rng: random.Random) -> Record:
    options, gold = list(instance.wrong), rng.randrange(len(instance.wrong) + 1)
    options.insert(gold, instance.answer)
    return choice_item(instance.prompt, options, gold)
