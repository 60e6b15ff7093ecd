"""Look at a picture as a continuous image in the browser: drag, zoom without limit, compare.

  liif view photo.jpg
  liif view photo.jpg --model experiments/LIIF_EDSR_DIV2K --port 8400
  liif view photo.jpg --no-browser            prints the link and waits; Ctrl-C ends it

The page renders the visible part at the resolution of the screen, first coarse, then sharp. A slider compares
it with bicubic or nearest neighbour. If you switch the cell or the local ensemble off (Figures 3 and 6 of the
paper), the slider compares with the unchanged network. The picture may have any size. Below x1 it is
downsampled without the network. Mouse, touch and keyboard work: + - and arrows, 0 fits the picture into the
window, 1 shows it pixel by pixel. The link contains a random token: nobody without it can see the picture.
"""

from __future__ import annotations

import argparse

from .arguments import add_engine, add_model, engine_of, whole_number

AFTER_INTERRUPT = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("picture", metavar="PICTURE", help="any picture that `liif upscale` reads")
    add_model(parser)
    where = parser.add_argument_group("where")
    where.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at (default 127.0.0.1: this machine only)",
    )
    where.add_argument(
        "--port",
        type=whole_number(1, 65535),
        metavar="N",
        help="port to listen at (default 8321, or a free one)",
    )
    where.add_argument("--no-browser", action="store_true", help="do not open a browser")
    add_engine(parser, "for encoded tiles that are kept")


def run(args: argparse.Namespace) -> int:
    import importlib.util
    import os
    import secrets
    import threading
    import webbrowser

    from ..errors import UserError, printable
    from ..image_io.reading import read_picture

    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} is not installed; `pip install 'liif-plugin[view]'` brings what the "
            "viewer needs."
        )
    from ..view.renderer import Renderer
    from ..view.server import app_of, listening, serve

    picture = read_picture(args.picture)
    with listening(args.host, args.port) as sock:
        renderer = Renderer(engine_of(args), picture)
        token = secrets.token_urlsafe(24)
        app = app_of(renderer, os.path.basename(args.picture), args.model, token, args.host)
        port = sock.getsockname()[1]
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(args.host, args.host)
        address = f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
        url = f"http://{address}/?token={token}"
        size = f"{picture.size[1]} x {picture.size[0]}"
        print(f"{printable(args.picture)}, {size}: {url}  (Ctrl-C ends it)", flush=True)
        if not args.no_browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        serve(app, sock).run(sockets=[sock])
    raise KeyboardInterrupt  # older uvicorn swallows it
