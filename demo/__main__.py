"""`make demo`: demonstrate, record, train and run a policy on the simulated ALOHA.

1. Simulated rig, scripted demonstrator (moves the leader arms), teleop (leaders -> gate ->
   followers) and recorder run as ROS 2 nodes over DDS and make real episodes.
2. A short fine-tune of a small VLA-Adapter on those episodes.
3. Simulated rig, policy node and recorder: the policy drives the rig in closed loop, recorded too.

At the end: a plain report and pictures. Everything lands in build/demo.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqdm import tqdm

from demo.director import Director
from demo.report import Report, Take, training_line
from demo.stage import Stage, StageError, interrupted
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.tools.pictures import save_pictures

INSTRUCTION = "transfer the cube from the right hand to the left hand"
DOMAIN = 77
ROLLOUT_LIMIT_S = 10.0
# What fits two demonstrations best in a minute of one CPU core: a head on a frozen, random backbone, whose
# features are computed once. It learns these worlds by heart; it does not generalise.
RECIPE = {
    "--freeze": "backbone",
    "--threads": 1,
    "--steps": 2400,
    "--batch": 8,
    "--lr": 3e-3,
    "--warmup": 50,
    "--horizon": 40,
}


def main() -> int:
    args = _arguments()
    if args.output.exists():
        shutil.rmtree(args.output)
    args.output.mkdir(parents=True)
    report, start = Report(), time.monotonic()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        demonstrate(args, report)
        train(args, report)
        roll_out(args, report)
    except StageError as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "\nInterrupted; all processes were stopped. What was recorded stays in",
            args.output,
            file=sys.stderr,
        )
        return 130
    pictures = draw(report, args.output)
    text = (
        report.text()
        + f"\n\nPictures: {', '.join(map(str, pictures))}\nWhole demo: {time.monotonic() - start:.0f} s"
    )
    (args.output / "report.txt").write_text(text + "\n")
    print(text)
    return 1 if report.problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1], help="worlds to demonstrate in (default: 0 1)"
    )
    parser.add_argument(
        "--rollout-seed", type=int, help="world of the rollout (default: the first demonstrated one)"
    )
    parser.add_argument(
        "--train-seconds", type=float, default=90.0, help="longest wall time of the fine-tune (default: 90)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="replaced at each run")
    return parser.parse_args()


def demonstrate(args: argparse.Namespace, report: Report) -> None:
    print(f"1/3  Demonstrating the task {len(args.seeds)} times: sim_rig, demonstrator, teleop, recorder")
    options = [*_common(args), "demonstrator:=true", "teleop:=true"]
    with Stage("demonstration", args.output / "demonstration.log", DOMAIN, *options) as stage:
        with Director(stage, DOMAIN) as director:
            for seed in args.seeds:
                start = time.monotonic()
                saved = director.demonstrate(seed, INSTRUCTION)
                report.takes.append(_take(f"demonstration, seed {seed}", saved, start, director))
            report.transports |= stage.transports()


def train(args: argparse.Namespace, report: Report) -> None:
    print(f"2/3  Fine-tuning the head of a small VLA-Adapter on them, at most {args.train_seconds:.0f} s")
    command = [
        sys.executable,
        "-m",
        "vla_training.finetune",
        args.output / "episodes",
        "--output",
        _checkpoint(args),
    ]
    command += [word for option, value in RECIPE.items() for word in (option, value)]
    command += ["--no-augment", "--max-minutes", f"{args.train_seconds / 60:.3f}", "--seed", "0"]
    start = time.monotonic()
    code = subprocess.run([str(c) for c in command], check=False).returncode
    if interrupted.is_set():
        raise KeyboardInterrupt
    if code:
        raise StageError(f"fine-tuning failed (exit code {code}); its message is above")
    record = json.loads((_checkpoint(args) / "training.json").read_text())
    report.training.append(f"{time.monotonic() - start:.0f} s in all; checkpoint {_checkpoint(args)}")
    report.training.append(training_line(record))


def roll_out(args: argparse.Namespace, report: Report) -> None:
    seed = args.seeds[0] if args.rollout_seed is None else args.rollout_seed
    print(f"3/3  The policy drives the rig in closed loop, world seed {seed}: sim_rig, policy, recorder")
    options = [*_common(args), f"checkpoint:={_checkpoint(args)}", f"instruction:={INSTRUCTION}"]
    with Stage("rollout", args.output / "rollout.log", DOMAIN, *options) as stage:
        with Director(stage, DOMAIN) as director:
            start = time.monotonic()
            saved, status = director.roll_out(seed, INSTRUCTION, ROLLOUT_LIMIT_S)
            report.takes.append(_take(f"rollout, seed {seed}", saved, start, director, status))
            report.transports |= {f"{n} (rollout)": t for n, t in stage.transports().items()}


def draw(report: Report, folder: Path) -> list[Path]:
    """Contact sheet and joint plot of every episode."""
    pictures = []
    for take in tqdm(report.takes, desc="pictures", disable=None):
        with EpisodeReader(take.path) as episode:
            pictures += save_pictures(episode, folder)
    return pictures


def _common(args: argparse.Namespace) -> list[str]:
    return ["aloha", "sim:=true", "recorder:=true", f"episodes:={args.output.resolve() / 'episodes'}"]


def _checkpoint(args: argparse.Namespace) -> Path:
    return args.output.resolve() / "checkpoint"


def _take(title: str, saved, start: float, director: Director, policy=None) -> Take:
    task, wall_s = director.task, time.monotonic() - start
    rewards = (task.max_reward, task.reward, task.success)
    return Take(title, Path(saved.path), wall_s, *rewards, policy)


if __name__ == "__main__":
    sys.exit(main())
