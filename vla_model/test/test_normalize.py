"""Normalisation: exact inverses, the published formulas, and errors that name what is missing."""

import logging
from dataclasses import dataclass

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


@dataclass
class Case:
    """A normaliser of any scheme and mask, some dimensions constant in its data, and points near the data."""

    normalizer: Normalizer
    scheme: str
    entry: dict[str, np.ndarray]
    mask: np.ndarray
    constant: np.ndarray  # and treated so
    points: np.ndarray

    @property
    def free(self) -> np.ndarray:
        """Dimensions that are not constant, and wide enough for float32 to keep a normalised value."""
        e = self.entry
        span = {"bounds": e["max"] - e["min"], "bounds_q99": e["q99"] - e["q01"], "normal": e["std"]}[
            self.scheme
        ]
        return ~self.mask | (~self.constant & (span > 1e-3))


@st.composite
def cases(draw):
    data = draw(values)
    dim = data.shape[1]
    booleans = st.lists(st.booleans(), min_size=dim, max_size=dim)
    still, mask = np.array(draw(booleans)), draw(booleans)
    data[:, still] = data[0, still]
    scheme, choice = draw(st.sampled_from(SCHEMES)), draw(st.sampled_from(["zero", "published"]))
    entry = describe(data) | {"mask": mask}
    return Case(
        Normalizer.from_statistics(entry, scheme, dim, constant=choice),
        scheme,
        {key: np.array(column) for key, column in entry.items()},
        np.array(mask),
        (np.ptp(data, axis=0) == 0) & (choice == "zero"),
        draw(hnp.arrays(np.float32, (9, dim), elements=st.floats(-200, 200, width=32))),
    )


@given(cases())
def test_round_trip(case):
    """Within what float32 keeps of a value relative to the range that it was scaled to."""
    z = case.normalizer.normalize(case.points, clip=False)
    back = case.normalizer.denormalize(z)
    size = np.abs(case.points) + np.abs(z * case.normalizer._scale) + np.abs(case.normalizer._low) + 1
    assert (np.abs(back - case.points) <= 1e-6 * size)[:, case.free].all()


@given(cases())
def test_what_is_predicted_comes_back_from_the_rigs_units(case):
    """In the other order, too: nothing is clipped on the way out."""
    back = case.normalizer.normalize(case.normalizer.denormalize(case.points), clip=False)
    size = np.abs(case.normalizer._low) / case.normalizer._scale + np.abs(case.points) + 1
    assert (np.abs(back - case.points) <= 1e-6 * size)[:, case.free].all()


@given(cases())
def test_order_is_kept(case):
    for convert in (case.normalizer.normalize, case.normalizer.denormalize):
        assert np.array_equal(convert(np.sort(case.points, axis=0)), np.sort(convert(case.points), axis=0))


@given(cases())
def test_each_dimension_goes_by_its_mask_and_its_constant(case):
    """A masked one passes bit for bit, constant or not; a constant one is 0, and itself whatever is predicted."""
    before = case.points.copy()
    z, x = case.normalizer.normalize(case.points), case.normalizer.denormalize(case.points)
    assert np.array_equal(case.points, before), "not in place"
    assert np.array_equal(z[:, ~case.mask], before[:, ~case.mask])
    assert np.array_equal(x[:, ~case.mask], before[:, ~case.mask])
    still = case.mask & case.constant
    assert (z[:, still] == 0).all()
    low = case.entry["mean" if case.scheme == "normal" else "min"].astype(np.float32)
    assert (x[:, still] == low[still]).all()


@given(cases())
def test_bounded_schemes_alone_are_clipped_and_only_on_the_way_in(case):
    clipped, free = case.normalizer.normalize(case.points), case.normalizer.normalize(case.points, clip=False)
    expected = free if case.scheme == "normal" else np.clip(free, -1, 1)
    assert np.array_equal(clipped, np.where(case.mask, expected, case.points))


@given(cases())
def test_rows_and_single_vectors_are_the_same(case):
    for convert in (case.normalizer.normalize, case.normalizer.denormalize):
        assert np.array_equal(convert(case.points), np.stack([convert(point) for point in case.points]))


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
    narrow = Normalizer.from_statistics({"q01": [0.0], "q99": [1e-8]}, "bounds_q99", 1)
    assert narrow.normalize(np.array([1e-8])) == pytest.approx([0.0])  # 2 r / (r + 1e-8) - 1
    far = Normalizer.from_statistics({"min": [1e6], "max": [1e6 + 1]}, "bounds", 1)
    assert far.normalize(np.array([1e6 + 0.26])) == pytest.approx(
        [-0.48], abs=1e-6
    )  # in float32 there is no .26 there
    spread = Normalizer.from_statistics({"mean": [1.0], "std": [2.0]}, "normal", 1)
    assert spread.normalize(np.array([9.0])) == pytest.approx([4.0])
    assert spread.denormalize(np.array([-4.0])) == pytest.approx([-7.0])


def test_statistics_are_the_references():
    data = np.array([[t * t, -t] for t in range(201)], dtype=np.float32)
    columns = describe(data)
    x = np.arange(201.0) ** 2
    assert columns["min"] == [0, -200] and columns["max"] == [40000, 0]
    assert columns["q01"] == pytest.approx([4, -198]) and columns["q99"] == pytest.approx([198**2, -2])
    assert columns["mean"][0] == pytest.approx(x.mean()) and columns["std"][0] == pytest.approx(x.std())


def test_a_constant_dimension_becomes_zero_and_comes_back():
    data = np.array([[t, 0.1] for t in range(100)])  # in float64 its deviation is 3e-17, not 0
    for scheme in SCHEMES:
        normalizer = Normalizer.from_statistics(describe(data), scheme, 2)
        z = normalizer.normalize(np.array([[2.0, 0.2]]))
        assert z[0, 1] == 0
        assert normalizer.denormalize(np.array([[0.0, 0.3]]))[0, 1] == np.float32(0.1)


@pytest.mark.parametrize(
    ("entry", "scheme"),
    [({"q01": [0.1], "q99": [0.1]}, "bounds_q99"), ({"mean": [0.1], "std": [0]}, "normal")],
)
def test_a_constant_is_known_without_its_bounds(entry, scheme):
    normalizer = Normalizer.from_statistics(entry, scheme, 1)
    assert normalizer.normalize(np.array([0.2])).tolist() == [0]
    assert normalizer.denormalize(np.array([0.7])) == np.float32(0.1)


def test_what_moves_too_seldom_for_its_quantiles_is_told(caplog):
    """A gripper that closes in less than 1 % of the frames: by quantiles it can never be commanded."""
    data = np.array([[t, t == 7, t == 7, 3] for t in range(200)], dtype=np.float64)
    entry = describe(data) | {"mask": [True, True, False, True]}
    with caplog.at_level(logging.WARNING):
        normalizer = Normalizer.from_statistics(entry, "bounds_q99", 4, "rig.action")
    assert caplog.messages == [
        "rig.action: q01 equals q99 in dimension 1, which does move in the data, but too seldom: it is treated as "
        "constant. Normalisation 'bounds' would keep its movement"
    ]
    assert normalizer.denormalize(np.ones(4))[1] == 0
    caplog.clear()
    kept = Normalizer.from_statistics(entry, "bounds", 4, "rig.action")
    Normalizer.from_statistics(entry, "bounds_q99", 4, "rig.proprio", constant="published")
    assert not caplog.messages and kept.denormalize(np.ones(4))[1] == 1


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
        ({"min": [0.0], "max": [1.0]}, "bounds", r"rig\.action\.min has shape \(1,\), expected 2 values"),
        (
            {"min": [[0, 0]], "max": [1, 1]},
            "bounds",
            r"rig\.action\.min has shape \(1, 2\), expected 2 values",
        ),
        ({"mean": [0, 0], "std": [1, -1]}, "normal", r"rig\.action\.std is negative in dimension 1"),
        (
            {"q01": [0.0, np.nan], "q99": [1.0, 1.0]},
            "bounds_q99",
            r"rig\.action\.q01 is not finite in dimension 1",
        ),
        ({"min": [0.0, 3.0], "max": [1.0, 2.0]}, "bounds", r"min is above max in dimension 1"),
        *(
            (
                {"min": [0.0, 0.0], "max": [1.0, 1.0], "mask": mask},
                "bounds",
                r"rig\.action\.mask is .*, expected 2 times true or false",
            )
            for mask in ([True], None, ["true", "false"], [1, 0.5], True)
        ),
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
