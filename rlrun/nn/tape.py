"""A list of the operations that a function of tensors comes to, and the same list as code.

A Wengert list ("A simple automatic derivative evaluation program", 1964), with the walk
backwards on it: see `rlrun.nn.record` for what it is good for.
"""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlrun.rng import Stream


class RecordError(RuntimeError):
    """A function that depends on more than its tensors."""


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """`value` with every tensor in its lists, tuples and dicts replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        return type(value)([map_tensors(item, function) for item in value])
    if isinstance(value, dict):
        return {name: map_tensors(item, function) for name, item in value.items()}
    return value


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@dataclasses.dataclass(frozen=True)
class _Name:
    """Stands for a tensor of that name in what is printed."""

    text: str

    def __repr__(self) -> str:
        return self.text


# Operations whose results depend on nothing but shapes.
_FILLS = frozenset(
    "aten::" + name
    for name in (
        *("zeros", "ones", "full", "arange", "eye", "zeros_like", "ones_like", "full_like"),
        *("new_zeros", "new_ones", "new_full"),
    )
)


@dataclasses.dataclass
class _Call:
    """One operation with the very tensors that it read and made."""

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    @property
    def name(self) -> str:
        return self.op._schema.name

    @property
    def read(self) -> list[Tensor]:
        return list(tensors_in((self.args, self.kwargs)))

    @property
    def made(self) -> list[Tensor]:
        """Those it changed in place among them."""
        return list(tensors_in(self.out))

    @property
    def writes(self) -> bool:
        """Whether it changes one of its arguments."""
        return self.op._schema.is_mutable

    @property
    def views(self) -> bool:
        """Whether it only shows an argument in another way."""
        return not self.writes and any(r.alias_info is not None for r in self.op._schema.returns)

    def written(self) -> Iterator[Tensor]:
        for i, argument in enumerate(self.op._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                yield from tensors_in(self.args[i] if i < len(self.args) else self.kwargs.get(argument.name))

    def unchanged(self, ones: Callable[[Tensor], bool]) -> Tensor | None:
        """The argument that it shows just as it is, or multiplies by `ones`, if so."""
        if not isinstance(self.out, Tensor) or self.writes:
            return None
        base, out = self.args[0], self.out
        if self.name == "aten::mul" and isinstance(self.args[1], Tensor):
            a, b = self.args
            base = a if ones(b) else b if ones(a) else None
            return base if base is not None and (base.dtype, base.shape) == (out.dtype, out.shape) else None
        same = self.views and (base.dtype, base.shape, base.stride()) == (out.dtype, out.shape, out.stride())
        return base if same and base.storage_offset() == out.storage_offset() else None

    def quickest(self) -> Callable[..., Any]:
        """What to call for it: where PyTorch has a function or method for it, that is quicker."""
        name = self.name.removeprefix("aten::")
        if name == "_to_copy" and self.args[0].dtype != self.out.dtype:
            name = "to"
        expected = self._outcome(self.op)
        for home in _HOMES:
            function = getattr(home, name, None)
            if function is not None and same_bits(self._outcome(function), expected):
                return function
        return self.op

    def _outcome(self, function: Callable[..., Any]) -> list[Tensor] | None:
        """What a function would return and overwrite in the place of this one; None if it refuses."""
        copies = {id(tensor): tensor.clone() for tensor in self.written()}
        args, kwargs = map_tensors((self.args, self.kwargs), lambda tensor: copies.get(id(tensor), tensor))
        try:
            return [*tensors_in(function(*args, **kwargs)), *copies.values()]
        except (RuntimeError, TypeError):
            return None


_HOMES = (torch, torch._C._nn, getattr(torch._C, "_linalg"), Tensor)  # noqa: B009 (no type stubs)


def same_bits(ours: list[Tensor] | None, theirs: list[Tensor] | None) -> bool:
    """Whether these are the same tensors to the bit."""
    if ours is None or theirs is None or len(ours) != len(theirs):
        return False
    return all(
        a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, 0.0, 0.0, equal_nan=True)
        for a, b in zip(ours, theirs, strict=True)
    )


@dataclasses.dataclass(frozen=True)
class Script:
    """What a tape says: a line for each call, and the tensors from outside by name."""

    lines: list[str]
    outside: Mapping[str, Tensor]

    def use(self, name: str) -> str:
        """The first line that has a tensor of this name."""
        uses = (line for line in self.lines if re.search(rf"\b{name}\b", line))
        return next(uses, "what it returns")

    def compare(self, before: Script) -> None:
        """RecordError if that of an earlier call, of the same function and form, said something else."""
        for now, then in zip_longest(self.lines, before.lines, fillvalue="nothing"):
            if now != then:
                raise RecordError(
                    f"a recorded function must do the same at every call: not {then} and then {now}"
                )
        for name, tensor in self.outside.items():
            if before.outside.get(name) is not tensor:
                raise RecordError(
                    "a recorded function must be given what changes: at every call there is another "
                    f"tensor {name} in {self.use(name)}"
                )


class Tape(TorchDispatchMode):
    """Within it every operation is written down, those of the walk backwards too.

    So is what is drawn from `streams`.
    """

    listening: ClassVar[int] = 0  # how many tapes there are now: what is not PyTorch's is on none

    def __init__(self, streams: Sequence[Stream]) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.drawn: list[tuple[Stream, Tensor]] = []
        self._streams = streams

    def __enter__(self) -> Tape:
        for stream in self._streams:
            stream.drawn = []
        Tape.listening += 1
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        Tape.listening -= 1
        for stream in self._streams:
            self.drawn += [(stream, out) for out in stream.drawn or ()]
            stream.drawn = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: or PyTorch would import all of its compiler here, which takes a second."""
        return False

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in op.tags:
            raise RecordError(f"a recorded function must not read numbers out of tensors ({op})")
        if torch.Tag.nondeterministic_seeded in op.tags:
            raise RecordError(f"a recorded function must not use PyTorch's random numbers ({op})")
        out = op(*args, **(kwargs or {}))
        self.calls.append(_Call(op, args, kwargs or {}, out))
        return out

    def name_all(self, inputs: list[Tensor], results: Any) -> None:
        """Name each tensor: i0, i1, ... are inputs, t0, t1, ... made by calls, c0, c1, ... from outside."""
        self.results, self.count = results, len(inputs)
        self.names = {id(tensor): f"i{k}" for k, tensor in enumerate(inputs)}
        self.outside: dict[str, Tensor] = {}
        for call in self.calls:
            self._name_outside(call.read)
            for tensor in call.made:
                self.names.setdefault(id(tensor), f"t{len(self.names)}")
        self._name_outside(tensors_in(results))
        self._inputs = inputs  # names go by identity: no tensor may be freed

    def _name_outside(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            if id(tensor) not in self.names:
                name = f"c{len(self.outside)}"
                self.names[id(tensor)], self.outside[name] = name, tensor

    def line(self, call: _Call) -> str:
        """A call in words, with names in the place of tensors."""
        args, out = (
            map_tensors(v, lambda t: _Name(self.names[id(t)])) for v in ((call.args, call.kwargs), call.out)
        )
        return f"{call.op}{args} -> {out}"

    def script(self) -> Script:
        return Script([self.line(call) for call in self.calls], self.outside)

    def program(self) -> Callable[..., Any]:
        """The tape as a Python function of the inputs, its code written by torch.fx."""
        constants, calls = self._simplified()
        graph = torch.fx.Graph()
        names = [*constants, *(f"i{k}" for k in range(self.count))]
        nodes: dict[str, Any] = {name: graph.placeholder(name) for name in names}

        def node(tensor: Tensor) -> Any:
            return nodes[self.names[id(tensor)]]

        quickest = {}
        for call in calls:
            args, kwargs = map_tensors((call.args, call.kwargs), node)
            done = graph.call_function(call.op, args, kwargs)
            quickest[done] = call.quickest()
            if isinstance(call.out, Tensor):
                nodes.setdefault(self.names[id(call.out)], done)
            elif not call.writes:
                for k, part in enumerate(call.out):
                    if isinstance(part, Tensor):  # an unneeded gradient is None
                        nodes[self.names[id(part)]] = graph.call_function(operator.getitem, (done, k))
        graph.output(map_tensors(self.results, node))
        graph.eliminate_dead_code()
        for done in graph.nodes:
            done.target = quickest.get(done, done.target)
        module = torch.fx.GraphModule(torch.nn.Module(), graph)
        return partial(module.forward, *constants.values())

    def _simplified(self) -> tuple[dict[str, Tensor], list[_Call]]:
        """Tensors that need not be made at every call, and the calls that are left.

        Views of what lives on between calls are made once, and so is what has the same
        values every time. A view that shows nothing else goes by the other's name.
        """
        overwritten = {storage_of(t) for call in self.calls for t in call.written()}
        constants = dict(self.outside)
        fixed: set[str] = set()  # the constants whose values never change
        calls = []

        def ones(tensor: Tensor) -> bool:
            return self.names[id(tensor)] in fixed and bool((tensor == 1).all())

        for call in self.calls:
            same = call.unchanged(ones)
            if same is not None and (call.views or overwritten.isdisjoint(map(storage_of, (same, call.out)))):
                self.names[id(call.out)] = self.names[id(same)]
                continue
            read, made = ([self.names[id(t)] for t in ts] for ts in (call.read, call.made))
            values = call.name in _FILLS or fixed.issuperset(read)
            values = values and overwritten.isdisjoint(map(storage_of, call.made))
            if not call.writes and (values or (call.views and constants.keys() >= set(read))):
                constants.update(zip(made, call.made, strict=True))
                fixed.update(made if values else ())
            else:
                calls.append(call)
        return constants, calls
