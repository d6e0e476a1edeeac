"""Numbers of a config that may differ between the replicas of one program.

A key marked `key(..., per_replica=True)` may have another value in each replica: `Spec.variants`
names them, and `vary` puts an array [R] where the config had a number. An algorithm reads such a
key once, when it is built, through `number`, and multiplies by what it gets: the number itself
where all replicas agree, else a tensor that broadcasts over R. Random streams go by the seed alone,
so replicas of one seed draw the same whatever their numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from rlrun.core import Spec
from rlrun.lazy import torch

Config = TypeVar("Config")


def number(value: Any, spec: Spec, ndim: int = 1, dtype: str = "") -> Any:
    """A config's number as a factor of tensors of `ndim` axes, [R, ...]: itself, or [R, 1, ...].

    The tensor is of the spec's own type unless another is asked for: derive powers and products of
    such numbers in float64, before the cast, to get what Python's numbers give.
    """
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(value).to(spec.device, getattr(torch, dtype or spec.dtype))
    return tensor.view(-1, *[1] * (ndim - 1))


def column(value: Any, ndim: int) -> Any:
    """The same for arrays: the number itself, or float64 [R, 1, ...]."""
    return value.reshape(-1, *[1] * (ndim - 1)) if isinstance(value, np.ndarray) else value


def varying(config: Any, path: str = "algo.") -> Iterator[str]:
    """The keys of a config that may differ between replicas, in full: algo.learning_rate, ..."""
    for f in fields(config):
        value = getattr(config, f.name)
        if is_dataclass(value):
            yield from varying(value, f"{path}{f.name}.")
        elif f.metadata.get("per_replica") and isinstance(value, (int, float)):
            yield path + f.name


def vary(config: Config, variants: Sequence[Mapping[str, float]]) -> Config:
    """An algorithm's config with an array [R] in the place of every number that differs.

    Raises:
        ValueError: a key that must not differ, or that is null in this config.
    """
    allowed = set(varying(config))
    odd = sorted({key for variant in variants for key in variant} - allowed)
    if odd:
        raise ValueError(f"{odd[0]} cannot differ between replicas; {', '.join(sorted(allowed))} can")
    return _varied(config, variants, "algo.") if variants else config


def _varied(config: Any, variants: Sequence[Mapping[str, float]], path: str) -> Any:
    changes: dict[str, Any] = {}
    for f in fields(config):
        value, name = getattr(config, f.name), path + f.name
        if is_dataclass(value):
            changes[f.name] = _varied(value, variants, name + ".")
        elif any(name in variant for variant in variants):
            values = np.array([variant.get(name, value) for variant in variants])
            changes[f.name] = values if (values != values[0]).any() else values[0].item()
    return replace(config, **changes)
