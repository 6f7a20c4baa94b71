"""Temporal ensembling in time: equal to ACT where ACT applies, independent of arrival order everywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_policy_node.ensemble import Ensembler

DT_S = 0.02
DT_NS = 20_000_000


class ActBuffer:
    """ACT's own evaluation loop: an all-time buffer of shape (T, T + H, A), weights exp(-k i) from the oldest."""

    def __init__(self, steps, horizon, dim, k=0.01):
        self.buffer = np.full((steps, steps + horizon, dim), np.nan)
        self.horizon, self.k = horizon, k

    def step(self, t, chunk):
        self.buffer[t, t : t + self.horizon] = chunk
        column = self.buffer[: t + 1, t]
        column = column[~np.isnan(column).any(axis=1)]
        weights = np.exp(-self.k * np.arange(len(column)))
        return (column * (weights / weights.sum())[:, None]).sum(axis=0)


@pytest.mark.parametrize(
    ("horizon", "dim", "k"), [(100, 14, 0.01), (8, 7, 0.01), (25, 16, 0.1), (1, 3, 0.01), (30, 14, -0.05)]
)
def test_equals_act_with_one_inference_per_step_and_no_latency(horizon, dim, k):
    rng = np.random.default_rng(horizon)
    steps = 3 * horizon + 5
    ensembler, act = Ensembler(horizon, dim, DT_S, decay=k), ActBuffer(steps, horizon, dim, k)
    for t in range(steps):
        chunk = rng.normal(size=(horizon, dim))
        ensembler.add(t * DT_NS, chunk)
        expected = act.step(t, chunk)
        np.testing.assert_allclose(ensembler.action(t * DT_NS), expected, atol=1e-6, rtol=0)
        np.testing.assert_allclose(ensembler.plan(t * DT_NS).values[0], expected, atol=1e-6, rtol=0)


stamps = st.lists(st.integers(0, 40 * DT_NS), min_size=1, max_size=12, unique=True)


@settings(deadline=None)
@given(
    stamps=stamps,
    data=st.data(),
    tau=st.integers(0, 60 * DT_NS),
    mode=st.sampled_from(["temporal", "newest"]),
)
def test_arrival_order_never_changes_the_result(stamps, data, tau, mode):
    order = data.draw(st.permutations(stamps))
    chunks = {s: np.random.default_rng(s).normal(size=(10, 3)) for s in stamps}
    results = []
    for sequence in (stamps, order):
        ensembler = Ensembler(10, 3, DT_S, mode=mode, capacity=6)
        for stamp in sequence:
            ensembler.add(stamp, chunks[stamp])
        results.append((ensembler.action(tau), ensembler.plan(tau)))
    (a, plan_a), (b, plan_b) = results
    assert (a is None) == (b is None)
    if a is not None:
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(plan_a.values, plan_b.values)
        assert plan_a.stamps_ns == plan_b.stamps_ns


@settings(deadline=None)
@given(stamps=stamps, tau=st.integers(0, 60 * DT_NS))
def test_equal_chunks_are_left_alone_and_mixes_stay_within_their_bounds(stamps, tau):
    same, mixed = Ensembler(10, 2, DT_S, capacity=20), Ensembler(10, 2, DT_S, capacity=20)
    rows = np.random.default_rng(0).uniform(-1, 1, size=(len(stamps), 10, 2))
    for stamp, chunk in zip(stamps, rows, strict=True):
        same.add(stamp, np.full((10, 2), 0.7))
        mixed.add(stamp, chunk)
    if same.action(tau) is None:
        assert not any(s <= tau <= s + 9 * DT_NS for s in stamps)
        return
    np.testing.assert_allclose(same.action(tau), 0.7, atol=1e-12)
    assert (np.abs(mixed.plan(tau).values) <= 1 + 1e-12).all()
    assert mixed.plan(tau).weights.sum() == pytest.approx(1)


@settings(deadline=None)
@given(stamps=stamps, tau=st.integers(0, 50 * DT_NS))
def test_plan_rows_are_the_actions_of_their_times(stamps, tau):
    """What is planned now is what will be done, as long as no new chunk comes."""
    ensembler = Ensembler(10, 2, DT_S, capacity=20)
    stamps = [s for s in stamps if s <= tau]
    for stamp in stamps:
        ensembler.add(stamp, np.random.default_rng(stamp).normal(size=(10, 2)))
    plan = ensembler.plan(tau)
    for k, row in enumerate(plan.values):
        np.testing.assert_allclose(row, ensembler.action(tau + k * DT_NS), atol=1e-12)
    if len(plan.values):
        # The plan goes on for as long as the newest chunk that began by tau does.
        newest = max(stamps)
        assert len(plan.values) == (newest + 9 * DT_NS - tau) // DT_NS + 1
        assert ensembler.left_s(tau) == pytest.approx((newest + 9 * DT_NS - tau) * 1e-9)


def test_interpolates_between_rows_and_ends_with_the_last():
    ensembler = Ensembler(3, 1, DT_S)
    ensembler.add(0, np.array([[0.0], [1.0], [3.0]]))
    assert ensembler.action(DT_NS // 4) == pytest.approx([0.25])
    assert ensembler.action(DT_NS + DT_NS // 2) == pytest.approx([2.0])
    assert ensembler.action(2 * DT_NS) == pytest.approx([3.0])
    assert ensembler.action(2 * DT_NS + 1) is None
    assert ensembler.action(-1) is None


def test_late_chunks_and_gaps_still_count():
    """Inference takes five steps: chunks arrive late, yet describe the right times."""
    truth = lambda t_ns: np.array([np.sin(t_ns * 1e-9)])  # noqa: E731
    ensembler = Ensembler(20, 1, DT_S)
    for k in range(0, 100, 5):
        now = k * DT_NS
        observed = now - 5 * DT_NS
        ensembler.add(observed, np.array([truth(observed + j * DT_NS) for j in range(20)]))
        for tau in range(now, now + 5 * DT_NS, DT_NS // 2):
            assert ensembler.action(tau) == pytest.approx(truth(tau), abs=1e-4)


def test_channels_that_must_not_be_averaged_come_from_the_newest_chunk():
    ensembler = Ensembler(4, 2, DT_S, average=np.array([True, False]))
    ensembler.add(0, np.tile([0.0, 0.0], (4, 1)))
    ensembler.add(DT_NS, np.tile([1.0, 1.0], (4, 1)))
    mixed, binary = ensembler.action(DT_NS + DT_NS // 2)
    assert 0.4 < mixed < 0.6
    assert binary == 1.0


def test_newest_and_open_loop():
    old, new = np.full((4, 1), 1.0), np.full((4, 1), 2.0)
    newest, loop = Ensembler(4, 1, DT_S, mode="newest"), Ensembler(4, 1, DT_S, mode="open_loop")
    for ensembler in (newest, loop):
        ensembler.add(0, old)
        assert ensembler.action(0) == [1.0]
        ensembler.add(DT_NS, new)
    assert newest.action(DT_NS) == [2.0]
    assert [loop.action(k * DT_NS)[0] for k in range(1, 5)] == [1.0, 1.0, 1.0, 2.0]


def test_keeps_a_bounded_number_of_chunks_and_can_forget():
    ensembler = Ensembler(5, 1, DT_S)
    for k in range(1000):
        ensembler.add(k * DT_NS, np.full((5, 1), float(k)))
    assert ensembler.plan(999 * DT_NS).stamps_ns == [k * DT_NS for k in range(995, 1000)]
    ensembler.reset()
    assert ensembler.action(999 * DT_NS) is None
    assert ensembler.newest_ns is None


def test_refuses_what_is_not_a_chunk():
    ensembler = Ensembler(4, 2, DT_S)
    with pytest.raises(ValueError, match=r"shape \(4, 2\), got \(3, 2\)"):
        ensembler.add(0, np.zeros((3, 2)))
    with pytest.raises(ValueError, match="not finite"):
        ensembler.add(0, np.full((4, 2), np.nan))
    with pytest.raises(ValueError, match="temporal, newest, open_loop"):
        Ensembler(4, 2, DT_S, mode="mean")
