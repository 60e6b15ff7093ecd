"""The option file of a comparison, read and checked as a whole before anything is measured."""

from __future__ import annotations

import os
from collections.abc import Collection
from fractions import Fraction

from basicsr.data import build_dataset
from basicsr.utils.registry import DATASET_REGISTRY, METRIC_REGISTRY

from ..checkpoints.files import newest_weights
from ..checkpoints.loading import find
from ..config.option_files import find_option_file, read_options
from ..config.option_types import (
    ANY,
    BLOCK,
    FOLDER_NAME,
    TEXT,
    OptionType,
    check_block,
    check_call,
    check_values,
    choice,
    each,
    number,
    optional,
    registered,
    whole,
)
from ..data.dataset_options import parse_scale
from ..errors import UserError, check_choice, check_keys, choices
from ..metrics.continuous_metric import PROTOCOLS
from ..metrics.properties import unchecked_arguments
from ..precision import DTYPES
from .entries import Column, Model, Plan, Source
from .published import PUBLISHED


def _is_label(value: object) -> bool:
    is_plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return is_plain and bool(str(value)) and str(value).isprintable()


LABEL = OptionType("text", _is_label)
IF_MISSING = ("stop", "skip")
TOP = {
    "name": FOLDER_NAME,
    "device": optional(TEXT),
    "precision": optional(TEXT),
    "models": ANY,
    "datasets": BLOCK,
    "metrics": optional(BLOCK),
    "figure": optional(BLOCK),
}
NETWORK = {
    "network_g": optional(BLOCK),
    "opt": optional(TEXT),
    "model": optional(TEXT),
    "weights": optional(TEXT),
    "param_key": TEXT,
}
MODEL = {
    **NETWORK,
    "cell": ANY,
    "cell_clamp": optional(number(1)),
    "name": LABEL,
    "published": optional(LABEL),
    "scale": ANY,
    "scales": optional(BLOCK),
    "images": optional(TEXT),
    "if_missing": choice(*IF_MISSING),
}
SET = {
    "protocol": TEXT,
    "scales": ANY,
    "dataroot_gt": TEXT,
    "dataroot_lq": optional(TEXT),
    "lq_scales": ANY,
    "filename_tmpl": TEXT,
    "meta_info_file": optional(TEXT),
    "first_k": optional(whole(1)),
    "how_to_get": optional(TEXT),
    "if_missing": TEXT,
    "published": optional(LABEL),
}
FIGURE = {"dataset": LABEL, "scale": ANY, "image": LABEL, "box": ANY, "models": optional(each(LABEL))}
DEVICES = ("auto", "cpu", "cuda")
DEFAULT_METRICS = {"psnr": {"type": "continuous_psnr"}}


def read_plan(path: str) -> Plan:
    """Return the plan of the option file ``path``: names, weights, folders and metrics are checked.

    Raises:
        UserError: for the first mistake found.
    """
    opt = read_options(path)
    check_block(os.path.basename(path), opt, TOP)
    for key in ("name", "models", "datasets"):
        if not opt.get(key):
            raise UserError(f"{path}: '{key}' is missing; compare it with the packaged compare_set5.yml.")
    device, precision = opt.get("device") or "auto", opt.get("precision") or "fp32"
    check_choice("device", device, DEVICES)
    check_choice("precision", precision, tuple(DTYPES))  # no auto: the same on every machine
    datasets = _block("datasets", opt["datasets"])
    left_out = [str(name) for name, entry in datasets.items() if _is_left_out(str(name), entry)]
    columns = [
        column
        for name, entry in datasets.items()
        if str(name) not in left_out
        for column in _columns(str(name), entry)
    ]
    if not columns:
        raise UserError(f"{path}: datasets: none of {', '.join(left_out)} is there.")
    _check_folders(columns)
    if not isinstance(opt["models"], list):
        raise UserError(f"{path}: models: expected a list of `- name: ...`.")
    models = [_model(position, entry) for position, entry in enumerate(opt["models"], start=1)]
    _check_unique("models", [model.name for model in models])
    _check_unique("datasets", [(column.dataset, column.scale_text) for column in columns])
    _check_published(models, columns)
    metrics = _block("metrics", opt.get("metrics") or DEFAULT_METRICS)
    _check_metrics(metrics)
    plan = Plan(opt["name"], device, precision, models, columns, metrics, opt.get("figure"), left_out)
    _check_figure(plan)
    return plan


def open_column(column: Column):
    """Return the validation dataset of a column."""
    return build_dataset(dict(column.options))


# The models


def _model(position: int, opt: object) -> Model:
    """Return the model of an entry of ``models``; ``position`` counts from 1."""
    opt = _block(f"models, entry {position}", opt)
    check_values(f"models, entry {position}", opt, {"name": LABEL})
    if not opt.get("name"):
        raise UserError(f"models, entry {position}: 'name' is missing.")
    name = str(opt["name"])
    where = f"model {name}"
    check_block(where, opt, MODEL)
    rows = {row for rows_of_set in PUBLISHED.values() for row in rows_of_set}
    label = _published(where, opt.get("published"), rows)
    # a folder of finished images
    if opt.get("images") is not None:
        check_keys(f"{where} (images)", opt, {"name", "published", "images"})
        return Model(name, label, {None: Source(images=str(opt["images"]))})
    # one network for each scale
    if opt.get("scales") is not None:
        check_keys(f"{where} (scales)", opt, {"name", "published", "scales"})
        by_scale: dict[float | None, Source] = {}
        for scale, entry in _block(f"{where}: scales", opt["scales"]).items():
            check_block(f"{where}, x{scale}", entry, NETWORK)
            source = _source(f"{where}, x{scale}", entry)
            assert source is not None
            by_scale[_one_scale(where, scale)] = source
        return Model(name, label, by_scale)
    # one network, for every scale unless it says otherwise
    only = None if opt.get("scale") is None else _one_scale(where, opt["scale"])
    cell, clamp = _cell(where, opt.get("cell")), opt.get("cell_clamp")
    if cell is not None and clamp is not None:
        raise UserError(f"{where}: cell and cell_clamp: give one of them.")
    source = _source(where, opt, skip=opt.get("if_missing") == "skip")
    return Model(name, label, {} if source is None else {only: source}, cell, clamp)


def _source(where: str, opt: dict, skip: bool = False) -> Source | None:
    """Return the source of one network of the file; with ``skip`` None if its weights are not there.

    A network is given by `network_g`, by the option file that trains it (`opt`), whose newest weights are the
    default, or by a name that `liif upscale --model` takes (`model`).
    """
    network, weights = opt.get("network_g"), opt.get("weights")
    if sum(opt.get(key) is not None for key in ("network_g", "opt", "model")) != 1:
        raise UserError(
            f"{where}: expected one of `opt: train_NAME.yml`, `model: standard` and `network_g:`."
        )
    if opt.get("model") is not None:
        if weights is not None:
            raise UserError(f"{where}: model and weights: give one of them.")
        network, weights = find(str(opt["model"]))
        return Source(network, weights, opt.get("param_key", "params_ema"))
    if network is None:
        trained = read_options(find_option_file(str(opt["opt"])))
        network = _block(f"{opt['opt']}: network_g", trained.get("network_g"))
        folder = os.path.join("experiments", str(trained.get("name")), "models")
        weights = weights or newest_weights(folder) or os.path.join(folder, "net_g_latest.pth")
    network = _block(f"{where}: network_g", network)
    if weights is not None and not os.path.isfile(weights):
        if skip:
            return None
        raise UserError(
            f"{where}: there are no weights {weights} (looked from {os.getcwd()}); train it, or name them "
            "with `weights:`."
        )
    return Source(network, weights, opt.get("param_key", "params_ema"))


def _one_scale(where: str, value: object) -> float:
    """Return the scale of a fixed-scale network, equal in both axes."""
    sy, sx = parse_scale(where, value)
    if sy != sx:
        raise UserError(f"{where}: scale: expected one number, got {value!r}.")
    return sy


def _cell(where: str, value: object) -> float | None:
    """Return the side of a cell in input pixels, from a number or a fraction such as '1/30'."""
    if value is None:
        return None
    try:
        cell = float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError):
        cell = 0.0
    if not cell > 0:
        raise UserError(f"{where}: cell: expected a part of an input pixel such as 1/2, got {value!r}.")
    return cell


def _published(where: str, label: object, known: Collection[str]) -> str | None:
    """Return the name of a row or set of published.py, or None if the option file names none.

    It must be named: a model of the user's that happens to bear a published name is another model.
    """
    if label is None:
        return None
    if str(label) not in known:
        raise UserError(f"{where}: published: nothing is published as '{label}'{choices(label, known)}.")
    return str(label)


# The columns


def _is_left_out(name: str, opt: object) -> bool:
    """Return whether a set says `if_missing: skip` and its images are not there."""
    opt = _block(f"dataset {name}", opt)
    check_choice(f"dataset {name}: if_missing", opt.get("if_missing", "stop"), IF_MISSING)
    return opt.get("if_missing") == "skip" and not os.path.isdir(str(opt.get("dataroot_gt")))


def _columns(name: str, opt: object) -> list[Column]:
    """Return the columns of an entry of ``datasets``: one with a ``type``, else one for each scale."""
    where = f"dataset {name}"
    opt = dict(_block(where, opt))
    check_values(where, {"name": name}, {"name": FOLDER_NAME})
    check_values(where, opt, {**SET, "type": TEXT, "split": optional(TEXT)})
    if "type" not in opt:
        check_keys(where, opt, SET)
    if opt.get("protocol") not in PROTOCOLS:
        raise UserError(
            f"{where}: protocol: expected one of {', '.join(PROTOCOLS)}, got {opt.get('protocol')!r}."
        )
    label = _published(where, opt.pop("published", None), PUBLISHED)
    opt.pop("if_missing", None)
    if "type" in opt:
        scale = parse_scale(where, opt.pop("at_scale", None) or opt.get("scale"))
        check_choice(f"{where}: type", opt["type"], [key for key, _ in DATASET_REGISTRY])
        return [Column(name, scale, opt["protocol"], {"name": name, "phase": "val", **opt}, label)]
    if not opt.get("dataroot_gt"):
        raise UserError(f"{where}: 'dataroot_gt' is missing.")
    if not isinstance(opt.get("scales"), list) or not opt["scales"]:
        raise UserError(
            f"{where}: scales: expected a list such as [2, 3, 4, 6.5], got {opt.get('scales')!r}."
        )
    given = opt.get("lq_scales") or []
    if not isinstance(given, list) or not all(isinstance(scale, (int, float)) for scale in given):
        raise UserError(f"{where}: lq_scales: expected a list of numbers such as [2, 3, 4], got {given!r}.")
    columns = []
    for entry in opt["scales"]:
        scale = parse_scale(where, entry)
        options = _set_options(name, opt, scale, entry if entry in given else None)
        columns.append(Column(name, scale, opt["protocol"], options, label))
    return columns


def _set_options(name: str, opt: dict, scale: tuple[float, float], given: float | None) -> dict:
    """Return the options of the dataset at one scale.

    Args:
        name: of the set.
        opt: its entry in ``datasets``.
        scale: (sy, sx).
        given: the scale as it stands in ``lq_scales``; None if there are no LR files of it.
    """
    kept = ("dataroot_gt", "meta_info_file", "first_k", "how_to_get")
    options = {"name": name, "phase": "val", "protocol": opt["protocol"]}
    options.update({key: opt[key] for key in kept if key in opt})
    if given is None:
        options.update(type="ArbitraryScaleDataset", scale=list(scale))
        return options
    if not opt.get("dataroot_lq"):
        raise UserError(
            f"dataset {name}: lq_scales needs dataroot_lq, e.g. datasets/{name}/LR_bicubic/X{{scale}}."
        )
    options.update(
        type="PairedScaleDataset",
        scale=list(scale),
        dataroot_lq=opt["dataroot_lq"].replace("{scale}", f"{given:g}"),
        filename_tmpl=opt.get("filename_tmpl", "{}").replace("{scale}", f"{given:g}"),
    )
    return options


def figure_column(plan: Plan) -> Column:
    """Return the column that the figure shows: one of the table's, or its set at another scale."""
    figure = plan.figure
    assert figure is not None
    scale = parse_scale("figure", figure["scale"])
    of_set = [column for column in plan.columns if column.dataset == figure["dataset"]]
    if not of_set:
        sets = ", ".join(dict.fromkeys(column.dataset for column in plan.columns))
        raise UserError(f"figure: dataset: '{figure['dataset']}' is none of {sets}.")
    same = next((column for column in of_set if column.scale == scale), None)
    if same is not None:
        return same
    first = of_set[0]
    keys = ("name", "phase", "protocol", "dataroot_gt", "meta_info_file")
    kept = {key: first.options[key] for key in keys if key in first.options}
    options = {**kept, "type": "ArbitraryScaleDataset", "scale": list(scale)}
    return Column(first.dataset, scale, first.protocol, options, first.published)


# Checks


def _block(where: str, value: object) -> dict:
    """Return ``value``. Raises UserError unless it is a block of options."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a block of options, got {value!r}.")
    return value


def _check_folders(columns: list[Column]) -> None:
    """Raise UserError for a folder of images that is not there."""
    for column in columns:
        for root in ("dataroot_gt", "dataroot_lq"):
            folder = column.options.get(root)
            if folder is not None and not os.path.isdir(folder):
                advice = column.options.get("how_to_get", "")
                raise UserError(
                    f"dataset {column.dataset}: {root}: there is no folder {folder} "
                    f"(looked from {os.getcwd()}). {advice}".rstrip()
                )


def _check_unique(what: str, names: list) -> None:
    """Raise UserError for the first name that is given twice."""
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{what}: {twice} is given twice.")


def _check_published(models: list[Model], columns: list[Column]) -> None:
    """Raise UserError if a model is to be compared with published values, but no set is."""
    model = next((model for model in models if model.published), None)
    if model is not None and not any(column.published for column in columns):
        raise UserError(
            f"model {model.name}: published: is compared only on sets that say which published set they are; "
            "add e.g. `published: Set5` to the set's entry in `datasets`."
        )


def _check_metrics(metrics: dict) -> None:
    """Raise UserError for a metric that is not registered, or for arguments that it does not take."""
    for name, metric in metrics.items():
        type_name = _block(f"metric {name}", metric).get("type")
        check_call(
            f"metric {name} ({type_name})",
            registered(f"metric {name}: type", METRIC_REGISTRY, type_name),
            metric,
            supplied=("img", "img2", "scale"),
            unchecked=unchecked_arguments(str(type_name)),
        )


def _check_figure(plan: Plan) -> None:
    """Raise UserError for a mistake in ``figure``."""
    if plan.figure is None:
        return
    figure = _block("figure", plan.figure)
    check_block("figure", figure, FIGURE)
    for key in ("dataset", "scale"):
        if figure.get(key) is None:
            raise UserError(f"figure: '{key}' is missing.")
    for name in figure.get("models") or []:
        check_choice("figure: models", name, [model.name for model in plan.models])
    figure_column(plan)
    box = figure.get("box")
    is_list = isinstance(box, list) and len(box) == 4 and all(isinstance(n, int) for n in box)
    if box is not None and not (is_list and min(box) >= 0 and min(box[2:]) > 0):
        raise UserError(
            f"figure: box: expected [top, left, height, width] in pixels of the truth, got {box!r}."
        )
