"""What every node's main does the same way: start, spin, and stop without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions


class UserError(RuntimeError):
    """A mistake of the user's: main prints its one message and exits with 2."""


def describe(text: str, low: float | None = None, high: float | None = None, **more) -> ParameterDescriptor:
    """A parameter descriptor; low and high give an integer or floating-point range by their type."""
    descriptor = ParameterDescriptor(description=text, **more)
    if isinstance(low, int) and isinstance(high, int):
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=0)]
    elif low is not None:
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
        ]
    return descriptor


def run_node(make: Callable[[], Node], args: list[str] | None = None) -> int:
    """Create a node, spin it until SIGINT, SIGTERM or SIGHUP, call its `close()` if it has one. Returns the exit code.

    `close()` runs while the node can still publish and answer. A user's mistake (UserError, a parameter
    of the wrong type or out of range, unusable ROS arguments) ends in one line on stderr, not a traceback.
    """
    node = None
    try:
        _init(args)
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        ended = threading.Event()
        # Raised inside rclpy's C++ code, KeyboardInterrupt would surface as some other error.
        _on_signals(lambda _number, _frame: ended.set())
        while rclpy.ok() and not ended.is_set():
            executor.spin_once(timeout_sec=0.1)  # Python handles signals only between waits
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (UserError, ParameterException) as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 2
    finally:
        _on_signals(signal.SIG_IGN)
        if node is not None:
            getattr(node, "close", lambda: None)()
            node.destroy_node()
        rclpy.try_shutdown()
    return 1 if getattr(node, "worker_failed", False) else 0


def start_worker(node: Node, work: Callable[[], None], name: str) -> threading.Thread:
    """Run work() in a thread. When it fails, run_node ends with 1 rather than live on without it."""

    def run() -> None:
        try:
            work()
        except Exception:
            node.get_logger().fatal(f"{name} failed:\n{traceback.format_exc()}")
            node.worker_failed = True
            node.context.try_shutdown()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def _init(args: list[str] | None) -> None:
    # Our own handlers: rclpy's take the node's context down before it could say goodbye.
    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except RCLError as error:
        raise UserError(str(error).splitlines()[0]) from None
    _on_signals(_interrupt)


def _interrupt(_number, _frame) -> None:
    raise KeyboardInterrupt


def _on_signals(handler) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, handler)
