"""Alignment: sample(t) against brute force, finality, clock resets, waking."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rig.align import CLOCK_RESET_NS, Aligner, StreamLimits

MS = 1_000_000
NAMES = ("camera", "arm")
LIMITS = {"camera": StreamLimits(0.1, 0.04), "arm": StreamLimits(0.05, 0.01)}
pushes = st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 2000)), max_size=60)


def filled(history, history_s=100.0):
    """The aligner, and per stream what a valid history keeps: stamps that increase."""
    aligner, kept = Aligner(LIMITS, 0.03, history_s), {n: [] for n in NAMES}
    for number, (name, at_ms) in enumerate(history):
        accepted = not kept[name] or at_ms * MS > kept[name][-1][0]
        assert aligner.push(name, at_ms * MS, number) == accepted
        if accepted:
            kept[name].append((at_ms * MS, number))
    return aligner, kept


@settings(max_examples=300, deadline=None)
@given(pushes, st.integers(0, 2100))
def test_sample_equals_brute_force(history, t_ms):
    aligner, kept = filled(history)
    t_ns, sample = t_ms * MS, aligner.sample(t_ms * MS)
    picks = {n: max((m for m in kept[n] if m[0] <= t_ns), default=None) for n in NAMES}
    found = {n: p for n, p in picks.items() if p}
    assert sample.values == {n: p[1] for n, p in found.items()}
    assert sample.stamps_ns == {n: p[0] for n, p in found.items()}
    assert sample.ages_s == {n: (t_ns - p[0]) * 1e-9 for n, p in found.items()}
    stale = {n for n in NAMES if n not in found or (t_ns - found[n][0]) * 1e-9 > LIMITS[n].max_age_s}
    assert {s.split(":")[0] for s in sample.stale} == stale
    stamps = [p[0] for p in found.values()]
    assert bool(sample.skewed) == (not stale and (max(stamps) - min(stamps)) * 1e-9 > 0.03)
    assert sample.ok == (not stale and not sample.skewed)


@settings(max_examples=300, deadline=None)
@given(pushes, pushes, st.integers(0, 2100))
def test_a_settled_sample_never_changes(before, after, t_ms):
    aligner, _ = filled(before)
    final = [t for t in (t_ms * MS,) if aligner.settled(t)]
    if aligner.complete_ns() is not None:
        final.append(aligner.complete_ns())
    taken = {t: aligner.sample(t) for t in final}
    for number, (name, at_ms) in enumerate(after):
        aligner.push(name, at_ms * MS, 1000 + number)
    assert {t: aligner.sample(t) for t in final} == taken


@settings(max_examples=300, deadline=None)
@given(pushes, pushes, st.integers(0, 2100), st.integers(0, 500))
def test_what_is_forgotten_is_missed_by_no_later_sample(before, after, t_ms, later_ms):
    forgetful, _ = filled(before)
    faithful, _ = filled(before)
    forgetful.forget_before(t_ms * MS)
    for number, (name, at_ms) in enumerate(after):
        assert forgetful.push(name, at_ms * MS, number) == faithful.push(name, at_ms * MS, number)
    at_ns = (t_ms + later_ms) * MS
    assert forgetful.sample(at_ns) == faithful.sample(at_ns)
    assert (forgetful.complete_ns(), forgetful.settled(at_ns)) == (
        faithful.complete_ns(),
        faithful.settled(at_ns),
    )


def test_the_reason_tells_silence_from_a_clock_that_is_ahead():
    aligner = Aligner({"arm": LIMITS["arm"]}, 0.03)
    assert aligner.sample(5).stale == ["arm: nothing received"]
    aligner.push("arm", 2_000 * MS, "m")
    assert "clocks in step" in aligner.sample(1_000 * MS).stale[0]


def test_the_reason_tells_the_stamps_of_another_clock():
    """Simulated time here and the wall's there, or the other way round."""
    wall_ns, aligner = 1_700_000_000_000_000_000, Aligner({"arm": LIMITS["arm"]}, 0.03)
    aligner.push("arm", 2_000 * MS, "m")
    text = "arm: stamped by another clock (1699999998 s ago): is use_sim_time right?"
    assert aligner.sample(wall_ns).stale == [text]
    aligner.clear()
    aligner.push("arm", wall_ns, "m")
    text = "arm: stamped by another clock (1700000000 s from now): is use_sim_time right?"
    assert aligner.sample(0).stale == [text]


def test_a_clock_that_restarts_begins_a_new_history_a_late_message_does_not():
    aligner = Aligner({"arm": LIMITS["arm"]}, 0.03)
    aligner.push("arm", 2 * CLOCK_RESET_NS, "old run")
    assert not aligner.push("arm", CLOCK_RESET_NS, "late")
    assert aligner.push("arm", MS, "new run")
    assert aligner.sample(10 * MS).values == {"arm": "new run"}


def test_clear_forgets_every_stream():
    aligner, _ = filled([("camera", 5), ("arm", 5)])
    aligner.clear()
    assert len(aligner.sample(10 * MS).stale) == 2 and aligner.complete_ns() is None


def test_memory_is_bounded():
    aligner = Aligner({"arm": LIMITS["arm"]}, 0.03, history_s=1.0)
    for i in range(5000):
        aligner.push("arm", (i + 1) * MS, i)
    assert len(aligner._rings["arm"]._items) == 100


def test_missing_counts_what_is_due_by_each_streams_own_period():
    aligner, _ = filled([("camera", 40), ("arm", 60)])
    assert aligner.missing(60 * MS) == []  # the next camera frame is due at 80
    assert aligner.missing(80 * MS) == ["camera", "arm"]


def test_wait_for_wakes_on_the_push_that_completes_it():
    aligner, done = Aligner(LIMITS, 0.03), []
    waiter = threading.Thread(target=lambda: done.append(aligner.wait_for(lambda a: a.settled(MS), 20.0)))
    waiter.start()
    aligner.push("camera", 2 * MS, None)
    assert waiter.is_alive()
    aligner.push("arm", 2 * MS, None)
    waiter.join(20.0)
    assert done == [True]
    assert not aligner.wait_for(lambda a: a.settled(3 * MS), timeout_s=0.01)
