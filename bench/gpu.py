"""`make bench-gpu`: VLA-Adapter at full published size on a CUDA GPU, ours against its own inference, in turn.

Random weights, made on the device (the same in both), bfloat16; ALOHA's sizes: chunk 25, action 14. For 1 to 3
cameras and the base, Pro and dual-arm heads:

  predict   camera frames on the host to actions on the host, by the host's clock
  model     images on the device to the chunk on the device, between CUDA events; beside it the roofline
  head      the head alone, from hidden states
  launches  what the host asks of the device in one predict, and the kernels that then run
  memory    what each keeps reserved on the device: weights, graphs, buffers

    python -m bench.gpu --cameras 3 --heads pro                one case
    python -m bench.gpu --device cpu --size small --rounds 3   everything but CUDA, on a CPU
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from bench import roofline
from bench.cases import HEADS, Case, cases, observation, same, statistics, tokenizer
from bench.measure import Cpu, Cuda
from bench.row import Row, latency_rows, row, times_us
from bench.sides import Ours, Theirs
from vla_model.adapter import VLAAdapter
from vla_model.checkpoint import Checkpoint
from vla_model.tokenizer import encode_prompt

Meter = Cpu | Cuda
GOALS = {"predict": "5 times as fast", "model": "5 times as fast", "head": "Pro: 10 times as fast"}


def main(argv: list[str] | None = None) -> int:
    args = _arguments(argv)
    meter = _meter(args.device)
    chosen, rows, differences = list(cases(args.cameras, args.heads)), [], {}
    for case in chosen:
        print(f"{case.name} ...", flush=True)
        measured, differences[case.name] = measure(case, args.size, meter, args.rounds)
        rows += measured
    report = {
        "device": meter.name,
        "torch": torch.__version__,
        "size": args.size,
        "rounds": args.rounds,
        "rows": [asdict(r) for r in rows],
        "differences": differences,
        "roofline": {case.name: roofline.lines(_work(case, args.size)) for case in chosen},
    }
    text, path = markdown(report), args.output.with_suffix(".md")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")
    path.write_text(text)
    print(f"{text}\nwritten to {args.output} and {path}")
    return 0


def measure(case: Case, size: str, meter: Meter, rounds: int) -> tuple[list[Row], dict[str, float]]:
    """All rows of one case, both sides with the same weights, and how far apart their chunks are.

    RuntimeError when that is more than rounding explains.
    """
    seen = observation(case)
    theirs, their_mb = meter.built(lambda: Theirs(_checkpoint(case, size, meter), seen))
    ours, our_mb = meter.built(lambda: Ours(_checkpoint(case, size, meter), seen))
    mine, their = ours.predict(), theirs.predict()
    tolerance = meter.tolerance * float(their.std())
    same(mine, their, tolerance)
    for our, naive in ((ours.model, theirs.model), (ours.head, theirs.head)):
        same(*(call().float().cpu().reshape(their.shape).numpy() for call in (our, naive)), tolerance)
    times = {
        "predict": times_us(ours.predict, theirs.predict, rounds) / 1e3,
        "model": meter.model_times_ms(ours.model, theirs.model, rounds),
        "head": meter.model_times_ms(ours.head, theirs.head, rounds),
    }
    rows = [line for what in times for line in latency_rows(f"{what}, {case.name}", times[what], GOALS[what])]
    rows += _roofline_row(case, size, meter, float(np.median(times["model"][0])))
    ours_counts, their_counts = meter.launches(ours.predict), meter.launches(theirs.predict)
    rows += [
        row(f"{what}, {case.name}", n, their_counts[what], "a call", "fewer")
        for what, n in ours_counts.items()
    ]
    rows.append(row(f"memory, {case.name}", our_mb, their_mb, "MB", "no more"))
    return rows, {"largest": float(abs(mine - their).max()), "spread": float(their.std())}


def markdown(report: dict) -> str:
    """The report as tables for people, headed by the device's name."""
    measured = [
        [
            r["name"],
            *(f"{r[key]:.4g}" for key in ("ours", "baseline")),
            f"{r['ratio']:.2f}",
            r["unit"],
            r["goal"],
        ]
        for r in report["rows"]
    ]
    lines = [
        f"VLA-Adapter, {report['size']} size, on {report['device']} (torch {report['torch']}): "
        f"{report['rounds']} calls of each, in turn; ratio = naive / ours",
        *_table([["", "ours", "naive", "ratio", "unit", "goal"], *measured]),
    ]
    lines.append(
        "Largest difference between the two chunks, and the spread of the naive one, in normalised units"
    )
    differences = [
        [name, f"{d['largest']:.2g}", f"{d['spread']:.2g}"] for name, d in report["differences"].items()
    ]
    lines += _table([["", "difference", "spread"], *differences])
    for name, table in report["roofline"].items():
        lines += [f"Roofline, {name}", *_table(table)]
    return "\n".join(lines)


def _table(lines: list[list[str]]) -> list[str]:
    header, *rows = (f"| {' | '.join(cells)} |" for cells in lines)
    return ["", header, "|---" + "|---:" * (len(lines[0]) - 1) + "|", *rows, ""]


def _checkpoint(case: Case, size: str, meter: Meter) -> Checkpoint:
    """The case's model with seeded random weights, drawn on the device."""
    torch.manual_seed(0)
    with meter.device:
        model = VLAAdapter(case.config(size))
    model.to(meter.device, meter.dtype).eval().requires_grad_(False)
    return Checkpoint(model, statistics(), "", tokenizer())


def _work(case: Case, size: str) -> dict[str, roofline.Work]:
    prompt = encode_prompt(tokenizer(), observation(case).instruction)
    return roofline.work(case.config(size), len(prompt))


def _roofline_row(case: Case, size: str, meter: Meter, model_ms: float) -> list[Row]:
    """The model's time beside its bound, where the device's peaks are known."""
    peaks = roofline.PEAKS.get(meter.name)
    if peaks is None:
        return []
    bound = roofline.bound_ms(_work(case, size), peaks)
    return [row(f"model and its roofline, {case.name}", model_ms, bound, "ms", "ratio 0.5 or more")]


def _meter(device: str) -> Meter:
    if device == "cpu":
        return Cpu()
    if not torch.cuda.is_available():
        raise SystemExit(
            f"bench-gpu needs a CUDA GPU; torch {torch.__version__} sees none. All of it but CUDA runs on a CPU: "
            "python -m bench.gpu --device cpu --size small --rounds 3"
        )
    return Cuda(torch.device(device))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--size", choices=("full", "small"), default="full", help="default: full")
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--heads", nargs="+", choices=tuple(HEADS), default=list(HEADS), help="default: all")
    parser.add_argument("--rounds", type=int, default=200, help="calls of each that are timed (default: 200)")
    parser.add_argument(
        "--output", type=Path, default=Path("build/bench-gpu.json"), help="rows; a .md beside it"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
