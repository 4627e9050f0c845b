import pytest

from evolve.settings import make_settings
from kvolve import KvolveError


def settings(**given):
    return make_settings({"problem": "token_selection"} | given)


@pytest.mark.parametrize("asked", [{"gpus_per_worker": 0.5}, {"cpus_per_worker": 2}])
def test_resources_without_ray_are_refused_with_the_way_out(asked):
    with pytest.raises(KvolveError, match="Take --pool ray, or leave it at"):
        settings(pool="local", **asked)


def test_workers_may_share_a_gpu_of_a_cluster():
    assert settings(pool="ray", gpus_per_worker=0.25).gpus_per_worker == 0.25


@pytest.mark.parametrize("asked", [{"gpus_per_worker": 1.5}, {"cpus_per_worker": 2.5}])
def test_fractions_above_one_are_refused_as_ray_would(asked):
    with pytest.raises(KvolveError, match="whole numbers only"):
        settings(pool="ray", **asked)
