"""The trainer: BasicSR's SRModel for networks that answer queries."""

from __future__ import annotations

import math
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.registry import MODEL_REGISTRY
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..archs.base import is_continuous
from ..checkpoints import loading
from ..errors import UserError
from ..evaluation.single_image import evaluating, predict
from ..evaluation.validation import picture_writer, validate
from ..files import remove_leftovers
from ..metrics.properties import better_of
from ..precision import DTYPES, choose_precision
from .history import History, label, metrics_of, val_sets
from .parts import freeze_parts, parameter_groups
from .resumable import ResumableSRModel


@MODEL_REGISTRY.register()
class ContinuousSRModel(ResumableSRModel):
    """Trains on query pixels; validates at any scale, on floats, the images shared among the ranks.

    A continuous network gets lq, coord, cell; any other gets lq alone (a fixed-scale network of BasicSR).

    Options beyond SRModel's:
        train.precision: fp32, bf16, fp16 (autocast), or auto (bf16 if the hardware multiplies it).
        train.channels_last, train.compile (torch.compile).
        train.grad_clip: largest norm of the gradient.
        train.part_lr: learning rates of parts of the network; train.freeze: parts that are not trained.
        train.teacher: a trained network whose answers are learned (distillation), train.teacher_weight how
            much of the loss they are.
        train.gradient_weight: weight of the mean absolute gradient of the predicted field (Thera).
        val.cell_clamp: smallest cell, as a scale; see evaluation's ``predict``.
        val.precision; each val set may have its own ``metrics`` and has its ``protocol``.
        val.best_by: what makes net_g_best.pth, see history.BestBy.
        val.samples: images after each validation, see samples.py.
        logger.keep_checkpoints: how many numbered checkpoints stay.

    The paper takes L1 on [-1, 1]; with images in [0, 1] that is ``pixel_opt.loss_weight: 2.0``: the same
    gradients. Ctrl-C and SIGTERM end a run after the step, or the image, in progress, with a whole state.

    BasicSR's loop calls, for each iteration: update_learning_rate, feed_data, optimize_parameters; then,
    when due, save and validation.
    """

    def __init__(self, opt: dict):
        super().__init__(opt)
        self._validated: dict[str, int] = {}  # dataset name -> number of training steps taken
        self._steps = 0
        self._concluded_at: int | None = None

    def model_to_device(self, net):
        if (self.opt.get("train") or {}).get("channels_last"):
            net = net.to(memory_format=torch.channels_last)
        if not self.is_train:
            # DistributedDataParallel is for gradients, and refuses a network without parameters
            return net.to(self.device)
        # before DistributedDataParallel, which waits for the gradients of all that can have one
        freeze_parts(net, self.opt["train"].get("freeze") or ())
        return super().model_to_device(net)

    def init_training_settings(self):
        super().init_training_settings()
        train = self.opt["train"]
        self.continuous = is_continuous(self.get_bare_model(self.net_g))
        self.precision = choose_precision(train.get("precision") or "fp32", self.device)
        if train.get("precision") == "auto":
            get_root_logger().info(f"Precision auto: {self.precision} on this machine.")
        self.teacher = loading.load(train["teacher"], self.device) if train.get("teacher") else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.train_net = torch.compile(self.net_g) if train.get("compile") else self.net_g
        self.history = History(self.opt)
        self.bar: tqdm | None = None
        if self.opt["rank"] == 0:
            folder = self.history.folder
            for name in ("", "models", "training_states", "samples"):
                remove_leftovers(os.path.join(folder, name))

    def setup_optimizers(self) -> None:
        """Build the optimiser, with the learning rates of ``train.part_lr``."""
        groups = parameter_groups(self.get_bare_model(self.net_g), self.opt["train"].get("part_lr") or {})
        arguments = dict(self.opt["train"]["optim_g"])
        self.optimizer_g = self.get_optimizer(arguments.pop("type"), groups, **arguments)
        self.optimizers.append(self.optimizer_g)

    def _val_dtype(self) -> torch.dtype:
        return DTYPES[(self.opt.get("val") or {}).get("precision") or "fp32"]

    def _cell_clamp(self) -> float | None:
        return (self.opt.get("val") or {}).get("cell_clamp")

    def feed_data(self, data: dict) -> None:
        """Move one batch to the device: lq (B, 3, h, w), gt (B, Q, 3) with coord and cell (B, Q, 2), or gt
        (B, 3, H, W).
        """
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
        """Set the learning rate of this iteration.

        It is the first method that BasicSR's loop calls in an iteration, and the loop has no hook before its
        first iteration. So what has to come before that one is done here.
        """
        if self._resumed_at is not None:
            self._before_first_iteration(self._resumed_at)
            self._resumed_at = None
        super().update_learning_rate(current_iter, warmup_iter)

    def _before_first_iteration(self, step: int) -> None:
        """Complete the validation during which the run was stopped at ``step``."""
        if not self.opt.get("val") or step % self.opt["val"]["val_freq"] != 0 or not self.run.val_loaders:
            return
        missing = [self.history.missing(step)]
        if self.opt["dist"]:
            torch.distributed.broadcast_object_list(missing)  # another machine may not see the file
        for loader in self.run.val_loaders:
            if loader.dataset.opt["name"] in missing[0]:
                self.validation(loader, step, self.run.tb_logger, self.opt["val"]["save_img"])
        self._conclude_validation(step, self.run.val_loaders[0].dataset, self.run.tb_logger)

    def optimize_parameters(self, current_iter: int) -> None:
        """Take one step; stop the run if that was asked for."""
        self._restore_rng()
        if self.continuous != (len(self.inputs) == 3):
            wanted = "a number" if self.continuous else "~ (whole crops)"
            raise UserError(
                f"{type(self.get_bare_model(self.net_g)).__name__}: set datasets.train.num_queries to "
                f"{wanted}."
            )
        # forward and backward
        self.optimizer_g.zero_grad(set_to_none=True)
        losses = self._losses()
        self.scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        # step
        if self.opt["train"].get("grad_clip"):
            self.scaler.unscale_(self.optimizer_g)
            torch.nn.utils.clip_grad_norm_(self.net_g.parameters(), self.opt["train"]["grad_clip"])
        self.scaler.step(self.optimizer_g)
        self.scaler.update()
        self._steps, self._iteration = self._steps + 1, current_iter
        # the losses of all ranks
        means, stop = self._share(losses)
        self.log_dict = OrderedDict(means)
        mean_loss = sum(means.values())
        if not math.isfinite(mean_loss):
            raise UserError(
                f"the loss became {mean_loss} at iteration {current_iter}; resume from the last checkpoint "
                f"with a "
                "lower learning rate, with train.grad_clip, or with train.precision: bf16 or fp32."
            )
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self._show_progress(current_iter, mean_loss)
        if stop:
            self._stop(current_iter)

    def _show_progress(self, current_iter: int, loss: float) -> None:
        """Draw the progress bar, on rank 0 and on a terminal alone; the log's lines appear above it."""
        if self.bar is None:
            on_terminal = (
                None if self.opt["rank"] == 0 else True
            )  # tqdm's None: disabled if it is no terminal
            total = int(self.opt["train"]["total_iter"])
            self.bar = tqdm(
                total=total,
                initial=current_iter - 1,
                disable=on_terminal,
                dynamic_ncols=True,
                mininterval=0.2,
            )
            if not self.bar.disable:
                self._log_above_bar = logging_redirect_tqdm([get_root_logger()])
                self._log_above_bar.__enter__()
        lr = self.get_current_learning_rate()[0]
        self.bar.set_postfix({"loss": f"{loss:.4f}", "lr": f"{lr:.1e}"}, refresh=False)
        self.bar.update()

    def _losses(self) -> dict[str, torch.Tensor]:
        """Run the network on the batch; return the weighted terms of the loss by their names in the log."""
        train = self.opt["train"]
        weight = train.get("gradient_weight") or 0
        more = {"with_gradient": True} if weight else {}
        with torch.autocast(self.device.type, dtype=DTYPES[self.precision], enabled=self.precision != "fp32"):
            output = self.train_net(*self.inputs, **more)
            if self.teacher is not None:
                taught = self.teacher(*self.inputs).float()  # load() has taken its gradients away
        self.output, gradient = output if weight else (output, None)
        output, of_teacher = self.output.float(), self._teacher_weight()
        losses = {}
        if of_teacher < 1:
            losses["l_pix"] = (1 - of_teacher) * self.cri_pix(output, self.gt)
        if of_teacher > 0:
            losses["l_teacher"] = of_teacher * self.cri_pix(output, taught)
        if gradient is not None:
            losses["l_gradient"] = weight * gradient.float().abs().mean()
        return losses

    def _teacher_weight(self) -> float:
        """Return which part of the loss compares with the teacher: 0 without one, 1 if not said."""
        weight = self.opt["train"].get("teacher_weight")
        return 0.0 if self.teacher is None else 1.0 if weight is None else weight

    def _share(self, losses: dict[str, torch.Tensor]) -> tuple[dict[str, float], bool]:
        """Return the means of the losses over all ranks, and whether any rank was asked to stop.

        Both in one exchange, so that all ranks stop after the same step.
        """
        stop = self.run.stop.requested()
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if not self.opt["dist"]:
            return dict(zip(losses, values.tolist())), stop
        both = torch.cat([values, values.new_tensor([float(stop)])])
        torch.distributed.all_reduce(both)
        *totals, asked = both.tolist()
        return {name: total / self.opt["world_size"] for name, total in zip(losses, totals)}, asked > 0

    def _net_to_evaluate(self) -> torch.nn.Module:
        """Return the bare network, EMA if there is one."""
        return self.net_g_ema if self._has_ema else self.get_bare_model(self.net_g)

    def test(self) -> None:
        """Predict self.output from self.lq, of the size of self.gt."""
        with evaluating(self._net_to_evaluate()) as net:
            size = tuple(self.gt.shape[-2:])
            self.output = predict(net, self.lq, size, self._val_dtype(), cell_clamp=self._cell_clamp())

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """Validate; each rank takes its share of the images."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """Validate one set on all ranks. After the last set of an iteration, conclude that validation."""
        dataset = dataloader.dataset
        name, save_to = dataset.opt["name"], self.opt["path"]["visualization"]
        metrics = metrics_of(self.opt, dataset.opt)
        suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]
        if self.is_train:
            # BasicSR's last call counts an iteration too many
            suffix = current_iter = min(current_iter, int(self.opt["train"]["total_iter"]))
            if self._validated.get(name) == self._steps:
                get_root_logger().info(
                    f"Validation {name}: nothing was trained since iteration {current_iter}, see there."
                )
                self._conclude_validation(current_iter, self._first_set(dataset), tb_logger)
                return
        root = dataset.opt.get("dataroot_lq") or dataset.opt.get("dataroot_gt")
        with self._bar_paused(), evaluating(self._net_to_evaluate()) as net:
            results = validate(
                net,
                dataset,
                metrics,
                self.device,
                self.opt["rank"],
                self.opt["world_size"],
                on_image=picture_writer(os.path.join(save_to, name), root, suffix) if save_img else None,
                progress=self.opt["val"].get("pbar", sys.stderr.isatty()),
                dtype=self._val_dtype(),
                stop=self.run.stop.requested if self.is_train else None,
                cell_clamp=self._cell_clamp(),
            )
        if results is None:
            self._stop(current_iter)
        self.metric_results, self._validated[name] = results, self._steps
        if metrics and self.opt["rank"] == 0:
            scale = self.history.scale_of(dataset) if self.is_train else None  # a test writes no TensorBoard
            self._log_results(name, metrics, current_iter, tb_logger, scale)
        if self.is_train:
            self.history.scores.add(current_iter, name, self.history.scale_of(dataset), results)
            self._conclude_validation(current_iter, self._first_set(dataset), tb_logger)

    @contextmanager
    def _bar_paused(self) -> Iterator[None]:
        """Take the progress bar away; the time within does not count as slow steps."""
        bar = self.bar if self.is_train else None
        if bar is not None:
            bar.clear()
        yield
        if bar is not None:
            bar.unpause()

    def _log_results(
        self, name: str, metrics: dict, current_iter: int, tb_logger, scale: Sequence[float] | None
    ) -> None:
        """Log this set's own metrics, with the scale in the TensorBoard tag."""
        self._initialize_best(name, metrics)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
            if tb_logger:
                tb_logger.add_scalar(f"metrics/{label(name, scale)}/{metric}", value, current_iter)
        self._log_validation_metric_values(current_iter, name, None)

    def _conclude_validation(self, current_iter: int, dataset, tb_logger) -> None:
        """If every val set has its results of this iteration: keep the best network, draw samples, at the
        end the summary.
        """
        if not val_sets(self.opt) or self.history.missing(current_iter):
            return
        if self._ending:
            self.run.stop.unlisten()  # nothing but the summary comes after this
        if self.opt["rank"] != 0:
            return
        if self._concluded_at != current_iter:
            self._concluded_at = current_iter
            self._keep_best(current_iter, tb_logger)
            with self._bar_paused(), evaluating(self._net_to_evaluate()) as net:
                self.history.draw_samples(
                    current_iter, net, dataset, self.device, self._val_dtype(), tb_logger
                )
        if self._ending:
            self._ending = False
            if self.bar is not None:
                self.bar.close()
            table = self.history.write_summary(current_iter)
            if table is not None:
                folder = self.history.folder
                get_root_logger().info(f"Summary, also in {folder}/summary.md and .json\n{table}\n")

    def _keep_best(self, current_iter: int, tb_logger) -> None:
        best_by = self.history.best_by
        score = best_by.score(self.history.scores.at(current_iter))
        if self.history.keep_best(current_iter, self._weights):
            get_root_logger().info(
                f"Best so far, {best_by} {score:.4f}: net_g_best.pth is that of iteration {current_iter:,}."
            )
        if tb_logger and score is not None:
            tb_logger.add_scalar(f"metrics/{best_by}", score, current_iter)

    def _first_set(self, dataset):
        """Return the first val set, whose images are the samples; ``dataset`` if no loop of BasicSR runs."""
        return self.run.val_loaders[0].dataset if self.run.val_loaders else dataset

    def _initialize_best(self, name: str, metrics: dict) -> None:
        """Begin BasicSR's record of the best results, for this set's own metrics instead of
        ``val.metrics``.
        """
        record = self.best_metric_results.setdefault(name, {})
        for metric, opt in metrics.items():
            better = better_of(opt)
            record.setdefault(
                metric, {"better": better, "val": -math.inf if better == "higher" else math.inf, "iter": -1}
            )

    def resume_training(self, resume_state: dict) -> None:
        """Load a training state, and what the validations until then have found."""
        super().resume_training(resume_state)
        self.history.scores.forget_after(resume_state["iter"])
        if not self.opt.get("auto_resume"):
            self.history.go_back(resume_state["iter"])
        # the state was saved before the validation of its iteration: its best results lack that one
        sets = val_sets(self.opt)
        for (step, name), line in self.history.scores.lines.items():
            metrics = metrics_of(self.opt, sets.get(name, {}))
            self._initialize_best(name, metrics)
            for metric in set(metrics) & set(line["metrics"]):
                self._update_best_metric_result(name, metric, line["metrics"][metric], step)
