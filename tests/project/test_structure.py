"""The rules of the source tree: imports run one way, and every version that setup.py allows is one that is
tested.
"""

import ast
import re
from pathlib import Path

import pytest
from packaging.version import Version

from helpers import ROOT

PACKAGE = ROOT / "liif_plugin"
# A module imports only from packages further up in this list. This is the one place where the order is
# written.
ORDER = [
    "errors",
    "coords",
    "resize",
    "precision",
    "files",  # atomic writes
    "image_io",
    "distributed",  # several processes: run a step on all ranks, compare values between ranks
    "basicsr_patches.shims",  # needed before `import basicsr` works at all
    "config",
    "archs",
    "data",
    "metrics",
    "checkpoints",
    "inference",
    "evaluation",
    "models",
    "basicsr_patches",
    "export",
    "view",
    "register",
    "cli",
    "__main__",
]
MODULES = sorted(PACKAGE.rglob("*.py"))


def place(module: str) -> str:
    """The entry of ORDER that a module such as 'data.crops' belongs to."""
    return module if module in ORDER else module.split(".")[0]


def imported_modules(path: Path) -> set[str]:
    """Modules of liif_plugin that a file imports, inside functions too: 'data.crops', without the package's
    name.
    """
    inside = path.relative_to(PACKAGE).parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*inside[: len(inside) - (node.level - 1)], *(node.module or "").split(".")]
            base = [part for part in base if part]
            for alias in node.names:
                full = [*base, alias.name]
                is_module = (
                    PACKAGE.joinpath(*full).with_suffix(".py").is_file() or PACKAGE.joinpath(*full).is_dir()
                )
                found.add(".".join(full if is_module else base))
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("liif_plugin.") for a in node.names if a.name.startswith("liif_plugin.")
            }
    return found - {""}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    if own in ("__init__", "register", "_autoload"):
        return  # they load the others
    for other in imported_modules(path):
        if place(other) != place(own):
            assert ORDER.index(place(other)) < ORDER.index(place(own)), f"{own} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_house_style(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is for"
    names = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if path.parent.name not in ("cli", "basicsr_patches", "config"):
        assert "print" not in names
    assert path.name != "utils.py" and ".cuda()" not in text


def test_the_floors_of_setup_py_are_the_set_that_is_tested():
    tested = dict(
        line.split("==") for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines() if "==" in line
    )
    asked = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', (ROOT / "setup.py").read_text()))
    assert set(tested) == set(asked)
    for name, floor in asked.items():
        assert Version(floor) == Version(tested[name]), name
