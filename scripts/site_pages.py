"""Make README, CONTRIBUTING and CHANGELOG pages of the site, and make README's links absolute for PyPI.

mkdocs.yml names this file as a hook. Before a release, CI runs it as a program, because PyPI shows README.md
without docs/:

  python scripts/site_pages.py https://github.com/OWNER/NAME v0.1.0      writes README.md with absolute links
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def site_links(text: str) -> str:
    """Return a page of the repository with links as the site needs them, where all pages lie in one folder.

    Args:
        text: Markdown of a file at the root, or of a file in docs/.

    A link to a file that is no page, such as a test, becomes its text.
    """

    def replace(match: re.Match) -> str:
        image, label, target = match.groups()
        if target.startswith(("https://", "http://", "#")):
            return match[0]
        path, _, anchor = target.partition("#")
        path = path.removeprefix("../")
        path = PAGES.get(path, path.removeprefix("docs/"))
        if path not in PAGES.values() and not (ROOT / "docs" / path).is_file():
            return label
        return f"{image}[{label}]({path}{'#' + anchor if anchor else ''})"

    return LINK.sub(replace, text)


def absolute_links(text: str, repository: str, version: str) -> str:
    """Return README's text with links that work outside the repository.

    Args:
        text: Markdown with links relative to the repository's root.
        repository: its address, such as https://github.com/OWNER/NAME.
        version: a tag or a branch.

    Example:
        >>> absolute_links("![a](docs/a.png) [b](docs/b.md)", "https://github.com/o/n", "v1")
        '![a](https://github.com/o/n/raw/v1/docs/a.png) [b](https://github.com/o/n/blob/v1/docs/b.md)'
    """

    def replace(match: re.Match) -> str:
        image, label, target = match.groups()
        if target.startswith(("https://", "http://", "#")):
            return match[0]
        return f"{image}[{label}]({repository}/{'raw' if image else 'blob'}/{version}/{target})"

    return LINK.sub(replace, text)


def on_files(files, config):
    """Add the pages that lie outside docs/ (called by MkDocs)."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, **_):
    """Adapt the links, and take the marks off the blocks that tests do not run (called by MkDocs)."""
    return site_links(markdown.replace("```python not-run", "```python"))


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("site_pages: expected two arguments, the address of the repository and a tag or branch.")
    repository, version = sys.argv[1:]
    readme = ROOT / "README.md"
    readme.write_text(
        absolute_links(readme.read_text(encoding="utf-8"), repository, version), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
