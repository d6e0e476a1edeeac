"""Words in, exit code out."""

from rlrun.cli.main import main as main
