"""A function of tensors, written down as the operations it comes to, and played again.

Most of what a gradient step of a small network costs is not arithmetic but bookkeeping:
Python between the operations, autograd's graph, its walk backwards. For given shapes all
of it ends in the same list of operations every time. `Recorded` writes that list down,
leaves out what has no effect, and from then on runs it as straight-line code: the same
operations in the same order, so the results are the same to the bit.

The function must depend on nothing but tensors: its arguments, and those that live on
between calls, such as weights and moments, which it may change in place. It must not read
numbers out of tensors, or use arrays or Python numbers that change from call to call; such
things are arguments. Random numbers it may draw from the streams that it is said to draw
from. The first two calls are both written down and must agree, so that a breach of these
rules is an error there, and not learned from. What changes later is found by `RLRUN_CHECK=1`
in the environment: then the 4th, 8th, 16th call and so on are made both ways, and must come
to the same.

Whose code may be recorded is for its author to say: see `recordable`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlrun.nn.tape import RecordError, Script, Tape, map_tensors, storage_of
from rlrun.rng import Stream

Draw = tuple[Stream, Sequence[int]]  # a block of random numbers, [R, *shape]

_FORMS = 8  # lists kept of one function; calls of yet other forms are run as they are


def recordable(*parts: Any) -> bool:
    """Whether all of these say of themselves, by `recordable = True`, that they keep the rules.

    A class says it for itself alone: what a subclass changes is not known to it, so that a
    subclass that says nothing is run as it is. An object may say it too.
    """
    return all(vars(part).get("recordable", vars(type(part)).get("recordable", False)) for part in parts)


class Recorded:
    """A function of tensors and arrays, or tuples, dicts and dataclasses of tensors.

    It returns detached tensors, or tuples and dicts of them. There is one list for each
    form of the arguments: shapes, strides, types and devices of the tensors, and whatever
    else is among them, by type and value.
    """

    def __init__(
        self, function: Callable[..., Any], *, streams: Sequence[Stream] = (), when: bool = True
    ) -> None:
        """`when` is false for a function that may break the rules: it is run as it is.

        `streams` are those that the function draws random numbers from.
        """
        self._function, self._streams = function, streams
        self._most = _FORMS if when else 0
        self._scripts: dict[tuple[Any, ...], Script] = {}  # of the first call
        self._programs: dict[tuple[Any, ...], tuple[Callable[..., Any], list[Draw]]] = {}
        self._check = os.environ.get("RLRUN_CHECK", "0") not in ("", "0")
        self._checks: dict[tuple[Any, ...], _Check] = {}  # of each program, where they are asked for

    def __call__(self, *args: Any) -> Any:
        args = tuple([torch.from_numpy(arg) if isinstance(arg, np.ndarray) else arg for arg in args])
        if not self._most:
            return map_tensors(self._function(*args), Tensor.detach)
        inputs: list[Tensor] = []
        form: list[Any] = []
        for arg in args:
            _flatten(arg, inputs, form)
        key = tuple(form)
        known = self._programs.get(key)
        if known is None:
            return self._record(key, inputs, args)
        if self._checks and self._checks[key].due():
            return self._replay_and_run(key, inputs, args)
        return _replay(*known, inputs)

    def _record(self, key: tuple[Any, ...], inputs: list[Tensor], args: tuple[Any, ...]) -> Any:
        """One of the first two calls with arguments of this form, or one too many to be kept."""
        before = self._scripts.pop(key, None)
        full = before is None and len(self._scripts) + len(self._programs) >= self._most
        if full or len(set(map(id, inputs))) < len(inputs):  # inputs are told apart by identity
            return map_tensors(self._function(*args), Tensor.detach)
        tape, results = self._listen(inputs, args)
        script = tape.script()
        if before is None:
            self._scripts[key] = script
        else:
            script.compare(before)
            self._programs[key] = tape.program(), [(stream, out.shape[1:]) for stream, out in tape.drawn]
            if self._check:
                self._checks[key] = _Check(script)
        return map_tensors(results, Tensor.detach)

    def _listen(self, inputs: list[Tensor], args: tuple[Any, ...]) -> tuple[Tape, Any]:
        """Run the function as it is, on tape."""
        tape = Tape(self._streams)
        with tape:
            results = self._function(*args)
        tape.name_all([*inputs, *(out for _, out in tape.drawn)], results)
        return tape, results

    def _replay_and_run(self, key: tuple[Any, ...], inputs: list[Tensor], args: tuple[Any, ...]) -> Any:
        """A call made both ways, from the same state; RecordError where they differ."""
        check = self._checks[key]
        state = _State(check.script, inputs, self._streams)
        before = state.copy()
        replayed = map_tensors(_replay(*self._programs[key], list(inputs)), Tensor.clone)
        after = state.copy()
        state.restore(before)
        try:
            tape, results = self._listen(inputs, args)
            tape.script().compare(check.script)
            _compare(results, replayed, "")
            state.compare(after)
        except RecordError as error:
            raise RecordError(f"{error} (at call {check.calls}, after those that were recorded)") from None
        return map_tensors(results, Tensor.detach)


def _replay(program: Callable[..., Any], draws: list[Draw], inputs: list[Tensor]) -> Any:
    for stream, shape in draws:
        inputs.append(stream.uniform(*shape))
    with torch.inference_mode():  # without a thought of gradients
        return program(*inputs)


def _flatten(value: Any, inputs: list[Tensor], form: list[Any]) -> None:
    """Append the tensors in `value` to inputs, and what is fixed about it to form."""
    if isinstance(value, Tensor):
        inputs.append(value)
        form.append((value.shape, value.stride(), value.dtype, value.device))
    elif isinstance(value, (tuple, list)):
        form.append((type(value), len(value)))
        for item in value:
            _flatten(item, inputs, form)
    elif isinstance(value, dict):
        form.append((type(value), *value))
        for item in value.values():
            _flatten(item, inputs, form)
    elif hasattr(value, "__dataclass_fields__"):
        form.append(type(value))
        for name in value.__dataclass_fields__:
            _flatten(getattr(value, name), inputs, form)
    else:  # 1, True and 1.0 are equal, as are 0.0 and -0.0
        form.append((type(value), repr(value) if isinstance(value, float) else value))


class _Check:
    """When a program is to be held against the function again: at its calls 4, 8, 16 and so on."""

    def __init__(self, script: Script) -> None:
        self.script, self.calls = script, 2

    def due(self) -> bool:
        """Count one more call."""
        self.calls += 1
        return self.calls & (self.calls - 1) == 0


class _State:
    """All that a function reads and may change: memory of tensors, and how far its streams have come."""

    def __init__(self, script: Script, inputs: list[Tensor], streams: Sequence[Stream]) -> None:
        self._script, self._streams = script, streams
        named = {f"i{k}": tensor for k, tensor in enumerate(inputs)} | dict(script.outside)
        memory = {storage_of(tensor): (name, tensor.detach()) for name, tensor in named.items()}
        self._memory = {  # all that is stored where a tensor is a part of it
            name: tensor.new_empty(0).set_(tensor.untyped_storage()) for name, tensor in memory.values()
        }

    def copy(self) -> tuple[dict[str, Tensor], list[np.ndarray]]:
        memory = {name: values.clone() for name, values in self._memory.items()}
        return memory, [stream.counter.copy() for stream in self._streams]

    def restore(self, saved: tuple[dict[str, Tensor], list[np.ndarray]]) -> None:
        for name, values in saved[0].items():
            self._memory[name].copy_(values)
        for stream, counter in zip(self._streams, saved[1], strict=True):
            stream.counter = counter

    def compare(self, replayed: tuple[dict[str, Tensor], list[np.ndarray]]) -> None:
        """RecordError if it is not what replaying left."""
        for name, values in replayed[0].items():
            if not _agree(self._memory[name], values):
                raise RecordError(f"{_DEPENDS}: it leaves other values in {name} of {self._script.use(name)}")
        for stream, counter in zip(self._streams, replayed[1], strict=True):
            if not np.array_equal(stream.counter, counter):
                raise RecordError(f"{_DEPENDS}: it draws another number of random numbers")


_DEPENDS = "a recorded function must depend on its tensors alone, and no longer does what was recorded"


def _compare(results: Any, replayed: Any, path: str) -> None:
    """RecordError if results differ from those that replaying gave."""
    for (where, result), (_, other) in zip(_leaves(results, path), _leaves(replayed, path), strict=True):
        if not _agree(result, other):
            raise RecordError(f"{_DEPENDS}: it gives another result{where}")


def _agree(a: Tensor, b: Tensor) -> bool:
    """To the bit on a CPU, to rounding where sums may be made in any order."""
    tolerance = (0.0, 0.0) if a.device.type == "cpu" else (1e-4, 1e-6)
    return (a.dtype, a.shape) == (b.dtype, b.shape) and torch.allclose(a, b, *tolerance, equal_nan=True)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors in a result, each with where it stands, such as "['loss']"."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (tuple, list, dict)):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{path}[{name!r}]")
