"""The options of a rig's bringup, each said once: `vla up`, `vla list` and the launch files take them from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vla_bringup.transports import CHOICES as TRANSPORTS

YES_NO = ("true", "false")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
TASKS = ("transfer_cube", "insertion")


class OptionError(ValueError):
    """An option that cannot be: the message names it and says what was expected."""


@dataclass(frozen=True)
class Option:
    """One option; values are text, as `name:=value` gives them. An empty default means: leave it to the node."""

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()


OPTIONS = (
    Option("rig", "", "the rig: a name in config/ (aloha, teleavatar) or the path of your own rig file"),
    Option("checkpoint", "", "checkpoint folder; giving one starts the policy node, which then drives the arms"),
    Option("instruction", "", "what the policy shall do, and the task text of recorded episodes"),
    Option("start", "false", "the policy commands as soon as it is active; false: wait for policy/start", YES_NO),
    Option("autostart", "true", "the policy node configures and activates by itself", YES_NO),
    Option("teleop", "false", "mirror the leader arms to the followers", YES_NO),
    Option("recorder", "false", "start the recorder; recorder/start and recorder/stop cut episodes", YES_NO),
    Option("episodes", "", "folder for recorded episodes (default: the recorder's, ./episodes)"),
    Option("sim", "false", "start the simulated rig and take the rig file <rig>_sim", YES_NO),
    Option("task", "", "what the simulated rig plays (default: transfer_cube)", TASKS),
    Option("seed", "", "simulated rig: seed of the objects' placement, a whole number (default: 0)"),
    Option("lockstep_every", "", "simulated rig: the policy infers in every n-th control step, so that runs repeat; "
           "0: in its own thread, as on a real rig (default: 1)"),
    Option("demonstrator", "false", "simulated leader arms that show the task on demonstrator/start", YES_NO),
    Option("namespace", "", "ROS namespace of all nodes, so that several rigs share one graph"),
    Option("params_file", "", "YAML file with further parameters, by node name; the options here go before it"),
    Option("use_sim_time", "false", "follow /clock; sim:=true implies it", YES_NO),
    Option("transport", "shared_memory", "Fast DDS transports; large_data: for images from other machines", TRANSPORTS),
    Option("log_level", "info", "log level of all nodes", LOG_LEVELS),
)  # fmt: skip

# A 1080p frame is 6 MB.
RIG_DEFAULTS: Mapping[str, Mapping[str, str]] = {"teleavatar": {"transport": "shared_memory_1080p"}}


def rig_options(rig: str) -> tuple[Option, ...]:
    """The options with the defaults of one rig."""
    defaults = {"rig": rig, **RIG_DEFAULTS.get(rig, {})}
    return tuple(Option(o.name, defaults.get(o.name, o.default), o.help, o.choices) for o in OPTIONS)


def parse_options(rig: str, words: Iterable[str]) -> dict[str, str]:
    """The values of all options from words `name:=value`, the rest at the rig's defaults.

    Raises OptionError for a word of another form, an unknown or repeated name, or a value that cannot be.
    """
    given: dict[str, str] = {}
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator or not name:
            raise OptionError(f"'{word}' is not an option; expected name:=value, for example sim:=true")
        if name in given:
            raise OptionError(f"option '{name}' is given twice")
        given[name] = value
    return check_options(rig, given)


def check_options(rig: str, given: Mapping[str, str]) -> dict[str, str]:
    """Fill in the defaults of a rig and check every value. Raises OptionError."""
    options = {option.name: option for option in rig_options(rig)}
    for name in given:
        if name not in options:
            raise OptionError(f"no option '{name}'; expected one of: {', '.join(options)}")
    values = {name: given.get(name, option.default) for name, option in options.items()}
    for name, value in values.items():
        choices = options[name].choices
        if choices and value not in choices and value != options[name].default:
            raise OptionError(f"{name}:={value}: expected one of: {', '.join(choices)}")
    _check_together(values)
    return values


def _check_together(values: Mapping[str, str]) -> None:
    sim = values["sim"] == "true"
    for name in ("seed", "lockstep_every"):
        if values[name] and not values[name].isdecimal():
            raise OptionError(f"{name}:={values[name]}: expected a whole number, 0 or more")
    for name in ("task", "seed", "lockstep_every"):
        if values[name] and not sim:
            raise OptionError(f"{name}:={values[name]} is for the simulated rig: add sim:=true")
    if values["demonstrator"] == "true" and not sim:
        raise OptionError("demonstrator:=true moves simulated leader arms: add sim:=true")
    if values["checkpoint"] and values["teleop"] == "true":
        raise OptionError("checkpoint and teleop:=true would both command the arms; leave one of them out")
    if values["checkpoint"] and not Path(values["checkpoint"]).is_dir():
        raise OptionError(f"checkpoint:={values['checkpoint']}: expected a checkpoint folder, there is none")
    if values["params_file"] and not Path(values["params_file"]).is_file():
        raise OptionError(f"params_file:={values['params_file']}: expected a YAML file, there is none")
    if values["start"] == "true" and not values["checkpoint"]:
        raise OptionError("start:=true is for the policy node: add checkpoint:=FOLDER")
    if values["episodes"] and values["recorder"] != "true":
        raise OptionError(f"episodes:={values['episodes']} is for the recorder: add recorder:=true")
    if values["instruction"] and values["recorder"] != "true" and not values["checkpoint"]:
        raise OptionError(
            "instruction is for the policy and the recorder: add checkpoint:=FOLDER or recorder:=true"
        )
