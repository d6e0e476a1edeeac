"""One file an algorithm, or a close family: its config and its mathematics."""
