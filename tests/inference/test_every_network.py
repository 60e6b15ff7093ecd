"""What every network for any scale can do: one test for all of them, not one for each."""

import inspect

import numpy as np
import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY

from helpers.family import check_autocast, check_pieces, largest
from helpers.networks import EVERY_NETWORK, one_of_every
from helpers.pictures import picture
from liif_plugin import ContinuousImage, upscale
from liif_plugin.archs.base import ContinuousNetwork
from liif_plugin.coords import cell_of, grid
from liif_plugin.errors import UserError
from liif_plugin.image_io.reading import from_array
from liif_plugin.inference.render import as_float, render
from liif_plugin.inference.upscaling import Engine
from liif_plugin.view.renderer import Renderer
from liif_plugin.view.views import View

# x1, x1.5, x3.3, unequal
SIZES = [(40, 34), (60, 51), (132, 112), (80, 51)]
every_network = pytest.mark.parametrize("name", EVERY_NETWORK)


def test_no_network_is_missing():
    """SIREN is fitted to a picture first."""
    found = {
        name
        for name, network in ARCH_REGISTRY
        if inspect.isclass(network)
        and issubclass(network, ContinuousNetwork)
        and network.__module__.startswith("liif_plugin.")
    }
    assert found - {"SIREN"} == {name.split(",")[0] for name in EVERY_NETWORK}


@every_network
@pytest.mark.parametrize("size", SIZES)
def test_windows_tiles_batches_and_blocks_give_the_same_pixels(name, size):
    check_pieces(one_of_every(name), (40, 34), size)


@every_network
def test_threads_give_the_same_pixels(name):
    net, lq = one_of_every(name), as_float(picture(1, 25, 31))
    before, pictures = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            pictures.append(render(net, lq, (61, 83)))
    finally:
        torch.set_num_threads(before)
    assert pictures[0].std() > 1e-3
    assert largest(*pictures) < 1e-5


@every_network
def test_bf16_changes_values_and_no_positions(name):
    check_autocast(one_of_every(name), 0.04)


@every_network
@pytest.mark.parametrize("size", [(40, 30), (33, 47)])
def test_sampling_gives_the_pixels_of_rendering(name, size):
    net, pixels = one_of_every(name), picture(2, 20, 15)
    image, whole = ContinuousImage(pixels, net, "fp32"), render(net, as_float(pixels), size)
    assert largest(image.render(size).unsqueeze(0), whole) < 1e-5
    part = image.render(size, window=(3, 5, 11, 20))
    assert largest(part, whole[0, :, 3:14, 5:25]) < 1e-5
    # Any positions in any order, in pieces, are the pixels of the picture with this cell.
    order = torch.randperm(size[0] * size[1])
    rgb = image.sample(grid(size)[order], cell_of(size))
    assert largest(rgb, whole[0].flatten(1).t()[order]) < 1e-5
    few = image.sample(grid(size)[order[:7]], cell_of(size))
    assert largest(few, rgb[:7]) < 1e-5


@every_network
def test_sampling_with_several_cells_at_once(name):
    image = ContinuousImage(picture(2, 20, 15), one_of_every(name), "fp32")
    coord = torch.rand(12, 2) * 2 - 1
    cells = torch.tensor([[2 / 40, 2 / 30], [2 / 20, 2 / 15], [2 / 50, 2 / 50]])[torch.arange(12) % 3]
    together = image.sample(coord, cells)
    for i in range(12):
        assert largest(together[i], image.sample(coord[i], cells[i])) < 1e-5


@pytest.mark.parametrize("name", ["LMLIIF", "LMLTE", "SRNO"])
def test_too_many_cells_are_refused(name):
    image = ContinuousImage(picture(2, 9, 8), one_of_every(name), "fp32")
    with pytest.raises(UserError, match=f"at most 64 different ones for {name}, .* got 65"):
        image.sample(torch.zeros(65, 2), torch.rand(65, 2) / 9 + 0.01)


@every_network
def test_upscale_within_little_memory(name):
    """Tiles and bands are chosen by the budget; the pixels are the same, up to rounding to 8 bits."""
    net, pixels = one_of_every(name), picture(4, 70, 90)
    small = upscale(pixels, 2.3, model=net, precision="fp32", memory=0.17)
    large = upscale(pixels, 2.3, model=net, precision="fp32", memory=0)
    assert np.abs(small.astype(int) - large).max() <= 1


@every_network
def test_the_viewer_shows_the_pixels_of_rendering(name):
    net, pixels = one_of_every(name), picture(5, 30, 40)
    renderer = Renderer(Engine(net, torch.device("cpu")), from_array(pixels))
    view = View(x=0, y=0, scale=2, width=80, height=60)
    shown = torch.cat([band for _, band in renderer.network_bands(view)], dim=1)
    assert largest(shown.unsqueeze(0), render(net, as_float(pixels), (60, 80))) < 1e-5
