"""A trained run as a moving picture, drawn by Gymnasium's own renderers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rlrun import envs
from rlrun.collector import mode_of, reset
from rlrun.config import ConfigError
from rlrun.config.plain import from_dict
from rlrun.core import Memory
from rlrun.rng import child, keys
from rlrun.runs.folder import read_run
from rlrun.runs.load import load, training_envs

_MAX_FRAMES = 1000
_ENDLESS_SECONDS = 10  # shown of what never ends
_COLOURS = 64  # of a GIF's palette: these scenes are flat


def play(folder: Path, out: Path, replica: int = 0) -> float:
    """Write one greedy episode of a replica to the GIF `out`; returns the episode's return.

    Where no episode ever ends, it goes on from where training stopped, without learning.

    Raises:
        ConfigError: the env cannot be drawn, or a package for drawing is missing.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError("making a GIF needs Pillow", "pip install 'rlrun[render]'") from None

    policy = load(folder, replica)
    record = read_run(folder)
    config = from_dict(record["config"]).env
    training = training_envs(folder, replica) if config.never_ends else None
    env = training.env if training else envs.make(config, 1)
    if mode_of(env) != "Disabled" or not hasattr(env, "render_frame"):
        raise ConfigError(
            f"{folder}: this environment cannot be drawn", "play works with native and Gymnasium envs"
        )
    fps = int(env.metadata.get("render_fps", 30))
    memory: Memory | None = None
    if training and training.obs is not None:
        obs, memory, limit = training.obs[0], training.memory, _ENDLESS_SECONDS * fps
    else:
        seed = child(
            keys([int(record["replicas"][replica]["seed"])], "play")[:, None], np.zeros((1, 1), np.int64)
        )
        obs, limit = reset(env, seed, np.ones((1, 1), bool), {}), _MAX_FRAMES
    first, total, done, frames = np.full(env.num_envs, memory is None), 0.0, False, []
    try:
        frames.append(Image.fromarray(env.render_frame(0)))
        while not done and len(frames) < limit:
            action, memory = policy.act(obs, memory, first)
            first = np.zeros_like(first)
            obs, reward, terminated, truncated, _ = env.step(action)
            total += float(reward[0])
            done = bool(terminated[0] or truncated[0])
            frames.append(Image.fromarray(env.render_frame(0)))
    except (NotImplementedError, ImportError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    every = max(fps // 25, 1)  # viewers slow down what is faster
    shown = [frame.quantize(_COLOURS) for frame in (*frames[:-1:every], frames[-1])]
    out.parent.mkdir(parents=True, exist_ok=True)
    shown[0].save(
        out, save_all=True, append_images=shown[1:], duration=1000 * every // fps, loop=0, optimize=True
    )
    return total
