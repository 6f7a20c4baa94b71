"""What a client must know before it can rely on an answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from rcl_interfaces.srv import ListParameters

AGAIN_S = 2.0


def until_known(node, server: str, until: Callable[[Callable[[], object], str], object]) -> None:
    """Until the node named `server` has found every client that `node` has made before.

    A server drops its answer to a client whose far end it has not found yet, and a client cannot see whether it has:
    ready means its own end alone. Ends are announced in the order in which they were made, so a server that answers
    this client knows all before it; and what this one asks may be asked again. `until(condition, what)` waits.
    """
    client, asked = node.create_client(ListParameters, f"{server}/list_parameters"), []

    def answered() -> bool:
        if not asked or time.monotonic() - asked[-1][0] > AGAIN_S:
            asked.append((time.monotonic(), client.call_async(ListParameters.Request())))
        return any(future.done() for _, future in asked)

    try:
        until(client.service_is_ready, f"the services of {server}")
        until(answered, f"an answer of {server}")
    finally:
        node.destroy_client(client)
