"""Trainings that are killed or stopped, and resumed: the same bits, the same log, and no half-written checkpoint.

Run: python -m pytest tests/train/test_checkpoints.py
"""

import json
import math
import re
import signal

import pytest
import safetensors.torch
import torch

from adaptbench import errors
from adaptbench.data.packing import collate
from adaptbench.errors import AdaptbenchError
from adaptbench.kernels import implementations
from adaptbench.train import attention, loop, objectives
from adaptbench.train.optimizers import total_steps
from tests.support import training_cases as cases

CASES = {
    "adamw": (cases.small_model, {"weight_decay": 0.1}),
    "muon": (cases.small_model, {"optimizer": "muon", "muon_learning_rate": 0.01, "weight_decay": 0.1}),
    "muon-tied-head": (cases.tied_model, {"optimizer": "muon", "muon_learning_rate": 0.01}),
    "dropout": (cases.lora_model, {"learning_rate": 1e-2}),
    "accumulated": (cases.small_model, {"micro_batch_size": 1}),
    "bfloat16": (cases.small_model, {"precision": "bfloat16"}),
    "compiled-dropout": (cases.lora_model, {"compile": True, "learning_rate": 1e-2, "gradient_checkpointing": True}),
}
CASES_HERE = [pytest.param(name, marks=cases.WITH_A_COMPILER if "compiled" in name else ()) for name in CASES]


def test_a_resumed_run_attends_as_it_began(tmp_path, monkeypatch):
    """Though the process that goes on would not have: another processor, more processes."""
    options = cases.training_options(precision="bfloat16")
    with monkeypatch.context() as patch:
        cases.kill_at(patch, 3)
        patch.setattr(attention, "choose_attention", lambda *_: "eager")
        with pytest.raises(cases.Killed):
            cases.train(cases.small_model(), tmp_path, options, checkpoint_seconds=0)
    monkeypatch.setattr(attention, "choose_attention", lambda *_: "sdpa")
    assert cases.train(cases.small_model(), tmp_path, options).attention == "eager"


@pytest.mark.parametrize("case", CASES_HERE)
def test_a_killed_run_ends_in_the_same_bits_and_the_same_log(tmp_path, monkeypatch, case):
    make, changed = CASES[case]
    options = cases.training_options(schedule="linear", warmup_ratio=0.3, **changed)
    whole, interrupted, resumed = make(), make(), make()
    start = cases.weights(whole)
    cases.train(whole, tmp_path / "whole", options, checkpoint_seconds=0)
    assert any(not torch.equal(start[name], p) for name, p in cases.weights(whole).items())
    for step in (3, 6):  # killed twice, so that a resumed run is itself resumed
        with monkeypatch.context() as patch:
            cases.kill_at(patch, step)
            with pytest.raises(cases.Killed):
                cases.train(interrupted, tmp_path / "killed", options, checkpoint_seconds=0)
        assert [row["step"] for row in cases.log(tmp_path / "killed")] == list(range(1, step + 1))
        interrupted = make()
        torch.manual_seed(99)  # another process has another random state
        torch._dynamo.reset()  # and has compiled nothing: its code comes from torch's cache
    steps_taken = []
    with monkeypatch.context() as patch:
        write = loop.Log.write
        patch.setattr(
            loop.Log, "write", lambda self, now, **values: (steps_taken.append(now), write(self, now, **values))
        )
        outcome = cases.train(resumed, tmp_path / "killed", options, checkpoint_seconds=0)
    assert steps_taken == [6, 7, 8], "the steps before the last checkpoint were taken again"
    cases.assert_same_bits(cases.weights(resumed), cases.weights(whole))
    assert (tmp_path / "killed/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()
    assert outcome.tokens == cases.log(tmp_path / "whole")[-1]["tokens"]
    assert outcome.compiled == options.compile


def test_dropout_depends_on_the_random_state_that_the_checkpoint_restores(tmp_path, monkeypatch):
    """Without the restored state the resumed run differs: the test above would notice."""
    whole, killed = cases.lora_model(), cases.lora_model()
    cases.train(whole, tmp_path / "whole", cases.training_options(), checkpoint_seconds=0)
    with monkeypatch.context() as patch:
        cases.kill_at(patch, 3)
        with pytest.raises(cases.Killed):
            cases.train(killed, tmp_path / "killed", cases.training_options(), checkpoint_seconds=0)
    resumed = cases.lora_model()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "set_rng_state", lambda state: None)
        cases.train(resumed, tmp_path / "killed", cases.training_options(), checkpoint_seconds=0)
    assert any(not torch.equal(p, q) for p, q in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_the_step_saves_and_the_rerun_gives_the_same_bits(tmp_path, number):
    whole, stopped, resumed = cases.small_model(), cases.small_model(), cases.small_model()
    cases.train(whole, tmp_path / "whole", cases.training_options(), callback=cases.Callback())
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(
        errors.Interrupted, match=f"^stopped by {number.name} after step 3 of 8; run again to go on from there$"
    ):
        cases.train(
            stopped,
            tmp_path / "stopped",
            cases.training_options(),
            callback=cases.Callback(3, number),
            checkpoint_seconds=1e9,
        )
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == ["checkpoint", "training.jsonl"]
    callback = cases.Callback()
    cases.train(resumed, tmp_path / "stopped", cases.training_options(), callback=callback, checkpoint_seconds=1e9)
    assert callback.seen == list(range(1, 9))
    cases.assert_same_bits(cases.weights(resumed), cases.weights(whole))
    assert (tmp_path / "stopped/training.jsonl").read_text() == (tmp_path / "whole/training.jsonl").read_text()


class _Starting(cases.Callback):
    """A callback that is also called before the first step."""

    def __init__(self, stop_at=0):
        super().__init__(stop_at)
        self.started = []

    def start(self, step, steps, run):
        assert float(run(objectives.causal_lm, collate(cases.some_data().epoch(0)[:1], cases.LENGTH, 0)).detach()) > 0
        self.started.append((step, steps, len(self.seen)))
        return {} if step else {"at_start": 0.5}


@pytest.mark.parametrize("epochs", [None, 0.5])
def test_a_callback_is_called_before_the_first_step_here_and_hears_of_how_many(tmp_path, epochs):
    options = cases.training_options() if epochs is None else cases.training_options(steps=None, epochs=epochs)
    steps = total_steps(options, cases.some_data())
    assert steps >= 5
    whole, stopped, resumed = _Starting(), _Starting(3), _Starting()
    cases.train(cases.small_model(), tmp_path / "whole", options, callback=whole)
    assert whole.started == [(0, steps, 0)]
    with pytest.raises(errors.Interrupted):
        cases.train(cases.small_model(), tmp_path / "stopped", options, callback=stopped, checkpoint_seconds=1e9)
    cases.train(cases.small_model(), tmp_path / "stopped", options, callback=resumed)
    assert stopped.started == [(0, steps, 0)]
    assert resumed.started == [(3, steps, 3)], "after its state is restored"
    assert [row.get("at_start") for row in cases.log(tmp_path / "whole")] == [0.5] + [None] * (steps - 1)
    kept = [(path / "training.jsonl").read_text().splitlines() for path in (tmp_path / "whole", tmp_path / "stopped")]
    without = [[{k: v for k, v in json.loads(line).items() if k != "tokens"} for line in one] for one in kept]
    assert without[0] == without[1]


def test_a_signal_in_the_last_step_lets_the_finished_run_finish(tmp_path):
    assert cases.train(cases.small_model(), tmp_path, cases.training_options(), callback=cases.Callback(8)).steps == 8
    assert len(cases.log(tmp_path)) == 8


def _of_infinite_slope(loss):
    """The loss, with a gradient that is no number."""
    return loss + (loss - loss.detach()).sqrt()


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda loss: loss * math.nan, "the loss is nan"),
        (lambda loss: loss * math.inf, "the loss is inf"),
        (_of_infinite_slope, "the norm of the gradient is (nan|inf)"),
    ],
)
def test_a_loss_or_gradient_that_is_no_number_is_said_in_one_line_with_its_step(tmp_path, spoilt, said):
    calls = []

    def objective(model, batch):
        calls.append(1)
        loss = objectives.causal_lm(model, batch)
        return spoilt(loss) if len(calls) == 3 else loss

    with pytest.raises(AdaptbenchError, match=f"^step 3: {said}; lower training.learning_rate$"):
        cases.train(cases.small_model(), tmp_path, cases.training_options(), objective=objective, checkpoint_seconds=0)
    assert [row["step"] for row in cases.log(tmp_path)] == [1, 2]
    # The checkpoint is from before: with a sound objective the run goes on from step 2 and ends well.
    model = cases.small_model()
    assert math.isfinite(cases.train(model, tmp_path, cases.training_options()).final_loss)
    assert all(p.isfinite().all() for p in model.parameters())
    assert [row["step"] for row in cases.log(tmp_path)] == list(range(1, 9))


def test_a_half_written_checkpoint_is_not_taken(tmp_path):
    """A process killed while it wrote its first checkpoint leaves a folder with another name."""
    whole, again = cases.small_model(), cases.small_model()
    cases.train(whole, tmp_path / "whole", cases.training_options())
    leftover = tmp_path / "again" / ".checkpoint.12345.tmp"
    leftover.mkdir(parents=True)
    (leftover / "tensors.safetensors").write_bytes(b"\x10\x00\x00\x00")
    (leftover / "state.json").write_text('{"state": {"counts": {"step": 5')
    cases.train(again, tmp_path / "again", cases.training_options(), checkpoint_seconds=0)
    cases.assert_same_bits(cases.weights(again), cases.weights(whole))
    assert [row["step"] for row in cases.log(tmp_path / "again")] == list(range(1, 9))


def _killed_after(step, work, monkeypatch):
    with monkeypatch.context() as patch:
        cases.kill_at(patch, step + 1)
        with pytest.raises(cases.Killed):
            cases.train(cases.small_model(), work, cases.training_options(), checkpoint_seconds=0)


def test_a_kill_between_two_checkpoints_goes_on_from_the_earlier(tmp_path, monkeypatch):
    """Just after the earlier one was moved aside and before the new one took its place."""
    whole, resumed = cases.small_model(), cases.small_model()
    cases.train(whole, tmp_path / "whole", cases.training_options())
    _killed_after(4, tmp_path / "killed", monkeypatch)
    (tmp_path / "killed/checkpoint").rename(tmp_path / "killed/.checkpoint.old")
    callback = cases.Callback()
    callback.restore = lambda state: None
    cases.train(resumed, tmp_path / "killed", cases.training_options(), callback=callback)
    assert callback.seen == [5, 6, 7, 8]
    cases.assert_same_bits(cases.weights(resumed), cases.weights(whole))


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("cut", [0, 100, None], ids=["empty", "cut", "gone"])
def test_a_damaged_checkpoint_is_one_line(tmp_path, monkeypatch, file, cut):
    _killed_after(2, tmp_path, monkeypatch)
    path = tmp_path / "checkpoint" / file
    content = path.read_bytes()
    path.unlink() if cut is None else path.write_bytes(content[:cut])
    with pytest.raises(AdaptbenchError, match=r"/checkpoint: damaged; delete it and run again$"):
        cases.train(cases.small_model(), tmp_path, cases.training_options())


def test_what_ran_before_a_kill_is_counted_with_what_runs_after_it(tmp_path, monkeypatch):
    """The implementations of kernels/, and the peak of memory."""
    with implementations.recording():
        implementations.merge_record({"unitwise_adamw": ["reference"]})
        _killed_after(4, tmp_path, monkeypatch)
    path = tmp_path / "checkpoint/state.json"
    path.write_text(re.sub(r'"peak_bytes": \d+', f'"peak_bytes": {10**15}', path.read_text()))
    with implementations.recording() as ran:
        implementations.merge_record({"unitwise_adamw": ["triton"]})
        outcome = cases.train(cases.small_model(), tmp_path, cases.training_options())
    assert ran["unitwise_adamw"] == ["reference", "triton"]
    assert outcome.peak_bytes == 10**15


def test_a_checkpoint_that_fails_halfway_leaves_the_earlier_one(tmp_path, monkeypatch):
    """As on a full disk. The rerun goes on from the earlier checkpoint and ends in the same bits."""
    whole, resumed = cases.small_model(), cases.small_model()
    cases.train(whole, tmp_path / "whole", cases.training_options())
    write, saved = safetensors.torch.save_file, []

    def failing(tensors, path, *more, **named):
        saved.append(path)
        if len(saved) == 3:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(tensors, path, *more, **named)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", failing)
        with pytest.raises(OSError, match="No space left"):
            cases.train(cases.small_model(), tmp_path / "full", cases.training_options(), checkpoint_seconds=0)
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["checkpoint", "training.jsonl"]
    state = json.loads((tmp_path / "full/checkpoint/state.json").read_text())
    assert state["state"]["counts"]["step"] == 2
    cases.train(resumed, tmp_path / "full", cases.training_options())
    cases.assert_same_bits(cases.weights(resumed), cases.weights(whole))


def test_a_checkpoint_is_safetensors_and_json_and_leaves_frozen_weights_out(tmp_path):
    model = cases.small_model()
    model.requires_grad_(False)
    model.model.layers[1].requires_grad_(True)
    with pytest.raises(errors.Interrupted):
        cases.train(model, tmp_path, cases.training_options(), callback=cases.Callback(2))
    folder = tmp_path / "checkpoint"
    assert sorted(path.name for path in folder.iterdir()) == ["state.json", "tensors.safetensors"]
    stored = {name for name in safetensors.torch.load_file(folder / "tensors.safetensors") if name.startswith("model/")}
    assert stored == {f"model/{name}" for name, p in model.named_parameters() if p.requires_grad}


def test_a_checkpoint_is_written_without_a_second_copy_in_memory(tmp_path, monkeypatch):
    """A copy would double what the largest models ask of the host; only tied weights are copied, which safetensors does
    not take twice.
    """
    model, held = cases.small_model(), {}
    monkeypatch.setattr(
        safetensors.torch,
        "save_file",
        lambda tensors, path: held.update({name: value.data_ptr() for name, value in tensors.items()}),
    )
    with pytest.raises(errors.Interrupted):
        cases.train(model, tmp_path, cases.training_options(), callback=cases.Callback(2))
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    here = {f"model/{name}": value.data_ptr() for name, value in model.state_dict().items()}
    copied = {name for name, place in here.items() if held[name] != place}
    assert len(copied) == int(tied)
    assert any(name.startswith("optimizer/") for name in held)
    assert len(set(held.values())) == len(held)
