"""How long a view of `liif view` takes, over a real connection: random views of a picture at several scales, as the page asks for them.

  python scripts/view_latency.py                                1280 x 720, 30 views a scale, chelsea of scikit-image eight times as large
  python scripts/view_latency.py --picture photo.jpg --views 50

New: nothing of the picture is encoded yet; the coarse picture (one pixel for 4 x 4) is asked for first, then the sharp one, as after a
jump. Known: the same view again, its codes are there, as after a switch or a small move. Milliseconds from the request to the last
byte, median and 95th percentile. "first rows": until the top of the sharp picture is on the screen.
"""

from __future__ import annotations

import argparse
import http.client
import threading
import time
from urllib.parse import urlencode

import numpy as np
import torch
from PIL import Image

from liif_plugin.checkpoints.loading import load
from liif_plugin.evaluation.report import grid
from liif_plugin.image_io.reading import Picture, from_array, read_picture
from liif_plugin.inference.upscaling import Engine
from liif_plugin.precision import choose_precision
from liif_plugin.view.renderer import Renderer
from liif_plugin.view.server import app_of, listening, serve

TOKEN = "latency"
COLUMNS = (
    "new, coarse",
    "new, sharp after it",
    "known, coarse",
    "known, first rows",
    "known, sharp",
    "bicubic",
)


def stand_in() -> Picture:
    """8.7 megapixels that need no download."""
    import skimage.data

    image = Image.fromarray(skimage.data.chelsea())
    return from_array(np.asarray(image.resize((image.width * 8, image.height * 8), Image.BICUBIC)))


def asked(connection: http.client.HTTPConnection, pixels: int, **view) -> tuple[float, float]:
    """Milliseconds to the first and to the last byte of a view."""
    start = time.perf_counter()
    connection.request("GET", f"/render?{urlencode({**view, 'token': TOKEN})}")
    answer = connection.getresponse()
    first = answer.read(1)
    began = time.perf_counter()
    rest = answer.read()
    if answer.status != 200 or len(first + rest) != 4 * pixels:
        raise RuntimeError((first + rest)[:200].decode(errors="replace"))
    return 1000 * (began - start), 1000 * (time.perf_counter() - start)


def measured(renderer: Renderer, port: int, scale: float, args: argparse.Namespace) -> list[str]:
    """The cells of one scale's row."""
    rng = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in COLUMNS}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    few, all_of_them = -(-args.width // 4) * -(-args.height // 4), args.width * args.height
    for _ in range(args.views):
        y, x = (
            rng.uniform(0, max(n - length / scale, 0))
            for n, length in zip(renderer.size, (args.height, args.width))
        )
        view = {"x": x, "y": y, "scale": scale, "width": args.width, "height": args.height}
        renderer.tiles.clear()  # nothing is being rendered now
        times["new, coarse"].append(asked(connection, few, **view, step=4)[1])
        times["new, sharp after it"].append(asked(connection, all_of_them, **view)[1])
        times["known, coarse"].append(asked(connection, few, **view, step=4)[1])
        began, done = asked(connection, all_of_them, **view)
        times["known, first rows"].append(began)
        times["known, sharp"].append(done)
        times["bicubic"].append(asked(connection, all_of_them, **view, layer="bicubic")[1])
    connection.close()
    return [f"{np.median(values):.0f} / {np.percentile(values, 95):.0f}" for values in times.values()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--picture", help="default: see above")
    parser.add_argument("--model", default="liif-light")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--views", type=int, default=30, help="of each scale")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--scales", type=float, nargs="+", default=[1, 2, 4, 8, 16, 64])
    args = parser.parse_args()
    picture = read_picture(args.picture) if args.picture else stand_in()
    net = load(args.model)
    device = next(net.parameters()).device
    precision = choose_precision(args.precision, device)
    renderer = Renderer(Engine(net, device, precision), picture)
    with listening("127.0.0.1", None, wanted=0) as sock:
        server = serve(app_of(renderer, "picture", args.model, TOKEN), sock)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            port = sock.getsockname()[1]
            rows = [[f"x{scale:g}", *measured(renderer, port, scale, args)] for scale in args.scales]
        finally:
            server.should_exit = True
            thread.join()
    h, w = picture.size
    print(
        f"{args.model} on {device.type} in {precision}, {torch.get_num_threads()} threads; picture {w} x {h}, views {args.width} x "
        f"{args.height}, {args.views} a scale; milliseconds, median / 95th percentile"
    )
    print(grid(["scale", *COLUMNS], rows))


if __name__ == "__main__":
    main()
