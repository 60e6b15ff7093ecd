"""A process that has imported everything and forks a command at each request.

A fresh Python takes seconds until torch and BasicSR are imported; a fork starts at once. Requests and
answers are lines of JSON on stdin and stdout. {"argv": [...], "cwd": ..., "env": {...}, "out": file, "err":
file, "slow": seconds, "largest": bytes, "without": [packages]} starts `liif ARGV`, or what Python would
start where ARGV begins with SCRIPT.py or -c CODE, and answers with its process id. {"wait": pid, "timeout":
seconds} answers with its exit code, negative for a signal, or null where it had to be killed.
"""

from __future__ import annotations

import functools
import io
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PIPES: dict[int, tuple[int, str]] = {}  # process id -> the pipe of its output, the file where it belongs


def slow_torch_save(seconds: float) -> None:
    """Let torch.save take its time, so that a kill hits it."""
    import torch

    save = torch.save

    def slow(obj, file, *args, **kwargs):
        buffer = io.BytesIO()
        save(obj, buffer, *args, **kwargs)
        data = buffer.getvalue()
        for i in range(10):
            file.write(data[len(data) * i // 10 : len(data) * (i + 1) // 10])
            file.flush()
            time.sleep(seconds / 10)

    torch.save = slow


def become(request: dict, out: int, err: int) -> None:
    """Be the child: never return."""
    code = 1
    try:
        os.setsid()
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
            os.dup2(descriptor, target)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        if request.get("slow"):
            slow_torch_save(request["slow"])
        if request.get("largest"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"],) * 2)
        sys.modules.update(dict.fromkeys(request.get("without", ())))  # their import fails
        argv = request["argv"]
        is_script = argv[0].endswith(".py")
        sys.path[0] = os.path.dirname(argv[0]) if is_script else os.getcwd()
        try:
            if is_script:
                sys.argv = argv
                runpy.run_path(argv[0], run_name="__main__")
            elif argv[0] == "-c":
                sys.argv = ["-c", *argv[2:]]
                exec(argv[1], {"__name__": "__main__"})
            else:
                sys.argv = ["liif", *argv]
                from liif_plugin.cli import main

                main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
    finally:
        os._exit(code)


def start(request: dict) -> int:
    """Fork; return the process id."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    reader = None
    if request.get("largest"):  # a file could not grow where none may
        reader, out = os.pipe()
        err = out
    else:
        out, err = (os.open(request[stream], flags) for stream in ("out", "err"))
    pid = os.fork()
    if pid == 0:
        become(request, out, err)
    for descriptor in {out, err}:
        os.close(descriptor)
    if reader is not None:
        PIPES[pid] = reader, request["out"]
    return pid


def wait(pid: int, timeout: float) -> int | None:
    """Return the exit code, or None where the time is over and the process was killed."""
    deadline, late = time.monotonic() + timeout, False
    parent = os.getppid()
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if not late and (time.monotonic() > deadline or os.getppid() != parent):
            late = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)
    if pid in PIPES:
        reader, path = PIPES.pop(pid)
        Path(path).write_bytes(os.read(reader, 1 << 20))
        os.close(reader)
    return None if late else os.waitstatus_to_exitcode(ended[1])


def main() -> None:
    import liif_plugin.register  # noqa: F401

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background ignores Ctrl-C
    running = set()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            if "wait" in request:
                answer = wait(request["wait"], request["timeout"])
                running.discard(request["wait"])
            else:
                answer = start(request)
                running.add(answer)
            print(json.dumps(answer), flush=True)
    finally:
        for pid in running:  # the tests have ended, or were killed: leave nothing behind
            os.killpg(pid, signal.SIGKILL)
        os._exit(0)  # nothing to tear down


class Zygote:
    """The other side: commands in processes of their own.

    ``folder`` is where they run if nothing else is said. ``how`` is what a request may hold besides: slow,
    largest, without.
    """

    def __init__(self):
        self.logs = tempfile.TemporaryDirectory(prefix="zygote_")
        self.folder, self.count = Path(self.logs.name), 0
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, request: dict):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *argv, cwd=None, env=None, apart=False, **how) -> tuple[int, Path]:
        """Start `liif ARGV`; return its process id and the file of its output.

        What goes to standard error is there too, or with ``apart`` in the same file with .err added.
        """
        self.count += 1
        out = Path(self.logs.name) / f"{self.count}.log"
        err = out.with_suffix(".log.err") if apart else out
        out.touch()
        request = {
            "argv": [str(part) for part in argv],
            "cwd": str(cwd or self.folder),
            "env": {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            "out": str(out),
            "err": str(err),
        }
        return self.ask({**request, **how}), out

    def wait(self, pid: int, timeout: float = 300) -> int:
        """Return the exit code, negative for a signal."""
        code = self.ask({"wait": pid, "timeout": timeout})
        assert code is not None, f"process {pid} was killed after {timeout} s"
        return code

    def run(self, *argv, timeout: float = 300, **how) -> tuple[int, str]:
        """Return exit code and output."""
        pid, log = self.start(*argv, **how)
        return self.wait(pid, timeout), log.read_text(errors="replace")


@functools.cache
def the_zygote() -> Zygote:
    """Return the one of this run of the tests; it ends when its standard input does."""
    return Zygote()


if __name__ == "__main__":
    main()
