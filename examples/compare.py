"""A sweep from Python: two algorithms by two learning rates, three seeds each, and the table.

    python examples/compare.py

From the command line: rlrun -m algo=dqn,ppo algo.learning_rate=1e-3,3e-4 replicas=3
"""

from itertools import product
from pathlib import Path

import rlrun
from rlrun.report.compare import compare

runs = []
for algo, rate in product(["dqn", "ppo"], [1e-3, 3e-4]):
    words = [f"algo={algo}", "env=cartpole", f"algo.learning_rate={rate}", "replicas=3"]
    result = rlrun.run([*words, "total_steps=20000", "out=outputs/compare"], quiet=True)
    runs.append((result.summary["aggregate"]["median"], algo, rate))

for median, algo, rate in sorted(runs, reverse=True):
    print(f"{algo:5} {rate:g}  median {median:.1f}")
compare([Path("outputs/compare")], as_json=False)  # as `rlrun compare outputs/compare`
