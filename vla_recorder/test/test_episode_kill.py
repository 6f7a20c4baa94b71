"""A few of the kills of `make test-kill`."""

import pytest
from recorder_kills import ALLOWED_LOSS_S, kill_one


@pytest.mark.parametrize("number", [1, 2, 8, 9])  # JPEG, raw; both while they stop
def test_a_killed_recorder_leaves_a_whole_episode(tmp_path, number):
    kill = kill_one(tmp_path, number, longest_s=1.5)
    assert not kill.problem, kill
    assert kill.lost_s <= ALLOWED_LOSS_S, kill
