"""Whether a run can be written where it is to be."""

from __future__ import annotations

from pathlib import Path

from rlrun.config import ConfigError
from rlrun.files import try_folder


def require_place(folder: Path, key: str, value: object) -> None:
    """Leave nothing behind, and say so if `folder` cannot be made, or not be written to.

    Raises:
        ConfigError: it cannot; `key` is what says where it is, and `value` what that says.
    """
    try:
        try_folder(folder)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{key} is {value}: no run folder can be made there: {why}",
            f"say {key}=FOLDER, in a place that you may write to",
        ) from error
