"""Released folders for the tests of what loads, what is refused and what converts."""

import shutil

import pytest
from released_model import released_config

from vla_model.released.write import write_released


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
