"""Patches of BasicSR's training loop.

They hand to the model what the loop builds (loaders, writer, epoch), give an order of samples that can be
resumed, and raise errors in the data for which the loop would wait forever.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator

import torch
from basicsr.utils import get_root_logger
from torch import nn
from torch.utils.data import Dataset

from ..data.deterministic import SampleIndex, is_deterministic
from ..data.query_dataset import QueryDataset
from ..data.workers import kill_workers_at_exit, worker_init_fn
from ..distributed import assert_same_on_all_ranks, run_on_all_ranks
from ..errors import UserError
from ..models.checks import optimiser_class
from ..models.training_run import current_run
from .patching import patch

NOISE = "Multiple validation datasets are *only* supported by SRModel."
SAMPLER = "basicsr.data.data_sampler.EnlargedSampler"


@patch(
    "basicsr.train",
    "basicsr.test",
    name="build_dataset",
    cures="missing data and too small images are reported only after the old experiment was renamed",
)
def build_dataset(dataset_opt: dict) -> Dataset:
    """Return the dataset that the checks have built, see ``models.checks.build_datasets``."""
    run, logger = current_run(), get_root_logger()
    while run.early_records:  # BasicSR's log file is open now
        logger.handle(run.early_records.pop(0))
    dataset = run.datasets.pop(dataset_opt["name"], None)
    if dataset is None:
        return build_dataset.original(dataset_opt)
    logger.info(f"Dataset [{type(dataset).__name__}] - {dataset_opt['name']} is built.")
    return dataset


@patch(
    "basicsr.models.sr_model",
    name="build_network",
    cures="the network would be built twice: once to check it, once to train it",
    until="BasicSR's models accept a built network",
)
def build_network(network_g: dict) -> nn.Module:
    """Return the network that the checks have built; a second one (EMA) is built anew."""
    run = current_run()
    network, run.network = run.network, None
    return build_network.original(network_g) if network is None else network


@patch(
    "basicsr.models.base_model.BaseModel",
    name="get_optimizer",
    cures="NotImplementedError for every optimiser except Adam (PyPI release)",
)
def get_optimizer(self, optim_type: str, params, lr: float, **kwargs) -> torch.optim.Optimizer:
    """Build the optimiser that torch.optim has under this name."""
    kind: Callable[..., torch.optim.Optimizer] = optimiser_class("train: type of an optimiser", optim_type)
    try:
        return kind(params, lr=lr, **kwargs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"train: optimiser {optim_type}: cannot be used: {error}") from error


def _name_of(dataset: Dataset) -> str:
    """Return what a message calls ``dataset``."""
    return dataset.where if isinstance(dataset, QueryDataset) else f"a {type(dataset).__name__}"


def _contents(dataset: Dataset) -> str:
    """Return the number of items, for our datasets with a digest of the names of their images."""
    count = f"{len(dataset)} items"  # type: ignore[arg-type]
    if not isinstance(dataset, QueryDataset):
        return count
    digest = hashlib.sha256("\n".join(dataset.image_names()).encode()).hexdigest()[:8]
    return f"{count}, names {digest}"


@patch(
    "basicsr.train",
    name="create_train_val_dataloader",
    cures="a rank without the data lets the other ranks wait forever, a rank with different data trains on "
    "it; the model has no access to the data loaders, which it needs to resume and to stop",
    until="BasicSR offers hooks in its loop",
)
def create_train_val_dataloader(opt: dict, logger: logging.Logger) -> tuple:
    """Build the loaders; every rank must have the same data."""
    run = current_run()
    kill_workers_at_exit()
    created = run_on_all_ranks(create_train_val_dataloader.original, opt, logger)
    train_loader, sampler, val_loaders = created[:3]
    for loader in (train_loader, *val_loaders):
        contents = _contents(loader.dataset)
        assert_same_on_all_ranks(_name_of(loader.dataset), contents, "every node needs the same images.")
    run.set_data(opt, train_loader, sampler, val_loaders)
    if opt.get("model_type") == "ContinuousSRModel":
        logger.addFilter(lambda record: record.msg != NOISE)  # said at every validation, and not true of ours
        run.stop.listen()  # from here on; before, there is nothing to save
    return created


@patch(
    SAMPLER,
    name="set_epoch",
    cures="the model does not know the epoch, which it needs to save a checkpoint after Ctrl-C",
    until="BasicSR passes the epoch to the model",
)
def set_epoch(self, epoch: int) -> None:
    """Begin an epoch."""
    current_run().epoch = epoch
    set_epoch.original(self, epoch)


@patch(
    SAMPLER,
    name="__iter__",
    cures="a resumed run repeats its epoch; samples depend on the number of workers and processes",
    until="BasicSR's sampler can resume within an epoch",
)
def resumable_iter(self) -> Iterator[int]:
    """Yield this rank's indices of the epoch, from where the run was interrupted.

    ``data/deterministic.py`` explains the indices.
    """
    indices = resumable_iter.original(self)
    if not is_deterministic(self.dataset):
        return indices
    first = current_run().samples_done(self.epoch, self.num_samples)
    # a generator: a list of SampleIndex for a long epoch would take hundreds of MB
    return (
        SampleIndex(index, self.epoch, self.rank + k * self.num_replicas)
        for k, index in enumerate(indices)
        if k >= first
    )


@patch(
    "basicsr.train",
    name="init_tb_loggers",
    cures="AttributeError: wandb.util.generate_id (wandb >= 0.31); the model lacks the TensorBoard writer",
    until="BasicSR offers hooks in its loop",
)
def init_tb_loggers(opt: dict):
    """Open the TensorBoard writer."""
    if (opt["logger"].get("wandb") or {}).get("project"):
        _restore_generate_id()
    writer = init_tb_loggers.original(opt)
    current_run().tb_logger = writer
    return writer


def _restore_generate_id() -> None:
    import wandb

    if not hasattr(wandb.util, "generate_id"):
        from wandb.sdk.lib.runid import generate_id

        wandb.util.generate_id = generate_id


patch(
    "basicsr.data",
    name="worker_init_fn",
    cures="Ctrl-C and SIGTERM end the data workers, which are needed to finish the step",
)(worker_init_fn)


class _Failed:
    """An error on its way from the prefetching thread to the one that trains."""

    def __init__(self, error: BaseException):
        self.error = error


PREFETCHER = "basicsr.data.prefetch_dataloader.PrefetchGenerator"


@patch(PREFETCHER, name="run", cures="with prefetch_mode: cpu, an error in a dataset hangs the training")
def run(self) -> None:
    """Prefetch; hand an error on to the other thread, which would wait for the next item otherwise."""
    try:
        run.original(self)
    except BaseException as error:
        self.queue.put(_Failed(error))


@patch(PREFETCHER, name="__next__", cures="with prefetch_mode: cpu, an error in a dataset hangs the training")
def next_item(self):
    """Return the next batch, or raise the error of the prefetching thread."""
    item = next_item.original(self)
    if isinstance(item, _Failed):
        raise item.error
    return item
