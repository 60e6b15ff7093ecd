"""Which input a metric gets and which of its values are better."""

import pytest
from basicsr.utils.registry import METRIC_REGISTRY

from liif_plugin.metrics import (
    better_of,
    direction,
    float_metric,
    is_float_metric,
    unchecked_arguments,
)


@METRIC_REGISTRY.register()
def distance_of_a_user(img, img2, better="lower"):
    return 0.0


@METRIC_REGISTRY.register()
def dists_of_a_user(img, img2, better="higher"):
    return 0.0


@pytest.mark.parametrize("name", ["continuous_psnr", "continuous_ssim"])
def test_ours_take_floats_and_higher_is_better(name):
    assert is_float_metric(name)
    assert direction(name) == "higher"
    assert unchecked_arguments(name) == ("gray_as_luma",)


@pytest.mark.parametrize("name", ["calculate_psnr", "calculate_ssim", "calculate_psnr_pt", "no_such_metric"])
def test_others_take_no_floats(name):
    assert not is_float_metric(name)
    assert unchecked_arguments(name) == ()
    assert direction(name) == "higher"


@pytest.mark.parametrize("name", ["calculate_niqe", "niqe", "lpips", "lpips-vgg", "DISTS", "my_brisque"])
def test_known_names_where_lower_is_better(name):
    assert direction(name) == "lower"


def test_the_signature_says_the_direction_before_the_known_names():
    assert direction("distance_of_a_user") == "lower"
    assert direction("dists_of_a_user") == "higher"


def test_the_option_file_says_it_first():
    assert better_of({"type": "calculate_niqe", "better": "higher"}) == "higher"
    assert better_of({"type": "continuous_psnr", "better": "lower"}) == "lower"
    assert better_of({"type": "calculate_niqe"}) == "lower"


def test_a_wrong_direction_is_refused():
    with pytest.raises(ValueError, match="expected 'higher' or 'lower', got 'more'"):
        float_metric(better="more")
