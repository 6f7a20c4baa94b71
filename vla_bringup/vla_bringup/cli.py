"""The `vla` command: what `ros2 launch` does with our launch files, also where there is no `ros2`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vla_bringup import up
from vla_bringup.options import Option, OptionError, parse_options, rig_options
from vla_bringup.processes import Process, rig_processes
from vla_bringup.shm import remove_leftovers

EXAMPLES = """examples:
  vla up aloha sim:=true teleop:=true demonstrator:=true recorder:=true   record demonstrations in simulation
  vla up aloha checkpoint:=checkpoints/cube instruction:="pass the cube"  run a policy on the arms
  vla list aloha sim:=true                                                the same list, as commands, not run
Ctrl-C stops everything; so does any process that ends. `vla up --help` lists the options."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one `vla` command; the exit code is 2 for a mistake of the user's."""
    parsed = _parser().parse_args(arguments)
    try:
        processes = rig_processes(parse_options(parsed.rig, parsed.options))
        return parsed.run(processes)
    except (OptionError, up.StartError) as error:
        print(f"vla {parsed.command}: {error}", file=sys.stderr)
        return 2


def run_up(processes: Sequence[Process]) -> int:
    remove_leftovers()
    return up.run([up.command_of(process) for process in processes])


def run_list(processes: Sequence[Process]) -> int:
    for process in processes:
        print(up.command_of(process))
    return 0


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
