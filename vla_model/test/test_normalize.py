"""Normalisation: exact inverses, the published formulas, and errors that name what is missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vla_model import presets
from vla_model.config import ModelConfig
from vla_model.grippers import Grippers
from vla_model.normalize import Normalizer, StatisticsError, describe, normalizers

SCHEMES = ("bounds", "bounds_q99", "normal")
values = hnp.arrays(
    np.float32,
    st.tuples(st.integers(2, 30), st.integers(1, 6)),
    elements=st.floats(-100, 100, width=32),
)


def config(**changes) -> ModelConfig:
    return presets.small(("cam",), 2, 2, 4, 0.1, **changes)


@given(values, st.sampled_from(SCHEMES), st.randoms(use_true_random=False))
def test_round_trip(data, scheme, random):
    dim = data.shape[1]
    statistics = describe(data) | {"mask": [random.random() < 0.7 for _ in range(dim)]}
    normalizer = Normalizer.from_statistics(statistics, scheme, dim)
    back = normalizer.denormalize(normalizer.normalize(data, clip=False))
    low, high = np.array(statistics["min"]), np.array(statistics["max"])
    # one value in float32, relative to the range it was scaled to
    span = {"normal": np.array(statistics["std"]), "bounds": high - low}.get(
        scheme, np.array(statistics["q99"]) - np.array(statistics["q01"])
    )
    z = np.abs(normalizer.normalize(data, clip=False)).max(0)
    assert (np.abs(back - data) <= 1e-6 * (np.abs(data) + span * (1 + z)) + 1e-6)[:, span > 0].all()


@st.composite
def normalizers_and_points(draw):
    """A normaliser of any scheme, mask and set of constant dimensions, and points near its data."""
    data = draw(values)
    dim = data.shape[1]
    constant = np.array(draw(st.lists(st.booleans(), min_size=dim, max_size=dim)))
    data[:, constant] = data[0, constant]
    mask = draw(st.lists(st.booleans(), min_size=dim, max_size=dim))
    normalizer = Normalizer.from_statistics(
        describe(data) | {"mask": mask},
        draw(st.sampled_from(SCHEMES)),
        dim,
        constant=draw(st.sampled_from(["zero", "published"])),
    )
    points = draw(hnp.arrays(np.float32, (9, dim), elements=st.floats(-200, 200, width=32)))
    return normalizer, points


@given(normalizers_and_points())
def test_order_is_kept(case):
    normalizer, points = case
    for convert in (normalizer.normalize, normalizer.denormalize):
        out = np.sort(convert(points), axis=0)
        assert np.array_equal(convert(np.sort(points, axis=0)), out)


@given(normalizers_and_points())
def test_what_is_predicted_comes_back_from_the_rigs_units(case):
    """In the other order, too, wherever a value is not constant: nothing is clipped on the way out."""
    normalizer, z = case
    back = normalizer.normalize(normalizer.denormalize(z), clip=False)
    free = ~normalizer._constant | ~normalizer._mask
    free &= ~normalizer._mask | (normalizer._scale > 1e-3)  # float32 keeps nothing of z in a narrower range
    size = np.abs(normalizer._low) / normalizer._scale + np.abs(z) + 1
    assert (np.abs(back - z) <= 1e-6 * size)[:, free].all()


@given(values)
def test_bounds_map_the_data_onto_minus_one_to_one(data):
    normalizer = Normalizer.from_statistics(describe(data), "bounds", data.shape[1])
    z = normalizer.normalize(data)
    assert np.abs(z).max() <= 1
    varying = np.ptp(data, axis=0) > 1e-3
    assert np.allclose(z.min(0)[varying], -1, atol=1e-4) and np.allclose(z.max(0)[varying], 1, atol=1e-4)


def test_published_formulas():
    x, y = np.array([0.3, 5.0]), np.array([0.25, -1.5])
    lo, hi = np.array([-1.0, 2.0]), np.array([1.0, 4.0])
    normalizer = Normalizer.from_statistics({"q01": lo, "q99": hi}, "bounds_q99", 2)
    assert np.allclose(normalizer.normalize(x), np.clip(2 * (x - lo) / (hi - lo + 1e-8) - 1, -1, 1))
    assert np.allclose(
        normalizer.denormalize(y), 0.5 * (y + 1) * (hi - lo + 1e-8) + lo
    )  # beyond the bounds, unclipped
    assert normalizer.normalize(x).dtype == normalizer.denormalize(y).dtype == np.float32


def test_a_constant_dimension_becomes_zero_and_comes_back():
    data = np.array([[t, 0.1] for t in range(100)])  # in float64 its deviation is 3e-17, not 0
    for scheme in SCHEMES:
        normalizer = Normalizer.from_statistics(describe(data), scheme, 2)
        z = normalizer.normalize(np.array([[2.0, 0.2]]))
        assert z[0, 1] == 0
        assert normalizer.denormalize(np.array([[0.0, 0.3]]))[0, 1] == np.float32(0.1)


def test_a_constant_is_known_by_its_bounds_when_its_deviation_is_not_quite_zero():
    statistics = {"mean": [0.1], "std": [7e-9], "min": [0.1], "max": [0.1]}
    assert Normalizer.from_statistics(statistics, "normal", 1).normalize(np.array([0.2])).tolist() == [0]


def test_published_constants_follow_the_formula():
    """As the reference infers: -1 on the constant, and a bound for any value off it."""
    for scheme in ("bounds", "bounds_q99"):
        normalizer = Normalizer.from_statistics(
            describe(np.full((3, 1), 7.5)), scheme, 1, constant="published"
        )
        z = normalizer.normalize(np.array([[7.5], [7.5001], [7.4999]]))
        assert z.ravel().tolist() == [-1, 1, -1]


def test_constant_states_are_the_configs_choice_and_actions_are_always_zero():
    entry = {key: describe(np.full((3, 2), 7.5)) for key in ("proprio", "action")}
    for choice, expected in (("zero", 0), ("published", -1)):
        state, action = normalizers({"rig": entry}, config(constant_state=choice))
        assert state.normalize(np.full(2, 7.5)).tolist() == [expected] * 2
        assert action.normalize(np.full(2, 7.5)).tolist() == [0, 0]
        assert action.denormalize(np.array([0.3, -1.0])).tolist() == [7.5, 7.5]


def test_grippers_are_converted_on_both_ways():
    statistics = {"q01": [-2.0, 0.0], "q99": [2.0, 1.0], "mask": [True, False]}
    normalizer = Normalizer.from_statistics(statistics, "bounds_q99", 2, grippers=Grippers("libero", (1,)))
    commands = np.array([[0.0, -1.0], [2.0, 1.0]])
    assert normalizer.normalize(commands) == pytest.approx(np.array([[0, 1], [1, 0]]), abs=1e-6)
    assert normalizer.denormalize(np.array([[0, 0.9], [1, -0.1]])) == pytest.approx(commands, abs=1e-6)


def test_a_masked_dimension_passes():
    normalizer = Normalizer.from_statistics(
        {"min": [0, 0], "max": [2, 2], "mask": [True, False]}, "bounds", 2
    )
    assert normalizer.normalize(np.array([1.0, 30.0])) == pytest.approx([0.0, 30.0], abs=1e-6)
    assert normalizer.denormalize(np.array([0.0, 30.0])) == pytest.approx([1.0, 30.0])


@pytest.mark.parametrize(
    ("statistics", "scheme", "message"),
    [
        (
            {"min": [0.0, 0.0]},
            "bounds",
            r"rig\.action lacks 'max', which normalisation 'bounds' needs; it has: min",
        ),
        ({"min": [0.0], "max": [1.0]}, "bounds", r"rig\.action\.min has 1 values, expected 2"),
        (
            {"q01": [0.0, np.nan], "q99": [1.0, 1.0]},
            "bounds_q99",
            r"rig\.action\.q01 is not finite in dimension 1",
        ),
        ({"min": [0.0, 3.0], "max": [1.0, 2.0]}, "bounds", r"min is above max in dimension 1"),
        ({"min": [0.0, 0.0], "max": [1.0, 1.0], "mask": [True]}, "bounds", r"mask has 1 values, expected 2"),
        ({"min": ["a", "b"], "max": [1.0, 1.0]}, "bounds", r"rig\.action\.min is no list of numbers"),
        ({"min": [[0.0], 0.0], "max": [1.0, 1.0]}, "bounds", r"rig\.action\.min is no list of numbers"),
    ],
)
def test_errors_name_the_entry(statistics, scheme, message):
    with pytest.raises(StatisticsError, match=message):
        Normalizer.from_statistics(statistics, scheme, 2, "rig.action")


def test_errors_name_the_data_set():
    entry = {"action": describe(np.eye(2)), "proprio": describe(np.eye(2))}
    with pytest.raises(StatisticsError, match="lack 'other'; they have: one"):
        normalizers({"one": entry}, config(dataset="other"))
    with pytest.raises(StatisticsError, match="name one"):
        normalizers({"one": entry, "two": entry}, config())
    with pytest.raises(StatisticsError, match="'one' lack 'proprio'"):
        normalizers({"one": {"action": entry["action"]}}, config())
    with pytest.raises(StatisticsError, match="are empty"):
        normalizers({}, config())
    with pytest.raises(StatisticsError, match="'one' are 3, expected an object"):
        normalizers({"one": 3}, config())
    with pytest.raises(StatisticsError, match=r"one\.proprio is \[1, 2\], expected lists such as"):
        normalizers({"one": entry | {"proprio": [1, 2]}}, config())


def test_vectors_of_another_width_are_refused():
    normalizer = Normalizer.from_statistics({"min": [0, 0], "max": [2, 2]}, "bounds", 2)
    with pytest.raises(ValueError, match=r"2 values, got shape \(3,\)"):
        normalizer.normalize(np.zeros(3))
