"""Every recipe: shapes, the features BasicSR's own forward has, the stated receptive radius, any size."""

import dataclasses

import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from helpers.networks import ENCODERS as SMALL
from liif_plugin.archs.encoder import RECIPES, Encoder, pad_to_multiple
from liif_plugin.errors import UserError
from liif_plugin.inference.render import render


@pytest.mark.parametrize("kind", RECIPES)
def test_shapes_and_every_parameter_used(kind):
    encoder = Encoder({"type": kind, **SMALL[kind]})
    feat = encoder(torch.rand(2, 3, 11, 14))
    assert feat.shape == (2, encoder.out_channels, 11, 14)
    feat.sum().backward()
    unused = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert not unused  # DistributedDataParallel stops at parameters without a gradient


def test_edsr_features_are_those_of_the_stock_network():
    """Hook the stock network at its upsampler; its input shift and range are undone."""
    torch.manual_seed(0)
    stock = build_network(
        {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "upscale": 2, "img_range": 1.0, **SMALL["EDSR"]}
    )
    encoder = Encoder({"type": "EDSR", **SMALL["EDSR"]})
    encoder.net.load_state_dict(stock.state_dict(), strict=False)
    seen = []
    stock.upsample.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = torch.rand(1, 3, 9, 10)
    stock(x)
    assert torch.allclose(encoder(x - stock.mean), seen[0], atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in RECIPES if kind not in ("RCAN", "SwinIR")])
def test_halo_is_the_receptive_radius(kind):
    encoder = Encoder({"type": kind, **SMALL[kind]}).double()
    for parameter in encoder.parameters():
        parameter.data.fill_(0.1)  # so that no influence is too faint to see
    n = 2 * encoder.halo + 5
    x = torch.rand(1, 3, 3, n, dtype=torch.float64)
    y = x.clone()
    y[..., n // 2] += 1
    changed = (encoder(x) != encoder(y)).any(dim=1).any(dim=1)[0].nonzero().flatten()
    assert (changed - n // 2).abs().max() == encoder.halo


def test_swinir_halo_bounds_the_receptive_radius():
    torch.manual_seed(0)
    encoder = Encoder({"type": "SwinIR", **SMALL["SwinIR"]}).double().eval()
    n = 4 * ((2 * encoder.halo + 8) // 4)
    x = torch.rand(1, 3, 4, n, dtype=torch.float64)
    y = x.clone()
    y[..., n // 2] += 1
    changed = ((encoder(x) - encoder(y)).abs() > 1e-12).any(dim=1).any(dim=1)[0].nonzero().flatten()
    assert 4 < (changed - n // 2).abs().max() <= encoder.halo


def test_swinir_features_behind_its_convolution_are_those_of_the_stock_network():
    """LTE and LMF take the 64 channels in front of the pixel shuffle; the stock network enlarges x2 there."""
    torch.manual_seed(0)
    options = {**SMALL["SwinIR"], "upsampler": "pixelshuffle"}
    stock = build_network({"type": "SwinIR", "in_chans": 3, "upscale": 2, **options}).eval()
    encoder = Encoder({"type": "SwinIR", **options}).eval()
    encoder.net.load_state_dict(stock.state_dict(), strict=False)
    seen = []
    stock.upsample.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    x = torch.rand(1, 3, 8, 12)
    stock(x)
    feat = encoder(x - stock.mean)
    assert feat.shape == (1, encoder.out_channels, 8, 12) == (1, 64, 8, 12)
    assert torch.allclose(feat, seen[0], atol=1e-6)
    feat.sum().backward()
    assert not [name for name, p in encoder.named_parameters() if p.grad is None]
    assert encoder.halo == Encoder({"type": "SwinIR", **SMALL["SwinIR"]}).halo + 1


def test_srvgg_features_are_those_in_front_of_its_last_layer():
    torch.manual_seed(0)
    stock = build_network({"type": "SRVGGNetCompact", "upscale": 2, **SMALL["SRVGGNetCompact"]})
    encoder = Encoder({"type": "SRVGGNetCompact", **SMALL["SRVGGNetCompact"]})
    encoder.net.load_state_dict(stock.state_dict(), strict=False)
    x, seen = torch.rand(1, 3, 9, 10), []
    stock.body[-1].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    stock(x)
    assert torch.equal(encoder(x), seen[0])
    assert not any(name.startswith("net.body.6") for name, _ in encoder.named_parameters())


def test_swinir_at_an_odd_scale_and_size():
    torch.manual_seed(0)
    net = build_network(
        {"type": "LIIF", "encoder": {"type": "SwinIR", **SMALL["SwinIR"]}, "hidden_list": [16]}
    ).eval()
    assert net.encoder.pad_multiple == 4
    lq, size = torch.rand(2, 3, 37, 53), (round(37 * 2.3), round(53 * 2.3))
    whole = render(net, lq, size)
    assert whole.shape == (2, 3, 85, 122)
    assert (render(net, lq, size, queries_at_once=500) - whole).abs().max() < 1e-5
    assert (torch.cat([render(net, one, size) for one in lq.split(1)]) - whole).abs().max() < 1e-5


@pytest.mark.parametrize(("h", "w"), [(8, 8), (5, 9), (1, 3), (2, 17)])
def test_padding_keeps_the_picture(h, w):
    x = torch.rand(1, 2, h, w)
    padded = pad_to_multiple(x, 8)
    assert padded.shape[-2] % 8 == 0 and padded.shape[-1] % 8 == 0
    assert torch.equal(padded[..., :h, :w], x)
    assert np.array_equal(
        padded.numpy(), np.pad(x.numpy(), ((0, 0), (0, 0), (0, -h % 8), (0, -w % 8)), "reflect")
    )


def test_mistakes_are_named():
    with pytest.raises(UserError, match="did you mean 'EDSR'"):
        Encoder({"type": "EDRS"})
    with pytest.raises(UserError, match=r"unknown option 'num_feats'.*did you mean 'num_feat'"):
        Encoder({"type": "EDSR", "num_feats": 8})
    with pytest.raises(UserError, match=r"encoder\.upsampler: expected one of '', 'pixelshuffle', got 'near"):
        Encoder({"type": "SwinIR", "upsampler": "nearest+conv"})


def test_a_recipe_that_removes_what_is_not_there(monkeypatch):
    """A misspelt name left the upsampler in the encoder, counted and trained, without a word."""
    recipe = dataclasses.replace(RECIPES["EDSR"], unused=("upsample", "conv_lst"))
    monkeypatch.setitem(RECIPES, "EDSR", recipe)
    with pytest.raises(ValueError, match="the recipe of EDSR: unused names 'conv_lst', but the network has"):
        Encoder({"type": "EDSR", **SMALL["EDSR"]})


def test_an_encoder_that_is_a_name_is_refused_with_the_form_of_the_block():
    with pytest.raises(UserError, match=r"expected a block .*got 'EDSR'. Write {type: EDSR}"):
        Encoder("EDSR")
