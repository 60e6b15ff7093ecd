"""The hook at interpreter start, in a fresh environment: what it costs, and that it never raises."""

import os
import statistics
import subprocess
import venv
from pathlib import Path
from shutil import copy

import pytest

from helpers import ROOT

ALLOWED = 0.5  # milliseconds that the hook may add to the start of Python


class Environment:
    """A virtual environment without pip: it holds liif_plugin.pth and the modules that the hook needs."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=False)
        self.folder = folder
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        self.site = Path(self.run("import site; print(site.getsitepackages()[0])").stdout.strip())
        copy(ROOT / "liif_plugin.pth", self.site)
        self.write("liif_plugin/basicsr_patches/__init__.py", "")
        self.write("liif_plugin/register.py", "print('registered')")
        for name in ("__init__.py", "_autoload.py"):
            copy(ROOT / "liif_plugin" / name, self.site / "liif_plugin")

    def write(self, name: str, text: str) -> None:
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, code: str, *options: str, **env: str) -> subprocess.CompletedProcess:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LIIF"))
        }
        command, env = [self.python, *options, "-c", code], {**inherited, **env}
        done = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done


@pytest.fixture
def environment(tmp_path):
    return Environment(tmp_path / "env")


def write_basicsr(environment: Environment, **files: str) -> None:
    """Write a package named basicsr; the keyword ``utils__registry`` is the text of utils/registry.py."""
    for name, text in {"__init__": "print('basicsr')", **files}.items():
        environment.write(f"basicsr/{name.replace('__', '/', 1) if name[0] != '_' else name}.py", text)


def test_no_module_is_imported_at_the_start(environment):
    code = "import sys; print(*sorted(sys.modules))"
    with_hook = environment.run(code).stdout
    (environment.site / "liif_plugin.pth").write_text("# a .pth file needs a codec of its own\n")
    assert environment.run(code).stdout == with_hook


def test_the_cost_at_the_start(environment):
    """Processor time for which `site` is busy with liif_plugin.pth, beyond that for a .pth file without code.

    Each file is processed twice, as it is at the start of Python in a virtual environment.
    """
    environment.write("empty.pth", "# nothing\n")
    code = f"""
import site, sys, time

def milliseconds(name):
    start = time.process_time()
    site.addpackage({str(environment.site)!r}, name, set())
    site.addpackage({str(environment.site)!r}, name, set())
    return (time.process_time() - start) * 1e3

milliseconds("empty.pth")  # loads the codec of .pth files
finders = len(sys.meta_path)
print(-milliseconds("empty.pth") + milliseconds("liif_plugin.pth"))
assert len(sys.meta_path) == finders + 1
"""
    cost = statistics.median(float(environment.run(code, "-S").stdout) for _ in range(21))
    assert cost < ALLOWED


def test_it_registers_after_basicsr(environment):
    write_basicsr(environment, utils____init__="", utils__registry="")
    code = "import basicsr, sys; print(sys.meta_path)"
    lines = environment.run(code).stdout.splitlines()
    assert lines[:2] == ["basicsr", "registered"] and lines[2].count("RegisterAfterBasicSR") == 1
    assert environment.run("import basicsr", LIIF_PLUGIN_AUTOLOAD="0").stdout == "basicsr\n"


def test_the_hook_of_an_older_installation(environment):
    """An editable install keeps the .pth file that it was made with."""
    write_basicsr(environment, utils____init__="", utils__registry="")
    (environment.site / "liif_plugin.pth").write_text("import liif_plugin._autoload\n")
    assert environment.run("import basicsr").stdout == "basicsr\nregistered\n"


@pytest.mark.parametrize("options", [(), ("-W", "error")])
@pytest.mark.parametrize(
    "files",
    [
        {"utils____init__": "raise SystemExit(3)"},
        {"utils": "raise SystemExit(3)"},
        {"utils____init__": "raise SystemExit(3)", "utils__logger": ""},
        {},
    ],
)
def test_a_foreign_package_of_that_name_is_left_alone(environment, options, files):
    """Nothing of it is imported to see that it is not BasicSR, and nothing of ours is imported for it."""
    write_basicsr(environment, **files)
    code = "import basicsr, sys; print(*(name for name in sys.modules if 'basicsr' in name))"
    done = environment.run(code, *options)
    assert done.stdout == "basicsr\nbasicsr\n" and not done.stderr


@pytest.mark.parametrize("options", [(), ("-W", "error")])
@pytest.mark.parametrize("broken", ["register", "basicsr_patches/__init__"])
@pytest.mark.parametrize("statement", ["raise SystemExit(3)", "1 / 0", "import no_such_module"])
def test_a_broken_plugin_warns_and_never_raises(environment, options, broken, statement):
    write_basicsr(environment, utils____init__="", utils__registry="")
    environment.write(f"liif_plugin/{broken}.py", statement)
    done = environment.run("import basicsr; print('alive')", *options)
    assert done.stdout.endswith("alive\n") and "could not register itself" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package(environment):
    """A .pth file that an incomplete removal has left behind."""
    write_basicsr(environment, utils____init__="", utils__registry="")
    (environment.site / "liif_plugin").rename(environment.site / "elsewhere")
    done = environment.run("import basicsr")
    assert done.stdout == "basicsr\n" and not done.stderr


def test_no_basicsr(environment):
    done = environment.run("""
try:
    import basicsr
except ModuleNotFoundError as error:
    print(error)
""")
    assert done.stdout == "No module named 'basicsr'\n" and not done.stderr
