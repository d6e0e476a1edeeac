"""How much memory a process may still take: of the system, of its control groups, of its own limit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Room:
    """The bytes that may still be filled, and be reserved, each with what sets the limit."""

    fill: tuple[int, str]
    reserve: tuple[int, str]


def available(root: Path = Path("/")) -> Room:
    """The least that system, control groups and the process's own limit leave; `root` is for tests."""
    memory = dict(re.findall(r"^(\w+): +(\d+) kB", _text(root / "proc/meminfo"), re.MULTILINE))
    kilobytes = {name: int(count) * 1024 for name, count in memory.items()}
    fill = [(kilobytes[name], "available memory") for name in ("MemAvailable",) if name in kilobytes]
    fill += [(left, f"the limit of the control group {group}") for left, group in _groups(root)]
    reserve = [(left, "the limit of the address space, ulimit -v") for left in _address_space(root)]
    if _text(root / "proc/sys/vm/overcommit_memory").strip() != "1" and "MemTotal" in kilobytes:
        reserve.append(
            (kilobytes["MemTotal"] + kilobytes.get("SwapTotal", 0), "memory and swap of this machine")
        )
    nothing = [(1 << 62, "no limit is known")]
    return Room(min(fill + reserve + nothing), min(reserve + nothing))


def _groups(root: Path) -> Iterator[tuple[int, str]]:
    """What each control group that the process is in, or its parents, still leave, version 1 and 2."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        first = not controllers  # version 2 has one tree and no controllers in this file
        top = root / "sys/fs/cgroup" / ("" if first else "memory")
        limit, usage = (
            ("memory.max", "memory.current") if first else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        inside = top / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if not folder.is_relative_to(top):
                break
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None:
                stat = _text(folder / "memory.stat")  # version 1 has it without and with what is inside
                caches = re.findall(r"^(?:total_)?inactive_file (\d+)", stat, re.MULTILINE)
                name = "/" + str(folder.relative_to(top)).lstrip(".")
                yield most - used + max(map(int, caches), default=0), name


def _address_space(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # another system
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY:
        used = re.search(r"^VmSize:\s+(\d+) kB", _text(root / "proc/self/status"), re.MULTILINE)
        yield most - (int(used[1]) * 1024 if used else 0)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None  # or "max"


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def size(count: float) -> str:
    """Bytes for people: 12.3 GB."""
    power = min(max(len(str(int(count))) - 1, 0) // 3, 5)
    shown = count / 1000**power
    return f"{shown:,.{int(power > 0 and shown < 100)}f} {('bytes', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"
