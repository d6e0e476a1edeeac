"""`rlrun doctor`: versions, and which extras are there."""

from __future__ import annotations

import json
import os

from rlrun.cli.words import columns, verb_parser
from rlrun.config.keys import legible


def doctor(arguments: list[str], as_json: bool) -> int:
    """Versions, and which extras are there."""
    import importlib.util
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from rlrun.config import catalog

    verb_parser("doctor", "What is installed, and what is missing.").parse_args(arguments)
    wanted = {
        "core": (
            "torch",
            "numpy",
            "gymnasium",
            "hydra-core",
            "omegaconf",
            "tensorboard",
            "safetensors",
            "rich",
        ),
        "plots": ("matplotlib",),
        "render": ("pillow", "pygame-ce"),
        "box2d": ("box2d",),
        "minari": ("minari",),
        "atari": ("ale-py", "opencv-python-headless"),
        "mujoco": ("mujoco",),
        "minigrid": ("minigrid",),
        "joblib": ("hydra-joblib-launcher",),
        "slurm": ("hydra-submitit-launcher", "submitit"),
        "ray": ("hydra-ray-launcher", "ray"),
        "optuna": ("hydra-optuna-sweeper",),
    }
    rows, missing = [("python", platform.python_version(), "")], []
    for extra, packages in wanted.items():
        for package in packages:
            try:
                rows.append((package, version(package), ""))
            except PackageNotFoundError:
                hint = "broken installation" if extra == "core" else f"pip install 'rlrun[{extra}]'"
                rows.append((package, "missing", hint))
                missing.append(package)
    cuda = False
    if importlib.util.find_spec("torch"):
        import torch

        cuda = torch.cuda.is_available()
    rows += [("cpus", str(os.cpu_count()), ""), ("cuda", "yes" if cuda else "no", "")]
    rows += [("recipes", str(folder), "") for folder in catalog.conf_dirs()]
    if as_json:
        print(json.dumps({name: value for name, value, _ in rows} | {"missing": missing}))
    else:
        print(legible(columns(rows, indent="")))
    return 1 if set(missing) & set(wanted["core"]) else 0
