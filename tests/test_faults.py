"""The campaign of faults (`make faults`): its judges see what is wrong, and a sample of it finds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.campaign import Case, Verdict, sampled, tried
from faults.process import Child, changes, tree
from faults.table import BEGIN, END, Found, causes, page_with

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def said(text: str, code: int = 2) -> Callable[[], int]:
    def work() -> int:
        print(text, file=sys.stderr)
        return code

    return work


def raising() -> int:
    raise KeyError("x")


def exiting() -> int:
    sys.exit("bye")


@pytest.mark.parametrize(
    ("work", "flaw"),
    [
        (said("rlrun: unknown key\n       did you mean it?"), ""),
        (said("rlrun: done", 0), "exit 0, not 2"),
        (said("\n".join("12345")), "5 lines on stderr"),
        (said("", 2), "0 lines on stderr"),
        (said("\x1b[31mred"), "control character"),
        (said("\u202edqn"), "control character"),
        (raising, "traceback (KeyError: 'x')"),
        (exiting, "exit 1, not 2"),
        (lambda: os.kill(os.getpid(), 9), "dies of signal 9"),
        (lambda: time.sleep(60), "it hangs"),
    ],
)
def test_a_refusal_is_judged(work: Callable[[], int], flaw: str, tmp_path: Path) -> None:
    seen = Child(work, tmp_path).end(1)
    assert flaw in "; ".join(seen.refusal_flaws) if flaw else not seen.refusal_flaws


def test_what_a_command_takes_is_its_own(tmp_path: Path) -> None:
    """CPU seconds and megabytes beyond what its process began with."""

    def work() -> int:
        begin, much = time.process_time(), bytearray(b"x" * (100 << 20))
        while time.process_time() - begin < 0.2:
            pass
        return len(much) & 0

    idle, busy = Child(lambda: 0, tmp_path).end(5), Child(work, tmp_path).end(5)
    assert idle.seconds < 0.15 < busy.seconds
    assert idle.megabytes < 20 < 90 < busy.megabytes


def test_whatever_is_written_is_seen(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a")
    before = tree(tmp_path)
    assert changes(before, tree(tmp_path)) == ""
    (tmp_path / "kept").write_text("b")
    (tmp_path / "link").symlink_to("/")
    assert changes(before, tree(tmp_path)) == "changed 'kept', wrote 'link'"


def test_cases_are_tried_apart_and_a_broken_one_is_wrong() -> None:
    def attempt(folder: Path) -> str:
        assert not list(folder.iterdir())
        (folder / "mine").touch()
        return ""

    def broken(folder: Path) -> str:
        raise OSError("no")

    cases = [Case("good", "", attempt), Case("good", "", attempt), Case("bad", "", broken)]
    home = os.environ.get("HOME", "")
    wrong = [verdict.wrong for verdict in tried(cases, 1)]
    assert wrong[:2] == ["", ""] and "OSError: no" in wrong[2] and os.environ.get("HOME", "") == home


def test_a_sample_is_spread_and_leaves_out_what_is_slow() -> None:
    cases = [Case(str(i), "", lambda folder: "", slow=i % 2 == 1) for i in range(100)]
    numbers = [int(case.name) for case in sampled(cases, 10, 1)]
    assert [number // 10 for number in numbers] == list(range(10)) and not any(n % 2 for n in numbers)
    assert sampled(cases, None, 1) == cases and sampled(cases, 10, 1) == sampled(cases, 10, 1)


def test_the_page_keeps_what_was_found_before() -> None:
    """Of other kinds; what is said of a kind is replaced, its wrong cases included."""
    wrong = Verdict(Case("a case", "rlrun x", lambda folder: "", 2), "exit 0\x1b")
    page = page_with(f"above\n{BEGIN}\n{END}\nbelow\n", [Found("envs", [wrong]), Found("kills", [wrong])])
    assert "| 2 | 0 | 2 |" in page and "- envs: a case: `rlrun x`: exit 0\\x1b" in page
    again = page_with(page, [Found("envs", [Verdict(wrong.case, "")])])
    assert "- envs" not in again and "- kills" in again and again.count("| kills |") == 1
    assert again.startswith("above\n") and again.endswith("\nbelow\n")
    assert causes([wrong, wrong])[0].startswith("2 x exit ..")


def test_a_sample_of_the_campaign_finds_nothing() -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    command = [sys.executable, "-m", "faults", "--sample", "8", "--jobs", "2", "--seed", "1"]
    ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
