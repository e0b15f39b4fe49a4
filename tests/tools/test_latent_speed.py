"""The measurement of latent passes: the released schedule is one more exact way, and what is written is what was
measured.

Run: python -m pytest tests/tools/test_latent_speed.py
"""

import pandas as pd
import pytest
import torch

from adaptbench.errors import AdaptbenchError
from adaptbench.latent import passes
from tools.speed import latents as latent_speed

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 90}


@pytest.fixture
def small(monkeypatch):
    for name, value in {
        "MODELS": {"toy": SMALL}, "REPEATS": 1, "BATCHES": (2, 3), "LENGTH": 40, "LATENTS": 4, "ITERATIONS": (1, 4),
        "PROBLEMS": 3, "WRITTEN": 9,
    }.items():  # fmt: skip
        monkeypatch.setattr(latent_speed, name, value)


def test_the_released_schedule_is_exact_too(small):
    model = latent_speed._model(SMALL)
    ids, lengths = latent_speed._batch(3, latent_speed._latent_id(model), "cpu")
    found = [
        way(model, ids, lengths, latent_speed._latent_id(model), latent_speed.FUSION)
        for way in (latent_speed.column_union, passes.naive)
    ]
    columns = (ids == latent_speed._latent_id(model)).any(0).sum()
    assert found[0].passes == columns + 1 > 5
    torch.testing.assert_close(found[0].hidden, found[1].hidden, rtol=0, atol=1e-3 * float(found[1].hidden.abs().max()))


def test_what_is_kept(small, tmp_path, capsys):
    latent_speed.measure(tmp_path)
    training = pd.read_csv(tmp_path / "latents.csv")
    assert len(training) == 2 * 4
    exact = training[training["way"].isin([latent_speed.RELEASED, "wavefront"])]
    assert (exact["gradient_difference"] < 1e-3).all()
    assert (training[training["way"] == "Jacobi, 2 iterations"]["gradient_difference"] > 1e-3).all(), (
        "the check can fail"
    )
    assert set(training[training["way"] == "wavefront"]["passes"]) == {5}
    residual = pd.read_csv(tmp_path / "latent_residual.csv").set_index("iterations")["state_difference"]
    assert residual[4] < 1e-4 < residual[1]
    decoding = pd.read_csv(tmp_path / "latent_decoding.csv")
    assert set(decoding["tokens"]) == {3 * 9}
    assert (decoding["latent_tokens"] > 0).all()
    shown = capsys.readouterr().out
    tables = list(tmp_path.glob("*.md"))
    assert len(tables) == 3
    assert all(table.read_text() in shown for table in tables)


def test_responses_that_differ_are_no_measurement(small, tmp_path, monkeypatch):
    kept = latent_speed.respond

    def wrong(model, prompts, *more, **options):
        written = kept(model, prompts, *more, **options)
        if len(prompts) == 1:
            written[0].tokens[0] += 1
        return written

    monkeypatch.setattr(latent_speed, "respond", wrong)
    with pytest.raises(AdaptbenchError, match="responses differ"):
        latent_speed.measure(tmp_path)
    assert not (tmp_path / "latent_decoding.csv").exists()
