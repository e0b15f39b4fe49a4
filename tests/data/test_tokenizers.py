"""Bases' own tokenizers: what they append is stripped everywhere, what they may write has an embedding, what texts hold
trains.

Run: pytest tests/data/test_tokenizers.py
"""

from types import SimpleNamespace

import pytest
import torch

from adaptbench.agent import language_model as agent_lm
from adaptbench.data.tokenizer import closers, encode_documents, encode_prompts
from adaptbench.errors import AdaptbenchError
from adaptbench.evaluate import plain
from adaptbench.latent import language_model as latent_lm
from adaptbench.model import storage
from adaptbench.stages.base import import_base, pretrain
from tests.support.models import toy_model
from tests.support.presets import SENTENCES

TEMPLATES = {  # what is put around every text, and the tokenizer's end of text
    "nothing": ("$A", "</s>"),
    "a begin": ("<s> $A", "</s>"),
    "begin and end": ("<s> $A </s>", "</s>"),
    "an end alone": ("$A </s>", "</s>"),
    "a separator": ("<s> $A [SEP]", "</s>"),
    "two closers": ("<s> $A [SEP] </s>", "</s>"),
    "its own end twice": ("</s> $A </s>", "</s>"),
}
KINDS = [*TEMPLATES, "no fast version"]


def with_template(base, template: str, end: str, **named):
    """The tokenizer `base` with three more special tokens, which puts `template` around every text."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer.from_str(base.backend_tokenizer.to_str())
    inner.add_special_tokens(["<s>", "</s>", "[SEP]"])
    ids = [(token, inner.token_to_id(token)) for token in ("<s>", "</s>", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(single=template, pair=f"{template} $B", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=inner, **({"bos_token": "<s>", "eos_token": end} | named))


@pytest.fixture(scope="module")
def of_kind(tokenizer):
    def make(kind: str):
        if kind == "no fast version":
            from transformers import ByT5Tokenizer

            return ByT5Tokenizer(extra_ids=0)  # appends </s>, has no begin
        return with_template(tokenizer, *TEMPLATES[kind], pad_token="</s>")

    return make


@pytest.fixture
def folder(of_kind, tmp_path):
    """Makes a model's folder with a tokenizer of a kind."""

    def make(kind: str, architecture: str = "qwen3"):
        text_tokenizer = of_kind(kind)
        storage.save_model(toy_model(architecture, vocabulary=300), text_tokenizer, tmp_path)
        return tmp_path, storage.load_model(tmp_path), storage.load_tokenizer(tmp_path)

    return make


def opened(text_tokenizer, text: str) -> list[int]:
    """A text's tokens as something may follow them, by what the template says."""
    bare = text_tokenizer(text, add_special_tokens=False).input_ids
    whole = text_tokenizer(text).input_ids
    (start,) = [i for i in range(len(whole)) if whole[i : i + len(bare)] == bare]
    return whole[: start + len(bare)]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_end_with_their_text_and_documents_with_one_end(kind, of_kind):
    text_tokenizer = of_kind(kind)
    expected = [opened(text_tokenizer, text) for text in SENTENCES[:5]]
    assert encode_prompts(text_tokenizer, SENTENCES[:5]) == expected
    end = text_tokenizer.eos_token_id
    assert encode_documents(text_tokenizer, SENTENCES[:5]) == [[*ids, end] for ids in expected]
    (nothing,) = encode_prompts(text_tokenizer, [""])
    assert nothing == text_tokenizer("").input_ids[: max(1,
        len(text_tokenizer("").input_ids) - len(closers(text_tokenizer)))]  # fmt: skip


def test_a_tokenizer_told_to_append_the_end_is_as_one_that_always_does(of_kind):
    from transformers import LlamaTokenizer

    told = LlamaTokenizer(vocab={"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "▁a": 5, "b": 6}, merges=[("▁", "a")])
    expected = encode_prompts(told, ["a b", "b"])
    told = LlamaTokenizer(
        vocab={"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "a": 4, "▁a": 5, "b": 6},
        merges=[("▁", "a")],
        add_eos_token=True,
    )
    assert told("a b").input_ids[-1] == told.eos_token_id
    assert encode_prompts(told, ["a b", "b"]) == expected


def test_of_a_vocabulary_of_whole_words_what_is_appended_is_found_too():
    from tokenizers import Tokenizer, processors
    from tokenizers import models as kinds
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(kinds.WordLevel({"</s>": 0, "red": 1, "cup": 2, "?": 3}, unk_token="?"))
    inner.pre_tokenizer = Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="</s> $A </s>", special_tokens=[("</s>", 0)])
    words = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    assert encode_prompts(words, ["red cup", "cup"]) == [[0, 1, 2], [0, 2]]


def test_an_end_that_a_text_holds_itself_stays(of_kind):
    text_tokenizer = of_kind("a begin")
    (ids,) = encode_prompts(text_tokenizer, ["The red cup</s>"])
    assert ids[-1] == text_tokenizer.eos_token_id


# --- scoring


def log_likelihood(model, before: list[int], after: list[int]) -> float:
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([before + after])).logits[0].double().log_softmax(-1)
    return sum(logs[len(before) - 1 + i, token].item() for i, token in enumerate(after))


def written(model, ids: list[int], most: int, end: int) -> list[int]:
    made: list[int] = []
    with torch.no_grad():
        while len(made) < most and end not in made:
            made.append(int(model(input_ids=torch.tensor([ids + made])).logits[0, -1].argmax()))
    return [token for token in made if token != end]


def asked(kind: str, *arguments, number: int = 0):
    from lm_eval.api.instance import Instance

    return Instance(kind, {}, arguments, number, ("task", number, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_choices_texts_and_answers_follow_the_prompt_not_its_end(kind, folder):
    directory, model, text_tokenizer = folder(kind)
    lm = plain.language_model(directory, batch_size=3, tasks={})
    prompts = ["The red cup is", "The number 4 is kept by the old", "A cup"]
    pairs = [asked("loglikelihood", prompt, " kept", number=i) for i, prompt in enumerate(prompts)]
    expected = []
    for prompt in prompts:
        before, whole = opened(text_tokenizer, prompt), opened(text_tokenizer, f"{prompt} kept")
        assert whole[: len(before)] == before
        expected.append(log_likelihood(model, before, whole[len(before) :]))
    assert [value for value, _ in lm.loglikelihood(pairs)] == pytest.approx(expected, abs=1e-4)

    first = text_tokenizer.bos_token_id if text_tokenizer.bos_token_id is not None else text_tokenizer.eos_token_id
    (rolled,) = lm.loglikelihood_rolling([asked("loglikelihood_rolling", prompts[1])], disable_tqdm=True)
    assert rolled == pytest.approx(log_likelihood(model, [first], opened(text_tokenizer, prompts[1])), abs=1e-4)

    options = {"until": ["\nQuestion:"], "max_gen_toks": 6, "do_sample": False}
    requests = [asked("generate_until", prompt, options, number=i) for i, prompt in enumerate(prompts)]
    answers = [
        text_tokenizer.decode(written(model, opened(text_tokenizer, prompt), 6, text_tokenizer.eos_token_id),
            skip_special_tokens=True)
        for prompt in prompts
    ]  # fmt: skip
    assert lm.generate_until(requests, disable_tqdm=True) == answers


@pytest.mark.parametrize("kind", ["begin and end", "a separator"])
def test_agents_and_latents_read_prompts_without_what_is_appended(kind, folder):
    directory, model, text_tokenizer = folder(kind)
    model.config.max_position_embeddings = 1024
    task = {"instruction": "Add.", "tools": [], "history": []}
    (made,) = agent_lm.language_model(directory, batch_size=2, tasks={}).respond("assistant", [task], 5)
    ids = opened(text_tokenizer, "Tools:\nTask: Add.\nThought:")
    expected = written(model, ids, 5, text_tokenizer.eos_token_id)
    assert made.text == text_tokenizer.decode(expected, skip_special_tokens=True)

    thinking = latent_lm.language_model(directory, batch_size=2, tasks={})
    request = SimpleNamespace(
        args=("The red cup is", {"until": [], "max_gen_toks": 5}), doc={}, task_name="t", doc_id=0
    )
    expected = written(model, opened(text_tokenizer, "The red cup is"), 5, text_tokenizer.eos_token_id)
    assert thinking.generate_until([request]) == [text_tokenizer.decode(expected, skip_special_tokens=True)]


# --- ids


def take_in(folder, out):
    out.mkdir()
    return import_base({"options": {"model": str(folder), "revision": "main"}}, out, out)


def refused(folder, out) -> str:
    with pytest.raises(AdaptbenchError) as caught:
        take_in(folder, out)
    said = str(caught.value)
    assert said.startswith(f"base.model: {folder}: ")
    assert "\n" not in said
    return said


@pytest.mark.parametrize("role", ["pad_token", "unk_token", "bos_token", "eos_token"])
def test_a_named_token_without_an_embedding_is_refused_at_import(role, tokenizer, tmp_path):
    """A [PAD] that was added and the embeddings not resized, say."""
    text_tokenizer = with_template(tokenizer, "$A", "</s>", **{role: "[NEW]"})
    text_tokenizer.save_pretrained(tmp_path / "base")
    toy_model("llama", vocabulary=len(text_tokenizer) - 1).save_pretrained(tmp_path / "base")
    said = refused(tmp_path / "base", tmp_path / "out")
    assert (f"its tokenizer's '[NEW]' is token {len(text_tokenizer) - 1}, but the model has embeddings for "
        f"{len(text_tokenizer) - 1}") in said  # fmt: skip


@pytest.mark.parametrize("template", ["[SEP] $A", "$A [SEP]"])
def test_a_token_around_every_text_without_an_embedding_is_refused(template, tokenizer, tmp_path):
    text_tokenizer = with_template(tokenizer, template, "</s>")
    text_tokenizer.save_pretrained(tmp_path / "base")
    toy_model("llama", vocabulary=len(text_tokenizer) - 1).save_pretrained(tmp_path / "base")
    assert "its tokenizer's '[SEP]' is token" in refused(tmp_path / "base", tmp_path / "out")


def test_an_ordinary_token_without_an_embedding_is_refused(model_folder, tokenizer, tmp_path):
    toy_model("llama", vocabulary=len(tokenizer) - 5).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    assert f"is token {len(tokenizer) - 5}, but" in refused(tmp_path / "base", tmp_path / "out")


@pytest.mark.parametrize("named", [{}, {"extra_special_tokens": {"image_token": "<image>"}},
    {"extra_special_tokens": ["<image>"]}], ids=str)  # fmt: skip
def test_an_added_token_that_nothing_uses_is_text_where_it_has_no_embedding(named, tokenizer, tmp_path):
    """Gemma 3 of 1 billion parameters has an image's token, and no row for it."""
    text_tokenizer = with_template(tokenizer, "<s> $A", "</s>", pad_token="</s>", **named)
    text_tokenizer.add_tokens(["<image>"], special_tokens=True)
    rows = len(text_tokenizer) - 1
    assert max(text_tokenizer("a <image>").input_ids) == rows
    text_tokenizer.save_pretrained(tmp_path / "base")
    toy_model("llama", vocabulary=rows).save_pretrained(tmp_path / "base")
    take_in(tmp_path / "base", tmp_path / "out")
    taken = storage.load_tokenizer(tmp_path / "out")
    (ids,) = encode_prompts(taken, ["a <image> b"])
    assert max(ids) < rows
    assert taken.decode(ids, skip_special_tokens=True) == "a <image> b"
    assert taken("The red cup").input_ids == text_tokenizer("The red cup").input_ids
    assert (taken.bos_token, taken.eos_token, taken.pad_token) == ("<s>", "</s>", "</s>")
    storage.load_model(tmp_path / "out")(input_ids=torch.tensor([ids]))


def test_a_padded_vocabulary_is_taken(model_folder, tokenizer, tmp_path):
    toy_model("llama", vocabulary=len(tokenizer) + 22).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    take_in(tmp_path / "base", tmp_path / "out")
    assert storage.load_tokenizer(tmp_path / "out").get_vocab() == tokenizer.get_vocab()


def test_no_end_is_refused_and_no_padding_is_the_end(tokenizer, tmp_path):
    toy_model("llama", vocabulary=300).save_pretrained(tmp_path / "base")
    with_template(tokenizer, "<s> $A", "</s>").save_pretrained(tmp_path / "base")
    take_in(tmp_path / "base", tmp_path / "out")
    assert storage.load_tokenizer(tmp_path / "out").pad_token == "</s>"
    with_template(tokenizer, "<s> $A", "</s>", eos_token=None).save_pretrained(tmp_path / "base")
    assert "its tokenizer has no end-of-text token (eos_token)" in refused(tmp_path / "base", tmp_path / "again")


# --- the embedding of the padding token


def pretrained(tokenizer, data, out, *, tied: bool, steps: int):
    """The model that a base's stage makes, one token both beginning and filling up."""
    tokenizer.save_pretrained(out / "tokenizer")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "tie_word_embeddings": tied}
    training = {"steps": steps, "batch_size": 2, "sequence_length": 32, "precision": "float32", "schedule": "constant"}
    spec = {
        "options": {"architecture": sizes, "training": training, "seed": 0},
        "inputs": {"tokenizer": str(out / "tokenizer"), "general": str(data)},
        "checkpoint_seconds": 999,
    }
    (out / "made").mkdir()
    (out / "work").mkdir()
    pretrain(spec, out / "made", out / "work")
    return storage.load_model(out / "made")


def test_what_begins_every_document_is_learned_where_embeddings_are_untied(tokenizer, benchmark_data, tmp_path):
    rows = []
    for steps in (1, 4):
        (tmp_path / f"{steps}").mkdir()
        model = pretrained(tokenizer, benchmark_data["general"], tmp_path / f"{steps}", tied=False, steps=steps)
        assert tokenizer("").input_ids == [0] == [tokenizer.pad_token_id]
        assert model.get_input_embeddings().padding_idx is None
        rows.append(model.get_input_embeddings().weight[0])
        assert rows[-1].abs().min() > 0
    assert (rows[0] - rows[1]).abs().max() > 1e-4


def test_tied_embeddings_are_trained_as_before_by_their_head(tokenizer, benchmark_data, tmp_path):
    """No gradient comes through the input of that row; changing it would change every tied base's bits."""
    model = pretrained(tokenizer, benchmark_data["general"], tmp_path, tied=True, steps=4)
    assert model.get_input_embeddings().padding_idx == 0
    assert model.get_input_embeddings().weight[0].abs().max() > 1e-4


@pytest.mark.parametrize("architecture", ["qwen3", "gemma2"])
def test_of_a_base_the_padding_token_that_begins_texts_trains_too(architecture, tokenizer, tmp_path):
    """By its embedding, or by the head that is tied to it."""
    model = toy_model(architecture, vocabulary=len(tokenizer))
    assert model.get_input_embeddings().padding_idx == 0
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = 0.1
    storage.save_model(model, tokenizer, tmp_path / "base")
    take_in(tmp_path / "base", tmp_path / "out")
    taken = storage.load_model(tmp_path / "out")
    tied = taken.config.tie_word_embeddings
    assert taken.get_input_embeddings().padding_idx == (0 if tied else None)
    ids = torch.tensor([[0, 7, 8, 9]])
    taken(input_ids=ids, labels=ids).loss.backward()
    assert taken.get_input_embeddings().weight.grad[0].any()
    assert taken.config.pad_token_id == 0, "some architectures need one"


def test_an_embedding_of_zeros_stays_one(tokenizer, tmp_path):
    """Its gradient would be that of the norms after it, 1e14 here: clipped, nothing else would train."""
    model = toy_model("qwen3", vocabulary=len(tokenizer))
    assert not model.get_input_embeddings().weight[0].any()
    storage.save_model(model, tokenizer, tmp_path / "base")
    take_in(tmp_path / "base", tmp_path / "out")
    taken = storage.load_model(tmp_path / "out")
    ids = torch.tensor([[0, 7, 8, 9]])
    taken(input_ids=ids, labels=ids).loss.backward()
    assert max(p.grad.norm() for p in taken.parameters()) < 100
