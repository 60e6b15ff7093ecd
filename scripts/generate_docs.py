"""Write docs/options.md and the table of patches in docs/plugin.md, from the code.

  python scripts/generate_docs.py            print docs/options.md
  python scripts/generate_docs.py --write    write docs/options.md and the table in docs/plugin.md

tests/project/test_options_doc.py compares the page with the code.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

import liif_plugin.register  # noqa: F401  before basicsr, which needs its stand-ins
from liif_plugin.archs.bicubic_arch import Bicubic
from liif_plugin.archs.liif_arch import LIIF
from liif_plugin.archs.lm_arch import LMLIIF, LMLTE
from liif_plugin.archs.lte_arch import LTE
from liif_plugin.archs.metasr_arch import MetaSR
from liif_plugin.archs.rdn_arch import LIIF_RDN
from liif_plugin.archs.siren_arch import SIREN
from liif_plugin.archs.srno_arch import SRNO
from liif_plugin.archs.thera_arch import Thera
from liif_plugin.basicsr_patches.patching import patches_table
from liif_plugin.config.option_types import NO_DEFAULT, REQUIRED, Option, Options, type_of
from liif_plugin.data.arbitrary_scale_dataset import ARBITRARY_OPTIONS
from liif_plugin.data.dataset_options import SOURCE_OPTIONS, TRAIN_OPTIONS, VAL_OPTIONS
from liif_plugin.data.degrade import DEGRADE_OPTIONS
from liif_plugin.data.paired_scale_dataset import PAIRED_OPTIONS
from liif_plugin.data.size_varied_dataset import SIZE_VARIED_OPTIONS
from liif_plugin.evaluation import plan
from liif_plugin.metrics.continuous_metric import continuous_psnr, continuous_ssim
from liif_plugin.models import checks
from liif_plugin.models.samples import SAMPLES

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"
PLUGIN_PAGE = PAGE.with_name("plugin.md")
PATCHES = ("<!-- patches: begin (generated) -->", "<!-- patches: end -->")
HEAD = """# Options

This page lists the options of an option file, block by block. (`python scripts/generate_docs.py --write`
generates it from the tables with which option files are checked.) `~` is YAML's empty value. An empty
default means that the option is not set. In a scale or a size with two numbers, the vertical axis comes
first: [y, x], [height, width]. An unknown option is an error; the message names the most similar option.

`_base_: FILE` at the top of a file starts from another file: blocks are merged key by key, a block with
another `type` replaces the old one, and `block: ~` removes it. On the command line,
`--force_yml KEY:KEY=VALUE ...` sets single options, and `block=~` removes a block.

"as in BasicSR": see
[BasicSR's description of its options](https://github.com/XPixelGroup/BasicSR/blob/master/docs/Config.md).
"""
# Set by BasicSR or by the trainer, not by a user.
INTERNAL = {
    *checks.SET_BY_BASICSR,
    *("experiments_root", "results_root", "models", "training_states", "log", "visualization"),
    *("phase", "total_iter of a dataset"),
}
# Help for entries whose table has none, by block and option.
HELP = {
    "top": {
        "model_type": "`ContinuousSRModel` (of this package), or any model of BasicSR with its own options.",
        "network_g": "The network: `type` and its arguments, see below.",
        "train": "Training; needed by `liif train`.",
        "val": "Validation and its metrics; needed by `liif test`.",
        "logger": "Log and checkpoints; needed by `liif train`.",
        "dist_params": "Several processes: `backend` and `port`, as in BasicSR, for `--launcher slurm`.",
        "find_unused_parameters": "Several GPUs: true if an iteration does not use every parameter.",
    },
    "path": {
        "param_key_g": "Which weights of the file: `params`, or `params_ema`, the averaged ones (default of a"
        " test).",
        "strict_load_g": "Refuse weights that do not fit exactly; `false`: load only those that fit.",
        "ignore_resume_networks": "As in BasicSR.",
    },
    "train": {
        "total_iter": "Number of iterations.",
        "warmup_iter": "Iterations in which the learning rate rises to its value; -1: none.",
        "optim_g": "Optimiser: `type`, any of torch.optim, `lr` and its other arguments.",
        "scheduler": "Learning rate over time: `type` and its arguments, see below.",
        "pixel_opt": "Loss: `type`, any of BasicSR's losses, and its arguments.",
        "ema_decay": "Decay of the moving average of the weights; 0: no average.",
        "precision": "Number format of the layers; `auto`: bf16 if the hardware has units for it, else fp32.",
        "channels_last": "Memory layout that convolutions prefer on some hardware.",
        "compile": "Compile the network with torch.compile.",
        "grad_clip": "Largest norm of the gradient; a larger gradient is scaled down.",
        "part_lr": "Rates of parts of the network, such as `{encoder: 1e-4}`; other parts take `lr`.",
        "freeze": "Parts of the network that are not trained, such as `[encoder]`.",
        "teacher": "A trained network whose answers are learned, named as for `--model`.",
        "teacher_weight": "Share of the loss that compares with the teacher, 1 if left out.",
        "gradient_weight": "Thera: weight of the mean absolute gradient of the field per LR pixel, undamped.",
    },
    "scheduler": {
        "milestones": "MultiStepLR: iterations at which the rate is multiplied by `gamma`.",
        "gamma": "MultiStepLR: the factor.",
        "periods": "CosineAnnealingRestartLR: lengths of the cosine periods in iterations.",
        "restarts": "MultiStepLR: iterations at which the rate starts again.",
        "restart_weights": "Factor of the rate after each restart.",
        "eta_min": "CosineAnnealingRestartLR: smallest rate.",
        "last_epoch": "As in PyTorch.",
    },
    "val": {
        "val_freq": "Iterations between validations.",
        "save_img": "Write the images into visualization/ or results/.",
        "metrics": "One block per metric: a name of your own, `type` and its arguments, see below.",
        "pbar": "Show a progress bar.",
        "suffix": "End of the names of written images.",
        "precision": "Number format of the layers in validation; fp32 by default.",
        "cell_clamp": "4: beyond x4 use the cells of x4, cell * max(scale / 4, 1), as LTE's evaluation does.",
        "samples": "Draw sample images while training, see below.",
        "best_by": "Keep the best weights, net_g_best.pth, by METRIC (mean over the sets) or SET/METRIC.",
    },
    "logger": {
        "print_freq": "Iterations between lines of the log.",
        "save_checkpoint_freq": "Iterations between checkpoints.",
        "use_tb_logger": "Write TensorBoard logs to ./tb_logger/NAME.",
        "wandb": "`project` and `resume_id` of Weights & Biases; needs use_tb_logger.",
        "keep_checkpoints": "Number of newest checkpoints to keep; ~ keeps all.",
    },
    "compare": {
        "name": "Name of the comparison; results go to comparisons/NAME.",
        "device": "auto, cpu or cuda.",
        "precision": "fp32, bf16 or fp16; not `auto`, so that a table means the same on every machine.",
        "models": "List of models, see below.",
        "datasets": "One block per set, see below.",
        "metrics": "As in `val`; PSNR if it is not set.",
        "figure": "One image at one scale, every model side by side, see below.",
    },
    "model": {
        "network_g": "The network, given here; one of `network_g`, `opt` and `model` is needed.",
        "opt": "Option file that trains the network; its newest weights are taken.",
        "model": "A model as `liif upscale --model` takes it: a name, a .pth, an experiment's folder.",
        "weights": "Weights (.pth) other than the newest ones; needs `opt` or `network_g`.",
        "param_key": "Which weights of the file; `params_ema` falls back on `params`.",
        "cell": "Side of the cell in input pixels, such as 1/2, in place of the true one (Figure 6).",
        "cell_clamp": "4: beyond x4 use the cells of x4, as `val.cell_clamp`.",
        "name": "Name in the table.",
        "published": "Row of the published table to print beside it.",
        "scale": "The one scale of a fixed-scale network.",
        "scales": "Fixed-scale networks: scale -> block with `network_g`, `opt`, `model`, `weights`.",
        "if_missing": "skip: without weights the row shows its published values alone; default stop.",
        "images": "Path of images that another program made, with {dataset}, {scale} and {name}.",
    },
    "set": {
        "protocol": "div2k, benchmark or plain.",
        "scales": "List of scales, each a number or [y, x].",
        "dataroot_gt": "Folder or LMDB of the HR images.",
        "dataroot_lq": "Folder of the LR files; {scale} stands for the scale.",
        "lq_scales": "Scales that have LR files; for the others they are made on the fly.",
        "filename_tmpl": "Name of the LR file; {} stands for that of the HR image, {scale} for the scale.",
        "meta_info_file": "Text file with the names of the images to use.",
        "first_k": "Use the first k images only.",
        "if_missing": "`stop`, or `skip`: leave the set out where its folder is not there.",
        "how_to_get": "A sentence for the message when the data is missing.",
        "published": "Name of the set in the published table.",
    },
    "figure": {
        "dataset": "Name of the dataset.",
        "scale": "Scale of the figure; the table need not have it.",
        "image": "Name of the image; by default the first one.",
        "box": "[top, left, height, width] in pixels of the HR image; by default where the most detail is.",
        "models": "Names of the models to show; by default all.",
    },
}
DATASET_NOTES = {
    "num_worker_per_gpu": " With 0, `persistent_workers: true` is ignored.",
    "persistent_workers": " Ignored without workers.",
}


def default_of(option: object) -> str:
    """Return the default of an entry in words, "" if there is none."""
    if not isinstance(option, Option) or option.default is NO_DEFAULT:
        return ""
    if option.default is REQUIRED:
        return "required"
    return shown(option.default)


def shown(value: object) -> str:
    """Return a value as yml writes it."""
    if value is None:
        return "`~`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def rows(options: Options, block: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield (name, type, default, help) of a table; raise KeyError where there is no help."""
    for name, option in options.items():
        if name in INTERNAL:
            continue
        text = option.help if isinstance(option, Option) and option.help else HELP[block][name]
        if block == "dataset":
            text += DATASET_NOTES.get(name, "")
        words = type_of(option).words.replace(", at most 1000000000", "").replace("|", "\\|")
        yield f"`{name}`", words, default_of(option), text.replace("|", "\\|")


def table(options: Options, block: str) -> str:
    """Return a table as Markdown."""
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(options, block)]
    return "\n".join(lines)


def arguments(types: Mapping[str, object], skip: tuple[str, ...] = ()) -> str:
    """Return the arguments of classes or functions with their defaults, as a table."""
    lines = ["| type | arguments and defaults |", "|---|---|"]
    for name, target in types.items():
        given = [p for p in inspect.signature(target).parameters.values() if p.name not in skip]  # type: ignore[arg-type]
        words = [
            f"`{p.name}`" if p.default is p.empty else f"`{p.name}` {shown(p.default)}"
            for p in given
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        ]
        lines.append(f"| `{name}` | {', '.join(words) or 'none'} |")
    return "\n".join(lines)


def page() -> str:
    """Return docs/options.md."""
    dataset = dict(SOURCE_OPTIONS)
    training = {key: option for key, option in TRAIN_OPTIONS.items() if key != "total_iter"}
    networks = {
        kind.__name__: kind
        for kind in (LIIF, MetaSR, LTE, LMLIIF, LMLTE, SRNO, Thera, SIREN, Bicubic, LIIF_RDN)
    }
    metrics = {"continuous_psnr": continuous_psnr, "continuous_ssim": continuous_ssim}
    supplied = ("self", "img", "img2", "scale", "kwargs")
    parts = [
        ("## Train and test", table(checks.TOP, "top")),
        ("### path", table(checks.PATH, "path")),
        ("### datasets: all classes of this package", table(dataset, "dataset")),
        ("### datasets: training sets", table(training, "dataset")),
        ("### datasets: validation and test sets", table(VAL_OPTIONS, "dataset")),
        ("### datasets: ArbitraryScaleDataset, training", table(ARBITRARY_OPTIONS, "dataset")),
        ("### datasets: degrade", table(DEGRADE_OPTIONS, "dataset")),
        ("### datasets: PairedScaleDataset", table(PAIRED_OPTIONS, "dataset")),
        ("### datasets: SizeVariedDataset", table(SIZE_VARIED_OPTIONS, "dataset")),
        (
            "### network_g",
            "[decoders.md](decoders.md) describes the networks. `encoder` is a"
            " block like `network_g`; [extending.md](extending.md#an-encoder) lists the possible types.\n\n"
            + arguments(networks, supplied),
        ),
        ("### train", table(checks.TRAIN, "train")),
        ("### train.scheduler", table(checks.SCHEDULER, "scheduler")),
        ("### val", table(checks.VAL, "val")),
        (
            "### val.metrics",
            "A metric of this package or of BasicSR. `better: higher` or `lower` overrides its direction.\n\n"
            + arguments(metrics, supplied),
        ),
        ("### val.samples", table(SAMPLES, "samples")),
        ("### logger", table(checks.LOGGER, "logger")),
        ("## Compare", table(plan.TOP, "compare")),
        ("### models", table(plan.MODEL, "model")),
        (
            "### datasets",
            "With a `type`, a set has the options of that dataset and `at_scale`, the scale of its column."
            " Without:\n\n" + table(plan.SET, "set"),
        ),
        ("### figure", table(plan.FIGURE, "figure")),
    ]
    return HEAD + "".join(f"\n{title}\n\n{text}\n" for title, text in parts)


def with_patches(plugin_page: str) -> str:
    """Return docs/plugin.md with the table of patches between its two marks."""
    before, rest = plugin_page.split(PATCHES[0])
    after = rest.split(PATCHES[1])[1]
    return f"{before}{PATCHES[0]}\n\n{patches_table()}\n\n{PATCHES[1]}{after}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write both pages")
    if parser.parse_args().write:
        PAGE.write_text(page(), encoding="utf-8")
        PLUGIN_PAGE.write_text(with_patches(PLUGIN_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(page(), end="")
