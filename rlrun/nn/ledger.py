"""What tensors would take, counted without taking it.

The code that makes networks and trains them is run within a `Ledger`, which counts what tensors hold. It is
run as it is, on copies of its own, until an operation would make something large. Then it is run again with
every tensor on PyTorch's meta device, where it has a shape and no memory: that tells however much it would
take, but not what stands in the tensors, and for it PyTorch imports its compiler, which takes a second.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from rlrun.nn.tape import map_tensors, tensors_in
from rlrun.rng import sparing

_LARGE = 1 << 24  # bytes that an operation may read or make before it is run on shapes alone
_DRAWN = 32  # bytes that drawing a random number takes while it lasts
_META = torch.device("meta")


class _Large(BaseException):  # so that nobody on the way takes it for an error
    """An operation would take memory that is worth sparing."""


class _Enough(BaseException):
    """More operations than it is worth to count."""


class Ledger(TorchDispatchMode):
    """Counts the bytes that tensors hold: `live` now, and how many at most.

    On `shapes` alone, what is read out of a tensor is 1 or true, and in an array 0.

    Raises:
        MemoryError: for sizes that 64 bits do not hold.
    """

    def __init__(self, *, shapes: bool, operations: int = 8000) -> None:
        super().__init__()
        self.shapes, self.live, self._most, self._left = shapes, 0, 0, operations
        self._storages: dict[int, weakref.ref[Any]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # as Tape: or PyTorch would import its compiler at once

    def __enter__(self) -> Ledger:
        with ExitStack() as within:
            self._drawn = within.enter_context(sparing(0 if self.shapes else _LARGE // 8))
            if self.shapes:
                within.enter_context(_Arrays())
            self._within = within.pop_all()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        self._within.close()

    def most(self) -> int:
        """Bytes that were held at most since this was last asked."""
        most = max(self._most, _DRAWN * max(self._drawn, default=0))
        self._most = self.live
        self._drawn.clear()
        return most

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _Enough
        given = {id(tensor.untyped_storage()) for tensor in tensors_in((args, kwargs or {}))}
        try:
            out = (_on_shapes if self.shapes else _really)(op, args, kwargs or {})
        except RuntimeError as error:
            raise MemoryError(str(error)) if "overflow" in str(error) else error from None
        for tensor in tensors_in(out):
            storage = tensor.untyped_storage()
            if id(storage) not in given:  # else it is known, or was there before
                self._note(storage)
        return out

    def _note(self, storage: Any) -> None:
        known, size = id(storage), storage.nbytes()
        if known in self._storages:
            return

        def forget(_: Any) -> None:
            del self._storages[known]
            self.live -= size

        self._storages[known] = weakref.ref(storage, forget)
        self.live += size
        self._most = max(self._most, self.live)


def count(work: Callable[[Ledger], None]) -> None:
    """Call `work` with a ledger that it does something within; again with another, where that would be large.

    It is left in the middle of what goes on for too long.
    """
    try:
        try:
            work(Ledger(shapes=False))
        except _Large:
            work(Ledger(shapes=True))
    except _Enough:
        pass


def _really(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation as it is, or _Large."""
    read = [tuple(tensor.shape) for tensor in tensors_in((args, kwargs))]
    made: list[tuple[int, ...]] = []  # what can be more than is read, beside products
    if read and torch.Tag.pointwise in op.tags:
        made = [np.broadcast_shapes(*read)]
    elif op._schema.name == "aten::repeat":
        made = [(*args[0].shape, *args[1])]
    elif not read or op._schema.name.startswith("aten::new_"):  # zeros((2, 3)), arange(6)
        sizes = [arg if isinstance(arg, (tuple, list)) else [arg] for arg in args]
        made = [tuple(each) for each in sizes if all(type(n) is int for n in each)]
    if any(math.prod(shape) > _LARGE // 8 for shape in (*read, *made)):
        raise _Large
    return op(*args, **kwargs)


def _on_shapes(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on shapes alone."""
    given = any(True for _ in tensors_in((args, kwargs)))
    if torch.Tag.data_dependent_output in op.tags:
        return True if str(op._schema.returns[0].type) == "bool" else 1
    args, kwargs = map_tensors((args, kwargs), _shape_of)
    if "device" in kwargs or not given:
        kwargs["device"] = _META
    return op(*args, **kwargs)


def _shape_of(tensor: Tensor) -> Tensor:
    if tensor.device == _META:
        return tensor
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=_META)


class _Arrays(TorchFunctionMode):
    """Within it a tensor without memory gives an array without memory."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function not in (Tensor.numpy, Tensor.tolist) or args[0].device != _META:
            return function(*args, **(kwargs or {}))
        zero = np.zeros(1, str(args[0].dtype).removeprefix("torch."))
        array = np.lib.stride_tricks.as_strided(zero, args[0].shape, [0] * args[0].ndim)
        return array if function is Tensor.numpy else array.tolist()
