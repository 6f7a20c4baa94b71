"""The inference benchmarks: what they count, that both sides compute the same, the GPU one run through on the CPU."""

import json

import pytest
import torch

from bench import gpu, model_inference
from bench.cases import Case, observation, same, statistics, tokenizer
from bench.measure import Cpu, host_peak_mb, operations
from bench.naive_vla.policy import NaiveVLAPolicy
from bench.row import latency_rows, times_us
from bench.sides import Theirs
from vla_model.policy import build_policy


def test_operations_are_what_computes():
    x, w, b = torch.randn(2, 3, 4), torch.randn(4, 4), torch.randn(4)

    def call():
        y = torch.nn.functional.linear(x, w, b).view(6, 4).t()  # one product; two other names for it
        y.add_(1)
        return torch.empty(3), torch.cat([y, y])

    assert operations(call) == 3
    with torch.inference_mode():
        assert operations(call) == 3


def test_peak_is_what_is_held_at_a_time():
    def call():
        for _ in range(5):
            x = torch.ones(1000, 250)  # 1 MB, and the next one before this one is dropped
        return x.sum()

    assert host_peak_mb(call) == pytest.approx(2, abs=0.01)


def test_percentiles_are_each_sides_own():
    times = times_us(lambda: None, lambda: torch.ones(1000).sum(), rounds=7)
    assert times.shape == (2, 7) and (times > 0).all()
    p50, p99 = latency_rows("x", torch.tensor([[1.0, 2, 3], [4, 10, 8]]).numpy(), "goal")
    assert (p50.ours, p50.baseline, p50.ratio) == (2, 8, 4)
    assert p99.ours > 2.9 and p99.baseline > 9.9


@pytest.mark.parametrize("head", ["base", "pro", "dual_arm"])
def test_both_sides_predict_the_same_from_camera_frames(head):
    """The whole way, so that grey levels that the two resizes round apart are in it."""
    case = Case(cameras=2, head=head)
    policy = build_policy(case.config("small"), statistics(), rig_text="", tokenizer=tokenizer())
    ours, theirs = (
        policy.predict(observation(case)),
        NaiveVLAPolicy(policy.checkpoint).predict(observation(case)),
    )
    assert theirs.std() > 0.1
    same(ours, theirs, tolerance=0.005)
    with pytest.raises(RuntimeError, match="differ by"):
        same(ours, theirs + 0.1, tolerance=0.005)


def test_rows_of_the_cpu_benchmark():
    rows = {row.name: row for row in model_inference.measure(Case(cameras=1, head="pro"), rounds=2)}
    assert rows["operations, Pro, 1 camera"].ratio > 1
    assert all(row.ours > 0 and row.baseline > 0 for row in rows.values())


def test_gpu_benchmark_runs_through_on_a_cpu(tmp_path):
    output = tmp_path / "new" / "bench-gpu.json"
    arguments = [
        "--device",
        "cpu",
        "--size",
        "small",
        "--cameras",
        "1",
        "--rounds",
        "2",
        "--output",
        str(output),
    ]
    assert gpu.main([*arguments, "--heads", "pro", "dual_arm"]) == 0
    report = json.loads(output.read_text())
    names = [row["name"] for row in report["rows"]]
    for what in ("predict", "model", "head", "operations", "memory"):
        assert [n for n in names if n.startswith(what) and "dual-arm, 1 camera" in n]
    assert list(report["differences"]) == ["Pro, 1 camera", "dual-arm, 1 camera"]
    assert report["roofline"]["Pro, 1 camera"][-1][0] == "all"
    table = output.with_suffix(".md").read_text()
    assert report["device"] in table and "| predict, Pro, 1 camera, p50 |" in table


@pytest.mark.parametrize("what", ["predict", "model", "head"])
def test_gpu_benchmark_measures_nothing_that_differs(what, monkeypatch):
    class Other(Theirs):
        """Takes one of the three ways to another chunk."""

        def __getattribute__(self, name):
            way = super().__getattribute__(name)
            return (lambda: way() + 0.02) if name == what else way

    monkeypatch.setattr(gpu, "Theirs", Other)
    with pytest.raises(RuntimeError, match="ours and the naive model differ by"):
        gpu.measure(Case(cameras=1, head="pro"), "small", Cpu(), rounds=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_benchmark_without_a_gpu_says_what_to_do():
    with pytest.raises(SystemExit, match=r"needs a CUDA GPU.*--device cpu --size small"):
        gpu.main([])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_benchmark_counts_launches_and_memory(tmp_path):
    output = tmp_path / "bench-gpu.json"
    assert gpu.main(["--size", "small", "--cameras", "1", "--heads", "pro", "--output", str(output)]) == 0
    rows = {row["name"]: row for row in json.loads(output.read_text())["rows"]}
    launches, kernels = rows["launches by the host, Pro, 1 camera"], rows["kernels and copies, Pro, 1 camera"]
    assert launches["ours"] < kernels["ours"] < kernels["baseline"]
    assert rows["memory, Pro, 1 camera"]["ours"] > 0
