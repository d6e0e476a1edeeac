"""A trained run as a moving picture, drawn by Gymnasium's own renderers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from rlrun import envs
from rlrun.boundary import mode_of
from rlrun.config import ConfigError
from rlrun.evals.play import play
from rlrun.files import write_atomic
from rlrun.rng import child, keys
from rlrun.runs.folder import RunFolder, sound
from rlrun.runs.load import load, training_envs

_MAX_FRAMES = 1000
_ENDLESS_SECONDS = 10  # shown of what never ends
_COLOURS = 64  # of a GIF's palette: these scenes are flat


def film(folder: Path, out: Path, replica: int = 0) -> float:
    """Write one greedy episode of a replica to the GIF `out`; returns the episode's return.

    Where no episode ever ends, it goes on from where training stopped, without learning.

    Raises:
        ConfigError: the env cannot be drawn, a package for drawing is missing, or `out` is no file.
    """
    if out.is_symlink() or (out.exists() and not out.is_file()):
        raise ConfigError(f"{out} is a link, or no file: choose another name for the GIF")
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError("making a GIF needs Pillow", "pip install 'rlrun[render]'") from None

    policy, run = load(folder, replica), RunFolder(folder)
    config = run.config().env
    training = training_envs(folder, replica) if config.never_ends else None
    with sound(folder):
        env = training.env if training else envs.make(config, 1)
    if mode_of(env) != "Disabled" or not hasattr(env, "render_frame"):
        raise ConfigError(
            f"{folder}: this environment cannot be drawn", "play works with native and Gymnasium envs"
        )
    fps = int(env.metadata.get("render_fps") or 30)
    index = np.arange(1 if training is None else env.num_envs)[None]
    seed = child(keys([run.replicas()[replica].seed], "play")[:, None], index)
    goes_on = training is not None and training.obs is not None
    with sound(folder):
        player = policy.player(training.memory if training and goes_on else None)
    under_way = training.obs if training and goes_on else None
    limit = _ENDLESS_SECONDS * fps if goes_on else _MAX_FRAMES
    total = 0.0
    frames: list[Image.Image] = []

    def watched(obs: np.ndarray, first: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        if len(frames) < limit - 1:
            frames.append(Image.fromarray(env.render_frame(0)))  # what the agent looks at
        return player(obs, first, mask)

    try:
        longest = None if goes_on else run.config().longest_episode
        for now in play(env, watched, seed, under_way=under_way, limit=longest):
            total += float(now.reward[0, 0])
            over = now.terminated[0, 0] or now.truncated[0, 0]
            if over or (goes_on and len(frames) >= limit - 1):
                break  # of a longer episode the beginning and the end are shown
        frames.append(Image.fromarray(env.render_frame(0)))
    except (NotImplementedError, ImportError) as error:
        raise ConfigError(f"{folder}: {error}") from None
    _write(out, frames, fps)
    return total


def _write(out: Path, frames: list[Any], fps: int) -> None:
    """The pictures as a GIF, at no more than 25 a second."""
    every = max(fps // 25, 1)  # viewers slow down what is faster
    shown = [frame.quantize(_COLOURS) for frame in (*frames[:-1:every], frames[-1])]
    data, duration = io.BytesIO(), 1000 * every // fps
    shown[0].save(
        data, "GIF", save_all=True, append_images=shown[1:], duration=duration, loop=0, optimize=True
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, data.getvalue())
    except OSError as error:
        raise ConfigError(f"the GIF cannot be written: {error}") from None
