"""How pictures are begun and saved, and their colours.

They need matplotlib, which is imported when one is drawn; without it a line on stderr says
how to get it, and everything else is written all the same.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from rlrun.config.keys import legible
from rlrun.files import write_atomic

BLUE, ORANGE, GREEN, GREY = "#2f6db5", "#e59c2c", "#3b9a62", "#8a8f98"
RED = "#b4655b"
# Okabe and Ito's, which most people with a colour vision deficiency can tell apart; twice with a dashed line.
DISTINCT = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


def new_figure(path: Path, width: float, height: float) -> Any:
    """An empty figure that needs no screen, or None and a line that says what to install."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        missing = f"rlrun: {path.name} needs matplotlib: pip install 'rlrun[plots]'"
        print(legible(missing), file=sys.stderr)
        return None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Any, path: Path, lines: str = "y") -> None:
    """Write a figure of axes with grid lines along x, y or both."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(visible=True, color="#e6e8ec", lw=0.8, axis=lines)
    write_png(figure, path)


def write_png(figure: Any, path: Path) -> None:
    """Write a figure, of whose names none can be but seen."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(legible(text.get_text()))
    data = io.BytesIO()
    figure.savefig(data, dpi=150, format="png")
    write_atomic(path, data.getvalue())
