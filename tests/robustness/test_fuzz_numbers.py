"""Positions, cells, sizes, scales, windows and pictures of the Python interface: what makes sense gives
finite colours, the rest is refused in one line that names the argument.
"""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.fuzzing import fuzzed, refused
from helpers.pictures import picture
from liif_plugin.archs.building import build
from liif_plugin.errors import UserError
from liif_plugin.inference import api, render

QUICK = settings(
    max_examples=80, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
NAN, INF = float("nan"), float("inf")
ODD = [
    None,
    NAN,
    INF,
    -INF,
    0,
    -1,
    -0.0,
    1,
    1.5,
    2,
    1e-30,
    1e300,
    10**40,
    True,
    "x",
    "",
    b"1",
    [],
    {},
    [1, 2, 3],
    object,
    1j,
    np.nan,
    (0, 0),
    (1, INF),
]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return (
        build(
            {"type": "LIIF", "encoder": {"type": "EDSR", "num_feat": 8, "num_block": 1}, "hidden_list": [8]}
        )
        .eval()
        .requires_grad_(False)
    )


@pytest.fixture(scope="module")
def image(net):
    return api.ContinuousImage(picture(0, 8, 9), net, precision="fp32")


def finite(result) -> bool:
    array = result.numpy() if isinstance(result, torch.Tensor) else np.asarray(result)
    return array.dtype.kind in "ui" or bool(np.isfinite(array).all())


NUMBERS = st.floats(width=32) | st.sampled_from([0.0, 1.0, -1.0, 1 + 1e-6, NAN, INF, -INF, 1e30, 1e-40, 2.0])


@QUICK
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4), st.none() | st.tuples(NUMBERS, NUMBERS))
def test_positions_and_cells(image, coord, cell):
    coord = np.array(coord, np.float32).reshape(-1, 2)
    result = refused(lambda: image.sample(coord, cell), "coord", "cell")
    fuzzed("positions and cells", 1)
    inside = bool((np.abs(coord) <= 1).all())
    right = inside and (cell is None or all(0 < np.float32(side) <= api.LARGEST_CELL for side in cell))
    assert isinstance(result, UserError) != right, (coord, cell)
    assert not right or (result.shape == (*coord.shape[:-1], 3) and finite(result))


@pytest.mark.parametrize("argument", ["coord", "cell"])
def test_positions_of_other_kinds(image, argument):
    shapes = [np.zeros(n, np.float32) for n in ((), (1,), (3,), (2, 3), (0,), (2, 2, 1))] + [
        torch.zeros(3),
        np.array(["a", "b"]),
        np.zeros(2, object),
    ]
    for value in [*ODD, *shapes]:
        good = value is None and argument == "cell"
        given = {"coord": torch.zeros(4, 2), argument: value}
        result = refused(lambda given=given: image.sample(**given), argument)
        assert good or isinstance(result, UserError) or (value == (0, 0) and argument == "coord"), (
            argument,
            value,
            result,
        )
    fuzzed("positions and cells", len(ODD) + len(shapes))


def test_renders(image):
    cases = [((8, 9), None, cell) for cell in ODD] + [
        (size, None, None) for size in itertools.product([0, -1, 3, 1.5, NAN, "x", 10**12, None], repeat=2)
    ]
    cases += [
        ((20, 20), window, None)
        for window in (
            (0, 0, 21, 1),
            (-1, 0, 5, 5),
            (0, 0, 0, 5),
            (1, 2, 3),
            "abcd",
            5,
            (0, 0, NAN, 1),
            (19, 19, 1, 1),
            (20, 0, 1, 1),
            (0, 0, 1.5, 1),
        )
    ]
    for size, window, cell in [*cases, (5, None, None), ("ab", None, None), ((1, 2, 3), None, None)]:
        result = refused(
            lambda size=size, window=window, cell=cell: image.render(size, window, cell),
            "size",
            "window",
            "cell",
        )
        assert isinstance(result, UserError) or (result.shape[0] == 3 and finite(result)), (
            size,
            window,
            cell,
        )
        assert isinstance(result, UserError) or size in ((8, 9), (3, 3), (20, 20))
    fuzzed("positions and cells", len(cases) + 3)


@QUICK
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "scale": st.floats() | st.tuples(st.floats(), st.floats()) | st.sampled_from(ODD),
            "size": st.tuples(st.integers(-5, 40), st.integers(-5, 40))
            | st.tuples(st.integers(), st.floats())
            | st.sampled_from(ODD),
            "window": st.tuples(*[st.floats(-2, 12)] * 4)
            | st.lists(st.floats(), max_size=5)
            | st.sampled_from(ODD),
            "memory": st.sampled_from([1.0, 0, -1, NAN, INF, "x", None, True]),
            "precision": st.sampled_from(["fp32", "fp31", None, 1, ""]),
        },
    )
)
def test_calls(net, given):
    result = refused(
        lambda: api.upscale(picture(0, 8, 9), model=net, **{"precision": "fp32", "memory": 1.0, **given})
    )
    fuzzed("calls", 1)
    assert isinstance(result, UserError) or (
        result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3
    )
    if "size" in given and not isinstance(result, UserError) and given.get("size") is not None:
        assert result.shape[:2] == tuple(int(n) for n in given["size"])


def test_pictures_of_other_kinds(net):
    arrays = [
        np.zeros(shape, dtype)
        for shape in ((), (0,), (0, 5), (5, 0, 3), (5, 5, 0), (5, 5, 5), (5, 5, 3, 1), (1, 1), (1, 9, 3))
        for dtype in (np.uint8, np.uint16, np.float32, np.int64, bool, complex, object, "U1")
    ]
    arrays += [np.full((4, 4, 3), value, np.float32) for value in (NAN, INF, -5, 255, 1e38)] + [
        None,
        3,
        "x",
        b"x",
        [],
        [[1]],
        {},
        object(),
    ]
    arrays += [torch.full((3, 4, 4), value) for value in (NAN, INF, 7.0)]
    arrays += [
        torch.zeros(shape) for shape in ((), (3,), (4, 4), (1, 4, 4), (2, 5, 4, 4), (0, 3, 4, 4), (3, 0, 4))
    ]
    arrays += [
        torch.zeros(3, 4, 4, dtype=dtype) for dtype in (torch.uint8, torch.int64, torch.complex64, torch.bool)
    ]
    for array in arrays:
        for work in (
            lambda array=array: api.upscale(array, 2, model=net, precision="fp32"),
            lambda array=array: api.ContinuousImage(array, net, "fp32").sample([0.0, 0.0]),
        ):
            result = refused(work)
            assert isinstance(result, UserError) or finite(result), array
    fuzzed("calls", 2 * len(arrays))


@pytest.mark.parametrize(
    "model",
    [
        None,
        3,
        "",
        "nowhere.pth",
        "liif-lite",
        b"x",
        object(),
        torch.nn.Linear(1, 1),
        "\0",
        "x" * 5000,
        "/",
        ".",
    ],
)
def test_models_of_other_kinds(model):
    result = refused(lambda: api.upscale(picture(0, 8, 9), 2, model=model))
    fuzzed("calls", 1)
    assert isinstance(result, UserError)


def test_windows_of_a_render(net):
    lq = torch.rand(1, 3, 6, 5)
    for size, window in (
        ((0, 5), None),
        ((5, 5), (0, 0, 6, 1)),
        ((5, 5), (0, 0, NAN, 1)),
        ((5.5, 5), None),
        (None, None),
        ((5, 5), "abcd"),
    ):
        assert isinstance(
            refused(
                lambda size=size, window=window: render.render(net, lq, size, window=window), "size", "window"
            ),
            UserError,
        )
    fuzzed("calls", 6)
