"""List the networks that come with the package, and the published ones that can be downloaded.

liif models
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(_: argparse.Namespace) -> None:
    import os

    from ..checkpoints.download import KNOWN
    from ..checkpoints.loading import SHIPPED
    from ..checkpoints.reading import load_params
    from ..config.option_files import read_options
    from ..evaluation.tables import markdown_table

    lines = []
    for name, path in SHIPPED.items():
        about = read_options(str(path.with_suffix(".yml"))).get("about", {})
        count = sum(value.numel() for value in load_params(str(path)).values())
        lines.append(
            [
                name,
                f"{count / 1e6:.2f} M",
                f"{os.path.getsize(path) / 2**20:.1f} MiB",
                about.get("data", ""),
                about.get("scores", ""),
            ]
        )
    print(markdown_table(["--model", "parameters", "file", "trained on", "luma PSNR, dB"], lines))
    print(
        "\nPublished, not included; `liif convert --fetch NAME -o NAME.pth` downloads and verifies one,"
        " then --model NAME.pth:\n"
    )
    sizes = {
        name: "" if known.size is None else f"{known.size / 2**20:.0f} MiB" for name, known in KNOWN.items()
    }
    print(
        markdown_table(
            ["NAME", "what", "file"], [[name, known.what, sizes[name]] for name, known in KNOWN.items()]
        )
    )
