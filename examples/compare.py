"""Two algorithms by two learning rates from Python, three seeds each: which is better, and how surely.

    python examples/compare.py

From the command line: rlrun -m algo=dqn,ppo algo.learning_rate=1e-3,3e-4 replicas=3
"""

from itertools import product

import rlrun

for algo, rate in product(["dqn", "ppo"], [1e-3, 3e-4]):
    words = [f"algo={algo}", "env=cartpole", f"algo.learning_rate={rate}", "replicas=3"]
    rlrun.run([*words, "total_steps=20000", "out=outputs/compare"], quiet=True)

found = rlrun.compare("outputs/compare")  # as `rlrun compare outputs/compare`
print(found)
print(found.columns()["name"], found.draw("outputs/compare"))
