"""Train five seeds at once, then let one of them play in an environment of your own making.

python examples/train_and_load.py
"""

import gymnasium

import rlrun

result = rlrun.run(["algo=dqn", "env=cartpole", "replicas=5", "total_steps=20000"])
print("run folder:", result.folder)
for row in result.summary["replicas"]:
    print(f"seed {row['seed']}: {row['eval_return']:.1f}")

best = max(result.summary["replicas"], key=lambda row: row["eval_return"])
policy = rlrun.load(result.folder, replica=best["replica"])  # needs neither rlrun's env nor the trainer

env = gymnasium.make("CartPole-v1")
obs, _ = env.reset(seed=0)
memory, total, over = None, 0.0, False
while not over:
    action, memory = policy.act(obs, memory)
    obs, reward, terminated, truncated, _ = env.step(int(action))
    total, over = total + float(reward), terminated or truncated
print("the best one scores", total)
