"""A page of headings, texts, tables and pictures, as Markdown and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlrun.config.keys import legible

_STYLE = """
:root { color-scheme: light dark; --line: #d5d9e0; --soft: #8a8f98; --head: #f3f5f8; --strong: #2f6db5; }
@media (prefers-color-scheme: dark) { :root { --line: #3a3f48; --head: #23272e; --strong: #7fb2ee; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.conclusion { font-size: 1.1rem; border-left: 4px solid var(--strong); padding: .4rem 0 .4rem 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; margin: .6rem 0; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { background: var(--head); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
img { max-width: 100%; height: auto; background: white; } code { font-size: .9em; overflow-wrap: anywhere; }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; } img { break-inside: avoid; } }
"""


@dataclass
class Document:
    """Texts may hold `code` between backticks, and no other markup."""

    title: str
    conclusion: str
    _markdown: list[str] = field(default_factory=list)
    _html: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self._add(f"## {text}", f"<h2>{_inline(text)}</h2>")

    def text(self, text: str) -> None:
        self._add(text, f"<p>{_inline(text)}</p>")

    def bullets(self, texts: Sequence[str]) -> None:
        if texts:
            items = "".join(f"<li>{_inline(text)}</li>" for text in texts)
            self._add("\n".join(f"- {text}" for text in texts), f"<ul>{items}</ul>")

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The first column is of names, the others are of numbers."""
        lines = (header, ["---", *["---:"] * (len(header) - 1)], *rows)
        markdown = [f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |" for cells in lines]
        head = "".join(f"<th>{_inline(cell)}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{_inline(c)}</td>" for c in row) + "</tr>" for row in rows)
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        self._add("\n".join(markdown), f'<div class="wide">{table}</div>')

    def picture(self, path: Path, words: str) -> None:
        """A PNG, which `words` describe to who cannot see it."""
        data = base64.b64encode(path.read_bytes()).decode()
        image = f'<img alt="{html.escape(legible(words))}" src="data:image/png;base64,{data}">'
        self._add(f"![{words}]({path.name})", f"<p>{image}</p>")

    def _add(self, markdown: str, page: str) -> None:
        self._markdown += [legible(markdown), ""]
        self._html.append(page)

    def markdown(self) -> str:
        return "\n".join(
            [f"# {legible(self.title)}", "", f"**{legible(self.conclusion)}**", "", *self._markdown]
        )

    def html(self) -> str:
        title, conclusion = _inline(self.title), _inline(self.conclusion)
        return "\n".join(
            [
                "<!doctype html>",
                '<html lang="en"><head><meta charset="utf-8">',
                '<meta name="viewport" content="width=device-width, initial-scale=1">',
                f"<title>{title}</title><style>{_STYLE}</style></head><body>",
                f'<h1>{title}</h1><p class="conclusion">{conclusion}</p>',
                *self._html,
                "</body></html>",
                "",
            ]
        )


def _inline(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(legible(text)))
