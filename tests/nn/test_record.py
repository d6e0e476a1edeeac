"""Recorded functions: the same bits as the plain ones, and a refusal of what cannot be recorded."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rlrun import nn
from rlrun.nn import record
from rlrun.rng import Stream


class Toy:
    """A small network with state, a step of which depends on nothing but tensors; it counts its calls."""

    def __init__(self, streams: bool = False) -> None:
        self.weight = torch.nn.Parameter(torch.arange(12.0).view(2, 3, 2).sin())
        self.adam = nn.Adam(torch.nn.ParameterList([self.weight]), max_grad_norm=0.5)
        self.seen = torch.zeros(2)
        self.stream = Stream((1, 2), "toy") if streams else None
        self.calls = 0

    def step(self, batch: dict[str, Tensor], rate: Tensor) -> dict[str, Any]:
        self.calls += 1
        x = batch["x"]
        if self.stream is not None:
            x = x + self.stream.normal(*x.shape[1:]).to(x.dtype)
        self.seen += x.detach().sum((1, 2))
        loss = torch.relu_(torch.bmm(x, self.weight)).square().mean((1, 2))
        return {"loss": loss, "norm": self.adam.step(loss, rate), "none": None}

    def state(self) -> list[Tensor]:
        return [self.weight.detach(), self.seen, *self.adam.state().values()]


def batches(count: int, rows: int = 4) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    return [
        ({"x": torch.randn(2, rows, 3, generator=generator)}, np.array([0.1, 0.2]) / (k + 1))
        for k in range(count)
    ]


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a run: what has been recorded is believed."""
    monkeypatch.delenv("RLRUN_CHECK", raising=False)


@pytest.mark.parametrize("streams", [False, True])
def test_what_is_replayed_has_the_same_bits(streams: bool, unchecked: None) -> None:
    plain, toy = Toy(streams), Toy(streams)
    recorded = nn.Recorded(toy.step, streams=[toy.stream] if toy.stream else [])
    for batch, rate in batches(6):
        expected, found = plain.step(batch, torch.from_numpy(rate)), recorded(batch, rate)
        assert found.keys() == expected.keys() and found["none"] is None
        assert not found["loss"].requires_grad
        for name in ("loss", "norm"):
            assert torch.equal(found[name], expected[name])
        assert all(torch.equal(a, b) for a, b in zip(toy.state(), plain.state(), strict=True))
    assert (plain.calls, toy.calls) == (6, 2)  # from the third on, none of its Python runs
    if plain.stream and toy.stream:
        assert np.array_equal(plain.stream.counter, toy.stream.counter)


def test_each_form_of_the_arguments_is_recorded_on_its_own(unchecked: None) -> None:
    plain, toy = Toy(), Toy()
    recorded = nn.Recorded(toy.step)
    for batch, rate in [*batches(3), *batches(3, rows=7), *batches(2), *batches(2, rows=7)]:
        assert torch.equal(recorded(batch, rate)["loss"], plain.step(batch, torch.from_numpy(rate))["loss"])
    assert toy.calls == 4

    toy, sign = Toy(), 1.0
    recorded = nn.Recorded(lambda batch, k: toy.step(batch, batch["x"].new_full((2,), 0.1))["loss"] * k)
    for batch, _ in batches(8):
        recorded(batch, sign)
        sign = -sign
    assert toy.calls == 4  # what is no tensor is part of the form


def test_forms_without_end_are_run_as_they_are() -> None:
    toy = Toy()
    recorded = nn.Recorded(toy.step)
    lengths = [*range(1, 21)] * 3
    for rows in lengths:
        recorded(*batches(1, rows)[0])
    assert len(recorded._programs) == record._FORMS
    assert toy.calls == len(lengths) - record._FORMS


def test_one_tensor_in_two_places_is_not_taken_for_a_rule() -> None:
    recorded = nn.Recorded(lambda a, b: a - 2.0 * b)
    x, y = torch.ones(3), torch.full((3,), 5.0)
    for a, b in [(x, x), (x, x), (x, y), (y, x), (y, x), (x, y), (x, x)]:
        assert torch.equal(recorded(a, b), a - 2.0 * b)
    assert len(recorded._programs) == 1


def test_when_it_may_break_the_rules_it_is_run_as_it_is() -> None:
    numbers = iter(range(10))
    recorded = nn.Recorded(lambda x: x * next(numbers) + x.sum().item(), when=False)
    assert [recorded(torch.ones(1)).item() for _ in range(4)] == [1.0, 2.0, 3.0, 4.0]


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "a number read": (lambda x: x * x.sum().item(), "must not read numbers out of tensors"),
    "a branch": (lambda x: x if x.sum() > 0 else -x, "must not read numbers out of tensors"),
    "torch's generator": (lambda x: x + torch.rand(3), "must not use PyTorch's random numbers"),
    "an array": (lambda x: x + torch.from_numpy(np.ones(3)), "must be given what changes"),
    "a number converted": (lambda x: x + torch.tensor(1.0), "must be given what changes"),
    "a stream": (lambda x: x + Stream((1,), "y").uniform(3), "must be given what changes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_depends_on_more_than_tensors_is_refused(what: str) -> None:
    function, words = REFUSED[what]
    recorded = nn.Recorded(function)
    with pytest.raises(nn.RecordError, match=words):
        for _ in range(2):
            recorded(torch.ones(1, 3))


def test_a_number_that_changes_is_refused() -> None:
    numbers = iter((0.5, 0.25))
    recorded = nn.Recorded(lambda x: x.relu() * next(numbers))
    recorded(torch.ones(3))
    with pytest.raises(nn.RecordError, match=r"the same at every call: not aten\.mul.*0\.5.*0\.25"):
        recorded(torch.ones(3))


FORMS: dict[str, list[Any]] = {
    "numbers that are equal": [1, True, 1.0, np.float64(1.0)],
    "zeros of either sign": [0.0, -0.0],
    "not a number": [float("nan"), 1.0],
    "types": [torch.ones(4, dtype=dtype) for dtype in (torch.float32, torch.float64, torch.int64)],
    "orders in memory": [torch.arange(6.0).view(2, 3), torch.arange(6.0).view(3, 2).mT],
    "containers": [(torch.ones(4), 2.0), [torch.ones(4), 2.0], {"a": torch.ones(4), "b": 2.0}],
    "keys": [{"a": torch.ones(4)}, {"b": torch.ones(4)}],
}


@pytest.mark.parametrize("what", FORMS)
def test_forms_that_differ_are_told_apart(what: str) -> None:
    def function(x: Tensor, value: Any) -> Tensor:
        if isinstance(value, Tensor):
            x = x + value.contiguous().view(-1)[:4].mul(2.5)
        text = repr(value) if not isinstance(value, Tensor) else str(value.dtype) + str(value.stride())
        return x * len(text) + sum(map(ord, text))

    recorded = nn.Recorded(function)
    x = torch.ones(4)
    for _ in range(5):
        for value in FORMS[what]:
            found, expected = recorded(x, value), function(x, value)
            assert found.dtype == expected.dtype and torch.equal(found, expected)
    assert len(recorded._programs) == len(FORMS[what])


class Changing:
    """Functions that do something else after `change`, each for a reason of its own."""

    def __init__(self) -> None:
        self.number, self.rise, self.more = 2.0, 0.0, False
        self.weight, self.packed, self.seen = torch.ones(3), torch.ones(3), torch.zeros(3)
        self.array = np.ones(3, np.float32)
        self.shared = torch.from_numpy(self.array)
        self.stream = Stream((1,), "changing")

    def change(self) -> None:
        self.number, self.rise, self.more = 3.0, 1.0, True
        self.weight, self.packed.data = torch.full((3,), 2.0), torch.full((3,), 2.0)

    def a_number(self, x: Tensor) -> Tensor:
        return x * self.number

    def a_tensor(self, x: Tensor) -> Tensor:
        return x * self.weight

    def memory_of_a_tensor(self, x: Tensor) -> Tensor:  # as packing a parameter again moves it
        return x * self.packed[:2].sum()

    def an_array_read(self, x: Tensor) -> Tensor:
        self.array[:] = self.number
        return x + self.shared

    def an_array_written(self, x: Tensor) -> Tensor:
        y = x + self.shared
        self.array += self.rise
        return y

    def an_array_that_grows(self, x: Tensor) -> Tensor:  # from the beginning
        y = x + self.shared
        self.array += 1.0
        return y

    def an_operation(self, x: Tensor) -> Tensor:
        return x.relu().neg() if self.more else x.relu()

    def what_is_written(self, x: Tensor) -> dict[str, Tensor]:
        self.seen += x
        self.seen.numpy()[:] += self.rise
        return {"loss": x * 2.0}

    def one_of_the_results(self, x: Tensor) -> dict[str, Any]:
        self.array[:] = self.number
        return {"loss": x * 2.0, "more": [x, x + self.shared]}

    def draws(self, x: Tensor) -> Tensor:
        y = x + self.stream.uniform(3).float()
        if self.more:
            self.stream.numbers(1)
        return y


FOUND = {
    "a_number": r"the same at every call: not .*2\.0.* and then .*3\.0",
    "a_tensor": r"another tensor c0 in aten\.mul",
    "memory_of_a_tensor": r"gives another result$",
    "an_array_read": r"gives another result$",
    "an_array_written": r"other values in c0 of aten\.add\.",
    "an_array_that_grows": r"other values in c0 of aten\.add\.",
    "an_operation": r"not nothing and then aten\.neg",
    "what_is_written": r"other values in c0 of aten\.add_",
    "one_of_the_results": r"another result\['more'\]\[1\]$",
    "draws": r"another number of random numbers",
}


@pytest.mark.parametrize("since", [3, 6, 12])
@pytest.mark.parametrize("what", FOUND)
def test_what_changes_later_is_found(what: str, since: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the 4th, 8th or 16th call, whichever comes next, and named; nothing is where none is asked for."""
    due = 4 if "grows" in what else next(k for k in (4, 8, 16) if k >= since)
    for asked in ("1", "0"):
        monkeypatch.setenv("RLRUN_CHECK", asked)
        thing = Changing()
        recorded = nn.Recorded(getattr(thing, what), streams=[thing.stream])
        for call in range(1, 20):
            if call == since:
                thing.change()
            if asked == "1" and call == due:
                with pytest.raises(nn.RecordError, match=rf"\(at call {due},") as caught:
                    recorded(torch.ones(3))
                assert re.search(FOUND[what], str(caught.value).split(" (at")[0])
                break
            recorded(torch.ones(3))


def test_a_check_leaves_the_state_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moments, arguments that are changed in place, and streams: as without checks."""
    toys = []
    for asked in ("1", "0"):
        monkeypatch.setenv("RLRUN_CHECK", asked)
        toy = Toy(streams=True)
        total = torch.zeros(2)

        def step(batch: Any, rate: Tensor, total: Tensor, toy: Toy = toy) -> Any:
            total += toy.step(batch, rate)["loss"]
            return total * 1.0

        assert toy.stream is not None
        recorded = nn.Recorded(step, streams=[toy.stream])
        results = [recorded(batch, rate, total) for batch, rate in batches(17)]
        toys.append((toy, total, results))
    (one, total, results), (other, same, expected) = toys
    assert (one.calls, other.calls) == (2 + 3, 2)
    for a, b in zip([*one.state(), total, *results], [*other.state(), same, *expected], strict=True):
        assert torch.equal(a, b)
    assert one.stream and other.stream and np.array_equal(one.stream.counter, other.stream.counter)


def test_another_number_of_operations_is_refused() -> None:
    times = iter((1, 2))
    recorded = nn.Recorded(lambda x: sum((x.relu() for _ in range(next(times))), x))
    recorded(torch.ones(3))
    with pytest.raises(nn.RecordError, match="the same at every call"):
        recorded(torch.ones(3))


def test_what_is_filled_and_then_changed_is_made_at_every_call() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        zeros, ones = torch.zeros_like(x), torch.ones_like(x)
        product = x * ones
        product.add_(1.0)  # must not reach x
        ones.mul_(3.0)
        return zeros.add_(x), x * ones, product, x

    recorded = nn.Recorded(function)
    for k in range(5):
        x = torch.full((3,), float(k))
        assert [t.tolist() for t in recorded(x.clone())] == [t.tolist() for t in function(x)]


def test_what_has_no_effect_is_left_out() -> None:
    weight = torch.ones(3, 3)

    def function(x: Tensor) -> Tensor:
        (x @ weight.mT).exp()  # for nothing
        return (x.detach().view(x.shape) @ weight.mT) * torch.ones(2, 3)

    recorded = nn.Recorded(function)
    for _ in range(3):
        recorded(torch.ones(2, 3))
    ((program, _),) = recorded._programs.values()
    called = [node.name for node in program.func.__self__.graph.nodes if node.op == "call_function"]  # type: ignore[attr-defined]
    assert called == ["mm_default_1"]  # the second product, and nothing else


ROWS, COLUMNS = 2, 3


def _operations() -> dict[str, Callable[[list[Tensor], Tensor], Any]]:
    """What random programs are made of: a list of tensors [2, 3], to which something is done."""
    return {
        "add": lambda xs, w: xs.append(xs[-1] + xs[0]),
        "multiply by ones": lambda xs, w: xs.append(xs[-1] * torch.ones_like(xs[0])),
        "weight": lambda xs, w: xs.append(xs[-1] @ w.mT),
        "in place": lambda xs, w: xs[-1].mul_(0.5),
        "another in place": lambda xs, w: xs[len(xs) // 2].add_(1.0),
        "row in place": lambda xs, w: xs[-1][0].neg_(),
        "view": lambda xs, w: xs.append(xs[-1].view(6).view(ROWS, COLUMNS)),
        "detach": lambda xs, w: xs.append(xs[0].detach()),
        "pieces": lambda xs, w: xs.append(torch.cat(xs[-1].split([1, 2], 1)[::-1], 1)),
        "unbind": lambda xs, w: xs.append(torch.stack(xs[-1].unbind(0)[::-1])),
        "out": lambda xs, w: torch.add(xs[0], 1.0, out=xs[-1]),
        "new": lambda xs, w: xs.append(xs[0].new_full((ROWS, COLUMNS), 2.0)),
        "index": lambda xs, w: xs.append(xs[-1].index_select(0, torch.arange(ROWS).flip(0))),
        "state": lambda xs, w: w.add_(xs[-1].sum() * 1e-3),
    }


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(sorted(_operations())), min_size=1, max_size=12), st.integers(0, 3))
def test_random_programs_are_replayed_to_the_bit(names: list[str], outputs: int) -> None:
    operations = _operations()

    def run(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        xs = [x + 0.0]
        for name in names:
            operations[name](xs, weight)
        return tuple(xs[-1 - outputs :])

    mine, theirs = torch.eye(COLUMNS), torch.eye(COLUMNS)
    recorded = nn.Recorded(lambda x: run(x, mine))
    for k in range(5):
        x = torch.arange(6.0).view(ROWS, COLUMNS).sin() + k
        for found, expected in zip(recorded(x), run(x, theirs), strict=True):
            assert torch.equal(found, expected)
        assert torch.equal(mine, theirs)


def test_recording_does_not_import_torchs_compiler() -> None:
    """That takes longer than many a run."""
    code = (
        "import sys, torch; from rlrun import nn; f = nn.Recorded(lambda x: x.relu());"
        "[f(torch.ones(3)) for _ in range(3)]; print(*{'sympy', 'torch._dynamo'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
