"""BasicSR's SRModel whose run can be stopped anywhere and resumed with the same losses."""

from __future__ import annotations

import os
import signal
from collections import OrderedDict
from functools import partial
from typing import NoReturn

import torch
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger

from ..checkpoints.files import prune, save_in_experiment
from ..checkpoints.reading import check_fits, check_some_fit, load_named_params
from ..errors import UserError
from . import signals
from .parts import require_same_groups
from .schedule import require_same_optimiser, resume_settings
from .training_run import current_run
from .training_states import (
    draws_at_random,
    function_and_samples,
    gather_random_states,
    set_random_state,
    warn_of_changes,
)


class ResumableSRModel(SRModel):
    """An SRModel that can be stopped anywhere and resumed with the same losses.

    Its checkpoints are complete or absent. A training state holds everything that decides the next losses.
    A subclass initialises ``scaler``, calls ``_restore_rng`` before each step, and calls ``_stop`` when it
    was asked to stop.
    """

    def __init__(self, opt: dict):
        self.run = current_run()
        self._rng_to_restore: dict | None = None
        self._resumed_at: int | None = None
        self._saved_at: int | None = None
        self._draw_once = self._ending = False
        self._iteration = 0  # the last one whose step was taken
        self.best_metric_results: dict[str, dict] = {}  # set -> metric -> BasicSR's record of the best value
        self.log_dict: OrderedDict[str, float] = OrderedDict()  # the losses of the last step
        super().__init__(opt)

    def load_network(self, net, load_path, strict=True, param_key="params"):
        """Load a checkpoint without running code in it.

        Raises:
            UserError: with ``strict`` for the weights of another network, without it if no tensor fits.
        """
        net = self.get_bare_model(net)
        param_key, state = load_named_params(load_path, param_key)
        if strict:
            check_fits(state, net, load_path)
        else:
            check_some_fit(state, net, load_path)
        get_root_logger().info(f"Loading {type(net).__name__} from {load_path} [{param_key}].")
        self._print_different_keys_loading(net, state, strict)
        net.load_state_dict(state, strict=strict)

    @property
    def _has_ema(self) -> bool:
        return self.is_train and self.ema_decay > 0

    def _weights(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the state dicts of a checkpoint, on the CPU: params, and params_ema if there is an EMA."""
        nets = {"params": self.net_g}
        if self._has_ema:
            nets["params_ema"] = self.net_g_ema
        return {
            key: {name: value.cpu() for name, value in self.get_bare_model(net).state_dict().items()}
            for key, net in nets.items()
        }

    def save(self, epoch: int, current_iter: int) -> None:
        """Write a network and its state, then delete older ones as ``logger.keep_checkpoints`` says.

        The state is written last: where there is a state, its network is complete.

        Args:
            epoch: the epoch in progress.
            current_iter: the iteration, or -1 at the end of the run.
        """
        self.save_network(self.net_g, "net_g", current_iter)
        self.save_training_state(epoch, current_iter)
        self._ending = current_iter == -1
        if self._ending:
            if not self.opt.get("val"):
                self.run.stop.unlisten()  # nothing comes after this
            return
        self._saved_at = current_iter
        keep, path = (self.opt.get("logger") or {}).get("keep_checkpoints"), self.opt["path"]
        if keep and self.opt["rank"] == 0:
            named = (path.get("resume_state"), path.get("pretrain_network_g"))
            spare = () if self.opt["auto_resume"] else named
            prune(path["models"], path["training_states"], current_iter, keep, spare=spare)

    def save_network(self, net, net_label, current_iter, param_key="params"):
        """Write net_g_N.pth, or net_g_latest.pth at the end, whole or not at all."""
        if self.opt["rank"] == 0:
            step, iteration = (
                ("latest", self._iteration) if current_iter == -1 else (current_iter, current_iter)
            )
            save_in_experiment(
                {**self._weights(), "iter": iteration},
                os.path.join(self.opt["path"]["models"], f"{net_label}_{step}.pth"),
            )

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write N.state, whole or not at all.

        Beyond BasicSR's it holds the random state of every rank, the gradient scaler, the best results, and
        the options that decide the function and the samples.
        """
        if current_iter == -1:
            return
        ranks = gather_random_states(self.device, self.opt["world_size"])
        if self.opt["rank"] != 0:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "shape": self.run.data,
            "options": function_and_samples(self.opt),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedulers": [s.state_dict() for s in self.schedulers],
            "optimizer_types": [type(o).__name__ for o in self.optimizers],
            "rng": ranks,
            "scaler": self.scaler.state_dict(),
            "best_metric_results": self.best_metric_results,
        }
        save_in_experiment(state, os.path.join(self.opt["path"]["training_states"], f"{current_iter}.state"))

    def resume_training(self, resume_state: dict) -> None:
        """Load a training state.

        The optimiser and the schedule keep the settings of the option file, see ``schedule.py``.

        Raises:
            UserError: if the state is of another optimiser, or damaged.
        """
        try:
            self._load_state(resume_state)
        except UserError:
            raise
        except Exception as error:  # a damaged state fails in many ways
            path = self.opt["path"].get("resume_state")
            raise UserError(
                f"{path}: does not fit this run ({type(error).__name__}: {str(error)[:200]}); resume from "
                "an older state."
            ) from error

    def _load_state(self, state: dict) -> None:
        iteration = state["iter"]
        require_same_optimiser(state.get("optimizer_types"), self.optimizers)
        require_same_groups(state["optimizers"], self.optimizers)
        changed = resume_settings(self.optimizers, self.schedulers, partial(super().resume_training, state))
        if changed:
            get_root_logger().warning(
                f"train.optim_g and train.scheduler differ from those of the state ({', '.join(changed)}): "
                f"from iteration {iteration:,} on the option file's hold."
            )
        warn_of_changes(state.get("options"), self.opt, iteration)
        if self.scaler.is_enabled() and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        if state.get("best_metric_results"):
            self.best_metric_results = state["best_metric_results"]
        self._resumed_at = self._saved_at = self._iteration = iteration
        random_states, world = state.get("rng", []), self.opt["world_size"]
        if len(random_states) == world:
            self._rng_to_restore = random_states[self.opt["rank"]]
            torch.Generator().set_state(self._rng_to_restore["cpu"])  # raises here if it is damaged
            # At the end of an epoch the state lacks one draw: the seed of the next epoch's loader.
            self._draw_once = bool(self.run.epoch_length) and iteration % self.run.epoch_length == 0
        elif draws_at_random(self.get_bare_model(self.net_g)):
            get_root_logger().warning(
                f"The state was saved by {len(random_states)} processes, not {world}: what the network "
                "draws at random (dropout) does not repeat."
            )

    def _restore_rng(self) -> None:
        """Restore the random state before the first step, after all that BasicSR draws at its start."""
        if self._rng_to_restore is not None:
            set_random_state(self._rng_to_restore, self.device)
            if self._draw_once:
                torch.empty((), dtype=torch.int64).random_()
            self._rng_to_restore = None

    def _stop(self, current_iter: int) -> NoReturn:
        """Save a state, unless this iteration has one, and end all ranks with the usual exit code."""
        # 0: another rank was asked to stop
        signum = signal.Signals(self.run.stop.signum or signal.SIGTERM)
        if self._saved_at != current_iter:
            self.save(self.run.epoch, current_iter)
        if self.opt["dist"]:
            # a launcher kills the others when the first one ends: not while one still writes
            torch.distributed.barrier()
        get_root_logger().info(
            f"Stopped by {signals.NAMES[signum]} at iteration {current_iter}, {self._last_loss()}; its "
            "state is saved: the same command goes on from it with --auto_resume."
        )
        raise SystemExit(128 + signum)

    def _last_loss(self) -> str:
        terms = [f"{name} {value:.4e}" for name, value in self.log_dict.items()]
        return ", ".join(terms) or "no loss computed yet"
