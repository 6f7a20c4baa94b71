"""Runs `episode ARGUMENTS` again and again, each time with Ctrl-C at another of its lines.

A process of its own: it imports everything once, and forks a child for each moment. A moment is a line of our code, or
of contextlib, the first or the last time that the main thread comes to it. Prints one JSON object: how many moments
there were, and of each that went wrong where it was, the exit code, what was said and what is left.
"""

import json
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path

import vla_recorder
from vla_recorder.tools.cli import main

OURS = (str(Path(vla_recorder.__file__).parent), os.__file__.replace("os.py", "contextlib.py"))
PARSING = re.compile(
    r"main|_options|_split|add_commands|add_files|.*_arguments"
)  # before there is anything to leave
MAKING = "whole"


def child(arguments, said: Path, moment=None, lines=None) -> int:
    """Exit code of the tool in a forked process; SIGINT at `moment`, or every line that it comes to into `lines`."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code, counted, seen = 99, Counter(), []

    def trace(frame, event, _argument):
        if not frame.f_code.co_filename.startswith(OURS) or PARSING.fullmatch(frame.f_code.co_name):
            return None
        if event == "line":
            place = frame.f_code.co_filename, frame.f_lineno
            counted[place] += 1
            if moment is None:
                seen.append(place)
            elif (*place, counted[place]) == moment:
                sys.settrace(None)
                frame.f_trace = None
                signal.raise_signal(signal.SIGINT)
        return trace

    try:
        with open(said, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout.reconfigure(line_buffering=True)  # or it would come behind what stderr says
        sys.settrace(trace)
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.settrace(None)
        if lines is not None:
            lines.write_text(json.dumps(seen))
        for thread in threading.enumerate():  # as an interpreter waits: the last sync of an episode
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        os._exit(code)


def moments(seen, many: int) -> list[tuple[str, int, int]]:
    """All where files come and go; of the other lines about `many`, evenly."""
    times = Counter(map(tuple, seen))
    found = sorted({(*place, k) for place, last in times.items() for k in (1, last)})
    close = [moment for moment in found if Path(moment[0]).stem == MAKING]
    other = [moment for moment in found if Path(moment[0]).stem != MAKING]
    return close + other[:: max(1, len(other) // many)]


def run(arguments, scratch: Path, many: int) -> dict:
    """`{to}` in the arguments is a folder of the moment's own."""
    to, said, lines = scratch / "to", scratch / "said", scratch / "lines"

    def once(**how):
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir(parents=True)
        code = child([argument.replace("{to}", str(to)) for argument in arguments], said, **how)
        left = sorted(str(p.relative_to(to)) for p in to.rglob("*") if p.is_file() or not any(p.iterdir()))
        return {"code": code, "said": said.read_text(), "left": left}

    whole = once(lines=lines)
    found = moments(json.loads(lines.read_text()), many)
    wrong = []
    for moment in found:
        became = once(moment=moment)
        one_line = became["said"].endswith("episode: interrupted\n") and "Traceback" not in became["said"]
        if became["code"] != 130 or not one_line or not set(became["left"]) <= set(whole["left"]):
            wrong.append({"at": f"{Path(moment[0]).name}:{moment[1]} ({moment[2]})", **became})
    return {"moments": len(found), "whole": whole, "wrong": wrong}


if __name__ == "__main__":
    words, scratch, many, heavy = sys.argv[1:]
    for name in json.loads(heavy):
        __import__(name)
    print(json.dumps(run(json.loads(words), Path(scratch), int(many))))
