"""A served viewer for the tests."""

import http.client
import threading

import torch
from basicsr.archs import build_network

from liif_plugin.view.server import app_of, listening, serve

EDSR = {"type": "EDSR", "num_feat": 8, "num_block": 2}


TOKEN = "secret-of-the-tests"
CPU = torch.device("cpu")


def network(kind="LIIF", **options):
    torch.manual_seed(0)
    given = {} if kind == "Bicubic" else {"encoder": EDSR, "hidden_list": [16, 16], **options}
    return build_network({"type": kind, **given}).eval().requires_grad_(False)


class Served:
    """The server on a real socket, in a thread."""

    def __init__(self, renderer, name="a.png", model="test"):
        self.sock = listening("127.0.0.1", None, wanted=0)
        self.port = self.sock.getsockname()[1]
        self.app = app_of(renderer, name, model, TOKEN)
        self.server = serve(self.app, self.sock)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.sock]}, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)
        self.sock.close()

    def ask(self, path, method="GET", body=None, token=TOKEN, **headers):
        """(status, body, headers) of a request written as given, with the token unless that is None."""
        if token is not None:
            path += f"{'&' if '?' in path else '?'}token={token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()
