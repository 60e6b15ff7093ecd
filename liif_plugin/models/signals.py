"""Ctrl-C and SIGTERM while training: the step is finished, the state saved, the exit code 130 or 143.

A second one ends at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
ECHO = 0.5  # seconds. A launcher may repeat the signal that the terminal has sent to the whole group already.


class StopRequest:
    """Remembers the signal that asked this process to stop.

    Attributes:
        signum: the number of that signal, 0 if there was none.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._since = 0.0

    def requested(self) -> bool:
        """Return whether a signal came."""
        return self.signum != 0

    def listen(self) -> None:
        """Take Ctrl-C and SIGTERM as requests to stop.

        A signal that the program ignores (nohup), or for which it has its own handler, is left alone.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in NAMES:
            handler = signal.getsignal(signum)
            is_ours = isinstance(getattr(handler, "__self__", None), StopRequest)
            if is_ours or handler in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(signum, self.on_signal)

    def unlisten(self) -> None:
        """Give both signals their usual meaning again."""
        for signum in NAMES:
            if signal.getsignal(signum) == self.on_signal:
                usual = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
                signal.signal(signum, usual)

    def on_signal(self, signum: int, frame: FrameType | None) -> None:
        """Remember the first signal; end the process at the second one."""
        now = time.monotonic()
        if not self.signum:
            self.signum, self._since = signum, now
            if os.environ.get("RANK", "0") == "0":
                name = NAMES[signal.Signals(signum)]
                message = f"{name}: finishing the step and saving; once more ends at once."
                # Not print: the handler may have interrupted one
                os.write(2, f"\nliif_plugin: {message}\n".encode())
        elif now - self._since > ECHO:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
