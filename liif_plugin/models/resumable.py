"""BasicSR's SRModel whose run can be stopped anywhere and taken up again with the same losses."""

from __future__ import annotations

import os
from functools import partial

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger

from ..basicsr_patches.loop import Loop
from ..checkpoints.files import prune, save_in_experiment
from ..checkpoints.reading import check_fits, load_named_params
from . import signals as stopping
from .random_state import draws_at_random, gather_random_states, set_random_state
from .schedule import require_same_optimiser, resume_settings


class ResumableSRModel(SRModel):
    """Checkpoints that are whole or not there, states that hold all that decides the next losses, stopping on request.

    The heir initialises ``scaler``, and calls ``_restore_rng`` before each step and ``_stop`` where it was asked to stop.
    """

    def __init__(self, opt: dict):
        self._rng_to_restore = self._resumed_at = self._saved_at = None
        self._draw_once = self._ending = False
        self._iteration = 0  # the last one whose step was taken
        super().__init__(opt)

    def load_network(self, net, load_path, strict=True, param_key="params"):
        """As BasicSR's, read safely, and a checkpoint of another network refused in one sentence."""
        net = self.get_bare_model(net)
        param_key, state = load_named_params(load_path, param_key)
        if strict:
            check_fits(state, net, load_path)
        get_root_logger().info(f"Loading {type(net).__name__} from {load_path} [{param_key}].")
        self._print_different_keys_loading(net, state, strict)
        net.load_state_dict(state, strict=strict)

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        nets = {
            "params": self.net_g,
            **({"params_ema": self.net_g_ema} if hasattr(self, "net_g_ema") else {}),
        }
        return {
            key: {k: v.cpu() for k, v in self.get_bare_model(net).state_dict().items()}
            for key, net in nets.items()
        }

    def save(self, epoch: int, current_iter: int) -> None:
        """As BasicSR's; then the older checkpoints are pruned where ``logger.keep_checkpoints`` says so."""
        super().save(epoch, current_iter)
        self._ending = current_iter == -1
        if self._ending:
            if not self.opt.get("val"):
                stopping.unlisten()  # nothing comes after this
            return
        self._saved_at = current_iter
        keep, path = (self.opt.get("logger") or {}).get("keep_checkpoints"), self.opt["path"]
        if keep and self.opt["rank"] == 0:
            named = (
                () if self.opt["auto_resume"] else (path.get("resume_state"), path.get("pretrain_network_g"))
            )
            prune(path["models"], path["training_states"], current_iter, keep, spare=named)

    def save_network(self, net, net_label, current_iter, param_key="params"):
        """As BasicSR's, but whole or not at all."""
        if self.opt["rank"] == 0:
            step, iteration = (
                ("latest", self._iteration) if current_iter == -1 else (current_iter, current_iter)
            )
            save_in_experiment(
                {**self._weights(), "iter": iteration},
                os.path.join(self.opt["path"]["models"], f"{net_label}_{step}.pth"),
            )

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """As BasicSR's, with the random state of every rank, the gradient scaler and the best results; whole or not at all."""
        if current_iter == -1:
            return
        ranks = gather_random_states(self.device, self.opt["world_size"])
        if self.opt["rank"] != 0:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "shape": Loop.shape,
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedulers": [s.state_dict() for s in self.schedulers],
            "optimizer_types": [type(o).__name__ for o in self.optimizers],
            "rng": ranks,
            "scaler": self.scaler.state_dict(),
            "best_metric_results": getattr(self, "best_metric_results", {}),
        }
        save_in_experiment(state, os.path.join(self.opt["path"]["training_states"], f"{current_iter}.state"))

    def resume_training(self, resume_state: dict) -> None:
        """As BasicSR's; the option file's settings of the optimiser and the schedule hold, see schedule.py."""
        require_same_optimiser(resume_state.get("optimizer_types"), self.optimizers)
        changed = resume_settings(
            self.optimizers, self.schedulers, partial(super().resume_training, resume_state)
        )
        if changed:
            get_root_logger().warning(
                f"train.optim_g and train.scheduler differ from those of the state ({', '.join(changed)}): "
                f"from iteration {resume_state['iter']:,} on the option file's hold."
            )
        if self.scaler.is_enabled() and resume_state.get("scaler"):
            self.scaler.load_state_dict(resume_state["scaler"])
        if resume_state.get("best_metric_results"):
            self.best_metric_results = resume_state["best_metric_results"]
        self._resumed_at = self._saved_at = self._iteration = resume_state["iter"]
        ranks, world = resume_state.get("rng", []), self.opt["world_size"]
        if len(ranks) == world:
            self._rng_to_restore = ranks[self.opt["rank"]]
            # at the very end of an epoch the state lacks one draw: the seed that the next epoch's loader takes
            self._draw_once = bool(Loop.epoch_length) and resume_state["iter"] % Loop.epoch_length == 0
        elif draws_at_random(self.get_bare_model(self.net_g)):
            get_root_logger().warning(
                f"The state was saved by {len(ranks)} processes, not {world}: what the network draws at random "
                "(dropout) does not repeat."
            )

    def _restore_rng(self) -> None:
        """Before the first step: what BasicSR draws while it sets up must not count."""
        if self._rng_to_restore is not None:
            set_random_state(self._rng_to_restore, self.device)
            if self._draw_once:
                torch.empty((), dtype=torch.int64).random_()
            self._rng_to_restore = None

    def _stop(self, current_iter: int) -> None:
        """Save a whole state, unless this iteration has one, and end with the usual exit code, all ranks together."""
        signum = stopping.requested() or stopping.signal.SIGTERM
        if self._saved_at != current_iter:
            self.save(Loop.epoch, current_iter)
        if self.opt["dist"]:
            torch.distributed.barrier()  # a launcher kills the others when the first one ends: not while one still writes
        get_root_logger().info(
            f"Stopped by {stopping.NAMES[signum]} at iteration {current_iter}, l_pix {self._last_loss()}; its state is "
            "saved: the same command goes on from it with --auto_resume."
        )
        raise SystemExit(128 + signum)

    def _last_loss(self) -> str:
        return f"{self.log_dict['l_pix']:.4e}" if hasattr(self, "log_dict") else "not computed"
