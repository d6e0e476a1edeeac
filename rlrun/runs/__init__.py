"""The life of one run folder, from a checked config to its summary, and back from the folder to a policy."""
