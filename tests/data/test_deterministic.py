"""What each process sees, and what is left of an epoch after a resume."""

import pytest
from basicsr.data.data_sampler import EnlargedSampler

from liif_plugin.data.deterministic import SampleIndex, generator
from liif_plugin.models.training_run import start_run


class Deterministic(list):
    deterministic = True


@pytest.fixture(autouse=True)
def run():
    """A run of no data yet; the next one leaves nothing of it."""
    yield start_run()
    start_run()


def draws(data, replicas=1, rank=0, ratio=3, epoch=0):
    sampler = EnlargedSampler(data, replicas, rank, ratio)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_stock_datasets_get_plain_indices():
    assert all(type(index) is int for index in draws(list(range(5))))


def test_two_processes_share_what_one_sees():
    one = draws(Deterministic(range(8)), ratio=3, epoch=4)
    two = [draws(Deterministic(range(8)), 2, rank, ratio=3, epoch=4) for rank in range(2)]
    batch = 3
    for i in range(4):
        together = {(int(d), d.key) for half in two for d in half[i * batch : (i + 1) * batch]}
        assert together == {(int(d), d.key) for d in one[2 * i * batch : 2 * (i + 1) * batch]}
    assert [d.key for d in one] == [(4, position) for position in range(24)]


def test_resume_skips_what_was_seen(run):
    data = Deterministic(range(8))  # 24 draws an epoch, batch 5: 4 iterations
    whole = draws(data, epoch=2)
    run.skip_until, run.batch = (2, 2 * 4 + 3), 5
    assert draws(data, epoch=2) == whole[15:] and [d.key for d in draws(data, epoch=2)] == [
        d.key for d in whole[15:]
    ]
    assert draws(data, epoch=3) == draws(data, epoch=3) and len(draws(data, epoch=3)) == 24
    run.skip_until, run.batch = (2, 3 * 4), 5
    assert len(draws(data, epoch=2)) < 5  # nothing but the incomplete batch that is dropped


def test_resume_with_other_data_starts_the_epoch_again(run):
    run.skip_until, run.batch = (2, 999), 5
    assert len(draws(Deterministic(range(8)), epoch=2)) == 24


def test_draw_is_an_index():
    import pickle

    draw = pickle.loads(pickle.dumps(SampleIndex(3, 1, 17)))
    assert draw == 3 and [0, 1, 2, "x"][draw] == "x" and draw.key == (1, 17)
    assert generator(0, 3) is None
    assert (
        generator(0, draw).random()
        == generator(0, SampleIndex(5, 1, 17)).random()
        != generator(1, draw).random()
    )
