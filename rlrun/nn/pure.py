"""Whether a module of somebody's own can be a part of a network here.

Networks act one step at a time and learn from many at once, are copied, saved and resumed.
So a part must be a function of its weights and its inputs, row by row: no dropout, no batch
statistics, nothing that differs between training and evaluation. Rather than knowing such
layers by name, it is run on a few rows before anything is trained, and watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rlrun.config import ConfigError
from rlrun.nn.tape import same_bits, tensors_in

ROWS = 3

Outputs = dict[
    str, list[Tensor]
]  # of each part by name, in the order in which they were done; "" is the whole


def require_pure(module: nn.Module, run: Callable[[int], Tensor], what: str, within: str = "") -> Tensor:
    """What `run(rows)` of the module gives, [rows, ...], for the last of a few rows.

    The module is run as it was built and in evaluation mode, so that layers which were built
    frozen, in evaluation mode, are as good as any. `what` is the model's name, and `within`
    where in it the module stands, for the refusal.

    Raises:
        ConfigError: it cannot be run, or is no function of its weights and of each row alone.
    """

    def refuse(name: str, does: str, why: str, instead: str = INSTEAD) -> ConfigError:
        path = ".".join(filter(None, (within, name)))
        kind = type(module.get_submodule(name)).__name__
        return ConfigError(f"model={what}: {path + ': ' if path else ''}{kind} {does}", why, instead)

    def outputs(rows: int = ROWS) -> Outputs:
        trail = _Trail()
        try:
            with torch.no_grad(), _followed(module, trail):
                trail.outputs[""] = [run(rows)]
        except Exception as error:
            name = trail.entered[-1] if trail.entered else ""
            words = f"{type(error).__name__}: {error}".splitlines()[0]
            given = f"it was given {rows} {'row' if rows == 1 else 'rows'} of features between 0 and 1"
            raise refuse(name, f"cannot be run: {words}", given, TAKES) from error
        if trail.drew is not None:
            raise refuse(trail.drew, "draws PyTorch's own random numbers, which follow no seed here", ANOTHER)
        return trail.outputs

    def require(one: Outputs, other: Outputs, does: str) -> None:
        if (differs := _first_difference(one, other)) is not None:
            raise refuse(differs, does, ANOTHER)

    before = {name: leaf.clone() for name, leaf in _stored(module)}
    built = outputs()
    for name, leaf in _stored(module):
        if not same_bits([leaf], [before[name]]):
            part, _, own = name.rpartition(".")
            raise refuse(part, f"changes its {own} whenever it is run, in acting too", ANOTHER)
    require(built, outputs(), "does something else each time that it is run")
    require(built, outputs(1), "lets a row of a batch depend on the others")
    training = [m for m in module.modules() if m.training]
    module.eval()
    require(built, outputs(), "does something else in training than in evaluation")
    for m in training:
        m.training = True
    return built[""][0]


ANOTHER = "acting, learning and a resumed run would each see another network"
INSTEAD = "use torch.nn.LayerNorm, or leave it out; a Dropout of p=0, or what is built in eval mode, may stay"
TAKES = "a network takes features [rows, in], any number of rows, and gives [rows, out]"


def _stored(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _first_difference(outputs: Outputs, others: Outputs) -> str | None:
    """The first part whose outputs differ, if those of the whole do; `others` may be of the last rows."""

    def alike(name: str) -> bool:
        pairs = zip(outputs[name], others.get(name, ()), strict=False)
        cut = [(a[len(a) - len(b) :], b) if a.ndim else (a, b) for a, b in pairs]
        return all(a.shape != b.shape or torch.allclose(a, b, 1e-3, 1e-5, equal_nan=True) for a, b in cut)

    return None if alike("") else next(name for name in outputs if not alike(name))


class _Trail:
    """What happens while a module is run."""

    def __init__(self) -> None:
        self.entered: list[str] = []  # and not left
        self.outputs: Outputs = {}
        self.drew: str | None = None  # the first part that drew random numbers


@contextmanager
def _followed(module: nn.Module, trail: _Trail) -> Iterator[None]:
    """Whatever part of the module is called leaves its trail."""
    states: list[Tensor] = []

    def enter(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any) -> None:
            trail.entered.append(name)
            states.append(torch.get_rng_state())

        return hook

    def leave(name: str) -> Callable[..., None]:
        def hook(part: nn.Module, args: Any, out: Any) -> None:
            trail.entered.pop()
            if not torch.equal(states.pop(), torch.get_rng_state()) and trail.drew is None:
                trail.drew = name
            trail.outputs.setdefault(name, [t.clone() for t in tensors_in(out)])

        return hook

    hooks = []
    for name, part in module.named_modules():
        if name:
            hooks += [part.register_forward_pre_hook(enter(name)), part.register_forward_hook(leave(name))]
    start = torch.get_rng_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
            if not torch.equal(start, torch.get_rng_state()) and trail.drew is None:
                trail.drew = ""
    finally:
        for hook in hooks:
            hook.remove()
