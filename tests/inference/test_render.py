"""Rendering: whole, windows, blocks and tiles give the numbers of the plain query, whatever the network."""

import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from helpers.family import plain
from helpers.pictures import picture
from liif_plugin import load, upscale
from liif_plugin.archs.base import Tile
from liif_plugin.coords import cell_of
from liif_plugin.data.crops import to_tensor
from liif_plugin.inference.render import _target_span, render, render_bands

EDSR = {"type": "EDSR", "num_feat": 8, "num_block": 2}
SWINIR = {
    "type": "SwinIR",
    "img_size": 16,
    "window_size": 4,
    "depths": [2],
    "embed_dim": 12,
    "num_heads": [2],
    "mlp_ratio": 2,
}


def network(encoder=EDSR, kind="LIIF", **options):
    torch.manual_seed(0)
    return build_network({"type": kind, "encoder": encoder, "hidden_list": [32, 32], **options}).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"local_ensemble": False},
        {"feat_unfold": False},
        {"cell_decode": False},
        {"residual": "bilinear"},
        {"hidden_list": [16]},
    ],
)
@pytest.mark.parametrize("size", [(90, 111), (20, 30), (74, 106), (37, 53), (111, 159), (1, 1), (38, 52)])
def test_whole_windows_and_tiles(options, size):
    net, lq = network(**options), torch.rand(2, 3, 37, 53)
    expected = plain(net, lq, size)
    assert (render(net, lq, size) - expected).abs().max() < 1e-6
    assert (render(net, lq, size, tile=16) - expected).abs().max() < 1e-6
    window = (size[0] // 3, size[1] // 4, -(-size[0] // 2), -(-size[1] // 3))
    part = expected[..., window[0] : window[0] + window[2], window[1] : window[1] + window[3]]
    for tile in (None, 7):
        assert (render(net, lq, size, window=window, tile=tile) - part).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("encoder", "tile"),
    [
        (EDSR, 9),
        ({"type": "LIIF_RDN", "num_feat": 8, "num_block": 2, "num_layer": 2, "growth": 4}, 8),
        (SWINIR, 9),
        ({"type": "MSRResNet", "num_feat": 8, "num_block": 1}, 10),
        ({"type": "RCAN", "num_feat": 16, "num_group": 1, "num_block": 1}, 10),
    ],
)
def test_tiles_of_every_encoder(encoder, tile):
    """Tiles are equal to the whole to 1e-5; RCAN, which looks at the image's mean, is encoded whole."""
    net, lq = network(encoder), torch.rand(1, 3, 41, 30)
    assert (net.halo is None) == (encoder["type"] == "RCAN")
    assert (render(net, lq, (97, 64), tile=tile) - render(net, lq, (97, 64))).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["MetaSR", "Bicubic"])
def test_networks_that_only_know_the_contract(kind):
    net = network(kind="MetaSR") if kind == "MetaSR" else build_network({"type": "Bicubic"})
    lq = torch.rand(1, 3, 20, 17)
    expected = plain(net, lq, (43, 50))
    assert torch.allclose(render(net, lq, (43, 50), tile=8, queries_at_once=100), expected, atol=1e-6)
    assert torch.allclose(
        render(net, lq, (43, 50), window=(3, 5, 20, 30)), expected[..., 3:23, 5:35], atol=1e-6
    )


def test_the_result_does_not_depend_on_blocks():
    net, lq = network(), torch.rand(1, 3, 12, 15)
    expected = render(net, lq, (30, 41))
    for queries in (1, 100, 10**7):
        assert (render(net, lq, (30, 41), queries_at_once=queries) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    net, lq = (
        network({"type": "EDSR", "num_feat": 32, "num_block": 2}, hidden_list=[64, 64, 64]),
        torch.rand(1, 3, 40, 40),
    )
    expected = render(net, lq, (100, 100))
    error = (render(net, lq, (100, 100), dtype=dtype) - expected).square().mean()
    assert -10 * torch.log10(error) > 50 and render(net, lq, (9, 9), dtype=dtype).dtype == torch.float32


def test_uint8_pictures_and_bands():
    net, image = network(), picture(0, 40, 50)
    expected = render(net, to_tensor(image).unsqueeze(0), (120, 150))
    bands = list(render_bands(net, image, (120, 150), tile=16))
    assert [first for first, _ in bands] == [0, 48, 96] and all(band.shape[-1] == 150 for _, band in bands)
    assert (torch.cat([band for _, band in bands], dim=2) - expected).abs().max() < 1e-6
    assert (render(net, image, (120, 150)) - expected).abs().max() < 1e-6


def test_every_target_pixel_belongs_to_one_tile():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, N, step = int(rng.integers(1, 60)), int(rng.integers(1, 200)), int(rng.integers(1, 20))
        spans = [_target_span((start, min(start + step, n)), n, N) for start in range(0, n, step)]
        assert spans[0][0] == 0 and spans[-1][1] == N and all(a[1] == b[0] for a, b in zip(spans, spans[1:]))
        for (first, stop), start in zip(spans, range(0, n, step)):
            for i in range(first, stop):  # its centre, in LR pixels
                assert start <= (i + 0.5) * n / N < min(start + step, n)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": (0, 5)}, "at least 1 x 1"),
        ({"size": (5, 5), "window": (0, 0, 6, 5)}, r"not inside an image of \(H, W\) = \(5, 5\)"),
        ({"size": (5, 5), "window": (-1, 0, 2, 2)}, "not inside"),
        ({"size": (5, 5), "window": (0, 0, 0, 2)}, "not inside"),
    ],
)
def test_what_cannot_be_rendered(arguments, words):
    with pytest.raises(ValueError, match=words):
        render(network(), torch.rand(1, 3, 4, 4), **arguments)


def test_an_image_without_its_batch_is_named():
    with pytest.raises(ValueError, match=r"lq: expected a tensor \(B, 3, h, w\).*got shape \(3, 4, 4\)"):
        render(network(), torch.rand(3, 4, 4), (5, 5))


def test_a_tiles_projection_is_not_for_queries():
    net, feat = network(), torch.rand(1, 8, 6, 6)
    part = net.prepare(feat, tile=Tile((20, 20), (4, 4), (5, 5, 4, 4)))
    with pytest.raises(ValueError, match="around it"):
        net.prepare(feat, tile=Tile((20, 20), (4, 4), (4, 4, 6, 6)))
    with pytest.raises(ValueError, match="whole image"):
        net.sample(part, torch.zeros(1, 1, 2), torch.zeros(1, 1, 2))


@pytest.mark.parametrize("options", [{}, {"residual": "bilinear"}, {"kind": "MetaSR"}])
def test_an_autocast_of_the_caller_does_not_reach_a_render_in_float32(options):
    """upscale(precision="fp32") inside a caller's autocast was not float32."""
    net, lq = network(**options), torch.rand(1, 3, 24, 20)
    expected = render(net, lq, (60, 50))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(render(net, lq, (60, 50)), expected)
        assert torch.equal(render(net, lq, (60, 50), tile=8), render(net, lq, (60, 50), tile=8))


def test_another_default_dtype_changes_nothing():
    net, lq, image = network(), torch.rand(1, 3, 12, 10), picture(0, 10, 12)
    expected, enlarged = render(net, lq, (30, 25)), upscale(image, 2.5, precision="fp32")
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(render(net, lq, (30, 25)), expected)
        assert np.array_equal(upscale(image, 2.5, model=load(), precision="fp32"), enlarged)
        assert cell_of((3, 4)).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)
