"""A few of the kills of `make test-kill`, which also says how much time is lost."""

import pytest
from recorder_kills import kill_one


@pytest.mark.parametrize("number", [1, 2, 8, 9])  # JPEG, raw; both while they stop
def test_a_killed_recorder_leaves_a_whole_episode(tmp_path, number):
    kill = kill_one(tmp_path, number, longest_s=1.5)
    assert not kill.problem, kill
