"""Gripper conventions: what is trained, what is commanded, and configs that make no sense."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from tiny_model import observation, statistics, tiny_config

from vla_model import presets
from vla_model.grippers import Grippers
from vla_model.policy import build_policy

CONVENTIONS = ("none", "libero", "calvin")
any_float = st.floats(-3, 3, width=32)
chunks = hnp.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(4)), elements=any_float)
dims = st.sets(st.integers(0, 3), min_size=1).map(tuple)


@given(st.sampled_from(CONVENTIONS), dims, chunks, st.data())
def test_commands_survive_and_other_dimensions_are_left_alone(convention, dims, chunk, data):
    grippers = Grippers(convention, dims)
    chunk[:, dims] = data.draw(
        hnp.arrays(np.float32, (len(chunk), len(dims)), elements=st.sampled_from([-1, 1]))
    )
    before = chunk.copy()
    encoded = grippers.encode(chunk)
    assert np.array_equal(grippers.decode(encoded), chunk)
    others = [d for d in range(4) if d not in dims]
    assert np.array_equal(encoded[:, others], chunk[:, others])
    assert np.array_equal(chunk, before), "not in place"


@given(st.sampled_from(CONVENTIONS[1:]), chunks)
def test_whatever_is_predicted_becomes_a_command_and_encodes_to_a_target(convention, chunk):
    grippers = Grippers(convention, (1, 3))
    commands = grippers.decode(chunk)[:, [1, 3]]
    undecided = chunk[:, [1, 3]] == 0.5
    assert np.isin(commands[~undecided], [-1, 1]).all()
    encoded = grippers.encode(chunk)[:, [1, 3]]
    assert (encoded >= 0).all() and (encoded <= 1).all()


def test_the_published_conventions_value_by_value():
    g = np.array([[-0.2], [0.0], [0.4], [0.5], [0.6], [1.0], [1.3]])
    libero, calvin = Grippers("libero", (0,)), Grippers("calvin", (0,))
    assert libero.decode(g).ravel().tolist() == [1, 1, 1, 0, -1, -1, -1]  # 1 = open is commanded as -1
    assert calvin.decode(g).ravel().tolist() == [-1, -1, -1, -1, 1, 1, 1]  # 1 = open is commanded as +1
    command = np.array([[-1.0], [0.0], [0.3], [1.0]])
    assert libero.encode(command).ravel() == pytest.approx([1, 1, 0.7, 0])
    assert calvin.encode(command).ravel() == pytest.approx([0, 0, 0.3, 1])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_what_is_not_a_number_never_becomes_a_command(convention):
    chunk = np.array([[0.0, np.nan]])
    assert np.isnan(Grippers(convention, (1,)).decode(chunk)[0, 1])


@pytest.mark.parametrize("convention", CONVENTIONS[1:])
def test_a_policy_commands_its_grippers_and_nothing_else_changes(convention):
    plain, converting = (
        build_policy(tiny_config(**changes), statistics(), "rig").predict(observation())
        for changes in ({}, {"gripper": convention, "gripper_dims": (1, 5)})
    )
    assert np.isin(converting[:, [1, 5]], [-1, 1]).all()
    assert np.array_equal(converting, Grippers(convention, (1, 5)).decode(plain))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gripper": "libero", "gripper_dims": (7,)}, "different dimensions of the action, 0 to 6"),
        ({"gripper": "libero", "gripper_dims": (-1,)}, "different dimensions of the action, 0 to 6"),
        ({"gripper": "calvin", "gripper_dims": (6, 6)}, "different dimensions of the action"),
        ({"gripper": "calvin"}, r"gripper 'calvin' needs gripper_dims, such as \[6\]"),
        ({"gripper_dims": (6,)}, "need a gripper convention: libero or calvin"),
        ({"gripper": "bridge", "gripper_dims": (6,)}, "gripper"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        presets.small(("cam",), 8, 7, 8, 0.05, **changes)
