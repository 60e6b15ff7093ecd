"""Headless Chromium, driven by the W3C WebDriver protocol over plain HTTP: Debian's chromium and
chromium-driver, and nothing else.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request


def missing() -> str | None:
    """Why there can be no Chromium here, or None."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser and shutil.which("chromedriver"):
        return None
    return "no chromium and chromedriver here (Debian: apt-get install chromium chromium-driver)"


class Chromium:
    """A browser whose pages are ``width`` x ``height``; what it downloads goes to ``folder``."""

    def __init__(self, width: int, height: int, folder: str, ratio: float = 1):
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.session = None
        for line in self.driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                self.base = f"http://127.0.0.1:{found[1]}/session"
                break
        args = [
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            f"--window-size={width},{height}",
            f"--force-device-scale-factor={ratio}",
            "--force-color-profile=srgb",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            args.append("--no-sandbox")  # its sandbox does not work for root
        options = {"args": args, "prefs": {"download.default_directory": str(folder)}}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self.session = self._ask("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        frame = self.run("return [outerWidth - innerWidth, outerHeight - innerHeight]")
        self._ask("POST", "/window/rect", {"width": width + frame[0], "height": height + frame[1]})

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_) -> None:
        try:
            if self.session:
                self._ask("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(30)
            self.driver.stdout.close()

    def _ask(self, method: str, path: str, body: dict | None = None):
        url = self.base + (f"/{self.session}{path}" if self.session else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None

    def open(self, url: str) -> None:
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str, *arguments):
        """What ``script`` returns, a function's body."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, seconds: float = 240) -> None:
        """Until the expression ``script`` is true."""
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({script})"):
            assert time.monotonic() < end, f"{script} did not come true"
            time.sleep(0.05)

    def screenshot(self) -> bytes:
        return base64.b64decode(self._ask("GET", "/screenshot"))

    def console(self) -> list[str]:
        """Warnings and errors since the last call."""
        return [
            entry["message"]
            for entry in self._ask("POST", "/se/log", {"type": "browser"})
            if entry["level"] in ("WARNING", "SEVERE")
        ]

    def act(self, *sources: dict) -> None:
        self._ask("POST", "/actions", {"actions": list(sources)})
        self._ask("DELETE", "/actions")

    def press(self, *keys: str) -> None:
        self.act(
            {
                "type": "key",
                "id": "keys",
                "actions": [{"type": f"key{way}", "value": key} for key in keys for way in ("Down", "Up")],
            }
        )

    def wheel(self, x: int, y: int, turned: int) -> None:
        scroll = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": turned, "duration": 0}
        self.act({"type": "wheel", "id": "wheel", "actions": [scroll]})

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        self.act(_path("mouse", start, end))

    def pinch(self, *fingers: tuple[tuple[int, int], tuple[int, int]]) -> None:
        """Fingers that go from one point to another at the same time."""
        self.act(*(_path("touch", *ends, name=f"finger{i}") for i, ends in enumerate(fingers)))


def _path(kind: str, start: tuple[int, int], end: tuple[int, int], name: str = "pointer") -> dict:
    def to(place):
        return {"type": "pointerMove", "x": place[0], "y": place[1], "duration": 50, "origin": "viewport"}

    middle = (start[0] + end[0]) // 2, (start[1] + end[1]) // 2
    actions = [
        to(start),
        {"type": "pointerDown", "button": 0},
        to(middle),
        to(end),
        {"type": "pointerUp", "button": 0},
    ]
    return {"type": "pointer", "id": name, "parameters": {"pointerType": kind}, "actions": actions}
