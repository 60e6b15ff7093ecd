"""Models, datasets and steps inside this process; the option file of a run of seconds."""

import copy

import torch
from basicsr.data import build_dataset
from torch.utils.data import DataLoader

from helpers.networks import SMALL
from liif_plugin.data.deterministic import SampleIndex

LIIF = SMALL
EDSR = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}


TINY_YML = """
name: tiny
model_type: ContinuousSRModel
num_gpu: auto
manual_seed: 3
datasets:
  train:
    name: tiny_train
    type: ArbitraryScaleDataset
    dataroot_gt: {root}
    lq_size: 12
    num_queries: 64
    batch_size_per_gpu: 4
    num_worker_per_gpu: {workers}
    dataset_enlarge_ratio: 8
  val_x2:
    name: tiny_x2
    type: ArbitraryScaleDataset
    dataroot_gt: {root}
    scale: 2
    protocol: benchmark
  val_pair:
    name: tiny_x2_x3.1
    type: ArbitraryScaleDataset
    dataroot_gt: {root}
    scale: [2, 3.1]
    protocol: div2k
network_g:
  type: LIIF
  encoder: {{type: EDSR, num_feat: 8, num_block: 1}}
  hidden_list: [16, 16]
path:
  pretrain_network_g: ~
  resume_state: ~
train:
  total_iter: {total}
  optim_g: {{type: Adam, lr: 1e-3}}
  scheduler: {{type: MultiStepLR, milestones: [100], gamma: 0.5}}
  pixel_opt: {{type: L1Loss, loss_weight: 2.0, reduction: mean}}
val:
  val_freq: {every}
  save_img: true
  metrics:
    psnr: {{type: continuous_psnr}}
    ssim: {{type: continuous_ssim}}
    psnr_8bit: {{type: calculate_psnr, crop_border: 2}}
logger:
  print_freq: 1
  save_checkpoint_freq: {every}
  use_tb_logger: false
"""


def options(tmp_path, network=LIIF, **train):
    for folder in ("models", "training_states"):
        (tmp_path / folder).mkdir(exist_ok=True)
    return {
        "name": "m",
        "model_type": "ContinuousSRModel",
        "num_gpu": 0,
        "is_train": True,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "network_g": copy.deepcopy(network),
        "path": {
            "models": str(tmp_path / "models"),
            "training_states": str(tmp_path / "training_states"),
            "visualization": str(tmp_path / "vis"),
        },
        "train": {
            "total_iter": 100,
            "optim_g": {"type": "Adam", "lr": 5e-3},
            "scheduler": {"type": "MultiStepLR", "milestones": [90]},
            "pixel_opt": {"type": "L1Loss", "loss_weight": 2.0, "reduction": "mean"},
            **train,
        },
        "val": {
            "metrics": {
                "psnr": {"type": "continuous_psnr"},
                "psnr_8bit": {"type": "calculate_psnr", "crop_border": 2},
            },
            "suffix": None,
        },
    }


def train_set(folder, **more):
    return build_dataset(
        {
            "name": "t",
            "type": "ArbitraryScaleDataset",
            "phase": "train",
            "dataroot_gt": str(folder),
            "lq_size": 12,
            "num_queries": 64,
            **more,
        }
    )


def val_loader(folder, scale, **more):
    dataset = build_dataset(
        {
            "name": f"v{scale}",
            "type": "ArbitraryScaleDataset",
            "phase": "val",
            "dataroot_gt": str(folder),
            "scale": scale,
            "protocol": "benchmark",
            **more,
        }
    )
    return DataLoader(dataset)


def batch(dataset, step, size=4):
    return torch.utils.data.default_collate(
        [dataset[SampleIndex(i % len(dataset), step, i)] for i in range(size)]
    )


def steps(model, dataset, count, start=0):
    losses = []
    for i in range(start, start + count):
        model.feed_data(batch(dataset, i))
        model.optimize_parameters(i + 1)
        losses.append(sum(model.log_dict.values()))
    return losses
