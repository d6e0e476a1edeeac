"""How a sweep is done; nothing of what its runs compute depends on it."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Options:
    """What a command says about a sweep as a whole."""

    jobs: int | None = None  # at a time; None: as many as there are cores and memory for
    name: str | None = None  # of its folder
    retry_failed: bool = False
    yes: bool = False  # more than 10,000 jobs are meant
    config_dir: str | None = None
    launcher: tuple[str, ...] = ()  # overrides of Hydra's, for a sweep that is resumed

    def told(self) -> str:
        """The first of these that was said, as it was said; '' where none was."""
        words = {"jobs": "jobs=", "name": "sweep=", "retry_failed": "--retry-failed", "yes": "--yes"}
        return next((words[f.name] for f in fields(self) if f.name in words and getattr(self, f.name)), "")
