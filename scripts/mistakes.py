"""What a mistake on the command line gets: each is made for real, and docs/mistakes.md is the table of what was said.

  python scripts/mistakes.py            make all of them; exit code 1 where one ends well, with a traceback, in more than one line, with
                                        something written, or otherwise than docs/mistakes.md says
  python scripts/mistakes.py --write    write docs/mistakes.md
  python scripts/mistakes.py --only upscale

Each runs in a process of its own, forked after PyTorch is imported (Linux and macOS), in a folder of small files that it may not touch.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NamedTuple

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # so that the table does not depend on the machine
TABLE = Path(__file__).parents[1] / "docs" / "mistakes.md"
HEAD = """# Mistakes and what they get

`python scripts/mistakes.py --write` makes every one of these mistakes and writes this table. Each ends with exit code 1 (2 for a wrong
call) and one line, without a traceback, and no file is touched (training may leave the folder of an experiment that it began).

| mistake | command | the line it gets |
|---|---|---|
"""


class Mistake(NamedTuple):
    """edit: (old, new) once in the option file that the command names. without: packages that are then not installed."""

    what: str
    command: str
    edit: tuple[str, str] | None = None
    without: tuple[str, ...] = ()


MY_YML = """
name: mine
model_type: ContinuousSRModel
num_gpu: auto
manual_seed: 0
datasets:
  train:
    name: photos
    type: ArbitraryScaleDataset
    dataroot_gt: photos
    lq_size: 12
    num_queries: 64
    batch_size_per_gpu: 2
    num_worker_per_gpu: 0
    dataset_enlarge_ratio: 1
  val:
    name: photos_x2
    type: ArbitraryScaleDataset
    dataroot_gt: photos
    scale: 2
    protocol: benchmark
network_g:
  type: LIIF
  encoder: {type: EDSR, num_feat: 8, num_block: 1}
  hidden_list: [16]
path:
  pretrain_network_g: ~
  resume_state: ~
train:
  total_iter: 2
  optim_g: {type: Adam, lr: !!float 1e-3}
  scheduler: {type: MultiStepLR, milestones: [100], gamma: 0.5}
  pixel_opt: {type: L1Loss, loss_weight: 2.0, reduction: mean}
val:
  val_freq: 2
  save_img: false
  metrics:
    psnr: {type: continuous_psnr}
logger:
  print_freq: 1
  save_checkpoint_freq: 2
  use_tb_logger: false
"""
TEST_YML = """
name: mine
model_type: ContinuousSRModel
num_gpu: auto
datasets:
  test_x2: {name: photos_x2, type: ArbitraryScaleDataset, dataroot_gt: photos, scale: 2, protocol: benchmark}
network_g: {type: LIIF, encoder: {type: EDSR, num_feat: 8, num_block: 1}, hidden_list: [16]}
path: {pretrain_network_g: weights.pth}
val:
  save_img: false
  metrics: {psnr: {type: continuous_psnr}}
"""
COMPARE_YML = """
name: mine
models:
  - {name: Bicubic, network_g: {type: Bicubic}}
datasets:
  photos: {dataroot_gt: photos, scales: [2], protocol: benchmark}
metrics: {psnr: {type: continuous_psnr}}
"""
MISTAKES = [
    Mistake("a subcommand misspelt", "liif upscael photo.png -o large.png"),
    Mistake("an option misspelt", "liif upscale photo.png -o large.png --sacle 2"),
    Mistake("an option forgotten", "liif upscale photo.png"),
    Mistake("a word where a number belongs", "liif upscale photo.png -o large.png --width wide"),
    Mistake("a choice that there is not", "liif upscale photo.png -o large.png --precision fp8"),
    Mistake("a subcommand that takes nothing, given something", "liif models liif-light"),
    # upscale
    Mistake("a picture that is not there", "liif upscale foto.png -o large.png"),
    Mistake("a pattern that fits nothing", "liif upscale '*.tiff' -o large"),
    Mistake("a folder without pictures", "liif upscale empty -o large"),
    Mistake("a folder to one file", "liif upscale photos -o large.png"),
    Mistake("a result that is there already", "liif upscale photo.png -o other.png"),
    Mistake("half a picture", "liif upscale half.png -o large.png"),
    Mistake("a text called .png", "liif upscale text.png -o large.png"),
    Mistake("an animation", "liif upscale moving.gif -o large.png"),
    Mistake("a film", "liif upscale film.mp4 -o large.png"),
    Mistake("a format that cannot be written", "liif upscale photo.png -o large.gif"),
    Mistake("a scale that is none", "liif upscale photo.png -o large.png --scale big"),
    Mistake("a negative scale", "liif upscale photo.png -o large.png --scale=-2"),
    Mistake("two sizes at once", "liif upscale photo.png -o large.png --scale 2 --size 100x100"),
    Mistake("a window outside the picture", "liif upscale photo.png -o large.png --window 60,40,30,30"),
    Mistake("a window of three numbers", "liif upscale photo.png -o large.png --window 1,2,3"),
    Mistake("a GPU that is not there", "liif upscale photo.png -o large.png --device cuda"),
    Mistake("too little memory", "liif upscale photo.png -o large.png --memory 0.001"),
    Mistake("a model misspelt", "liif upscale photo.png -o large.png --model liif-ligth"),
    Mistake("a published model that was not fetched", "liif upscale photo.png -o large.png --model rdn-liif"),
    Mistake("weights without their option file", "liif upscale photo.png -o large.png --model weights.pth"),
    Mistake("weights of another network", "liif upscale photo.png -o large.png --model wrong.pth"),
    Mistake("a network of one scale", "liif upscale photo.png -o large.png --model edsr.pth"),
    # train
    Mistake("an option file misspelt", "liif train -opt train_lif_edsr.yml"),
    Mistake("an option file that is no yml", "liif train -opt my.yml", ("name: mine", "name: [mine")),
    Mistake("a key twice", "liif train -opt my.yml", ("name: mine", "name: mine\nname: yours")),
    Mistake(
        "a block forgotten",
        "liif train -opt my.yml",
        ("  pixel_opt: {type: L1Loss, loss_weight: 2.0, reduction: mean}\n", ""),
    ),
    Mistake("an option of a dataset misspelt", "liif train -opt my.yml", ("lq_size", "lq_sise")),
    Mistake(
        "a dataset type misspelt",
        "liif train -opt my.yml",
        ("type: ArbitraryScaleDataset", "type: ArbitraryScalesDataset"),
    ),
    Mistake(
        "pictures that are not there", "liif train -opt my.yml", ("dataroot_gt: photos", "dataroot_gt: fotos")
    ),
    Mistake("pictures smaller than the crops", "liif train -opt my.yml", ("lq_size: 12", "lq_size: 48")),
    Mistake("a network misspelt", "liif train -opt my.yml", ("type: LIIF", "type: LIFF")),
    Mistake("an encoder misspelt", "liif train -opt my.yml", ("type: EDSR", "type: EDRS")),
    Mistake("an option of the encoder misspelt", "liif train -opt my.yml", ("num_feat: 8", "num_feats: 8")),
    Mistake("an option of the network misspelt", "liif train -opt my.yml", ("hidden_list", "hidden_lists")),
    Mistake("a loss misspelt", "liif train -opt my.yml", ("type: L1Loss", "type: L1Los")),
    Mistake("a metric misspelt", "liif train -opt my.yml", ("continuous_psnr", "continuous_pnsr")),
    Mistake(
        "a protocol that there is not", "liif train -opt my.yml", ("protocol: benchmark", "protocol: set5")
    ),
    Mistake(
        "starting weights that are not there",
        "liif train -opt my.yml",
        ("pretrain_network_g: ~", "pretrain_network_g: nothing.pth"),
    ),
    Mistake(
        "starting weights of another network",
        "liif train -opt my.yml",
        ("pretrain_network_g: ~", "pretrain_network_g: edsr.pth"),
    ),
    Mistake(
        "a state to resume that is not there",
        "liif train -opt my.yml",
        ("resume_state: ~", "resume_state: 100.state"),
    ),
    Mistake("a forced value in a block misspelt", "liif train -opt my.yml --force_yml trian:total_iter=3"),
    Mistake("a forced value without a value", "liif train -opt my.yml --force_yml train:total_iter"),
    # test, compare
    Mistake("weights to test that are not there", "liif test -opt test.yml", ("weights.pth", "weigths.pth")),
    Mistake(
        "a set to test without pictures",
        "liif test -opt test.yml",
        ("dataroot_gt: photos", "dataroot_gt: empty"),
    ),
    Mistake(
        "a model to compare without weights",
        "liif compare -opt compare.yml",
        ("type: Bicubic", "type: LIIF, encoder: {type: EDSR}"),
    ),
    Mistake(
        "a set to compare that is not there",
        "liif compare -opt compare.yml",
        ("dataroot_gt: photos", "dataroot_gt: fotos"),
    ),
    Mistake("a comparison's key misspelt", "liif compare -opt compare.yml", ("protocol", "protocoll")),
    Mistake("a training's option file to compare", "liif compare -opt my.yml"),
    # fit, prepare
    Mistake("a fit to a text", "liif fit text.png -o fitted.png"),
    Mistake("a fit to JPEG", "liif fit photo.png -o fitted.jpg"),
    Mistake("a fit of no steps", "liif fit photo.png -o fitted.png --iterations 0"),
    Mistake("a folder that is not there", "liif prepare fotos -o photos.lmdb"),
    Mistake("a folder without images", "liif prepare empty -o photos.lmdb"),
    Mistake("an LMDB of another name", "liif prepare photos -o photos.db"),
    Mistake("sub-images of no size", "liif prepare photos -o photos.lmdb --crop-size 0"),
    Mistake("an image as the folder", "liif prepare lr photo.png -o LR"),
    Mistake("scale 0", "liif prepare lr photos -o LR --scales 0"),
    Mistake("no splits", "liif prepare celebahq photos -o celeba"),
    # convert, bench, demo
    Mistake("no checkpoint", "liif convert text.png -o liif.pth"),
    Mistake("a checkpoint that holds code", "liif convert code.pth -o liif.pth"),
    Mistake("an output that is no .pth", "liif convert weights.pth -o liif.onnx"),
    Mistake("published weights misspelt", "liif convert --fetch edsr-baseline-lif -o liif.pth"),
    Mistake("no runs", "liif bench --runs 0"),
    Mistake("a negative number of steps", "liif demo --iterations=-5"),
    # export
    Mistake("an export that is there already", "liif export -o exported"),
    Mistake("an export to a file", "liif export -o photo.png"),
    Mistake("an export of a network of one scale", "liif export --model edsr.pth -o liif_onnx"),
    Mistake("an export without its packages", "liif export -o liif_onnx", None, ("onnxruntime",)),
    # view
    Mistake("a picture to look at that is not there", "liif view foto.png --no-browser"),
    Mistake("a port that there is not", "liif view photo.png --no-browser --port 99999"),
    Mistake("an address that is not this machine's", "liif view photo.png --no-browser --host 192.0.2.1"),
    Mistake("the viewer without its packages", "liif view photo.png --no-browser", None, ("uvicorn",)),
]


def make_folder(folder: Path) -> None:
    """The small files that the commands name."""
    import numpy as np
    import torch
    from basicsr.archs import build_network
    from PIL import Image

    (folder / "empty").mkdir()
    (folder / "exported").mkdir()
    (folder / "exported" / "encoder.onnx").write_text("whole")
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    for name in ("photo.png", "other.png", "photos/a.png", "photos/b.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        photo.save(folder / name)
    whole = io.BytesIO()
    photo.save(whole, "png")
    (folder / "half.png").write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    photo.save(folder / "moving.gif", save_all=True, append_images=[photo.rotate(90), photo.rotate(180)])
    (folder / "text.png").write_text("not a picture\n")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    for name, text in (("my.yml", MY_YML), ("test.yml", TEST_YML), ("compare.yml", COMPARE_YML)):
        (folder / name).write_text(text)
    liif = {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "hidden_list": [16]}
    edsr = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    for name, options, block in (
        ("weights", liif, None),
        ("wrong", liif, {**liif, "hidden_list": [32]}),
        ("edsr", edsr, edsr),
    ):
        torch.save({"params": build_network(dict(options)).state_dict()}, folder / f"{name}.pth")
        if block is not None:
            (folder / f"{name}.yml").write_text(f"network_g: {block}\n".replace("'", ""))

    (folder / "code.pth").write_bytes(
        b"cbuiltins\nprint\n(Vthis must never be seen\ntR."
    )  # a pickle that calls print


def listing(folder: Path) -> dict[str, int]:
    """Every file with when it was written."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def make(mistake: Mistake, folder: Path) -> tuple[int, str]:
    """(exit code, what was written to stderr, with the folder's name as /home/me)."""
    argv = shlex.split(mistake.command)[1:]
    if mistake.edit:
        yml = folder / argv[argv.index("-opt") + 1]
        kept = yml.read_text()
        assert mistake.edit[0] in kept, f"{mistake.what}: nothing to edit"
        yml.write_text(kept.replace(*mistake.edit, 1))
    before = listing(folder)
    with tempfile.TemporaryFile("w+") as said:
        process = os.fork()
        if process == 0:
            _child(argv, folder, said.fileno(), mistake.without)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        said.seek(0)
        text = said.read().strip()
    touched = _touched(folder, before)
    if mistake.edit:
        yml.write_text(kept)
    text = text.replace(str(folder.resolve()), "/home/me").replace(str(folder), "/home/me")
    return code, "\n".join([text, *touched])


def _touched(folder: Path, before: dict[str, int]) -> list[str]:
    """The files that changed. An experiment that was begun, with its log, is in order and is cleared away."""
    for begun in ("experiments", "tb_logger", "results"):
        shutil.rmtree(folder / begun, ignore_errors=True)
    after = listing(folder)
    return [
        f"touched: {path}" for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    ]


def _child(argv: list[str], folder: Path, said: int, without: tuple[str, ...]) -> None:
    """Never returns."""
    from liif_plugin.cli import main

    code = 70
    try:
        os.chdir(folder)
        os.dup2(said, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.modules.update(dict.fromkeys(without))
        main(argv)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def what_is_wrong(code: int, text: str) -> str | None:
    if code not in (1, 2):
        return f"exit code {code}"
    if "Traceback" in text:
        return "a traceback"
    return f"{len(text.splitlines())} lines" if len(text.splitlines()) != 1 else None


def row(mistake: Mistake, line: str) -> str:
    """A line of the table."""
    edited = "; ".join(line.strip() for line in mistake.edit[1].splitlines()) if mistake.edit else ""
    how = (
        f", with `{edited}` in it"
        if edited
        else f", without `{mistake.edit[0].split(':')[0].strip()}`"
        if mistake.edit
        else ""
    )
    what, line = (text.replace("|", "\\|") for text in (mistake.what, line))
    return f"| {what} | `{mistake.command}`{how} | {line} |\n"


def run(only: str = "") -> tuple[list[str], list[str]]:
    """(the rows of the table, what is wrong) of the mistakes whose command has ``only`` in it; each row is printed as it comes."""
    import basicsr.test
    import basicsr.train  # noqa: F401

    import liif_plugin.register  # noqa: F401

    rows, wrong = [], []
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder))
        for mistake in MISTAKES:
            if only in mistake.command:
                code, text = make(mistake, Path(folder))
                rows.append(row(mistake, text))
                print(rows[-1], end="", flush=True)
                reason = what_is_wrong(code, text)
                if reason:
                    wrong.append(f"{mistake.what}: {mistake.command}: {reason}\n{text}")
    return rows, wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--only", default="", metavar="WORD", help="only commands with this word")
    args = parser.parse_args()
    import liif_plugin.register  # noqa: F401  before basicsr, which needs its stand-ins

    rows, wrong = run(args.only)
    if args.write and not args.only and not wrong:
        TABLE.write_text(HEAD + "".join(rows), encoding="utf-8")
    elif not args.write:
        kept = TABLE.read_text(encoding="utf-8")
        wrong += [f"docs/mistakes.md has another line: {line}" for line in rows if line not in kept]
    print("\n\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
