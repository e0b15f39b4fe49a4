"""The lm-eval model of ours: lm-eval's numbers where those are right, greedy whatever a base recommends, nothing cut in
silence.

Run: pytest tests/model/test_scoring.py
"""

import json
import math

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from adaptbench.agent import dialogue
from adaptbench.agent.generate import Member
from adaptbench.agent.language_model import AgentLM
from adaptbench.data import benchmark_data
from adaptbench.evaluate import harness, metrics, plain
from adaptbench.latent import language_model as latent_lm
from adaptbench.model import storage
from adaptbench.model.scoring import ScoringLM
from adaptbench.tasks import Task
from tests.support.models import toy_model

TEXTS = [
    "The red cup number 1 is kept.", "", "A", "The number 42 is kept by the old man of the house. " * 3,
    "The blue key number 9 is the number 9 of the red cup",
]  # fmt: skip
GREEDY = {"until": ["\nQuestion:"], "max_gen_toks": 12, "do_sample": False}


def instances(kind: str, arguments, task: str = "task") -> list[Instance]:
    return [Instance(kind, {}, one, number, (task, number, 1)) for number, one in enumerate(arguments)]


def pairs() -> list[Instance]:
    choices = [(text, f" {word}") for text in TEXTS for word in ("kept", "the old man", "9")]
    return instances("loglikelihood", choices + [("", text) for text in TEXTS if text] + [("The cup ", "is kept.")])


@pytest.fixture(params=["qwen3", "gemma2"])
def both(request, model_folder):
    """The same model by us and by lm-eval alone, as `lm-eval --model hf --model_args pretrained=FOLDER` makes it."""
    folder = model_folder(request.param)
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=4, logits_cache=False)
    return plain.language_model(folder, batch_size=4, tasks={}), theirs


def test_what_lm_eval_scores_right_comes_out_alike_to_the_bit(both):
    ours, theirs = both
    assert ours.loglikelihood(pairs(), disable_tqdm=True) == theirs.loglikelihood(pairs(), disable_tqdm=True)
    whole = instances("loglikelihood_rolling", [(text,) for text in TEXTS])
    assert ours.loglikelihood_rolling(whole, disable_tqdm=True) == theirs.loglikelihood_rolling(
        whole, disable_tqdm=True
    )
    for options in (
        GREEDY,
        {"until": [" "], "max_gen_toks": 3},
        {"until": ["."], "do_sample": True, "temperature": 0.7},
    ):
        prompts = instances("generate_until", [(text, options) for text in TEXTS if text])
        answers = []
        for lm in both:
            torch.manual_seed(0)
            answers.append(lm.generate_until(prompts, disable_tqdm=True))
        assert answers[0] == answers[1]
    assert ours.too_long == {}


def test_rows_that_cannot_be_padded_are_written_one_at_a_time_and_alike(model_folder, monkeypatch):
    folder = model_folder("qwen3")
    lm = ScoringLM(
        storage.load_model(folder), storage.load_tokenizer(folder), 4, {"padding": "computes something else"}
    )
    rows = []
    generate = type(lm.model).generate
    monkeypatch.setattr(lm.model, "generate", lambda **o: rows.append(len(o["input_ids"])) or generate(lm.model, **o))
    prompts = instances("generate_until", [(text, GREEDY) for text in TEXTS if text])
    assert lm.generate_until(prompts, disable_tqdm=True) == plain.language_model(folder, batch_size=4,
        tasks={}).generate_until(prompts, disable_tqdm=True)  # fmt: skip
    assert set(rows) == {1}
    assert lm.batch_size == 4


# --- greedy

RECOMMENDED = {
    "repetition": {"repetition_penalty": 3.0},
    "n-grams": {"no_repeat_ngram_size": 1},
    "bad words": {"bad_words_ids": [[5], [6, 7], *([i] for i in range(40, 280))]},
    "suppressed": {"suppress_tokens": list(range(5, 280))},
    "suppressed at first": {"begin_suppress_tokens": list(range(5, 280))},
    "forced end": {"forced_eos_token_id": 5},
    "bias": {"sequence_bias": [[[5], 99.0]]},
    "lengths": {"min_new_tokens": 12, "min_length": 40, "max_length": 8},
    "growing penalty": {"exponential_decay_length_penalty": [1, 50.0]},
    "beams": {"num_beams": 3, "length_penalty": 2.0},
    "sampling": {"do_sample": True, "temperature": 5.0, "top_p": 0.9, "top_k": 50, "min_p": 0.1},
    "other ends": {"eos_token_id": list(range(5, 280))},
    "stop strings": {"stop_strings": ["e", "a"]},
    "time": {"max_time": 1e-9},
    "watermark": {"watermarking_config": {"bias": 20.0, "greenlist_ratio": 0.25}},
    "static cache": {"cache_implementation": "static"},
    "looked up": {"prompt_lookup_num_tokens": 3},
    "invalid values": {"renormalize_logits": True, "remove_invalid_values": True},
    "several answers": {"num_return_sequences": 2, "num_beams": 2},
}


@pytest.fixture(scope="module")
def ending(model_folder, tmp_path_factory):
    """A toy that ends its answers now and then, in a folder."""
    folder = tmp_path_factory.mktemp("ending")
    model, tokenizer = storage.load_model(model_folder("qwen3")), storage.load_tokenizer(model_folder("qwen3"))
    with torch.no_grad():
        model.get_output_embeddings().weight[0] = 3 * model.get_output_embeddings().weight[9]
    storage.save_model(model, tokenizer, folder)
    return folder


@pytest.mark.parametrize("name", RECOMMENDED)
def test_what_a_base_recommends_for_generation_changes_no_answer(name, ending, tmp_path):
    prompts = instances("generate_until", [(text, GREEDY) for text in TEXTS if text])
    lm = plain.language_model(ending, batch_size=2, tasks={})
    expected = lm.generate_until(prompts, disable_tqdm=True)
    model, tokenizer = storage.load_model(ending), storage.load_tokenizer(ending)
    storage.save_model(model, tokenizer, tmp_path)
    recommended = {"eos_token_id": 0, "pad_token_id": 0} | RECOMMENDED[name]
    (tmp_path / "generation_config.json").write_text(json.dumps(recommended))
    lm = plain.language_model(tmp_path, batch_size=2, tasks={})
    assert lm.generate_until(prompts, disable_tqdm=True) == expected
    assert lm.model.generation_config.to_diff_dict().keys() >= RECOMMENDED[name].keys(), "the base keeps its own"


def test_nor_does_what_an_old_configuration_recommends(ending, tmp_path):
    prompts = instances("generate_until", [(text, GREEDY) for text in TEXTS if text])
    expected = plain.language_model(ending, batch_size=2, tasks={}).generate_until(prompts, disable_tqdm=True)
    storage.save_model(storage.load_model(ending), storage.load_tokenizer(ending), tmp_path)
    (tmp_path / "generation_config.json").unlink()
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"repetition_penalty": 3.0, "no_repeat_ngram_size": 1}))
    lm = plain.language_model(tmp_path, batch_size=2, tasks={})
    assert lm.model.generation_config.repetition_penalty == 3.0
    assert lm.generate_until(prompts, disable_tqdm=True) == expected


def test_a_chat_models_further_ends_end_answers_and_are_not_read(model_folder, tokenizer, tmp_path):
    """Its directory names them, and the tokenizer says that they are no words."""
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    inner.add_special_tokens(["<turn>"])
    named = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    chat = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    turn = chat.convert_tokens_to_ids("<turn>")
    model = toy_model("qwen3", vocabulary=len(chat))
    storage.save_model(model, chat, tmp_path)
    lm = plain.language_model(tmp_path, batch_size=2, tasks={})
    (request,) = instances("generate_until", [("The red cup", GREEDY)])
    (through,) = lm.generate_until([request], disable_tqdm=True)
    ids = chat("The red cup").input_ids
    made = model.generate(torch.tensor([ids]), max_new_tokens=12)[0, len(ids) :].tolist()
    assert through == chat.decode(made)
    with torch.no_grad():  # what was its fifth token is the end of a turn from now on
        head = lm.model.get_output_embeddings().weight
        head[turn], head[made[4]] = head[made[4]].clone(), 0.0
        embeddings = lm.model.get_input_embeddings().weight
        embeddings[turn] = embeddings[made[4]]
    stop = made.index(made[4])
    (read_on,) = lm.generate_until([request], disable_tqdm=True)
    lm.model.generation_config.eos_token_id = [0, turn]
    (ended,) = lm.generate_until([request], disable_tqdm=True)
    assert ended == chat.decode(made[:stop])
    assert len(ended) < len(read_on)


# --- what does not fit

LENGTH = 32


@pytest.fixture
def short(model_folder):
    """A model of GPT-2's kind, whose positions end."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = storage.load_tokenizer(model_folder("qwen3"))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, n_positions=LENGTH,
        initializer_range=0.3))  # fmt: skip
    return ScoringLM(model.eval(), tokenizer, 3)


def in_windows(lm, ids: list[int]) -> float:
    """Log-probability of a text by hand: windows side by side, each begun by the token before it."""
    total, first = 0.0, [lm.prefix_token_id, *ids]
    with torch.no_grad():
        for start in range(0, len(ids), LENGTH):
            end = min(start + LENGTH, len(ids))
            begin = max(0, end - LENGTH)  # the last one sees as much as it can
            logs = lm.model(input_ids=torch.tensor([first[begin:end]])).logits[0].double().log_softmax(-1)
            total += sum(logs[i - begin, ids[i]].item() for i in range(start, end))
    return total


@pytest.mark.parametrize("size", [LENGTH - 1, LENGTH, LENGTH + 1, 2 * LENGTH, 3 * LENGTH + 5])
def test_a_text_longer_than_the_model_reads_is_scored_whole_in_windows(short, size):
    ids = torch.randint(65, 90, (size,), generator=torch.Generator().manual_seed(size)).tolist()
    text = short.tokenizer.decode(ids)
    ids = short.tokenizer(text, add_special_tokens=False).input_ids
    (request,) = instances("loglikelihood", [("", text)])
    ((value, _),) = short.loglikelihood([request], disable_tqdm=True)
    assert value == pytest.approx(in_windows(short, ids), rel=1e-5)
    assert short.too_long == ({"task": {0: "read in windows"}} if len(ids) > LENGTH else {})


def test_a_choice_after_a_long_prompt_is_scored_by_the_prompts_end(short):
    text = "The red cup number 1 is kept. " * 8
    requests = instances("loglikelihood", [(text, " kept"), ("The red cup", " kept"), (text, "!" * 50)])
    ((found, _), (near, _), (windows, _)) = short.loglikelihood(requests, disable_tqdm=True)
    ids = short.tokenizer(text + " kept").input_ids
    # Spaces at a prompt's end go to what follows, as in lm-eval.
    before = len(short.tokenizer(text.rstrip()).input_ids)
    with torch.no_grad():
        logs = short.model(input_ids=torch.tensor([ids[-LENGTH - 1 : -1]])).logits[0].log_softmax(-1)
    expected = sum(logs[i - len(ids), ids[i]].item() for i in range(before, len(ids)))
    assert found == pytest.approx(expected, rel=1e-5)
    assert near != found
    assert math.isfinite(windows)
    assert short.too_long == {"task": {0: "cut at the prompt's beginning", 2: "read in windows"}}


def test_a_long_text_is_counted_where_lm_eval_reads_it_in_windows(short):
    requests = instances("loglikelihood_rolling", [("The red cup. " * 20,), ("A cup.",)])
    assert all(map(math.isfinite, short.loglikelihood_rolling(requests, disable_tqdm=True)))
    assert short.too_long == {"task": {0: "read in windows"}}


@pytest.mark.parametrize("most", [8, LENGTH // 2, LENGTH - 1, LENGTH, 500])
def test_a_long_prompt_loses_its_beginning_and_an_answer_gets_half_the_input_at_most(short, most):
    room = min(most, LENGTH // 2)
    prompts = ["The red cup number 1 is kept. " * 8, "A"]
    requests = instances("generate_until", [(text, GREEDY | {"max_gen_toks": most}) for text in prompts])
    answers = short.generate_until(requests, disable_tqdm=True)
    for text, answer in zip(prompts, answers, strict=True):
        ids = short.tokenizer(text).input_ids[-(LENGTH - room) :]
        with torch.no_grad():
            for _ in range(room):
                ids.append(int(short.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer == short.tokenizer.decode(ids[-room:], skip_special_tokens=True)
    assert short.too_long == {"task": {0: "cut at the prompt's beginning"}}


def test_nothing_to_read_or_to_score_fails_no_assertion(model_folder):
    from transformers import ByT5Tokenizer

    lm = ScoringLM(toy_model("qwen3", vocabulary=259), ByT5Tokenizer(extra_ids=0), 4)  # puts nothing before a text
    requests = instances("loglikelihood", [("", ""), ("  ", "a"), ("a", ""), ("\n", " a"), ("", "a")])
    scores = lm.loglikelihood(requests, disable_tqdm=True)
    assert scores[0] == scores[2] == (0.0, True)
    assert all(value < 0 for value, _ in (scores[1], scores[3], scores[4]))
    assert lm.loglikelihood([], disable_tqdm=True) == []
    assert len(lm.generate_until(instances("generate_until", [("", GREEDY)]), disable_tqdm=True)) == 1


def test_a_choice_that_joins_the_prompts_last_token_is_scored_from_there(short, tokenizer):
    merged = next(token for token in tokenizer.get_vocab() if len(token) == 2 and token.isalpha())
    requests = instances("loglikelihood", [(f"A\n{merged[0]}", merged[1])])
    whole, before = tokenizer(f"A\n{merged}").input_ids, tokenizer(f"A\n{merged[0]}").input_ids
    assert len(whole) == len(before)
    ((value, _),) = short.loglikelihood(requests, disable_tqdm=True)
    with torch.no_grad():
        logs = short.model(input_ids=torch.tensor([whole])).logits[0].log_softmax(-1)
    assert value == pytest.approx(logs[-2, whole[-1]].item(), rel=1e-5)


@pytest.mark.parametrize(
    ("architecture", "options", "longest"),
    [("mpt", {"max_seq_len": 64, "d_model": 32, "n_heads": 2, "n_layers": 1}, 64),
     ("bloom", {"hidden_size": 32, "n_head": 2, "n_layer": 1}, 2048)],
)  # fmt: skip
def test_models_that_name_their_length_otherwise_or_not_at_all_score_long_texts(
    architecture, options, longest, tokenizer
):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(architecture, vocab_size=300, **options)
    lm = ScoringLM(AutoModelForCausalLM.from_config(config).eval(), tokenizer, 2)
    assert lm.max_length == longest
    requests = instances("loglikelihood", [("", "The red cup is kept. " * 12)])
    ((value, _),) = lm.loglikelihood(requests, disable_tqdm=True)
    assert math.isfinite(value)
    assert bool(lm.too_long) == (longest < 100)


SIZES = (1, 9, 20)


@pytest.fixture
def corpus(tmp_path):
    """Tasks of a corpus and of generation, some of whose documents are longer than the model's input."""
    splits = {
        "general_corpus_text": [{"text": "The red cup is kept. " * size} for size in SIZES],
    }
    folder = tmp_path / "general"
    (folder / "splits").mkdir(parents=True)
    for name, records in splits.items():
        (folder / f"splits/{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    (folder / "manifest.json").write_text(json.dumps({"options": {"track": "general", "config": {"kind": "corpus"}}}))
    out = tmp_path / "tasks"
    out.mkdir()
    options = {"track": "general", "tasks": ["general_corpus_text"], "files": ["benchmarks/splits.py"]}
    benchmark_data.lay_tasks(options, folder, out)
    return {"general": out}


def test_documents_longer_than_the_model_reads_are_counted_in_the_log_and_the_results(short, corpus, tmp_path, capsys):
    storage.save_model(short.model, short.tokenizer, tmp_path / "model")
    names = ["general_corpus_text"]
    found, _ = harness.evaluate(tmp_path / "model", {"kind": "plain"}, names, corpus, batch_size=2, limit=None)
    assert found["too_long"] == {"general_corpus_text": {"too_long": 2}}
    assert "general_corpus_text: 2 of 3 items do not fit into 32 tokens: 2 read in windows\n" in capsys.readouterr().err
    task = Task("general_corpus_text", "bits_per_byte", "text", "bits per byte", higher_is_better=False, weight="bytes")
    rows = metrics.sample_rows(found["samples"], [task]).sort_values("document")
    for text, value in zip(("The red cup is kept. " * size for size in SIZES), rows["value"], strict=True):
        ids = short.tokenizer(text, add_special_tokens=False).input_ids
        assert value == pytest.approx(-in_windows(short, ids) / math.log(2) / len(text.encode()), rel=1e-5)


def step(number: int, instruction: str, steps: int) -> Instance:
    past = {"thought": "I add.", "decision": "caller", "action": "add", "arguments": '{"a": 1}', "observation": "2",
        "answer": ""}  # fmt: skip
    document = {"ask": "step", "instruction": instruction, "tools": [], "history": [past] * steps}
    return Instance("generate_until", document, ("", {"until": [], "max_gen_toks": 4}), number, ("steps", number, 1))


def test_agents_count_the_steps_whose_history_is_cut_and_those_that_do_not_fit_at_all(model_folder):
    folder = model_folder("qwen3")
    model, tokenizer = storage.load_model(folder), storage.load_tokenizer(folder)
    model.config.max_position_embeddings = 100
    lm = AgentLM({"assistant": Member(model, tokenizer, lambda: None)}, "assistant", 2, {}, max_turns=3)
    requests = [step(0, "Add.", 0), step(1, "Add.", 1), step(2, "Add.", 9), step(3, "Add them. " * 40, 0)]
    answers = lm.generate_until(requests, disable_tqdm=True)
    assert [answer == dialogue.UNASKED for answer in answers] == [False, False, False, True]
    assert lm.too_long == {"steps": {2: "without its oldest steps", 3: "not asked: no room for its prompt"}}


def test_latents_count_the_prompts_that_are_cut(model_folder):
    folder = model_folder("qwen3")
    lm = latent_lm.language_model(folder, batch_size=2, tasks={})
    lm._max_length = LENGTH
    options = {"until": [], "max_gen_toks": 300}
    lm.generate_until(instances("generate_until", [("The cup", options), ("The red cup " * 9, options)]))
    assert lm.too_long == {"task": {1: "cut at the prompt's beginning"}}
    assert {one["visible_tokens"] for one in lm.taken.values()} == {LENGTH // 2}, "a random toy hardly ever ends"
