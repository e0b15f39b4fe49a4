"""UnitwiseAdamW: every unit moves as in torch's AdamW with a parameter group of its own.

The reference cuts each tensor into its units, every one a parameter in a group of its own, whose rate is written there
before each step: base rate times the schedule's formula times the unit's multiplier. float64, odd shapes, gradients
that are drawn, some of them missing.

Run: python -m pytest tests/kernels/test_unitwise_adamw.py
"""

import copy
import math

import pytest
import torch
from transformers import get_scheduler

from adaptbench.kernels import implementations
from adaptbench.kernels.unitwise_adamw import LARGE, UnitwiseAdamW

STEPS, WARMUP, RATE, BETAS = 24, 4, 0.01, (0.8, 0.95)
HEADS, WIDTH = 3, 5
# name -> shape, and how its units lie in it
SHAPES = {
    "tensor": ((7, 11), [(slice(None),)]),
    "stack": ((2, 3, 5), [(slice(None),)]),
    "gain": ((13,), [(slice(None),)]),
    "rows": ((9, 5), [(slice(i, i + 1),) for i in range(9)]),
    "entries": ((6,), [(slice(i, i + 1),) for i in range(6)]),
    "heads": ((HEADS * WIDTH, 7), [(slice(h * WIDTH, (h + 1) * WIDTH),) for h in range(HEADS)]),
    "heads_in": ((7, HEADS * WIDTH), [(slice(None), slice(h * WIDTH, (h + 1) * WIDTH)) for h in range(HEADS)]),
    "bias": ((HEADS * WIDTH,), [(slice(h * WIDTH, (h + 1) * WIDTH),) for h in range(HEADS)]),
    "free": ((5, 3), [(slice(None),)]),
    "unused": ((3, 5), [(slice(None),)]),
    "seldom": ((5, 7), [(slice(i, i + 1),) for i in range(5)]),
}
FREE = ("free", "unused")
HERE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.usefixtures("device")  # what the marker gpu goes by


def _broadcast(name, values):
    """The multipliers of a parameter's units, in the smallest shape that broadcasts over it."""
    values = torch.tensor(values, dtype=torch.float64)
    shape = SHAPES[name][0]
    if len(values) == 1:
        return values.reshape([1] * len(shape))
    if name == "heads_in":
        return values.repeat_interleave(WIDTH)[None, :]
    values = values.repeat_interleave(shape[0] // len(values))
    return values[:, None] if len(shape) == 2 else values


def _start():
    generator = torch.Generator().manual_seed(1)
    drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, (shape, _) in SHAPES.items()}
    return {name: one.to(HERE) for name, one in drawn.items()}


def _gradients(step):
    """Drawn anew for each step; one parameter never has any, one has some every third step."""
    generator = torch.Generator().manual_seed(100 + step)
    drawn = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, (shape, _) in SHAPES.items()}
    missing = {"unused"} | (set() if step % 3 == 0 else {"seldom"})
    return {name: None if name in missing else gradient.to(HERE) for name, gradient in drawn.items()}


def _units(seed, without=FREE):
    """Multipliers from 0 to 2 by parameter and unit, both ends among them."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: (2 * torch.rand(len(cut), generator=generator)).tolist() for name, (_, cut) in SHAPES.items()}
    drawn["rows"][:2] = [0.0, 2.0]
    return {name: values for name, values in drawn.items() if name not in without}


def _at(step):
    """From the twelfth step on all rates are others, one parameter has lost its multipliers and another has got
    some.
    """
    return _units(5) if step < 12 else _units(6, without=("unused", "heads"))


def _factor(t):
    return t / WARMUP if t < WARMUP else (1 + math.cos(math.pi * (t - WARMUP) / (STEPS - WARMUP))) / 2


def _reference(weight_decay):
    pieces = {
        name: [torch.nn.Parameter(start[cut].clone()) for cut in SHAPES[name][1]] for name, start in _start().items()
    }
    optimizer = torch.optim.AdamW([
        {"params": [piece], "weight_decay": weight_decay if len(SHAPES[name][0]) > 1 else 0.0, "unit": (name, i)}
        for name, units in pieces.items() for i, piece in enumerate(units)
    ], lr=RATE, betas=BETAS)  # fmt: skip
    for step in range(STEPS):
        gradients = _gradients(step)
        for group in optimizer.param_groups:
            name, unit = group["unit"]
            gradient = gradients[name]
            group["params"][0].grad = None if gradient is None else gradient[SHAPES[name][1][unit]].clone()
            group["lr"] = RATE * _factor(step) * _at(step).get(name, [1.0] * 99)[unit]
        optimizer.step()
    end = _start()
    for name, units in pieces.items():
        for cut, piece in zip(SHAPES[name][1], units, strict=True):
            end[name][cut] = piece.detach()
    return end


@pytest.fixture(params=["reference", "triton"])
def way(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "fused"])
def fused(request):
    """Whether torch's own step is the fused one, whatever multiplies it."""
    return request.param


def _alike(ours, theirs, way):
    """Compare bit for bit, but for the kernel, whose arithmetic is in another order."""
    if way == "triton":
        tolerance = 1e-12 if ours.dtype == torch.float64 else 2e-6
        return torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    return torch.equal(ours, theirs)


def _made(weight_decay=0.0, kind=UnitwiseAdamW, dtype=torch.float64, **options):
    parameters = {name: torch.nn.Parameter(start.to(dtype)) for name, start in _start().items()}
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters.values() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return parameters, kind(groups, lr=RATE, betas=BETAS, **options)


def _step(parameters, optimizer, step):
    for name, gradient in _gradients(step).items():
        parameters[name].grad = None if gradient is None else gradient.to(parameters[name].dtype)
    optimizer.step()


def _set(parameters, optimizer, units):
    optimizer.multipliers = {parameters[n]: _broadcast(n, values).to(parameters[n]) for n, values in units.items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_every_unit_moves_as_in_a_parameter_group_of_its_own(weight_decay, way, fused):
    parameters, optimizer = _made(weight_decay, implementation=way, fused=fused)
    schedule = get_scheduler("cosine", optimizer, WARMUP, STEPS)
    for step in range(STEPS):
        _set(parameters, optimizer, _at(step))
        _step(parameters, optimizer, step)
        schedule.step()
    expected, start = _reference(weight_decay), _start()
    for name, p in parameters.items():
        torch.testing.assert_close(p.detach(), expected[name], rtol=0, atol=1e-12, msg=lambda t, n=name: f"{n}: {t}")
        assert torch.equal(p, start[name]) == (name == "unused")


def test_a_rate_of_its_own_is_not_a_scaled_gradient(way):
    """AdamW does not see the size of gradients: whoever multiplied them would change nothing."""
    moved = []
    for factor in (1.0, 2.0):
        parameters, optimizer = _made(implementation=way)
        optimizer.multipliers = {parameters["tensor"]: torch.tensor(factor)}
        _step(parameters, optimizer, 0)
        moved.append(parameters["tensor"].detach() - _start()["tensor"])
    torch.testing.assert_close(moved[1], 2 * moved[0], rtol=1e-12, atol=0)
    assert moved[0].abs().min() > 0.9 * RATE


def test_without_multipliers_it_is_adamw(way, fused):
    ours, optimizer = _made(0.1, dtype=torch.float32, implementation=way, fused=fused)
    plain, adamw = _made(0.1, torch.optim.AdamW, torch.float32, fused=fused)
    for step in range(STEPS):
        _step(ours, optimizer, step)
        _step(plain, adamw, step)
    assert [name for name in ours if not _alike(ours[name], plain[name], way)] == []


def test_a_multiplier_of_one_is_adamw(way, fused):
    """From zero on, as a copy's output projections: a step is then as large as the weight that it is taken from."""
    ours, optimizer = _made(0.1, dtype=torch.float32, implementation=way, fused=fused)
    plain, adamw = _made(0.1, torch.optim.AdamW, torch.float32, fused=fused)
    for p in (*ours.values(), *plain.values()):
        p.data.zero_()
    optimizer.multipliers = {p: torch.ones([1] * p.ndim) for p in ours.values()}
    for step in range(STEPS):
        _step(ours, optimizer, step)
        _step(plain, adamw, step)
    assert any(p.any() for p in ours.values())
    assert [name for name in ours if not _alike(ours[name], plain[name], way)] == []


def test_a_multiplier_of_zero_stands_still_bit_for_bit_and_goes_on_with_what_it_has_seen(way, fused):
    still, optimizer = _made(0.1, implementation=way, fused=fused)
    plain, adamw = _made(0.1, torch.optim.AdamW, fused=fused)
    optimizer.multipliers = {p: torch.zeros([1] * p.ndim, dtype=p.dtype) for p in still.values()}
    for step in range(6):
        _step(still, optimizer, step)
        _step(plain, adamw, step)
    start = _start()
    assert [name for name in still if not torch.equal(still[name], start[name])] == []
    assert not torch.equal(plain["tensor"], start["tensor"])
    for name, p in still.items():
        for key, value in adamw.state[plain[name]].items():
            assert _alike(optimizer.state[p][key], value, way), f"{name}: {key}"


def test_its_state_is_adamws_and_holds_no_multipliers(way, fused):
    ours, optimizer = _made(0.1, implementation=way, fused=fused)
    plain, adamw = _made(0.1, torch.optim.AdamW, fused=fused)
    _set(ours, optimizer, _units(5))
    for step in range(6):
        _step(ours, optimizer, step)
        _step(plain, adamw, step)
    assert optimizer.state_dict()["param_groups"] == adamw.state_dict()["param_groups"]
    assert optimizer.state_dict()["state"].keys() == adamw.state_dict()["state"].keys()
    # Another one goes on from weights and state, with the same multipliers set, to the same bits.
    again, resumed = _made(0.1, implementation=way, fused=fused)
    for name, p in again.items():
        p.data.copy_(ours[name])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _set(again, resumed, _units(5))
    for step in range(6, STEPS):
        _step(ours, optimizer, step)
        _step(again, resumed, step)
    assert [name for name in ours if not torch.equal(ours[name], again[name])] == []


def test_gradients_that_a_closure_computes_are_multiplied_too(way):
    parameters, optimizer = _made(implementation=way)
    before = parameters["rows"].detach().clone()
    optimizer.multipliers = {parameters["rows"]: torch.tensor(0.0)}

    def closure():
        loss = parameters["rows"].pow(2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(before.pow(2).sum().item())
    assert parameters["rows"].grad is not None
    assert torch.equal(parameters["rows"], before)


def test_a_state_written_one_way_goes_on_another(fused):
    """What is kept is AdamW's own state: a run may resume on a machine that has other implementations."""
    ends = []
    for first, then in (
        ("reference", "reference"),
        ("triton", "reference"),
        ("reference", "triton"),
        ("triton", "triton"),
    ):
        parameters, optimizer = _made(0.1, implementation=first, fused=fused)
        _set(parameters, optimizer, _units(5))
        for step in range(5):
            _step(parameters, optimizer, step)
        again, resumed = _made(0.1, implementation=then, fused=fused)
        for name, p in again.items():
            p.data.copy_(parameters[name])
        resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        _set(again, resumed, _units(5))
        for step in range(5, 10):
            _step(again, resumed, step)
        ends.append(again)
    for other in ends[1:]:
        assert [name for name, p in other.items() if not _alike(p, ends[0][name], "triton")] == []


def test_weights_that_somebody_else_changes_are_stepped_from_where_they_are(way):
    ours, optimizer = _made(implementation=way)
    plain, adamw = _made(kind=torch.optim.AdamW)
    for step in range(4):
        for parameters in (ours, plain):
            parameters["rows"].data.fill_(float(step))
        _step(ours, optimizer, step)
        _step(plain, adamw, step)
    assert _alike(ours["rows"], plain["rows"], way)


@pytest.mark.parametrize("shape", [(LARGE + 1,), (700, 301), (3, 257, 401)])
@pytest.mark.parametrize("by", ["tensor", "rows", "columns", "numbers"])
def test_large_tensors_are_stepped_beside_small_ones(fused, shape, by):
    """Compare with every change of torch's step multiplied; one tensor has no multiplier."""
    ends = []
    for kind in (torch.optim.AdamW, UnitwiseAdamW):
        generator = torch.Generator().manual_seed(0)
        sizes = (shape, shape, (10,), (7,))
        params = [torch.nn.Parameter(torch.randn(n, generator=generator, dtype=torch.float64).to(HERE)) for n in sizes]
        optimizer = kind(params, lr=0.1, fused=fused)
        units = {
            "tensor": (1,),
            "rows": (len(params[0]), *[1] * (len(shape) - 1)),
            "columns": shape[-1:],
            "numbers": shape,
        }
        rates = 2 * torch.rand(units[by], generator=generator)
        multipliers = {params[0]: rates, params[2]: torch.full((1,), 0.3)}
        if kind is UnitwiseAdamW:
            optimizer.multipliers = multipliers
        for _ in range(3):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(HERE)
            before = {p: p.detach().clone() for p in multipliers}
            optimizer.step()
            for p, start in before.items() if kind is torch.optim.AdamW else ():
                p.data.copy_(start + (p.data - start) * multipliers[p].to(p))
        ends.append((params, [optimizer.state[p]["step"] for p in params]))
    for (ours, mine), (theirs, other) in [ends]:
        assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-14) for a, b in zip(ours, theirs, strict=True))
        assert mine == other == [3.0] * 4


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_many_odd_tensors_are_stepped_as_by_torch(weight_decay, way, fused):
    """More numbers than are stepped at once, of two types, a single number and none at all, gradients that lie
    otherwise in memory, one so only every other step, weights that do; and in the middle somebody puts another state in
    the place of two tensors', and clears a third's.
    """
    shapes = [
        (150, 301),
        (),
        (0, 5),
        (301, 150),
        (77,),
        (3, 5, 7),
        (150, 300),
        (1, 5_003 if way == "triton" else 200_003),
        (63, 65),
    ]
    ends = []
    for kind in ("torch", "ours"):
        generator = torch.Generator().manual_seed(0)
        params = [
            torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(HERE, dtype))
            for dtype in (torch.float64, torch.float32)
            for shape in shapes
        ]
        params[6].data = params[6].data.T.contiguous().T
        multipliers = {
            p: 2 * torch.rand((len(p), *[1] * (p.ndim - 1)) if p.ndim > 1 and i % 2 else (1,) * p.ndim,
                generator=generator)
            for i, p in enumerate(params)
        }  # fmt: skip
        # torch's own fused step reads a gradient as if it lay as its parameter does, so that what it is held against is
        # not fused
        own = {"fused": False} if kind == "torch" else {"fused": fused, "implementation": way}
        optimizer = (torch.optim.AdamW if kind == "torch" else UnitwiseAdamW)(
            params, lr=0.1, weight_decay=weight_decay, **own
        )
        if kind == "ours":
            optimizer.multipliers = multipliers
        for step in range(4):
            before = [p.detach().clone() for p in params]
            for i, p in enumerate(params):
                gradient = torch.randn(p.shape[::-1], generator=generator, dtype=torch.float64).to(HERE, p.dtype)
                p.grad = gradient.permute(tuple(range(p.ndim))[::-1])
                if i == 8 and step % 2:
                    p.grad = p.grad.contiguous()
            if step == 2:
                optimizer.state[params[0]]["exp_avg"] = torch.zeros_like(params[0])
                optimizer.state[params[3]]["step"].copy_(7.0)
                optimizer.state[params[8]]["step"] = torch.full_like(optimizer.state[params[8]]["step"], 5.0)
                optimizer.state[params[5]].clear()
            optimizer.step()
            if kind == "torch":
                for p, start in zip(params, before, strict=True):
                    p.data.copy_(start + (p.data - start) * multipliers[p].to(p))
        ends.append((params, [optimizer.state[p]["step"].item() for p in params]))
    (expected, counts), (ours, mine) = ends
    assert counts == mine == [{3: 9.0, 5: 2.0, 8: 7.0}.get(i, 4.0) for i in range(len(mine))]
    for one, other in zip(ours, expected, strict=True):
        tolerance = 1e-12 if one.dtype == torch.float64 else 5e-6
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("beta2", [0.999, 0.9999])
def test_in_float32_no_error_adds_up_over_steps(beta2, way):
    """One minus a beta, rounded to float32, is off by more than any step rounds, and always the same way."""
    ends = []
    for dtype in (torch.float64, torch.float32):
        generator = torch.Generator().manual_seed(0)
        p = torch.nn.Parameter(torch.randn(300, generator=generator, dtype=torch.float64).to(HERE, dtype))
        optimizer = UnitwiseAdamW([p], lr=0.1, betas=(0.9, beta2), implementation=way)
        for _ in range(20):
            p.grad = torch.randn(300, generator=generator, dtype=torch.float64).to(p)
            optimizer.step()
        ends.append((p.double().norm(), (optimizer.state[p]["exp_avg_sq"].double())))
    (norm, squares), (ours, mine) = ends
    assert abs(ours / norm - 1) < 1e-6
    assert abs((mine / squares - 1).mean()) < 2e-6


def test_multipliers_are_as_they_were_when_they_were_set(way, fused):
    ends = []
    for changed in (False, True):
        parameters, optimizer = _made(implementation=way, fused=fused)
        values = {p: torch.ones([1] * p.ndim, dtype=p.dtype) for p in parameters.values()}
        optimizer.multipliers = values
        for step in range(4):
            if changed:
                for one in values.values():
                    one.fill_(0.25)
            _step(parameters, optimizer, step)
        ends.append(parameters)
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []


def test_what_others_hang_on_a_step_is_done_once(way):
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])  # torch hangs hooks on the class as it makes the first
    parameters, optimizer = _made(implementation=way)
    steps = []
    optimizer.register_step_post_hook(lambda *_: steps.append(1))
    _step(parameters, optimizer, 0)
    assert steps == [1]


@pytest.mark.parametrize(
    ("way", "options", "told"),
    [("reference", {}, "reference"), ("torch", {}, "reference"), ("triton", {}, "triton"),
     ("triton", {"amsgrad": True}, "reference")],
)  # fmt: skip
def test_what_ran_is_what_is_told(way, options, told):
    parameters, optimizer = _made(implementation=way, **options)
    with implementations.recording() as ran:
        _step(parameters, optimizer, 0)
    assert ran == {"unitwise_adamw": [told]}


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, 1j])
def test_multipliers_that_mean_nothing_are_said(value):
    parameters, optimizer = _made()
    with pytest.raises(ValueError, match="multipliers must be finite numbers that are not negative"):
        optimizer.multipliers = {parameters["tensor"]: torch.tensor(value)}


def test_one_rate_of_a_large_tensor_is_a_group_of_its_own(fused):
    ends = []
    for kind in ("group", "ours"):
        generator = torch.Generator().manual_seed(0)
        p = torch.nn.Parameter(torch.randn(300, 300, generator=generator).to(HERE))
        if kind == "group":
            optimizer = torch.optim.AdamW([p], lr=0.1 * 0.25, fused=fused)
        else:
            optimizer = UnitwiseAdamW([p], lr=0.1, fused=fused)
            optimizer.multipliers = {p: torch.tensor([[0.25]])}
        for _ in range(3):
            p.grad = torch.randn(p.shape, generator=generator).to(HERE)
            optimizer.step()
        ends.append(p)
    assert torch.equal(*ends)


def test_amsgrad_is_torchs():
    ends = []
    for kind, options in ((torch.optim.AdamW, {}), (UnitwiseAdamW, {})):
        parameters, optimizer = _made(0.1, kind, amsgrad=True, **options)
        for step in range(6):
            _step(parameters, optimizer, step)
        ends.append(parameters)
    assert [name for name in ends[0] if not torch.equal(ends[0][name], ends[1][name])] == []


def test_multipliers_that_do_not_fit_are_said():
    parameters, optimizer = _made()
    with pytest.raises(ValueError, match=r"\(3, 3\) do not broadcast over \(7, 11\)"):
        optimizer.multipliers = {parameters["tensor"]: torch.ones(3, 3)}
    with pytest.raises(ValueError, match=r"\(2, 7, 11\) do not broadcast over \(7, 11\)"):
        optimizer.multipliers = {parameters["tensor"]: torch.ones(2, 7, 11)}


def test_a_gradient_scaler_unscales_before_the_step_and_skips_it_where_gradients_are_infinite():
    ends = []
    for scale, gradient in ((1.0, 0.5), (8.0, 4.0), (8.0, math.inf)):
        p = torch.nn.Parameter(torch.ones(3, 4))
        optimizer = UnitwiseAdamW([p], lr=0.1, weight_decay=0.3, fused=True)
        optimizer.multipliers = {p: torch.tensor([[0.5]])}
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        scaler.scale(p.new_zeros(()))
        p.grad = torch.full_like(p, gradient)
        scaler.step(optimizer)
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], torch.ones(3, 4))
    assert torch.equal(ends[2], torch.ones(3, 4))
