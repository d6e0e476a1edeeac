"""Odd environments (`odd_envs.py`): each trains rightly, or is named in a few lines."""

from __future__ import annotations

import json
import shutil
import signal
import time
from functools import cache, partial
from pathlib import Path

from guard import sums

from faults import campaign, odd_envs
from faults.campaign import Case
from faults.process import Seen, rlrun, start

SOURCE = Path(odd_envs.__file__)
QUIET = (
    "eval.episodes=2 eval.during=1 log.tensorboard=false log.plot=false checkpoint.every_steps=128 out=runs"
)
SECONDS, ENDLESS, ASLEEP = 30.0, 180.0, 80.0  # an env that never ends, or sleeps, is named later
STOPPED = 3.5  # seconds from SIGTERM to the end: two, and what a busy machine needs


def words(name: str) -> list[str]:
    _, overrides, _ = odd_envs.EXPECTED[name]
    ground = "num_envs=2 total_steps=512" if overrides.startswith("algo=") else odd_envs.GROUND
    chosen = dict.fromkeys([*ground.split(), *overrides.split()])
    last = {word.partition("=")[0]: word for word in chosen}  # the latter word counts
    return ["env=gym", f"env.id=odd_envs:{name}-v0", "env.allow_import=true", *last.values(), *QUIET.split()]


def cases(seed: int) -> list[Case]:
    found = []
    for name, (expected, _, says) in odd_envs.EXPECTED.items():
        slow = expected == "sleeps" or says == "env.max_steps"
        found.append(Case(name, "rlrun " + " ".join(words(name)), partial(attempt, name), slow=slow))
    return sorted(found, key=lambda case: not case.slow)  # so that none of them comes last


def attempt(name: str, folder: Path) -> str:
    expected, _, says = odd_envs.EXPECTED[name]
    if expected == "sleeps":
        return asleep(name, folder)
    seen = played(name, folder, ENDLESS if says == "env.max_steps" else SECONDS)
    run = next((folder / "runs").glob("*/*/run.json"), folder).parent
    if expected == "dies":
        return "" if status(run) in ("running", "not there") else f"its status is {status(run)}"
    found = seen.flaws
    if found:
        return "; ".join(found)
    if seen.code != 0:
        return "; ".join(named(name, expected, says, seen, run))
    if expected in ("named", "refused"):
        return "trains as if nothing were wrong"
    return "; ".join(trained(expected, says, seen, run))


def played(name: str, folder: Path, seconds: float) -> Seen:
    shutil.copy(SOURCE, folder)
    return rlrun(words(name), folder, seconds)


def status(run: Path) -> str:
    path = run / "status.json"
    return json.loads(path.read_text())["status"] if path.exists() else "not there"


def named(name: str, expected: str, says: str, seen: Seen, run: Path) -> list[str]:
    """What is wrong with the words of a run that did not end well."""
    found = []
    message = seen.err.rpartition("rlrun: ")[2].strip().splitlines()
    if seen.code not in (1, 2):
        found.append(f"exit {seen.code}")
    if expected in ("trains", "same"):
        found.append("does not train")
    if expected == "refused" and seen.code != 2:
        found.append(f"exit {seen.code}, not 2")
    if seen.code == 2 and (run / "run.json").exists():
        found.append("leaves a run folder")
    if seen.code == 1 and status(run) != "failed":
        found.append(f"its status is {status(run)}")
    if not 1 <= len(message) <= 4 or max(map(len, message)) > 500:
        found.append(f"{len(message)} lines, {max(map(len, message), default=0)} characters wide")
    known = name in seen.err or (seen.code == 2 and "the env's" in seen.err)  # there is but one
    if not known or says.lower() not in seen.err.lower():
        found.append(f"does not say {name} or {says!r}")
    return [*found, seen.last_words] if found else []


def trained(expected: str, says: str, seen: Seen, run: Path) -> list[str]:
    """What is wrong with a run that came to its end: it must be `Fine`'s, and resume to the same bits."""
    if status(run) != "finished":
        return [f"exit 0, and its status is {status(run)}"]
    if says not in seen.err:
        return [f"does not say {says!r}"]
    before = sums(run)
    if expected == "same" and before["metrics.jsonl"] != fine():
        return ["trains on other numbers than it was given"]
    if "exact" in seen.err:
        return []
    again = gone_back(run)
    if again.code != 0:
        return [f"cannot be resumed: {again.last_words}"]
    after = sums(run)
    return ["resumes to other bits, which it did not say"] if after != before else []


def gone_back(run: Path) -> Seen:
    """What resuming says, of a run put back to the checkpoint before its last."""
    shutil.rmtree(max((run / "ckpt").iterdir()))
    (run / "summary.json").unlink()
    (run / "status.json").write_text('{"status": "running", "step": 0, "reason": ""}')
    work = run.parents[2]
    return rlrun(["resume", str(run.relative_to(work)), "--allow-import"], work, SECONDS)


@cache
def fine() -> str:
    """The SHA-256 of the metrics of the env that has nothing odd."""
    folder = campaign.ROOT / f"fine-{time.monotonic_ns()}"
    folder.mkdir()
    seen = played("Fine", folder, 60)
    assert seen.code == 0, seen.err
    (run,) = (folder / "runs").glob("*/*")
    return sums(run)["metrics.jsonl"]


def asleep(name: str, folder: Path) -> str:
    """It is said that the env sleeps, and SIGTERM ends it."""
    shutil.copy(SOURCE, folder)
    child = start(words(name), folder)
    said = child.wait(ASLEEP)
    if said is not None:
        return "" if said.code in (1, 2) and name in said.err else f"exit {said.code}: {said.last_words}"
    begin = time.monotonic()
    child.kill(signal.SIGTERM)
    seen = child.end(STOPPED)
    found = (
        []
        if seen.code in (143, -15)
        else [f"exit {seen.code} after SIGTERM, in {time.monotonic() - begin:.1f} s"]
    )
    if "no step for" not in seen.err and list(folder.glob("runs/*/*/run.json")):
        found.append("does not say that no step was taken")
    return "; ".join(found)


def imports() -> None:
    """What a process has imported before it is forked for a case."""
    from faults import folders

    folders.imports()
