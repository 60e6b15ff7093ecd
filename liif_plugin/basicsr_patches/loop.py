"""What BasicSR's training loop knows and never tells its model: the epoch, the loaders, the TensorBoard writer.

| patch | what it is for (BasicSR 1.4.2, PyPI and master) |
|---|---|
| EnlargedSampler.set_epoch | a model that saves at its own moment needs the epoch |
| create_train_val_dataloader | a resumed run says whether its samples are those of the run before; validates what was left undone |
| init_tb_loggers | the same: its scores belong into TensorBoard; and wandb 0.31 has lost the function that names a run |
| worker_init_fn | Ctrl-C and SIGTERM reach the data workers too, which would die before the step they are needed for |

Each can go when BasicSR offers hooks in its loop.
"""

from __future__ import annotations

import logging

from ..data.deterministic import ResumePoint
from ..models import signals as stopping

SAMPLES = ("images", "samples", "batch", "seed")  # what decides which samples an iteration sees


class Loop:
    """The training loop of this process, as far as it has been set up."""

    epoch = 0
    val_loaders: list = []
    tb_logger = None
    shape: dict[str, int] = {}  # of the data: see shape_of; saved with every training state
    epoch_length = None  # iterations
    resume_state = None  # the dict that load_resume_state has handed to BasicSR


def shape_of(opt: dict, loader, sampler) -> dict[str, int]:
    """images, samples of an epoch and of an iteration (over all processes), processes, seed."""
    return {
        "images": len(sampler.dataset),
        "samples": sampler.total_size,
        "batch": loader.batch_size * sampler.num_replicas,
        "processes": sampler.num_replicas,
        "seed": opt["manual_seed"],
    }


def fit_resume_point(state: dict, loader, sampler, shape: dict[str, int]) -> None:
    """Point ``state`` at its place in this run's epochs, and say where its samples cannot be those of an uninterrupted run."""
    before = {"epoch": state["epoch"], **(state.get("shape") or {})}
    warn = logging.getLogger("basicsr").warning
    if not getattr(sampler.dataset, "keyed_draws", False):
        warn(
            "%s draws its samples by itself: epoch %d starts again from its first one.",
            type(sampler.dataset).__name__,
            before["epoch"],
        )
        return
    per_epoch = sampler.num_samples // loader.batch_size  # the loader drops the last incomplete batch
    state["epoch"] = state["iter"] // per_epoch
    ResumePoint.set(state["epoch"], state["iter"], loader.batch_size)
    changed = [
        f"{key} {before[key]} -> {shape[key]}" for key in SAMPLES if before.get(key, shape[key]) != shape[key]
    ]
    if changed or (
        not state.get("shape") and not 0 <= state["iter"] - before["epoch"] * per_epoch <= per_epoch
    ):
        warn(
            "The data differs from that of the run that was stopped (%s): from iteration %d on the samples are not those of an "
            "uninterrupted run.",
            ", ".join(changed) or "another epoch length",
            state["iter"],
        )


def _name_wandb_runs() -> None:
    import wandb

    if not hasattr(wandb.util, "generate_id"):
        from wandb.sdk.lib.runid import generate_id

        wandb.util.generate_id = generate_id


def apply() -> None:
    """Apply the table above once."""
    import basicsr.data
    import basicsr.train
    from basicsr.data.data_sampler import EnlargedSampler

    if getattr(EnlargedSampler, "tells_its_epoch", False):
        return
    stock_set_epoch, stock_create, stock_init = (
        EnlargedSampler.set_epoch,
        basicsr.train.create_train_val_dataloader,
        basicsr.train.init_tb_loggers,
    )

    def set_epoch(self, epoch):
        Loop.epoch = epoch
        stock_set_epoch(self, epoch)

    def create_train_val_dataloader(opt, logger):
        stopping.end_workers_at_exit()
        created = stock_create(opt, logger)
        loader, sampler, Loop.val_loaders = created[:3]
        Loop.shape, Loop.epoch_length = (
            shape_of(opt, loader, sampler),
            sampler.num_samples // loader.batch_size,
        )
        if Loop.resume_state is not None:
            fit_resume_point(Loop.resume_state, loader, sampler, Loop.shape)
        if opt.get("model_type") == "ContinuousSRModel":
            stopping.listen()  # from here on; before, there is nothing to save
        return created

    def init_tb_loggers(opt):
        if (opt["logger"].get("wandb") or {}).get("project"):
            _name_wandb_runs()
        Loop.tb_logger = stock_init(opt)
        return Loop.tb_logger

    EnlargedSampler.set_epoch, EnlargedSampler.tells_its_epoch = set_epoch, True
    basicsr.train.create_train_val_dataloader, basicsr.train.init_tb_loggers = (
        create_train_val_dataloader,
        init_tb_loggers,
    )
    basicsr.data.worker_init_fn = stopping.worker_init_fn
