"""`liif view`: a view's pixels are the continuous image's, and the server answers its own page alone."""

import contextlib
import http.client
import json
import math
import os
import re
import signal
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers.pictures import picture
from helpers.processes import has_ended, liif, wait_for
from helpers.viewing import CPU, TOKEN, Served, network
from liif_plugin import ContinuousImage
from liif_plugin.coords import mesh
from liif_plugin.errors import UserError
from liif_plugin.image_io.reading import from_array
from liif_plugin.inference.render import render
from liif_plugin.inference.upscaling import Engine
from liif_plugin.resize import matlab_imresize
from liif_plugin.view import renderer as renderer_module
from liif_plugin.view import server as server_module
from liif_plugin.view.render_queue import LIMIT, Busy, RenderQueue
from liif_plugin.view.renderer import Renderer
from liif_plugin.view.resampler import Resampler
from liif_plugin.view.server import is_own_host, listening
from liif_plugin.view.views import View

EDSR = {"type": "EDSR", "num_feat": 8, "num_block": 2}


def renderer_of(net=None, pixels=None, budget=1 << 30):
    return Renderer(
        Engine(net or network(), CPU, "fp32", budget),
        from_array(picture(0, 40, 53) if pixels is None else pixels),
    )


def colours(renderer, view):
    """What the network gives inside the picture: (3, R, C)."""
    return torch.cat([band for _, band in renderer.network_bands(view)], dim=1)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(renderer_module, "TILE", 16)


@pytest.mark.parametrize(
    "options", [{}, {"residual": "bilinear"}, {"feat_unfold": False}, {"kind": "MetaSR"}]
)
def test_a_view_is_a_window_of_the_whole(small_tiles, options):
    renderer = renderer_of(network(**options))
    whole = render(renderer.engine.net, renderer.picture.colour, (40 * 7, 53 * 7))[0]
    part = colours(renderer, View(x=11 / 7, y=50 / 7, scale=7, width=150, height=120))
    assert (part - whole[:, 50:170, 11:161]).abs().max() < 1e-5
    assert (len(renderer.tiles) > 3) == (renderer.engine.net.halo is not None)


@pytest.mark.parametrize(
    "view",
    [
        View(3.21, 7.77, 3.3, 90, 60),
        View(-5.5, -2.25, 2.7, 200, 150),
        View(20.123456, 17.987654, 12345.6, 40, 30),
        View(1.5, 2.5, 9, 77, 66, step=4),
        View(3.2, 7.7, 1.0, 30, 20, cell=0.25),
        View(0, 0, 1.37, 80, 60, ensemble=False),
    ],
)
def test_a_view_is_the_continuous_image(small_tiles, view):
    """Equal to ContinuousImage.sample at the centres of the screen's pixels, computed from the definition."""
    renderer = renderer_of(network(residual="bilinear"))
    net = network(residual="bilinear", local_ensemble=view.ensemble)
    axes = []
    for start, n, length in ((view.y, 40, view.height), (view.x, 53, view.width)):
        at = start + (np.arange(math.ceil(length / view.step)) + 0.5) * view.step / view.scale
        axes.append(torch.tensor(2 * at[(at >= 0) & (at <= n)] / n - 1).float())
    side = view.cell or 1 / view.scale
    expected = ContinuousImage(renderer.picture.colour, net, "fp32").sample(
        mesh(*axes), (2 * side / 40, 2 * side / 53)
    )
    got = colours(renderer, view)
    assert got.shape[1:] == (len(axes[0]), len(axes[1]))
    assert (got.flatten(1).T - expected).abs().max() < 1e-5


def test_what_is_seen():
    """Colours are rounded, gray stays gray, alpha is kept, outside is transparent, below x1 it is shrunk."""
    pixels = np.dstack([picture(1, 24, 30), np.full((24, 30), 200, np.uint8)])
    pixels[:, 20:, 3] = 0
    renderer, view = renderer_of(pixels=pixels), View(-2, -3, 4, 140, 130)
    bands = list(renderer.bands(view))
    seen = np.concatenate(bands)
    inside = seen[12:108, 8:128]
    assert (
        seen.shape == (130, 140, 4)
        and seen.dtype == np.uint8
        and not seen[:12].any()
        and not seen[:, 128:].any()
        and not seen[108:].any()
    )
    assert (
        np.abs(inside[..., :3] - colours(renderer, view).permute(1, 2, 0).clamp(0, 1).numpy() * 255).max()
        <= 0.5001
    )
    assert (inside[:, :60, 3] == 200).all() and not inside[:, 100:, 3].any()
    gray = np.concatenate(list(renderer_of(pixels=pixels[:, :, 0]).bands(view)))
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 0] == gray[..., 2]).all() and gray.any()
    assert not np.concatenate(list(renderer.bands(View(500, 0, 2, 10, 10)))).any()
    low, bicubic = (
        np.concatenate(list(renderer.bands(View(0, 0, 0.5, 15, 12, layer=layer))))
        for layer in ("network", "bicubic")
    )
    assert np.array_equal(low, bicubic)


@pytest.mark.parametrize("size", [(80, 106), (100, 159), (60, 80)])
def test_bicubic_is_matlabs(size):
    """Where it enlarges; and a deep picture's values are not cut to 8 bits."""
    image = picture(2, 40, 53)
    view = View(0, 0, size[0] / 40, size[1], size[0], layer="bicubic")
    y, x = ((np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(size, (40, 53)))
    expected = matlab_imresize(image / 255, size)
    for pixels in (image, image.astype(np.uint16) * 257):
        got = renderer_of(pixels=pixels).colour.bicubic(y, x, 1.5)
        assert np.abs(got - expected).max() < 1e-5
    if size == (80, 106):
        seen = np.concatenate(list(renderer_of(pixels=image).bands(view)))
        assert (
            np.abs(seen[..., :3] - expected.clip(0, 1) * 255).max() <= 0.501 and (seen[..., 3] == 255).all()
        )


def test_shrunk_pictures_are_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for scale in (0.5, 0.3, 0.1, 1e-2):
        side = max(1, round(64 * scale))
        seen = np.concatenate(
            list(renderer_of(pixels=stripes).bands(View(0, 0, side / 64, side, side, layer="bicubic")))
        )
        assert seen.shape == (side, side, 4) and np.abs(seen[:, :, :3].astype(float) - 127.5).max() < 12
    nearest = np.concatenate(list(renderer_of(pixels=stripes).bands(View(2, 0, 3, 30, 9, layer="nearest"))))
    assert np.array_equal(nearest[..., :3], stripes[:3, 2:12].repeat(3, 0).repeat(3, 1))


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5)])
def test_a_tiny_picture_far_away(size):
    """There are no halves of one pixel."""
    far = Resampler(np.full((*size, 3), 128, np.uint8)).bicubic(np.arange(3) * 1e3, np.arange(2) * 1e3, 1e-3)
    assert far.shape == (3, 2, 3) and np.abs(far - 128 / 255).max() < 1e-6


def test_kept_codes_are_bounded(small_tiles):
    renderer = renderer_of(pixels=picture(0, 100, 120), budget=60_000)
    view = View(0, 0, 1, 120, 100)
    first = colours(renderer, view)
    assert 1 <= len(renderer.tiles) < 56 and renderer.tiles.bytes <= 60_000
    assert (first - render(renderer.engine.net, renderer.picture.colour, (100, 120))[0]).abs().max() < 1e-5
    # a network that must see the whole picture at once
    with pytest.raises(UserError, match="memory: expected at least"):
        renderer_of(network("MetaSR"), picture(0, 100, 120), budget=1 << 20)


# ---- the server


@pytest.fixture(scope="module")
def served():
    with Served(renderer_of()) as server:
        yield server


def test_the_page_and_its_parts(served):
    for path in ("/", "/view.css", "/view.js", "/layer.js", "/icon.svg"):
        status, body, headers = served.ask(path)
        assert status == 200 and body and "default-src 'none'" in headers["Content-Security-Policy"]
        assert b"//" not in body.replace(b"http://www.w3.org/2000/svg", b"") or path.endswith(".js")
        assert b"https:" not in body and b"http:" not in body.replace(b"http://www.w3.org/2000/svg", b"")
    about = json.loads(served.ask("/about")[1])
    assert (about["width"], about["height"], about["name"], about["ensemble"], about["cell"]) == (
        53,
        40,
        "a.png",
        True,
        True,
    )


def test_what_is_rendered_comes_over(served):
    renderer = renderer_of()
    for query, view in {
        "x=3.5&y=-2&scale=6&width=200&height=90": View(3.5, -2, 6, 200, 90),
        "x=3.5&y=7&scale=6&width=201&height=90&step=4&cell=0.5&ensemble=0&client=me-left": View(
            3.5, 7, 6, 201, 90, 4, "network", 0.5, False
        ),
        "x=0&y=0&scale=2.5&width=50&height=40&layer=nearest": View(0, 0, 2.5, 50, 40, layer="nearest"),
    }.items():
        status, body, headers = served.ask(f"/render?{query}")
        expected = np.concatenate(list(renderer.bands(view)))
        assert status == 200 and headers["X-Size"] == f"{expected.shape[1]}x{expected.shape[0]}"
        assert np.array_equal(np.frombuffer(body, np.uint8).reshape(expected.shape), expected)


GOOD = "x=0&y=0&scale=2&width=20&height=20"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ("x=nan", 400, "x: expected a number"),
        ("y=inf", 400, "y: expected"),
        ("x=", 400, "x: expected"),
        ("scale=0", 400, "scale: expected"),
        ("scale=-1", 400, "scale"),
        ("scale=1e9", 400, "scale"),
        ("scale=nan", 400, "scale"),
        ("width=0", 400, "width: expected a whole"),
        ("width=-5", 400, "width"),
        ("width=2.5", 400, "width"),
        ("height=1e3", 400, "height"),
        ("step=0", 400, "step"),
        ("step=1000", 400, "step"),
        ("cell=0", 400, "cell"),
        ("cell=-1", 400, "cell"),
        ("cell=nan", 400, "cell"),
        ("cell=inf", 400, "cell"),
        ("ensemble=2", 400, "ensemble"),
        ("layer=lanczos", 400, "layer: expected one of"),
        ("layer=../../etc/passwd", 400, "layer"),
        ("widht=3", 400, "did you mean 'width'"),
        ("file=/etc/passwd", 400, "unknown option 'file'"),
        ("client=a/b", 400, "client"),
        ("client=" + "a" * 41, 400, "client"),
        ("width=20000", 413, "at most 16777216 pixels and 16384"),
        ("width=10000&height=10000", 413, "at most 16777216"),
        ("width=999999999&height=999999999", 413, "at most"),
        ("x=1&x=2", 400, "given once"),
        ("x=" + "1" * 50, 400, "x: expected"),
        ("x=" + "1" * 1200, 414, "at most 1000 bytes"),
    ],
)
def test_nonsense_gets_one_line(served, change, status, words):
    names = {part.split("=")[0] for part in change.split("&")}
    kept = "&".join(part for part in GOOD.split("&") if part.split("=")[0] not in names)
    got, body, _ = served.ask(f"/render?{kept}&{change}")
    assert got == status and words in body.decode() and len(body.decode().strip().splitlines()) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/page/view.js",
        "/server.py",
        "/view.js/",
        "/view.js%00",
        "/render/../../x",
    ],
)
def test_there_are_no_other_files(served, path):
    status, body, _ = served.ask(path)
    assert (
        status == 404
        and b"root:" not in body
        and b"import" not in body
        and len(body.decode().strip().splitlines()) == 1
    )


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "evil.example"}, 403),
        ("GET", {"Host": "evil.example:8321"}, 403),
        ("GET", {"Host": "127.0.0.1.evil.example"}, 403),
        ("GET", {"Host": "localhost@evil.example"}, 403),
        ("GET", {"Host": "192.168.1.7"}, 403),
        ("GET", {"Host": "a b"}, 403),
        ("GET", {"Host": "localhost:9"}, 200),
        ("GET", {"Host": "[::1]:8321"}, 200),
        ("GET", {"Host": "LOCALHOST"}, 200),
        ("GET", {"Origin": "http://evil.example"}, 403),
        ("GET", {"Origin": "null"}, 403),
        ("GET", {"Origin": "http://127.0.0.1:9"}, 403),
        ("GET", {"Origin": "http://localhost:9", "Host": "localhost:9"}, 200),
        ("GET", {"Sec_Fetch_Site": "cross-site"}, 403),
        ("GET", {"Sec_Fetch_Site": "same-site"}, 403),
        ("GET", {"Sec_Fetch_Site": "same-origin"}, 200),
        ("POST", {}, 405),
        ("DELETE", {}, 405),
        ("GET", {"Content_Length": "5"}, 413),
        ("GET", {"Transfer_Encoding": "chunked"}, 413),
    ],
)
def test_who_may_ask(served, method, headers, status):
    for path in ("/about", f"/render?{GOOD}"):
        got, body, _ = served.ask(path, method, **headers)
        assert got == status
        if status != 200:
            assert len(body.decode().strip().splitlines()) == 1


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1], TOKEN + "x", "%C3%A9"])
def test_without_the_token_nothing_of_the_picture_is_told(served, token):
    for path in ("/", "/about", f"/render?{GOOD}", "/nothing"):
        status, body, _ = served.ask(path, token=token)
        assert status == 403 and b"the link that `liif view` has printed" in body
        assert len(body.decode().strip().splitlines()) == 1
    for path in ("/view.css", "/view.js", "/layer.js", "/icon.svg"):  # the same for every picture
        assert served.ask(path, token=token)[0] == 200
    assert served.ask("/about?token=other")[0] == 200  # the last one counts


def test_half_open_connections_shut_nobody_out(monkeypatch):
    """Seventy that send nothing, or half a request: others are answered, and they are closed in the end."""
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT", 1.0)
    with Served(renderer_of()) as server, contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            for _ in range(70)
        ]
        for sock in sockets[::2]:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: 127")
        assert server.ask("/about")[0] == 200
        for sock in sockets:
            with contextlib.suppress(ConnectionResetError):  # closed before it had read all that was sent
                assert sock.recv(1000) == b""


def test_a_view_may_take_longer_than_a_request(monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT", 0.2)
    slow = Slow()
    with Served(slow) as server:
        threading.Timer(1.0, slow.free.set).start()
        assert len(server.ask(f"/render?{GOOD}")[1]) == 1600


def test_endless_headers_are_cut_off(served):
    with contextlib.suppress(ConnectionError):  # closed while we still send
        assert served.ask("/about", X_Long="a" * 200_000)[0] == 400
    assert served.ask("/about")[0] == 200


def test_a_link_from_elsewhere_opens_the_page_and_nothing_more(served):
    followed = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert served.ask("/", **followed)[0] == 200 and served.ask("/about", **followed)[0] == 403


def test_hosts(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "vm.cluster.example")
    monkeypatch.setattr(socket, "getfqdn", lambda: "vm.cluster.example")
    for name in ("vm.local:8321", "vm.lan", "VM.cluster.example.", "vm.home.arpa"):
        assert is_own_host(name, "0.0.0.0") and not is_own_host(name, "127.0.0.1")
    assert not is_own_host("vm.evil.example", "0.0.0.0") and not is_own_host("other.local", "0.0.0.0")
    assert is_own_host("192.168.1.7:80", "0.0.0.0") and is_own_host("nas.local", "nas.local")
    assert (
        not is_own_host("evil.example", "0.0.0.0")
        and not is_own_host("", "127.0.0.1")
        and not is_own_host("[::1", "::1")
    )


class Slow:
    """A renderer whose bands wait until they are let through."""

    def __init__(self):
        self.real, self.begun, self.free, self.made = renderer_of(), threading.Event(), threading.Event(), []

    def __getattr__(self, name):
        return getattr(self.real, name)

    def bands(self, view):
        for i in range(5):
            self.begun.set()
            self.free.wait(30)
            self.made.append((view.x, i))
            yield np.zeros((4, 20, 4), np.uint8)


def test_the_newest_view_wins():
    slow, got, threads = Slow(), {}, []
    with Served(slow) as server:
        active = server.app.state.queue.active

        def ask(x, client):
            got[x] = server.ask(f"/render?x={x}&y=0&scale=2&width=20&height=20&client={client}")

        for x, client in ((10, "a"), (20, "a"), (30, "a"), (40, "b")):
            before = active.get(client)
            threads.append(threading.Thread(target=ask, args=(x, client)))
            threads[-1].start()
            wait_for(lambda client=client, before=before: active.get(client) not in (None, before), 20)
            assert slow.begun.wait(20)  # the first one: it is being computed when the second one comes
        assert len(active) == 2
        slow.free.set()
        for thread in threads:
            thread.join(30)
        assert got[20][0] == 409 and b"newer view" in got[20][1]  # it never began
        assert len(got[30][1]) == len(got[40][1]) == 5 * 4 * 20 * 4
        assert len([made for made in slow.made if made[0] == 10]) <= 1 and not [
            made for made in slow.made if made[0] == 20
        ]
        wait_for(lambda: not active, 20)


def test_too_many_at_once_are_refused():
    queue = RenderQueue()
    for i in range(LIMIT):
        queue.start(str(i), iter([]))
    with pytest.raises(Busy):
        queue.start("more", iter([]))
    queue.start("3", iter([]))  # the same asker takes its own place
    queue.active["5"].last_fetch -= 100
    queue.start("more", iter([]))
    assert "5" not in queue.active and len(queue.active) == LIMIT


def test_a_reader_that_went_away_frees_its_place():
    slow = Slow()
    with Served(slow) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("GET", f"/render?{GOOD}&token={TOKEN}")
        wait_for(lambda: server.app.state.queue.active)
        connection.close()
        slow.free.set()
        wait_for(lambda: not server.app.state.queue.active)


# ---- the command


def test_the_command(tmp_path, zygote):
    Image.fromarray(picture(0, 30, 40)).save(tmp_path / "a.png")
    pid, log = zygote.start("view", "a.png", "--no-browser", "--precision", "fp32", apart=True)
    wait_for(lambda: "http://" in log.read_text() or has_ended(pid), said=log.read_text)
    link = re.search(r"http://\S+", log.read_text())[0]
    with urllib.request.urlopen(link, timeout=60) as answer:
        assert b"view.js" in answer.read()
    page, token = link.split("?token=")
    assert len(token) >= 32
    with urllib.request.urlopen(f"{page}render?{GOOD}&token={token}", timeout=60) as answer:
        assert len(answer.read()) == 1600
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(page, timeout=60)
    os.kill(pid, signal.SIGINT)
    assert zygote.wait(pid, 120) == 130
    assert Path(f"{log}.err").read_text().strip() == "liif view: stopped."


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no.png"], "no.png: cannot be read"),
        (["a.png", "--port", "0"], "1 to 65535"),
        (["a.png", "--host", "no such"], "--host no such"),
        (["a.png", "--host", "203.0.113.9"], "cannot listen there"),
        (["a.png", "--port", "{taken}"], "choose another port"),
        (["a.png", "--model", "liif-lite"], "did you mean 'liif-light'"),
        (["a.png", "--memory", "nan"], "a number of GiB"),
    ],
)
def test_mistakes_get_one_line(tmp_path, monkeypatch, capsys, argv, words):
    from liif_plugin.cli import main

    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(0, 30, 40)).save("a.png")
    with listening("127.0.0.1", None, wanted=0) as taken:
        argv = [part.format(taken=taken.getsockname()[1]) for part in argv]
        with pytest.raises(SystemExit) as stop:
            main(["view", *argv])
    said = capsys.readouterr().err if stop.value.code == 2 else stop.value.code
    assert words in said and len(said.splitlines()) == 1


def test_without_the_extra(tmp_path):
    done = liif("view", "a.png", cwd=tmp_path, without=["uvicorn"])
    assert (
        done.returncode == 1
        and "pip install 'liif-plugin[view]'" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )


def test_a_port_in_use_is_no_obstacle():
    with (
        listening("127.0.0.1", None, wanted=0) as first,
        listening("127.0.0.1", None, wanted=first.getsockname()[1]) as second,
    ):
        assert second.getsockname()[1] != first.getsockname()[1]
