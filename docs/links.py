"""A hook of mkdocs: links that leave docs/ stay links on the site, which has what they lead to as text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)\)")


def place(name: str) -> str:
    """Where the site has a file of the repository."""
    return f"repository/{name}.txt"


def on_files(files: Files, config: Any) -> Files:
    """Publish what pages link to; a link to nothing is left for mkdocs to complain about."""
    pages = [page.content_string for page in files.documentation_pages()]
    for name in sorted({name for page in pages for name in OUTSIDE.findall(page)}):
        source = ROOT / name
        if source.is_dir():
            text = "\n".join(sorted(path.name for path in source.iterdir() if path.name[0] not in "._"))
            files.append(File.generated(config, place(name), content=text))
        elif source.is_file():
            files.append(File.generated(config, place(name), abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to where the site has them."""
    top = "../" * page.file.src_uri.count("/")
    return OUTSIDE.sub(lambda link: f"]({top}{place(link[1])})", markdown)
