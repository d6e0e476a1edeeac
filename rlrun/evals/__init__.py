"""How an agent is judged: the configs of `eval=`, and what each builds for a run.

A builder is called as `build(config, run)` and returns an `rlrun.evaluate.Evaluation`.
"""
