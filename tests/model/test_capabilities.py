"""What a base can do is measured, and known before any job.

Run: python -m pytest tests/model/test_capabilities.py
"""

import json
import subprocess
import sys

import pytest
import torch

from adaptbench.config import architectures, load
from adaptbench.data.packing import Packed, collate, document
from adaptbench.errors import AdaptbenchError
from adaptbench.graph import preflight, surroundings, unfolding
from adaptbench.io import hub, model_folder
from adaptbench.model import storage
from adaptbench.model.scoring import ScoringLM, greedily
from adaptbench.stages import job, measuring
from adaptbench.train import objectives
from adaptbench.train.objectives import causal_lm, inputs_of
from tests.support.presets import preset_values
from tests.support.project import PROJECT
from tools import capabilities_table, small_models

NAMED = (
    "llama", "qwen2", "qwen3", "qwen3_moe", "mistral", "gemma2", "gemma3", "gemma3_text", "olmo2", "phi3", "gpt2",
    "gpt_neox",
    "smollm3", "granite",
)  # fmt: skip
SEE_EACH_OTHER = (
    "qwen3_next", "qwen3_5_text", "gpt_oss", "lfm2", "granitemoehybrid", "falcon", "opt", "bloom", "mpt", "mamba",
    "jamba",
    "recurrent_gemma", "falcon_mamba", "rwkv", "xglm", "minimax",
)  # fmt: skip


def test_the_table_is_of_the_installed_transformers_and_of_every_architecture():
    content = json.loads(architectures.TABLE.read_text())
    import transformers

    assert content["transformers"] == transformers.__version__, "run `make architectures`"
    assert set(content["architectures"]) | set(content["unbuilt"]) == set(small_models.TYPES)


OF_EACH_ANSWER = {tuple(sorted(lacks.items())): kind for kind, lacks in architectures.known().items()}.values()


@pytest.mark.parametrize("kind", sorted({*NAMED, *OF_EACH_ANSWER}))
def test_the_table_says_what_is_measured(kind):
    """Measure the usual architectures and one of all that lack the same; `make architectures` measures every one.

    Attention to the few keys that an index scores highest may choose among equals by rounding, and so by the machine.
    """
    measured, table = capabilities_table.measure(kind), architectures.known()[kind]
    if any(word in table.get("sharing", "") for word in ("indexed", "sparse")):
        assert measured.keys() ^ table.keys() <= {
            "packing",
            "padding",
            "caching",
            "embeddings",
            "latents",
            "expansion",
            "wavefront",
        }
    else:
        assert measured == table, "run `make architectures`"


def test_the_architectures_that_most_bases_have_pack():
    assert not [kind for kind in NAMED if architectures.known()[kind].get("packing")]


@pytest.mark.parametrize("kind", [kind for kind, lacks in architectures.known().items() if "packing" not in lacks])
def test_in_a_packed_row_the_first_document_changes_nothing_of_the_others(kind):
    """In both ways that training attends. Elsewhere than in NAMED a mixture of experts may round otherwise as their
    loads change.
    """
    model = small_models.small_model(kind)
    documents = [list(range(20, 20 + size)) for size in (11, 23, 17)]
    for way in dict.fromkeys((model.config._attn_implementation, "eager")):
        if way != model.config._attn_implementation:
            model.set_attn_implementation(way)
        with torch.no_grad():
            logits = [
                model(**inputs_of(collate([[document(one) for one in row]], 60, 0)), use_cache=False).logits
                for row in (documents, [[i + 40 for i in documents[0]], *documents[1:]])
            ]
            alone = [model(input_ids=torch.tensor([one]), use_cache=False).logits[0] for one in documents]
        change = (logits[0] - logits[1])[0, 11:51].abs().max()
        assert change <= (0 if kind in NAMED and "moe" not in kind else 1e-5)
        assert torch.allclose(logits[0][0, :51], torch.cat(alone), atol=2e-4)


@pytest.mark.parametrize("kind", SEE_EACH_OTHER)
def test_where_documents_would_see_each_other_each_has_a_row(kind):
    """Loss and gradients of a padded batch are those of the documents one by one."""
    assert architectures.known()[kind]["packing"]
    model = small_models.small_model(kind)
    documents = [document(list(range(20, 20 + size))) for size in (9, 31, 14)]
    packed = Packed(documents, 32, seed=0, together=False)
    rows = packed.epoch(0)
    assert sorted(len(row) for row in rows) == [1, 1, 1]
    model.zero_grad()
    loss = causal_lm(model, packed.collate(rows, pad_id=0))
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    counts = [len(one.input_ids) - 1 for one in documents]
    alone = [
        causal_lm(model, {"input_ids": torch.tensor([one.input_ids]), "labels": torch.tensor([one.labels])})
        for one in documents
    ]
    whole = sum(one * count for one, count in zip(alone, counts, strict=True)) / sum(counts)
    whole.backward()
    assert torch.allclose(loss, whole, rtol=1e-5)
    for name, p in model.named_parameters():
        if p.grad is not None:
            assert torch.allclose(gradients[name], p.grad, rtol=1e-3, atol=1e-5), name


def test_measuring_leaves_the_model_as_it_was():
    model = small_models.small_model("gpt2").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attention, generation = model.config._attn_implementation, model.generation_config
    measuring.measure(model)
    assert model.training
    assert model.config._attn_implementation == attention
    assert model.generation_config is generation
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_what_a_models_code_raises_is_a_reason_and_no_traceback():
    model = small_models.small_model("llama")
    model.forward = lambda **_: (_ for _ in ()).throw(RuntimeError("of its own\nin two lines"))
    found = measuring.measure(model)
    assert set(found) == set(architectures.NAMES)
    assert found["packing"] == "raises RuntimeError: of its own in two lines"


def _folder(tmp_path, kind: str) -> str:
    """A base that is known by its configuration alone, as far as planning reads it."""
    folder = tmp_path / kind
    folder.mkdir()
    small_models.small_config(kind).save_pretrained(folder)
    (folder / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    (folder / "tokenizer.json").write_text("{}")
    return str(folder)


def checked(tmp_path, kind: str, **run) -> tuple[str, str]:
    """What `python -m adaptbench check` says of a preset on such a base, and whether it imported torch."""
    import yaml

    values = preset_values() | {"base": {"model": _folder(tmp_path, kind)}, "runs": [run]}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(values))
    code = (
        "import sys; sys.argv = ['adaptbench', 'check', sys.argv[1]]\n"
        "from adaptbench.cli import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "preset.yaml")], cwd=PROJECT, capture_output=True, text=True
    )
    return done.stderr.strip(), done.stdout.split()[-1]


CPT = {"name": "mine", "track": "domain", "curriculum": {"kind": "cpt"}}


@pytest.mark.parametrize("kind", ["bert", "roberta", "xlnet", "reformer"])
def test_a_base_that_is_not_causal_is_refused_at_planning(kind, tmp_path):
    said, torch_there = checked(tmp_path, kind, **CPT, tuner={"kind": "full"})
    assert said.count("\n") == 0
    assert "the run 'mine'" in said
    assert str(tmp_path / kind) in said
    assert architectures.known()[kind]["causal"] in said
    assert torch_there == "False"


@pytest.mark.parametrize("kind", ["rwkv", "bert"])
def test_a_run_that_needs_what_its_base_lacks_is_refused_at_planning(kind, tmp_path):
    reason = architectures.known()[kind]["expansion"]
    assert reason
    said, torch_there = checked(tmp_path, kind, **CPT, tuner={"kind": "llama_pro", "layers": 1})
    assert said.count("\n") == 0
    assert (reason if kind == "rwkv" else architectures.known()[kind]["causal"]) in said
    assert torch_there == "False"


@pytest.mark.parametrize("kind", ["qwen3_next", "opt", "mamba", "llama", "gpt2"])
def test_a_base_is_taken_for_what_it_can_do(kind, tmp_path):
    said, _ = checked(tmp_path, kind, **CPT, tuner={"kind": "full"})
    assert said == ""


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind, lacks in architectures.known().items()
        if {"padding", "caching"} & lacks.keys() and "causal" not in lacks
    ],
)
def test_where_batches_or_caches_are_wrong_answers_are_written_the_slow_way(kind, tokenizer):
    """One prompt at a time, without a cache where need be: each token is the likeliest of a fresh pass over the text
    before it.
    """
    model = small_models.small_model(kind)
    scoring = ScoringLM(model, tokenizer, 4, architectures.known()[kind])
    assert scoring.generation_batch_size == 1
    assert scoring.cached == ("caching" not in architectures.known()[kind])
    prompt = list(range(30, 55))
    with torch.no_grad(), greedily(model, tokenizer, cached=scoring.cached):
        ids = torch.tensor([prompt])
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, use_cache=True)[
            0
        ].tolist()
        for place in range(len(prompt), len(written)):
            scores = model(input_ids=torch.tensor([written[:place]]), use_cache=False).logits[0, -1]
            assert scores[written[place]] >= scores.max() - 1e-4
    assert "generate" not in vars(model)


def _on(model: str):
    """The graph of a preset with one LLaMA-Pro run on this base."""
    run = CPT | {"tuner": {"kind": "llama_pro", "layers": 1}}
    preset = load.validate(preset_values() | {"base": {"model": model}, "runs": [run]}, "toy.yaml")
    return unfolding.unfold(preset)


def test_a_base_that_only_the_hub_knows_is_refused_before_any_job(monkeypatch):
    found = hub.ModelInfo({"model_type": "bert"}, 10, 20, 20, "the hub")
    monkeypatch.setattr(hub, "find_remote", lambda model, revision: found)
    unfolded = _on("owner/some-bert")
    with pytest.raises(
        AdaptbenchError, match=r"^base\.model: owner/some-bert: cannot be the base of the run 'mine'.*: a token sees"
    ):
        preflight.check(unfolded, list(unfolded.nodes))


def test_what_was_measured_of_a_base_that_is_there_counts_at_planning(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    unfolded = _on("owner/unheard-of")
    surroundings._check_base(unfolded)
    (node,) = (one for one in unfolded.nodes.values() if one.kind == "imported_base")
    unfolded.directory(node.id).mkdir(parents=True)
    model_folder.write_manifest(unfolded.directory(node.id), {"lacks": {"expansion": "copies are not identities"}})
    with pytest.raises(AdaptbenchError, match=r"owner/unheard-of: .*'mine'.*: copies are not identities$"):
        surroundings._check_base(unfolded)


def test_the_first_job_measures_a_base_and_refuses_what_it_cannot_do(tmp_path, tokenizer):
    """Of an architecture that the table does not know; the runs that need it are named, and nothing is left."""
    small_models.small_model("openai-gpt", vocab_size=300).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    spec = {
        "id": "base-x", "kind": "imported_base", "inputs": {}, "parents": {}, "sources": [], "code": "",
        "options": {"model": str(tmp_path / "base"), "revision": "main"}, "needs": [["mine", "tuner", "expansion"]],
    }  # fmt: skip
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "base-x.json").write_text(json.dumps(spec))
    with pytest.raises(AdaptbenchError, match=r"'mine', whose tuner needs that copies .*: copies are not identities"):
        job.run(tmp_path / "plan" / "base-x.json", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "plan" / "base-x.json").write_text(json.dumps(spec | {"needs": []}))
    job.run(tmp_path / "plan" / "base-x.json", tmp_path / "out")
    assert model_folder.lacks(tmp_path / "out") == architectures.known()["openai-gpt"]


def test_what_the_real_base_adds_to_its_logits_counts_in_the_loss(tmp_path, monkeypatch):
    """Falcon-H1's default scales them by 1, its released models do not; the table knows the default alone."""
    model = small_models.small_model("falcon_h1", lm_head_multiplier=0.5)
    lacks = measuring.lacks(model)
    assert "head" in lacks
    assert "head" not in architectures.known()["falcon_h1"]
    model.save_pretrained(tmp_path)
    model_folder.write_manifest(tmp_path, {"lacks": lacks})
    opened = storage.load_model(tmp_path)
    batch = {"input_ids": torch.arange(20, 40)[None], "labels": torch.arange(20, 40)[None]}
    plain = causal_lm(opened, batch)
    monkeypatch.setattr(objectives, "MANY_LOGITS", 0)
    assert torch.allclose(causal_lm(opened, batch), plain)
