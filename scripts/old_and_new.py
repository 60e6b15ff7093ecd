"""Run the tests with the oldest supported set (tests/oldest.txt, Python 3.9) and with the newest.

  python scripts/old_and_new.py                             both, the fast tests; 6 GB each
  python scripts/old_and_new.py --only oldest --oldest-python ~/.pyenv/versions/3.9.18/bin/python
  python scripts/old_and_new.py --keep -- -m slow -k nodes  use the environments of an earlier
                                                            run; pytest gets what follows --

Each runs in a fresh environment, old_and_new/oldest or old_and_new/newest (--envs). The exit code is 1
where a set fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = ROOT / "tests" / "oldest.txt"
DEPRECATIONS = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning")


def install(home: Path, python: str, constraints: list[str]) -> None:
    """A fresh environment with this checkout in it, installed as the README says."""
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([python, "-m", "venv", home], check=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "--upgrade", "pip"], check=True)
    for packages in (
        ["setuptools", "wheel"],
        ["torch", "torchvision", "numpy"],
        ["--no-build-isolation", "basicsr"],
        ["--no-build-isolation", "-e", f"{ROOT}[test]"],
    ):
        subprocess.run([*pip, *constraints, *packages], check=True)


def versions(home: Path) -> str:
    """The interpreter and the packages named in oldest.txt, as they are installed."""
    names = [line.split("==")[0].lower() for line in OLDEST.read_text().splitlines() if "==" in line]
    interpreter = home / "bin" / "python"
    freeze = subprocess.run(
        [interpreter, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout
    found = [line.replace("==", " ") for line in freeze.splitlines() if line.split("==")[0].lower() in names]
    version = subprocess.run(
        [interpreter, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return ", ".join([version, *found])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["oldest", "newest"])
    parser.add_argument("--oldest-python", default="python3.9", metavar="PROGRAM", help="default: python3.9")
    parser.add_argument(
        "--newest-python", default=sys.executable, metavar="PROGRAM", help="default: the one that runs this"
    )
    parser.add_argument("--envs", type=Path, default=ROOT / "old_and_new", metavar="FOLDER")
    parser.add_argument("--keep", action="store_true", help="take an environment that is there as it is")
    parser.add_argument("pytest", nargs="*", metavar="-- ARGUMENT", help='of pytest; default: -m "not slow"')
    args = parser.parse_args()
    sets = {"oldest": (args.oldest_python, ["-c", str(OLDEST)]), "newest": (args.newest_python, [])}
    summary, failed = [], False
    for name in [args.only] if args.only else sets:
        python, constraints = sets[name]
        # Releases of that age use what others of them call deprecated
        warnings = [f"-Wdefault::{kind}" for kind in DEPRECATIONS] if name == "oldest" else []
        home = (args.envs / name).resolve()
        if shutil.which(python) is None:
            sys.exit(f"old_and_new: there is no program {python}; name one with --{name}-python.")
        if not (args.keep and (home / "bin" / "python").exists()):
            install(home, python, constraints)
        print(f"{name}: {versions(home)}", flush=True)
        start = time.monotonic()
        # one thread: results then do not depend on how many cores there are
        command = [home / "bin" / "python", "-m", "pytest", *warnings, *(args.pytest or ["-m", "not slow"])]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode
        summary.append(
            f"{name}: {'passed' if code == 0 else f'pytest ended with {code}'} "
            f"in {time.monotonic() - start:.0f} s"
        )
        failed |= code != 0
    print("\n".join(summary))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
