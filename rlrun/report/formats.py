"""Tables for other programs: CSV, Markdown, LaTeX and HTML, in which no cell is anything but text."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rlrun.config.keys import legible

Tables = Sequence[tuple[str, Sequence[Sequence[str]]]]  # a title, and rows of which the first is the heading

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"} | {"<": r"\textless{}", ">": r"\textgreater{}"}


def as_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of plain values: of an interval its two ends, of keys a column each, of runs their number."""
    keys = dict.fromkeys(key for row in rows for key in row["keys"])
    out: dict[str, list[Any]] = {}
    for name in rows[0] if rows else ():
        cells = [row[name] for row in rows]
        if name == "keys":
            out |= {key: [_plain(each.get(key)) for each in cells] for key in keys if key != "env"}
        elif name == "interval" or name.endswith("_interval"):
            ends = [each or (None, None) for each in cells]
            out |= {f"{name}_{end}": [each[i] for each in ends] for i, end in enumerate(("low", "high"))}
        elif name in ("runs", "unfinished"):
            out |= {name: [len(each) for each in cells]}
        else:
            out[name] = cells
    return out


def to_csv(columns: Mapping[str, Sequence[Any]]) -> str:
    """A heading and a line a row; what a spreadsheet would take for a formula begins with an apostrophe."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([_no_formula(name) for name in columns])
    writer.writerows([_no_formula(cell) for cell in row] for row in zip(*columns.values(), strict=True))
    return text.getvalue()


def to_markdown(tables: Tables) -> str:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_markdown, cells))} |"

    out = []
    for title, (heading, *rows) in tables:
        rule = "|" + "|".join([" --- ", *[" ---: "] * (len(heading) - 1)]) + "|"
        out += [f"**{_markdown(title)}**", "", row(heading), rule, *map(row, rows), ""]
    return "\n".join(out)


def to_latex(tables: Tables) -> str:
    """A `tabular` for each, with the rules of the package booktabs."""

    def row(cells: Sequence[str]) -> str:
        return " & ".join(map(_latex, cells)) + r" \\"

    out = []
    for title, (heading, *rows) in tables:
        out += [f"% {_one_line(title)}", rf"\begin{{tabular}}{{l{'r' * (len(heading) - 1)}}}", r"\toprule"]
        out += [row(heading), r"\midrule", *map(row, rows), r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(out)


def to_html(tables: Tables) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(_one_line(cell))}</{tag}>" for cell in cells) + "</tr>"

    out = []
    for title, (heading, *rows) in tables:
        body = "".join(row(cells, "td") for cells in rows)
        caption = f"<caption>{html.escape(_one_line(title))}</caption>"
        out.append(f"<table>{caption}<thead>{row(heading, 'th')}</thead><tbody>{body}</tbody></table>")
    return "\n".join(out)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    text = _one_line(cell)
    return "'" + text if text.lstrip()[:1] in ("=", "+", "-", "@") else text


def _one_line(text: str) -> str:
    return legible(re.sub(r"\s+", " ", text))


def _escaped(escape: Callable[[str], str], signs: str, text: str) -> str:
    return re.sub(f"[{re.escape(signs)}]", lambda found: escape(found[0]), _one_line(text))


def _markdown(text: str) -> str:
    return _escaped(lambda sign: f"\\{sign}", r"\`*_[]<>|#~", text)


def _latex(text: str) -> str:
    return _escaped(_LATEX.__getitem__, "".join(_LATEX), text)
