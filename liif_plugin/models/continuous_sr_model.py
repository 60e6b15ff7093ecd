"""The trainer: BasicSR's SRModel for networks that answer queries."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from contextlib import nullcontext

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY

from ..basicsr_patches.loop import Loop
from ..checkpoints.files import remove_partial
from ..errors import UserError
from ..evaluation.predict import evaluating, predict
from ..evaluation.validation import picture_writer, validate
from ..inference.render import is_continuous
from ..precision import DTYPES, choose_precision
from . import signals as stopping
from .progress import ProgressLine
from .record import Record
from .resumable import ResumableSRModel
from .scores import label, metrics_of, val_sets


@MODEL_REGISTRY.register()
class ContinuousSRModel(ResumableSRModel):
    """Trains on query pixels, validates at any scale, on floats, shared among the ranks.

    A network with encode/query gets lq, coord, cell; any other gets lq alone (a fixed-scale network of BasicSR).

    Options beyond SRModel's: train.precision: fp32 | bf16 | fp16 (autocast) | auto (bf16 where the hardware
    multiplies it); train.channels_last; train.compile (torch.compile);
    train.grad_clip: largest norm of the gradient; val.precision. Each val set may have its own ``metrics`` and has its ``protocol``.
    val.best_by: what makes net_g_best.pth, see scores.BestBy; val.samples: pictures after each validation, see samples.py;
    logger.keep_checkpoints: how many numbered checkpoints stay.
    The paper takes L1 on [-1, 1]; with images in [0, 1] that is ``pixel_opt.loss_weight: 2.0``: the same gradients.

    Ctrl-C and SIGTERM end a run after the step, or the image, at hand, with a whole state (compat/stopping.py).

    New: update_learning_rate, optimize_parameters, dist_validation, nondist_validation, resume_training; loading and saving, see
    ResumableSRModel.
    Inherited: the network's construction and loading, optimisers, schedulers, EMA, logging.
    """

    def __init__(self, opt: dict):
        super().__init__(opt)
        self._validated = {}  # dataset name -> number of training steps taken
        self._steps = 0
        self._settled_at = None

    def model_to_device(self, net):
        if (self.opt.get("train") or {}).get("channels_last"):
            net = net.to(memory_format=torch.channels_last)
        if not self.is_train:
            return net.to(
                self.device
            )  # DistributedDataParallel is for gradients, and refuses a network without parameters
        return super().model_to_device(net)

    def init_training_settings(self):
        super().init_training_settings()
        train = self.opt["train"]
        self.continuous = is_continuous(self.get_bare_model(self.net_g))
        self.precision = choose_precision(train.get("precision") or "fp32", self.device)
        if train.get("precision") == "auto":
            get_root_logger().info(f"Precision auto: {self.precision} on this machine.")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.train_net = torch.compile(self.net_g) if train.get("compile") else self.net_g
        self.record = Record(self.opt)
        self.progress = ProgressLine(int(train["total_iter"]), on=self.opt["rank"] == 0)
        if self.opt["rank"] == 0:
            remove_partial(
                self.record.folder,
                *(os.path.join(self.record.folder, f) for f in ("models", "training_states", "samples")),
            )

    def _val_dtype(self) -> torch.dtype:
        return DTYPES[(self.opt.get("val") or {}).get("precision") or "fp32"]

    def feed_data(self, data: dict) -> None:
        """Move one batch to the device: lq (B, 3, h, w), gt (B, Q, 3) with coord and cell (B, Q, 2), or gt (B, 3, H, W)."""
        memory = (
            torch.channels_last
            if (self.opt.get("train") or {}).get("channels_last")
            else torch.contiguous_format
        )
        self.lq = data["lq"].to(self.device, non_blocking=True, memory_format=memory)
        self.inputs = (self.lq,)
        if "gt" in data:
            self.gt = data["gt"].to(self.device, non_blocking=True)
        if "coord" in data:
            self.inputs += tuple(data[key].to(self.device, non_blocking=True) for key in ("coord", "cell"))

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """As BasicSR's; before the first step of a resumed run, the validation that it was stopped in is completed."""
        if self._resumed_at is not None:
            step, self._resumed_at = self._resumed_at, None
            self._complete_validation(step)
        super().update_learning_rate(current_iter, warmup_iter)

    def optimize_parameters(self, current_iter: int) -> None:
        self._restore_rng()
        if self.continuous != (len(self.inputs) == 3):
            wanted = "a number" if self.continuous else "~ (whole crops)"
            raise UserError(
                f"{type(self.get_bare_model(self.net_g)).__name__}: set datasets.train.num_queries to {wanted}."
            )
        self.optimizer_g.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32"):
            self.output = self.train_net(*self.inputs)
        loss = self.cri_pix(self.output.float(), self.gt)
        self.scaler.scale(loss).backward()
        if self.opt["train"].get("grad_clip"):
            self.scaler.unscale_(self.optimizer_g)
            torch.nn.utils.clip_grad_norm_(self.net_g.parameters(), self.opt["train"]["grad_clip"])
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        self._steps, self._iteration = self._steps + 1, current_iter
        loss, stop = self._share(loss.detach())
        self.log_dict = OrderedDict(l_pix=loss)
        if not math.isfinite(loss):
            raise UserError(
                f"the loss became {loss} at iteration {current_iter}; resume from the last checkpoint with a "
                "lower learning rate, with train.grad_clip, or with train.precision: bf16 or fp32."
            )
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self.progress.step(
            current_iter, loss, self.get_current_learning_rate()[0], len(self.lq) * self.opt["world_size"]
        )
        if stop:
            self._stop(current_iter)

    def _share(self, loss: torch.Tensor) -> tuple[float, bool]:
        """The mean loss of all ranks, and whether one of them was asked to stop: one exchange, so that all stop after the same step."""
        if not self.opt["dist"]:
            return loss.item(), stopping.requested() != 0
        both = torch.stack([loss.float(), torch.tensor(float(stopping.requested() != 0), device=loss.device)])
        torch.distributed.all_reduce(both)
        total, asked = both.tolist()
        return total / self.opt["world_size"], asked > 0

    def _net_to_evaluate(self) -> torch.nn.Module:
        """The bare network, EMA where there is one."""
        return getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g)

    def test(self) -> None:
        """self.lq -> self.output, of the size of self.gt."""
        with evaluating(self._net_to_evaluate()) as net:
            self.output = predict(net, self.lq, tuple(self.gt.shape[-2:]), self._val_dtype())

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """Both validations are one: each rank takes its share of the images."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        dataset = dataloader.dataset
        name, save_to = dataset.opt["name"], self.opt["path"]["visualization"]
        metrics = metrics_of(self.opt, dataset.opt)
        suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
        if self.is_train:
            suffix = current_iter = min(
                current_iter, int(self.opt["train"]["total_iter"])
            )  # BasicSR's last call counts too many
            if self._validated.get(name) == self._steps:
                get_root_logger().info(
                    f"Validation {name}: nothing was trained since iteration {current_iter}, see there."
                )
                self._settle(current_iter, self._first_set(dataset), tb_logger)
                return
        root = dataset.opt.get("dataroot_lq") or dataset.opt.get("dataroot_gt")
        with (
            self.progress.paused() if self.is_train else nullcontext(),
            evaluating(self._net_to_evaluate()) as net,
        ):
            results = validate(
                net,
                dataset,
                metrics,
                self.device,
                self.opt["rank"],
                self.opt["world_size"],
                on_image=picture_writer(os.path.join(save_to, name), root, suffix) if save_img else None,
                progress=self.opt["val"].get("pbar", False),
                dtype=self._val_dtype(),
                stop=stopping.requested if self.is_train else None,
                worker_init_fn=stopping.outlive_first_signal,
            )
        if results is None:
            self._stop(current_iter)
        self.metric_results, self._validated[name] = results, self._steps
        if metrics and self.opt["rank"] == 0:
            scale = self.record.scale_of(dataset) if self.is_train else None  # a test writes no TensorBoard
            self._log_results(name, metrics, current_iter, tb_logger, scale)
        if self.is_train:
            self.record.scores.add(current_iter, name, self.record.scale_of(dataset), results)
            self._settle(current_iter, self._first_set(dataset), tb_logger)

    def _log_results(self, name: str, metrics: dict, current_iter: int, tb_logger, scale: object) -> None:
        """As BasicSR's, with this set's own metrics, and with the scale in the TensorBoard tag."""
        self._initialize_best(name, metrics)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
            if tb_logger:
                tb_logger.add_scalar(f"metrics/{label(name, scale)}/{metric}", value, current_iter)
        self._log_validation_metric_values(current_iter, name, None)

    def _settle(self, current_iter: int, dataset, tb_logger) -> None:
        """Once every val set has its results of this iteration: the best network, the sample renders, at the end the summary."""
        if not val_sets(self.opt) or self.record.missing(current_iter):
            return
        if self._ending:
            stopping.unlisten()  # nothing but the summary comes after this
        if self.opt["rank"] != 0:
            return
        if self._settled_at != current_iter:
            self._settled_at, best_by = current_iter, self.record.best_by
            score = best_by.score(self.record.scores.at(current_iter))
            if self.record.keep_best(current_iter, self._weights):
                get_root_logger().info(
                    f"Best so far, {best_by} {score:.4f}: net_g_best.pth is that of iteration {current_iter:,}."
                )
            if tb_logger and score is not None:
                tb_logger.add_scalar(f"metrics/{best_by}", score, current_iter)
            with self.progress.paused(), evaluating(self._net_to_evaluate()) as net:
                self.record.draw(current_iter, net, dataset, self.device, self._val_dtype(), tb_logger)
        if self._ending and (text := self.record.conclude(current_iter)):
            get_root_logger().info(f"Summary, also in {self.record.folder}/summary.md and .json\n{text}\n")
            self._ending = False

    def _complete_validation(self, step: int) -> None:
        """What an uninterrupted run would have found at ``step``, where this one was stopped in the midst of it."""
        if not self.opt.get("val") or step % self.opt["val"]["val_freq"] != 0 or not Loop.val_loaders:
            return
        missing = [self.record.missing(step)]
        if self.opt["dist"]:
            torch.distributed.broadcast_object_list(missing)  # another machine may not see the file
        for loader in Loop.val_loaders:
            if loader.dataset.opt["name"] in missing[0]:
                self.validation(loader, step, Loop.tb_logger, self.opt["val"]["save_img"])
        self._settle(step, Loop.val_loaders[0].dataset, Loop.tb_logger)

    @staticmethod
    def _first_set(dataset):
        """The first val set, whose pictures are the samples; ``dataset`` where no loop of BasicSR runs."""
        return Loop.val_loaders[0].dataset if Loop.val_loaders else dataset

    def _initialize_best(self, name: str, metrics: dict) -> None:
        """BasicSR's record of the best results, for this set's own metrics instead of ``val.metrics``."""
        if not hasattr(self, "best_metric_results"):
            self.best_metric_results = {}
        record = self.best_metric_results.setdefault(name, {})
        for metric, opt in metrics.items():
            better = opt.get("better", "higher")
            record.setdefault(
                metric, {"better": better, "val": -math.inf if better == "higher" else math.inf, "iter": -1}
            )

    def resume_training(self, resume_state: dict) -> None:
        super().resume_training(resume_state)
        self.record.scores.forget_after(resume_state["iter"])
        if not self.opt.get("auto_resume"):
            self.record.go_back(resume_state["iter"])
        sets = val_sets(self.opt)
        for (
            (step, name),
            line,
        ) in self.record.scores.lines.items():  # the state was saved before the validation of its iteration
            metrics = metrics_of(self.opt, sets.get(name, {}))
            self._initialize_best(name, metrics)
            for metric in set(metrics) & set(line["metrics"]):
                self._update_best_metric_result(name, metric, line["metrics"][metric], step)
