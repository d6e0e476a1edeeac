"""The k-armed testbed of Sutton and Barto, "Reinforcement Learning" (2018), section 2.3.

Also with rewards of 0 and 1, and with means that walk at random (exercise 2.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Discrete

from rlrun.envs.abilities import Abilities
from rlrun.envs.vector.base import Arrays, NativeVectorEnv, normals
from rlrun.rng import child, uniforms

_WIDTH, _HEIGHT, _MARGIN = 600, 400, 40  # of a picture, in pixels
_GREY, _BLUE, _ORANGE, _DARK = "#d7dae0", "#2f6db5", "#e59c2c", "#3c4148"


class Bandit(NativeVectorEnv):
    """Arms whose mean rewards are drawn anew for each episode; it never terminates.

    Every step reports `regret` (the best arm's mean of the moment less the chosen one's)
    and `optimal` (1 where the chosen arm's mean is the best).
    """

    metadata: dict[str, Any] = NativeVectorEnv.metadata | {"render_fps": 10}

    def __init__(
        self,
        num_envs: int,
        max_steps: int | None,
        *,
        rewards: str,
        arms: int,
        means: Sequence[float] | None,
        mean: float,
        spread: float,
        noise: float,
        drift: float,
    ) -> None:
        super().__init__(num_envs, Discrete(1), Discrete(arms), max_steps)
        self.gaussian, self.arms, self.fixed_means = rewards == "gaussian", arms, means
        self.mean, self.spread, self.noise, self.drift = mean, spread, noise, drift
        self.abilities = Abilities(metrics=("reward", "regret", "optimal"), sums=("regret",))
        self._means = np.zeros((num_envs, arms))
        self._pulls = np.zeros((num_envs, arms), np.int64)  # of this episode: for the picture
        self._rows, self._arms = np.arange(num_envs), np.arange(arms)

    def _begin(self, rows: np.ndarray, seed: np.ndarray, options: Mapping[str, Any]) -> None:
        if self.fixed_means is not None:
            self._means[rows] = self.fixed_means
        elif self.gaussian:
            self._means[rows] = self.mean + self.spread * normals(seed[:, None], self._arms)
        else:
            uniform = uniforms(seed[:, None], self._arms)
            self._means[rows] = self.mean + self.spread * (2.0 * uniform - 1.0)
        self._pulls[rows] = 0

    def _advance(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        chosen, counter = self._means[self._rows, actions], self.arms + self._steps
        if self.gaussian:
            reward = chosen + self.noise * normals(self._seed, counter)
        else:
            reward = (uniforms(self._seed, counter) < chosen).astype(float)
        regret = self._means.max(1) - chosen
        self._pulls[self._rows, actions] += 1
        if self.drift:
            self._walk()
        return (
            reward,
            self._never,
            {"reward": reward, "regret": regret, "optimal": (regret == 0.0).astype(float)},
        )

    def _walk(self) -> None:
        """A step of every arm's mean, the same whichever arm is pulled."""
        key = child(self._seed, np.ones(1, np.int64))[:, None]
        counter = self._steps[:, None] * self.arms + self._arms
        self._means += self.drift * normals(key, counter)
        if not self.gaussian:  # a probability is reflected at 0 and at 1
            self._means[:] = 1.0 - np.abs(1.0 - np.abs(self._means) % 2.0)

    def _observe(self) -> np.ndarray:
        return np.zeros(self.num_envs, np.int64)

    def _arrays(self) -> Arrays:
        return {"means": self._means, "pulls": self._pulls}

    def render_frame(self, index: int) -> np.ndarray:
        """The arms of one bandit: how often each was pulled (bars), and what it pays on average (dots).

        Raises:
            ImportError: Pillow is missing.
        """
        try:
            from PIL import Image, ImageDraw
        except ImportError as error:
            raise ImportError("drawing bandits needs pip install 'rlrun[render]'") from error
        means, pulls = self._means[index], self._pulls[index]
        image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
        draw = ImageDraw.Draw(image)
        width, floor = (_WIDTH - 2 * _MARGIN) / self.arms, _HEIGHT - _MARGIN
        room = floor - 2 * _MARGIN
        low, high = means.min(), means.max()
        for arm, (mean, count) in enumerate(zip(means, pulls, strict=True)):
            left, middle = _MARGIN + (arm + 0.1) * width, _MARGIN + (arm + 0.5) * width
            top = floor - room * count / max(pulls.max(), 1)
            draw.rectangle((left, top, left + 0.8 * width, floor), fill=_GREY)
            draw.text((middle, top - 2), str(count), fill=_DARK, anchor="mb")
            height = floor - room * (0.1 + 0.85 * (mean - low) / max(high - low, 1e-9))
            colour = _ORANGE if mean == high else _BLUE
            draw.ellipse((middle - 5, height - 5, middle + 5, height + 5), fill=colour)
            draw.text((middle, floor + 6), f"{mean:.2f}", fill=colour, anchor="mt")
        draw.text(
            (_MARGIN, 8), f"{pulls.sum()} pulls: bars; mean rewards: dots and below; orange: best", fill=_DARK
        )
        return np.array(image, np.uint8)
