"""Reads run folders, and draws or prints what is in them; never trains."""
