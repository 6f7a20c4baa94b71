"""What every node's main does the same way: start, spin, and stop without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


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
    """Create a node, spin it until SIGINT/SIGTERM, call its `close()` if it has one. Returns the exit code.

    Errors deriving from the project's user-facing exceptions end in one line on stderr, not a traceback.
    """
    rclpy.init(args=args)
    node = None
    try:
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except UserError as error:
        print(f"{os.path.basename(sys.argv[0])}: {error}", file=sys.stderr)
        return 2
    finally:
        if node is not None:
            getattr(node, "close", lambda: None)()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
