"""Random streams: one per (seed, purpose), counter-based, drawn for all replicas at once.

The k-th number of a stream is a hash of (key, k), SplitMix64's finaliser (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", 2014) over a Weyl sequence that
starts at the key. So a stream's whole state is one counter per replica, replica r of a
batch draws exactly what a lone run of its seed draws, and a block for 2000 replicas is a
handful of array operations. Nothing in rlrun uses a global generator.

Folds of one seed share its streams (a crossed design): what differs between them is data.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from rlrun.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_WEYL = np.uint64(0x9E3779B97F4A7C15)
_MUL1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL2 = np.uint64(0x94D049BB133111EB)
_S12, _S27, _S30, _S31 = (np.uint64(k) for k in (12, 27, 30, 31))
_BLOCK = 1 << 16  # numbers of all replicas together that a refill aims at


def mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser, uint64 to uint64, element-wise."""
    z = (z ^ (z >> _S30)) * _MUL1
    z = (z ^ (z >> _S27)) * _MUL2
    return z ^ (z >> _S31)


def keys(seeds: Sequence[int], purpose: str) -> np.ndarray:
    """One stream key per seed, uint64 [len(seeds)]; by hash, so purposes never overlap."""
    salt = np.frombuffer(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), np.uint64)
    numbers = np.array([seed % 2**64 for seed in seeds], np.uint64)
    return mix(mix(numbers + _WEYL) ^ salt)


def child(key: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Keys of sub-streams: of env n of a replica, of episode e of an env. Broadcasts."""
    return mix(key ^ mix(index.astype(np.uint64) * _WEYL + _WEYL))


def uniforms(key: np.ndarray, counter: np.ndarray) -> np.ndarray:
    """The numbers at `counter` (int64, broadcast against key), float64 in the open (0, 1)."""
    bits = mix(key + counter.astype(np.uint64) * _WEYL)
    return (bits >> _S12).astype(np.float64) * 2.0**-52 + 2.0**-53


_sparing: tuple[int, list[int]] | None = None


@contextmanager
def sparing(most: int) -> Iterator[list[int]]:
    """Within it, blocks of more than `most` numbers take no memory, and each of these is one half.

    Yields how many numbers each of those blocks would have.
    """
    global _sparing
    before, _sparing = _sparing, (most, [])
    try:
        yield _sparing[1]
    finally:
        _sparing = before


class Stream:
    """Random numbers for R replicas; every draw is [R, ...] and unconditional."""

    def __init__(self, seeds: Sequence[int], purpose: str, device: str = "cpu") -> None:
        self._keys = keys(seeds, purpose)[:, None]
        self.device = device
        self.drawn: list[Tensor] | None = None  # what `uniform` has returned, while somebody listens
        self._start = np.zeros((len(seeds), 1), np.int64)  # counter at the block's first number
        self._used = 0
        self._refill(0)

    def _refill(self, size: int) -> None:
        self._start = self._start + self._used
        self._used = 0
        self._size = size
        if _sparing is None or len(self._keys) * size <= _sparing[0]:
            self._block = uniforms(self._keys, self._start + np.arange(size))
        else:
            _sparing[1].append(len(self._keys) * size)
            if len(self._keys) * size > 2**59:
                raise MemoryError("no array has so many numbers")
            self._block = np.lib.stride_tricks.as_strided(np.full(1, 0.5), (len(self._keys), size), (0, 0))

    @property
    def counter(self) -> np.ndarray:
        """How many numbers each replica has drawn, int64 [R]; assign to move there."""
        return self._start[:, 0] + self._used

    @counter.setter
    def counter(self, value: np.ndarray) -> None:
        self._start = np.asarray(value, np.int64).reshape(-1, 1)
        self._used = 0
        self._refill(0)

    def numbers(self, *shape: int) -> np.ndarray:
        """[R, *shape] in the open interval (0, 1), float64, as NumPy: for choices made on the CPU."""
        count = math.prod(shape)
        if self._used + count > self._size:
            self._refill(max(count, _BLOCK // len(self._keys), 16))
        out = self._block[:, self._used : self._used + count]
        self._used += count
        return out.reshape(len(out), *shape)

    def uniform(self, *shape: int) -> Tensor:
        """[R, *shape] in the open interval (0, 1), float64."""
        out = torch.from_numpy(self.numbers(*shape)).to(self.device)
        if self.drawn is not None:
            self.drawn.append(out)
        return out

    def normal(self, *shape: int) -> Tensor:
        """[R, *shape] standard normal, float64, one uniform each (inverse distribution)."""
        return torch.special.ndtri(self.uniform(*shape))

    def gumbel(self, *shape: int) -> Tensor:
        """[R, *shape] standard Gumbel, float64: argmax(logits + gumbel) samples softmax."""
        return -torch.log(-torch.log(self.uniform(*shape)))

    def integers(self, high: int | Tensor, *shape: int) -> Tensor:
        """[R, *shape] integers in [0, high); `high` may be a tensor that broadcasts."""
        return (self.uniform(*shape) * high).long()

    def permutation(self, n: int) -> Tensor:
        """[R, n]: a random order of 0 .. n - 1 for each replica."""
        return self.uniform(n).argsort(-1)

    def state(self) -> dict[str, Tensor]:
        return {"counter": torch.from_numpy(self.counter)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        counter = state["counter"].cpu().numpy()
        if counter.shape != (len(self._keys),):
            raise ValueError(f"rng: saved for {counter.size} replicas, this run has {len(self._keys)}")
        if counter.dtype != np.int64 or (counter < 0).any():
            raise ValueError("rng: what was saved counts no numbers")
        self.counter = counter
