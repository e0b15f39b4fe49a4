"""Every variant of ADEPT, from the import of a base to the tuned model.

Run: python -m pytest tests/methods/test_adept_variants.py
"""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from adaptbench.contracts import RunFiles
from adaptbench.methods.tuners import adept
from tests.support.adept_cases import DECOUPLED, VARIANTS, _log, _logits, variants_of

FIVE = ("llama", "qwen2", "qwen3", "mistral", "gemma")
every_case = pytest.mark.parametrize(
    ("architecture", "variant"), [(one, name) for one in FIVE for name in variants_of(one)]
)
every_base = pytest.mark.parametrize("architecture", FIVE)


def _expected_choice(options, stages_made):
    """Two of four layers, written out where nothing is measured or drawn."""
    placement = options.get("placement", "lowest")
    if placement == "random":
        return None
    if isinstance(placement, list):
        return placement
    if placement in ("uniform", "suffix"):
        return {"uniform": [1, 3], "suffix": [2, 3]}[placement]
    importance = json.loads((stages_made["probe"] / "importance.json").read_text())["importance"]
    ordered = sorted((value, layer) for layer, value in enumerate(importance))
    return sorted(layer for _, layer in (ordered[:2] if placement == "lowest" else ordered[2:]))


@every_case
def test_every_variant_makes_a_plain_model_in_which_the_chosen_layers_have_moved(
    architecture, variant, made, model_folder
):
    _, _, found = made(architecture)
    stages_made, options = found[variant], VARIANTS[variant]
    chosen = json.loads((stages_made["expand"] / "chosen.json").read_text())
    expected = _expected_choice(options, stages_made)
    assert chosen == expected if expected else len(set(chosen)) == 2
    base = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    model, report = AutoModelForCausalLM.from_pretrained(stages_made["tune"], output_loading_info=True)
    assert not any(report.values()), report
    assert type(model) is type(base)
    copied = options.get("expansion") != "none"
    # For each layer of the result: the base's layer that it was.
    origin = [layer for layer in range(4) for _ in range(2 if copied and layer in chosen else 1)]
    trained = [i for i, old in enumerate(origin) if old in chosen and (not copied or (origin[i - 1] == old and i > 0))]
    assert len(trained) == 2
    assert model.config.num_hidden_layers == len(model.model.layers) == len(origin) == (6 if copied else 4)
    assert getattr(model.config, "adaptbench_expanded_layers", None) == (trained if copied else None)
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == list(range(len(origin)))
    if getattr(base.config, "layer_types", None):
        assert model.config.layer_types == [base.config.layer_types[old] for old in origin]
    weights, still = base.state_dict(), []
    for name, tensor in model.state_dict().items():
        parts = name.split(".")
        layer = int(parts[2]) if parts[1] == "layers" else None
        if layer is not None:
            parts[2] = str(origin[layer])
        same = torch.equal(tensor, weights[".".join(parts)])
        assert same or layer in trained, name
        still += [name] if same and layer in trained else []
        assert tensor.isfinite().all()
    # By the extremes the most important unit has rate 0, here from the first step on, unless a later measurement finds
    # another.
    stopped = options.get("unit_lr") == "decoupled_minmax" and not copied
    assert len(still) <= stopped


@every_case
def test_every_variants_model_generates_with_a_cache_what_it_does_without_and_can_be_saved_again(
    architecture, variant, made, tmp_path
):
    """The prompt and what follows are longer than the sliding window of eight tokens."""
    model = AutoModelForCausalLM.from_pretrained(made(architecture)[2][variant]["tune"]).eval()
    prompt = torch.randint(1, 200, (2, 7), generator=torch.Generator().manual_seed(0))
    options = {"do_sample": False, "max_new_tokens": 6, "min_new_tokens": 6, "attention_mask": torch.ones_like(prompt)}
    cached = model.generate(prompt, use_cache=True, **options)
    assert cached.shape == (2, 13)
    assert torch.equal(cached, model.generate(prompt, use_cache=False, **options))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(_logits(again), _logits(model))


@every_base
def test_the_copies_are_made_as_identities_of_the_base(architecture, made, model_folder):
    base = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    start = AutoModelForCausalLM.from_pretrained(made(architecture)[2]["adept"]["expand"])
    assert start.config.num_hidden_layers == 6
    torch.testing.assert_close(_logits(start), _logits(base), rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_logs_its_refreshes(variant, made):
    stages_made, options = made("qwen3")[2][variant], VARIANTS[variant]
    decoupled = options.get("unit_lr", "decoupled_rank") in DECOUPLED
    rows = _log(stages_made["tune"])
    refreshed = [row["step"] for row in rows if any(key.startswith("multiplier/") for key in row)]
    assert refreshed == ([2] if decoupled else [])
    before = [row["step"] for row in rows if any(key.startswith("start/multiplier/") for key in row)]
    assert before == ([1] if decoupled and options.get("expansion") == "none" else [])


def test_the_figures_of_real_runs_show_what_their_stages_left(made, drawing, tmp_path):
    root, unfolded, found = made("qwen3")
    runs = [
        RunFiles(evaluated.run, 0, unfolded.run(evaluated).model_dump(mode="json"), found[evaluated.run], root)
        for evaluated in unfolded.evaluations
        if evaluated.run != "base"
    ]
    assert set(adept.FIGURES) == {"layer_importance", "unit_rates"}
    layers = adept.FIGURES["layer_importance"](runs)
    assert len(layers.axes) == 2
    importance = json.loads((found["adept"]["probe"] / "importance.json").read_text())["importance"]
    for axes in layers.axes:
        assert [bar.get_height() for bar in axes.patches] == importance
    rates = adept.FIGURES["unit_rates"](runs)
    panels = {axes.get_title(): axes.images[0].get_array() for axes in rates.axes if axes.images}
    decoupled = [name for name, options in VARIANTS.items() if options.get("unit_lr", "decoupled_rank") in DECOUPLED]
    assert list(panels) == decoupled
    for name, values in panels.items():
        assert values.shape == (22, 2 if VARIANTS[name].get("expansion") == "none" else 1)
        assert 0 <= values.min() < values.max() <= 2
    for figure in (layers, rates):
        figure.savefig(tmp_path / "figure.svg")
