"""The policy node's parameters, each declared once with its description and range."""

from __future__ import annotations

from rclpy.node import Node

from vla_policy_node.ensemble import MODES
from vla_rig.nodes import describe

_FIXED = {"read_only": True}

PARAMETERS = {
    "rig": (
        "",
        describe("Rig file: a path or an installed name; empty: the rig inside the checkpoint", **_FIXED),
    ),
    "checkpoint": ("", describe("Checkpoint directory (config.json, model.safetensors, ...)", **_FIXED)),
    "device": ("auto", describe("Where the model runs: auto, cpu, cuda, cuda:1", **_FIXED)),
    "torch_threads": (0, describe("CPU threads of the model; 0: torch decides", 0, 256, **_FIXED)),
    "autostart": (
        True,
        describe("Configure and activate at start; false: leave it to lifecycle tools", **_FIXED),
    ),
    "start": (False, describe("Begin commanding as soon as active; false: wait for ~/start", **_FIXED)),
    "instruction": ("", describe("Instruction at start; change it with ~/set_instruction")),
    "ensemble_mode": ("temporal", describe(f"How chunks combine: {', '.join(MODES)}", **_FIXED)),
    "ensemble_decay": (
        0.01,
        describe(
            "ACT's m: weight exp(-m i), i counted from the oldest; below 0 favours new", -10.0, 10.0, **_FIXED
        ),
    ),
    "lockstep_every": (
        0,
        describe(
            "Simulation: n infers inside every n-th control step; 0: in its own thread", 0, 1000, **_FIXED
        ),
    ),
    "status_rate_hz": (2.0, describe("Rate of ~/status and /diagnostics", 0.1, 50.0, **_FIXED)),
}


def declare(node: Node) -> None:
    """Declare all parameters; those marked read-only are read when the node is configured."""
    for name, (default, descriptor) in PARAMETERS.items():
        node.declare_parameter(name, default, descriptor)


def values(node: Node) -> dict:
    """The parameters by name."""
    return {name: node.get_parameter(name).value for name in PARAMETERS}
