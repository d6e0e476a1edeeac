"""The process of the command line: its streams, the signals that end it, and its exit code.

Exit codes: 0 done, 1 training or writing failed, 2 bad config or usage, 129, 130 and 143 stopped by SIGHUP,
SIGINT and SIGTERM. Little is imported here: what the command needs comes when signals are handled already.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rlrun.cli.streams import Streams
from rlrun.runs.process import Stopped, asked, end, stoppable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code. `argv` defaults to the process's, which is then ours to the end."""
    if argv is not None:
        with stoppable():
            return _run(argv)
    streams = Streams()
    with stoppable(for_good=True):
        try:
            code = _run(sys.argv[1:])
        except SystemExit as done:  # of argparse, which has printed a help
            code = done.code if isinstance(done.code, int) else 1
        code = streams.close(code)
        if asked():
            end(code)
        return code


def _run(arguments: Sequence[str]) -> int:
    try:
        from rlrun.cli.verbs import dispatch

        return dispatch(arguments)
    except Stopped as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        return 130
