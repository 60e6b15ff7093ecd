"""A process that has imported everything and forks a training at each request: kills by the dozen without
importing PyTorch anew.

Requests and answers are lines of JSON on stdin and stdout. {"argv": [...], "cwd": ..., "log": file, "env":
{...}, "slow": seconds, "largest": bytes} starts `liif ARGV`, or a script if ARGV begins with a .py file, and
answers with its process id; {"wait": pid} answers with its exit code, negative for a signal.
"""

import io
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path


def slow_torch_save(seconds):
    """torch.save that takes its time, so that a kill hits it."""
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


def become(request):
    """The child: never returns."""
    code = 1
    try:
        os.setsid()
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(request["cwd"])
        os.environ.update(request.get("env", {}))
        if request.get("slow"):
            slow_torch_save(request["slow"])
        if request.get("largest"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest"],) * 2)
        sys.argv = request["argv"]
        try:
            if sys.argv[0].endswith(".py"):
                runpy.run_path(sys.argv[0], run_name="__main__")
                code = 0
            else:
                from liif_plugin.cli import main

                main(sys.argv)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code or 0)


def main():
    import liif_plugin.register  # noqa: F401

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background ignores Ctrl-C
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                become(request)
        print(json.dumps(answer), flush=True)
    os._exit(0)  # nothing to tear down


class Zygote:
    """The other side: ``start`` and ``wait`` for trainings."""

    def __init__(self, folder):
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.folder, self.count = Path(folder), 0

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *argv, cwd=None, **more):
        """-> process id, path of its output."""
        self.count += 1
        log = self.folder / f"run_{self.count}.log"
        log.touch()
        return self.ask(
            {"argv": [str(a) for a in argv], "cwd": str(cwd or self.folder), "log": str(log), **more}
        ), log

    def wait(self, pid):
        return self.ask({"wait": pid})

    def run(self, *argv, **more):
        """-> exit code, output."""
        pid, log = self.start(*argv, **more)
        return self.wait(pid), log.read_text()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    main()
