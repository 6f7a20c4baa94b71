"""A small policy, and checkpoint folders in our form and in the released one."""

import shutil

import pytest
from released_model import released_config
from tiny_model import RIG, statistics, tiny_config

from vla_model.policy import build_policy
from vla_model.released.write import write_released


@pytest.fixture(scope="module")
def policy():
    return build_policy(tiny_config(), statistics(), RIG, seed=3)


@pytest.fixture
def saved(policy, tmp_path):
    policy.save(tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def released(tmp_path_factory):
    """For all tests: leave it as it is."""
    folder = tmp_path_factory.mktemp("released") / "LIBERO-Pro"
    write_released(folder, released_config(), seed=1)
    return folder


@pytest.fixture
def folder(released, tmp_path):
    """The test's own."""
    return shutil.copytree(released, tmp_path / released.name)
