"""The examples run: each script, and the code of each notebook, in a process of its own, made small."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest
from test_readme import process, smaller

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def run(text: str, folder: Path) -> str:
    (folder / "script.py").write_text(smaller(text))
    return process([sys.executable, "script.py"], folder).stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script(script: Path, tmp_path: Path) -> None:
    text = script.read_text()
    most = 80 if "windowed" in script.name else 40  # which hold a whole env of one's own
    assert text.count("\n") < most and ast.get_docstring(ast.parse(text))
    assert run(text, tmp_path)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stripped of outputs, and its code runs from top to bottom."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    book = json.loads(notebook.read_text())
    assert book["nbformat"] == 4 and set(book["metadata"]["kernelspec"]) >= {"name", "display_name"}
    for cell in book["cells"]:
        assert cell["cell_type"] in ("code", "markdown") and cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    run("\n\n".join([*code, "print(actions)"]), tmp_path)
