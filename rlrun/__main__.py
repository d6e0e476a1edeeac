"""`python -m rlrun` is `rlrun`."""

import sys

from rlrun.cli import main

sys.exit(main())
