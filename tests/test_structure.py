"""The house rules of the tree: imports run one way, every option file and module is where the design says."""

import ast
import re
from pathlib import Path

import pytest
from packaging.version import Version

from conftest import ROOT

PACKAGE = ROOT / "liif_plugin"
LAYERS = {"errors": -1, "kinds": 0, "_autoload": 1, "compat": 1, "figure": 2, "coords": 2, "resize": 2, "precision": 2,
          "archs": 3, "memory": 3, "pictures": 3, "data": 3, "metrics": 3, "render": 4,
          "models": 5, "convert": 6, "weights": 5, "pretrained": 6, "upscaling": 7, "register": 6,
          "compare": 7, "bench": 8, "export": 7, "api": 8, "view": 8, "cli": 9, "__main__": 10}  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported_rooms(path: Path) -> set[str]:
    """Names of the rooms (first component below liif_plugin) that a module imports, in functions too."""
    inside = path.relative_to(PACKAGE).parts[:-1]
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = inside[: len(inside) - (node.level - 1)]
            parts = [*base, *(node.module or "").split(".")] if node.module else list(base)
            rooms |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            rooms |= {a.name.split(".")[1] for a in node.names if a.name.startswith("liif_plugin.")}
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room in ("__init__", "register", "_autoload"):
        return
    for other in imported_rooms(path) - {room}:
        if room == "cli" and other == "register":
            continue
        assert LAYERS[other] < LAYERS[room], f"{path.name} imports {other}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_house_style(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module says what it is for"
    assert len(text.splitlines()) <= 260
    names = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    if path.parent.name not in ("cli", "compat"):
        assert "print" not in names
    assert path.name != "utils.py" and ".cuda()" not in text


def test_the_floors_of_setup_py_are_the_set_that_is_tested():
    tested = dict(line.split("==") for line in (ROOT / "tests" / "oldest.txt").read_text().splitlines() if "==" in line)
    asked = dict(re.findall(r'"([\w-]+)>=([\d.]+)"', (ROOT / "setup.py").read_text()))
    assert set(tested) == set(asked)
    for name, floor in asked.items():
        assert Version(floor) == Version(tested[name]), name
