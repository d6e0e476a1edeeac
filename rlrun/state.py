"""What a checkpoint holds of an object: the state of its parts, every leaf with the replica first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]  # what a checkpoint holds; every leaf is [R, ...]


class Stateful:
    """Something whose state is that of its parts.

    `saved` maps the attributes that make up a checkpoint to a role: weights, normalizer,
    optimizer, replay or random; or own, where a part is `Stateful` too and its parts keep
    their roles. A part is a tensor [R, ...], a network, or any object with `state()` and
    `load_state()`. What is not named there must be a pure function of the config and `step`.
    """

    saved: ClassVar[Mapping[str, str]] = {}

    def state(self, roles: Iterable[str] | None = None) -> State:
        """Every saved leaf [R, ...] by name, of the given roles (all by default); not copies."""
        out: State = {}
        for name, role in self.saved.items():
            part = getattr(self, name)
            if role == "own":
                out.update({f"{name}.{key}": leaf for key, leaf in part.state(roles).items()})
            elif roles is None or role in roles:
                out.update(_part_state(name, part))
        return out

    def load_state(self, state: Mapping[str, Tensor], roles: Iterable[str] | None = None) -> None:
        """Copy `state` in; names, shapes and types must be exactly those of `state(roles)`.

        Raises:
            ValueError: a leaf is missing, unknown, or of another shape or type.
        """
        for name, role in self.saved.items():
            part = getattr(self, name)
            leaves = {
                key[len(name) + 1 :]: value
                for key, value in state.items()
                if key == name or key.startswith(name + ".")
            }
            if role == "own":
                part.load_state(leaves, roles)
            elif roles is None or role in roles:
                if hasattr(part, "load_state"):
                    part.load_state(leaves)
                else:
                    copy_leaves(_leaves(part), leaves, name)


def _leaves(part: Any) -> State:
    if hasattr(part, "state"):
        return part.state()
    if hasattr(part, "named_parameters"):
        buffers = part.named_buffers(remove_duplicate=False)  # networks may share a normaliser
        return {k: v.detach() for k, v in part.named_parameters()} | dict(buffers)
    return {"": part}


def _part_state(name: str, part: Any) -> State:
    return {f"{name}.{key}" if key else name: leaf for key, leaf in _leaves(part).items()}


def copy_leaves(into: State, values: Mapping[str, Tensor], name: str) -> None:
    """Copy leaves of equal names, shapes and types in place; anything else is a ValueError."""
    if into.keys() != values.keys():
        odd = sorted(into.keys() ^ values.keys())
        raise ValueError(f"{name}: the saved leaves differ from those of this config: {', '.join(odd[:3])}")
    for key, leaf in into.items():
        if leaf.shape != values[key].shape:
            raise ValueError(
                f"{name}.{key}: saved shape {tuple(values[key].shape)}, this config has {tuple(leaf.shape)}"
            )
        if leaf.dtype != values[key].dtype:
            raise ValueError(f"{name}.{key}: saved as {values[key].dtype}, this config has {leaf.dtype}")
    for key, leaf in into.items():
        leaf.copy_(values[key])


def select(state: State, replica: int) -> State:
    """A copy of one replica's state, as a lone run has it: every leaf with R = 1."""
    return {key: leaf[replica : replica + 1].clone() for key, leaf in state.items()}


def insert(state: State, replica: int, one: State) -> None:
    """Write a `select`ed state back over one replica's rows."""
    for key, leaf in state.items():
        leaf[replica].copy_(one[key][0])
