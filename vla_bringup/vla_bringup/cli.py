"""The `vla` command: what `ros2 launch` does with our launch files, also where there is no `ros2`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from vla_bringup import up
from vla_bringup.options import Option, OptionError, parse_options, rig_options
from vla_bringup.processes import Process, rig_processes
from vla_bringup.shm import remove_leftovers
from vla_bringup.transports import transport_environment

EXAMPLES = """examples:
  vla up aloha sim:=true teleop:=true demonstrator:=true recorder:=true   record demonstrations in simulation
  vla up aloha checkpoint:=checkpoints/cube instruction:="pass the cube"  run a policy on the arms
  vla list aloha sim:=true                                                the same list, as commands, not run
  vla run vla_recorder record --help                                      one node by itself, as ros2 run does
Ctrl-C stops everything; so does any process that ends. `vla up --help` lists the options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one `vla` command; the exit code is 2 for a mistake of the user's."""
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except (OptionError, up.StartError) as error:
        print(f"vla {parsed.command}: {error}", file=sys.stderr)
        return 2


def run_up(parsed: argparse.Namespace) -> int:
    remove_leftovers()
    return up.run([up.command_of(process) for process in _processes(parsed)])


def run_list(parsed: argparse.Namespace) -> int:
    for process in _processes(parsed):
        print(up.command_of(process))
    return 0


def run_node(parsed: argparse.Namespace) -> int:
    """Become one node's process, with this terminal (the recorder has keys) and the same transports."""
    program = up.find_program(parsed.package, parsed.executable)
    environment = os.environ | transport_environment("shared_memory", os.environ)
    os.execve(program, [program, *parsed.arguments], environment)


def _processes(parsed: argparse.Namespace) -> list[Process]:
    return rig_processes(parse_options(parsed.rig, parsed.options))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="vla", description="Bring up a dual-arm rig.", epilog=EXAMPLES, formatter_class=raw
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, function, text in (
        ("up", run_up, "start the processes of a rig and stay until Ctrl-C"),
        ("list", run_list, "print the processes of a rig as commands, without starting them"),
    ):
        command = commands.add_parser(
            name, help=text, description=text, epilog=_option_help(), formatter_class=raw
        )
        command.add_argument("rig", help="aloha, teleavatar, or the path of your own rig file")
        command.add_argument("options", nargs="*", metavar="name:=value", help="see the list below")
        command.set_defaults(run=function)
    text = "run one node by itself, as `ros2 run` does where there is one"
    command = commands.add_parser("run", help=text, description=text)
    command.add_argument("package", help="vla_recorder, vla_rig, vla_training ...")
    command.add_argument("executable", help="record, check, finetune ...")
    command.add_argument("arguments", nargs=argparse.REMAINDER, help="the node's own")
    command.set_defaults(run=run_node)
    return parser


def _option_help() -> str:
    return "options:\n" + "\n".join(map(_help_of, rig_options("")[1:])) + "\n\n" + EXAMPLES


def _help_of(option: Option) -> str:
    values = "|".join(option.choices)
    notes = f" [{values}]" if values else ""
    default = f" (default: {option.default})" if option.default else ""
    return f"  {option.name:<13} {option.help}{notes}{default}"


if __name__ == "__main__":
    sys.exit(main())
