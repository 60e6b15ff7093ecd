"""The convention: centres tile [-1, 1], queries are the image, corners are the published ones."""

import pytest
import torch
from torch.nn import functional as F

from liif_plugin.coords import (
    bilinear,
    cell_of,
    corners,
    grid,
    image_to_queries,
    pixel_centres,
    queries_to_image,
)


@pytest.mark.parametrize("n", [1, 2, 7, 48, 4608])
def test_centres_tile_the_interval(n):
    centres = pixel_centres(n).double()
    assert torch.allclose(centres[:1], torch.tensor([-1 + 1 / n], dtype=torch.float64), atol=1e-7)
    assert torch.allclose(centres, -centres.flip(0), atol=1e-7)
    if n > 1:
        assert torch.allclose(centres.diff(), torch.full((n - 1,), 2 / n, dtype=torch.float64), atol=2e-7)
    assert centres.abs().max() < 1


def test_image_to_queries_and_back():
    image = torch.rand(2, 3, 5, 7)
    coord, cell, rgb = image_to_queries(image)
    assert torch.equal(queries_to_image(rgb, (5, 7)), image)
    assert torch.equal(cell[0, 0], cell_of((5, 7)))
    assert torch.equal(coord[0], grid((5, 7)))
    assert torch.equal(grid((5, 7), rows=(2, 4)), grid((5, 7))[14:28])


def test_a_coordinate_reads_the_pixel_it_names():
    """(y, x) order and pixel centres, against torch's grid_sample (which is (x, y))."""
    image = torch.rand(1, 3, 5, 7)
    read = F.grid_sample(image, grid((5, 7)).flip(-1).view(1, 5, 7, 2), mode="nearest", align_corners=False)
    assert torch.equal(read, image)


def test_corners_equal_the_published_steps():
    """Against a plain version written from the paper: shift, clamp, grid_sample (nearest) of the codes'
    coordinates.
    """
    h, w = 6, 9
    coord = torch.rand(1, 400, 2) * 2 - 1
    centres = grid((h, w)).view(1, h, w, 2).permute(0, 3, 1, 2)
    areas, rels = [], []
    index, rel, weight = corners(coord, (h, w))
    for sy in (-1, 1):
        for sx in (-1, 1):
            shifted = torch.stack([coord[..., 0] + sy / h + 1e-6, coord[..., 1] + sx / w + 1e-6], -1).clamp(
                -1 + 1e-6, 1 - 1e-6
            )
            code = F.grid_sample(centres, shifted.flip(-1).unsqueeze(1), mode="nearest", align_corners=False)[
                :, :, 0
            ].transpose(1, 2)
            rels.append((coord - code) * torch.tensor([h, w]))
            areas.append((rels[-1][..., 0] * rels[-1][..., 1]).abs() + 1e-9)
    expected = torch.stack(areas[::-1], 1) / torch.stack(areas, 1).sum(1, keepdim=True)
    assert torch.allclose(rel, torch.stack(rels, 1), atol=1e-5)
    assert torch.allclose(weight, expected, atol=1e-5)
    assert index.min() >= 0 and index.max() < h * w


def test_weights_sum_to_one_and_are_bilinear():
    coord = torch.rand(2, 300, 2) * 2 - 1
    image = torch.rand(2, 1, 5, 8)
    theirs = F.grid_sample(
        image, coord.flip(-1).unsqueeze(1), mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0, 0]
    for index, weight in (corners(coord, (5, 8))[::2], bilinear(coord, (5, 8))):
        assert torch.allclose(weight.sum(1), torch.ones(2, 300), atol=1e-6)
        ours = (image.flatten(1).gather(1, index.flatten(1)).view_as(weight) * weight).sum(1)
        assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("size", [(6, 7), (1, 5), (1, 1)])
def test_bilinear_at_the_border(size):
    """At x3 the queries lie exactly on the codes of the last row and column, where the ensemble's own areas
    vanish.
    """
    image = torch.rand(1, 1, *size)
    target = (size[0] * 3, size[1] * 3)
    index, weight = bilinear(grid(target).unsqueeze(0), size)
    ours = (image.flatten()[index] * weight).sum(1).view(1, 1, *target)
    assert torch.allclose(ours, F.interpolate(image, size=target, mode="bilinear"), atol=1e-5)


def test_one_code_without_ensemble():
    coord = grid((4, 6)).unsqueeze(0)
    index, rel, weight = corners(coord, (4, 6), ensemble=False)
    assert torch.equal(index[0, 0], torch.arange(24))
    assert rel.abs().max() < 1e-6 and torch.equal(weight, torch.ones(1, 1, 24))
