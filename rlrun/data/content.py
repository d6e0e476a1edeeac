"""What tells data from other data, in whatever form they are held."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np


def content(*data: Any) -> bytes:
    """A SHA-256 of arrays, pandas frames, dataclasses, and of what lists and mappings hold of them.

    The same in every process; of any other object its type alone is looked at.
    """
    digest = hashlib.sha256()
    _add(data, digest.update)
    return digest.digest()


def _add(data: Any, update: Callable[[Any], None]) -> None:
    if hasattr(data, "iloc"):  # a pandas frame, or a column of one
        columns = [data.iloc[:, j] for j in range(data.shape[1])] if data.ndim == 2 else [data]
        _add([str(column.name) for column in columns], update)
        _add([data.index.to_numpy(), *(column.to_numpy() for column in columns)], update)
    elif isinstance(data, np.ndarray) and not data.dtype.hasobject:
        update(f"{data.dtype.descr}{data.shape}".encode())
        update(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
    elif isinstance(data, np.ndarray):
        _add([str(data.dtype), data.shape, data.ravel().tolist()], update)
    elif isinstance(data, Mapping):
        _add(list(data.items()), update)
    elif is_dataclass(data) and not isinstance(data, type):
        _add(vars(data), update)
    elif isinstance(data, (str, bytes, int, float, complex, np.generic, type(None))):
        update(f"{type(data).__name__} {data!r};".encode())
    elif hasattr(data, "isoformat"):
        update(f"{data.isoformat()};".encode())
    elif isinstance(data, (list, tuple, range)):
        update(f"{type(data).__name__}(".encode())
        for each in data:
            _add(each, update)
        update(b")")
    else:
        update(f"{type(data).__qualname__};".encode())
