"""The trainer: BasicSR's SRModel for networks that answer queries."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from contextlib import contextmanager

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, imwrite, tensor2img
from basicsr.utils.registry import MODEL_REGISTRY

from ..errors import UserError
from ..precision import DTYPES, choose_precision
from ..render import is_continuous
from .checkpoint import check_fits, load_params, save_whole
from .validation import picture_name, predict, validate


@MODEL_REGISTRY.register()
class ContinuousSRModel(SRModel):
    """Trains on query pixels, validates at any scale, on floats, shared among the ranks.

    A network with encode/query gets lq, coord, cell; any other gets lq alone (a fixed-scale network of BasicSR).

    Options beyond SRModel's: train.precision: fp32 | bf16 | fp16 (autocast) | auto (bf16 where the hardware
    multiplies it); train.channels_last; train.compile (torch.compile);
    train.grad_clip: largest norm of the gradient; val.precision. Each val set may have its own ``metrics`` and has its ``protocol``.
    The paper takes L1 on [-1, 1]; with images in [0, 1] that is ``pixel_opt.loss_weight: 2.0``: the same gradients.

    New: load_network, optimize_parameters, dist_validation, nondist_validation, save_network, save_training_state, resume_training.
    Inherited: the network's construction and loading, optimisers, schedulers, EMA, logging.
    """

    def __init__(self, opt: dict):
        super().__init__(opt)
        self._validated = {}  # dataset name -> (number of training steps taken, results)
        self._steps = 0

    def load_network(self, net, load_path, strict=True, param_key="params"):
        """As BasicSR's, read safely, and a checkpoint of another network refused in one sentence."""
        net = self.get_bare_model(net)
        state = load_params(load_path, param_key)
        if strict:
            check_fits(state, net, load_path)
        get_root_logger().info(f"Loading {type(net).__name__} from {load_path} [{param_key}].")
        self._print_different_keys_loading(net, state, strict)
        net.load_state_dict(state, strict=strict)

    def model_to_device(self, net):
        if (self.opt.get("train") or {}).get("channels_last"):
            net = net.to(memory_format=torch.channels_last)
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
        self._rng_to_restore = None

    def _val_dtype(self) -> torch.dtype:
        return DTYPES[(self.opt.get("val") or {}).get("precision") or "fp32"]

    def feed_data(self, data: dict) -> None:
        """Move one batch to the device: lq (B, 3, h, w), gt (B, Q, 3) with coord and cell (B, Q, 2), or gt (B, 3, H, W)."""
        memory = torch.channels_last if (self.opt.get("train") or {}).get("channels_last") else torch.contiguous_format
        self.lq = data["lq"].to(self.device, non_blocking=True, memory_format=memory)
        self.inputs = (self.lq,)
        if "gt" in data:
            self.gt = data["gt"].to(self.device, non_blocking=True)
        if "coord" in data:
            self.inputs += tuple(data[key].to(self.device, non_blocking=True) for key in ("coord", "cell"))

    def optimize_parameters(self, current_iter: int) -> None:
        self._restore_rng()
        if self.continuous != (len(self.inputs) == 3):
            wanted = "a number" if self.continuous else "~ (whole crops)"
            raise UserError(f"{type(self.get_bare_model(self.net_g)).__name__}: set datasets.train.num_queries to {wanted}.")
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
        self._steps += 1
        self.log_dict = self.reduce_loss_dict(OrderedDict(l_pix=loss.detach()))
        if not math.isfinite(self.log_dict["l_pix"]):
            raise UserError(f"the loss became {self.log_dict['l_pix']} at iteration {current_iter}; resume from the last checkpoint with a "
                            "lower learning rate, with train.grad_clip, or with train.precision: bf16 or fp32.")  # fmt: skip
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)

    @contextmanager
    def _evaluated(self):
        """The bare network to evaluate (EMA where there is one), in eval mode; the mode it had before comes back."""
        net = getattr(self, "net_g_ema", None) or self.get_bare_model(self.net_g)
        was_training, benchmark = net.training, torch.backends.cudnn.benchmark
        net.eval()
        torch.backends.cudnn.benchmark = False  # would be tuned anew for every image size
        try:
            yield net
        finally:
            net.train(was_training)
            torch.backends.cudnn.benchmark = benchmark

    def test(self) -> None:
        """self.lq -> self.output, of the size of self.gt."""
        with self._evaluated() as net:
            self.output = predict(net, self.lq, tuple(self.gt.shape[-2:]), self._val_dtype())

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
        """Both validations are one: each rank takes its share of the images."""
        self.nondist_validation(dataloader, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
        dataset = dataloader.dataset
        name = dataset.opt["name"]
        metrics = dataset.opt.get("metrics") or self.opt["val"].get("metrics") or {}
        if self.is_train:
            current_iter = min(current_iter, int(self.opt["train"]["total_iter"]))  # BasicSR's last call counts one or two too many
            if self._validated.get(name, (None,))[0] == self._steps:
                get_root_logger().info(f"Validation {name}: nothing was trained since iteration {current_iter}, see there.")
                return
        with self._evaluated() as net:
            self.metric_results = validate(
                net, dataset, metrics, self.device, self.opt["rank"], self.opt["world_size"],
                on_image=self._image_saver(dataset, current_iter) if save_img else None,
                progress=self.opt["val"].get("pbar", False), dtype=self._val_dtype(),
            )  # fmt: skip
        self._validated[name] = (self._steps, self.metric_results)
        if not metrics or self.opt["rank"] != 0:
            return
        self._initialize_best(name, metrics)
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        self._log_validation_metric_values(current_iter, name, tb_logger)

    def _initialize_best(self, name: str, metrics: dict) -> None:
        """BasicSR's record of the best results, for this set's own metrics instead of ``val.metrics``."""
        if not hasattr(self, "best_metric_results"):
            self.best_metric_results = {}
        record = self.best_metric_results.setdefault(name, {})
        for metric, opt in metrics.items():
            better = opt.get("better", "higher")
            record.setdefault(metric, {"better": better, "val": -math.inf if better == "higher" else math.inf, "iter": -1})

    def _image_saver(self, dataset, current_iter):
        """Writes visualization/SET/IMAGE_ITER.png, so that neither sets nor scales nor iterations overwrite one another."""
        folder = os.path.join(self.opt["path"]["visualization"], dataset.opt["name"])
        suffix = current_iter if self.is_train else self.opt["val"].get("suffix") or self.opt["name"]

        def save(path, sr):
            name = picture_name(path, dataset.opt.get("dataroot_lq") or dataset.opt.get("dataroot_gt"))
            imwrite(tensor2img([sr.cpu()]), os.path.join(folder, f"{name}_{suffix}.png"))

        return save

    def save_network(self, net, net_label, current_iter, param_key="params"):
        """As BasicSR's, but whole or not at all."""
        if self.opt["rank"] != 0:
            return
        nets, keys = (net, param_key) if isinstance(net, list) else ([net], [param_key])
        bare = [self.get_bare_model(n) for n in nets]
        state = {key: {k: v.cpu() for k, v in n.state_dict().items()} for key, n in zip(keys, bare)}
        step = "latest" if current_iter == -1 else current_iter
        save_whole(state, os.path.join(self.opt["path"]["models"], f"{net_label}_{step}.pth"))

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """As BasicSR's, with the random state of every rank, the gradient scaler and the best results; whole or not at all."""
        if current_iter == -1:
            return
        cuda = self.device.type == "cuda"
        rng = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if cuda else None}
        ranks = [rng]
        if self.opt["dist"]:
            ranks = [None] * self.opt["world_size"]
            torch.distributed.all_gather_object(ranks, rng)
        if self.opt["rank"] != 0:
            return
        state = {
            "epoch": epoch, "iter": current_iter,
            "optimizers": [o.state_dict() for o in self.optimizers], "schedulers": [s.state_dict() for s in self.schedulers],
            "rng": ranks, "scaler": self.scaler.state_dict(), "best_metric_results": getattr(self, "best_metric_results", {}),
        }  # fmt: skip
        save_whole(state, os.path.join(self.opt["path"]["training_states"], f"{current_iter}.state"))

    def resume_training(self, resume_state: dict) -> None:
        super().resume_training(resume_state)
        if self.scaler.is_enabled() and resume_state.get("scaler"):
            self.scaler.load_state_dict(resume_state["scaler"])
        if resume_state.get("best_metric_results"):
            self.best_metric_results = resume_state["best_metric_results"]
        ranks = resume_state.get("rng", [])
        if len(ranks) == self.opt["world_size"]:
            self._rng_to_restore = ranks[self.opt["rank"]]
        else:
            get_root_logger().warning("The state was saved by another number of processes: data repeats exactly, dropout does not.")

    def _restore_rng(self) -> None:
        """Before the first step: what BasicSR draws while it sets up must not count."""
        if self._rng_to_restore is not None:
            torch.set_rng_state(self._rng_to_restore["cpu"])
            if self._rng_to_restore["cuda"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(self._rng_to_restore["cuda"])
            self._rng_to_restore = None
