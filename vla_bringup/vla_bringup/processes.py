"""Which processes make up a rig, as data. The launch files and `vla up` start exactly this list."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vla_bringup.options import OptionError
from vla_bringup.transports import transport_environment

Value = bool | int | float | str


@dataclass(frozen=True)
class Process:
    """One ROS node in a process of its own. `environment` is on top of what is inherited."""

    package: str
    executable: str
    name: str
    namespace: str = ""
    parameter_files: tuple[str, ...] = ()
    parameters: Mapping[str, Value] = field(default_factory=dict)
    remappings: tuple[tuple[str, str], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "info"

    def ros_arguments(self) -> list[str]:
        """The command-line arguments that give a ROS node all of this."""
        arguments = ["--ros-args", "--log-level", self.log_level, "-r", f"__node:={self.name}"]
        if self.namespace:
            arguments += ["-r", f"__ns:=/{self.namespace.strip('/')}"]
        for source, target in self.remappings:
            arguments += ["-r", f"{source}:={target}"]
        for file in self.parameter_files:
            arguments += ["--params-file", file]
        for name, value in self.parameters.items():  # JSON is YAML: text stays text, whatever is in it
            arguments += ["-p", f"{name}:={json.dumps(value)}"]
        return arguments


def rig_processes(options: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> list[Process]:
    """The processes for checked options (`options.parse_options`); OptionError if there is nothing to start."""
    chosen = _chosen(options)
    if not chosen:
        raise OptionError(
            f"nothing to start for rig '{options['rig']}': give checkpoint:=FOLDER (runs a policy), "
            "teleop:=true, recorder:=true or sim:=true"
        )
    sim = options["sim"] == "true"
    common: dict[str, Value] = {"rig": sim_rig_file(options["rig"]) if sim else options["rig"]}
    if sim or options["use_sim_time"] == "true":
        common["use_sim_time"] = True
    environment = transport_environment(options["transport"], environ)
    return [
        Process(
            package,
            executable,
            name,
            namespace=options["namespace"],
            parameter_files=(options["params_file"],) if options["params_file"] else (),
            parameters={**common, **parameters},
            environment=environment,
            log_level=options["log_level"],
        )
        for package, executable, name, parameters in chosen
    ]


def _chosen(options: Mapping[str, str]) -> list[tuple[str, str, str, dict[str, Value]]]:
    """(package, executable, node name, its own parameters); a parameter left at its default is not named."""
    sim = options["sim"] == "true"
    instruction = _given(instruction=options["instruction"])
    chosen: list[tuple[str, str, str, dict[str, Value]]] = []
    if sim:
        world = _given(task=options["task"], seed=int(options["seed"]) if options["seed"] else "")
        chosen.append(("vla_sim", "sim_rig", "sim_rig", world))
    if options["demonstrator"] == "true":
        chosen.append(("vla_sim", "demonstrator", "demonstrator", {}))
    if options["teleop"] == "true":
        chosen.append(("vla_rig", "teleop", "teleop", {"lockstep": True} if sim else {}))
    if options["checkpoint"]:
        policy = {name: options[name] == "true" for name in ("start", "autostart")}
        lockstep = {"lockstep_every": int(options["lockstep_every"] or 1)} if sim else {}
        policy = {"checkpoint": options["checkpoint"], **policy, **instruction, **lockstep}
        chosen.append(("vla_policy_node", "policy", "policy", policy))
    if options["recorder"] == "true":
        recorder = {**_given(folder=options["episodes"]), **instruction, **({"sim": True} if sim else {})}
        chosen.append(("vla_recorder", "record", "recorder", recorder))
    return chosen


def sim_rig_file(rig: str) -> str:
    """The rig file of the simulated form of a rig: `aloha` -> `aloha_sim`, `my/rig.yaml` -> `my/rig_sim.yaml`."""
    path = Path(rig)
    if path.stem.endswith("_sim"):
        return rig
    return str(path.with_name(f"{path.stem}_sim{path.suffix}"))


def _given(**values: Value) -> dict[str, Value]:
    return {name: value for name, value in values.items() if value != ""}
