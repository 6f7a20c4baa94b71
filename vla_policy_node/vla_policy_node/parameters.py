"""The policy node's parameters, each declared once with its description and range."""

from __future__ import annotations

from rclpy.node import Node

from vla_policy_node.ensemble import MODES
from vla_rig.nodes import describe


def declare(node: Node) -> None:
    """Declare all parameters; those marked read-only are read when the node is configured."""
    fixed = {"read_only": True}
    for name, default, descriptor in (
        (
            "rig",
            "",
            describe("Rig file: a path or an installed name; empty: the rig inside the checkpoint", **fixed),
        ),
        ("checkpoint", "", describe("Checkpoint directory (config.json, model.safetensors, ...)", **fixed)),
        ("device", "auto", describe("Where the model runs: auto, cpu, cuda, cuda:1", **fixed)),
        ("torch_threads", 0, describe("CPU threads of the model; 0: torch decides", 0, 256, **fixed)),
        (
            "autostart",
            True,
            describe("Configure and activate at start-up; false: leave it to lifecycle tools", **fixed),
        ),
        ("start", False, describe("Begin commanding as soon as active; false: wait for ~/start", **fixed)),
        ("instruction", "", describe("Instruction at start; change it with ~/set_instruction")),
        ("ensemble_mode", "temporal", describe(f"How chunks combine: {', '.join(MODES)}", **fixed)),
        (
            "ensemble_decay",
            0.01,
            describe("ACT's m: weight exp(-m i), i from the oldest; < 0 favours new", -10.0, 10.0, **fixed),
        ),
        (
            "lockstep_every",
            0,
            describe(
                "Simulation: 0 infers in its own thread; n infers inside every n-th control step",
                0,
                1000,
                **fixed,
            ),
        ),
        ("status_rate_hz", 2.0, describe("Rate of ~/status and /diagnostics", 0.1, 50.0, **fixed)),
    ):
        node.declare_parameter(name, default, descriptor)
