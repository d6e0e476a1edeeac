"""Many runs of one grid: each trained once, side by side, and ranked at the end.

`grid` says which jobs there are and what they are called, `folder` what became of them, `work` does one
in a process of its own, `pool` keeps several such processes going, `screen` shows how far they are.
"""
