"""Which joint of which simulated arm a rig file means, and whether the simulator can play that rig."""

from __future__ import annotations

from collections.abc import Iterable

from vla_rig.nodes import UserError
from vla_rig.rig import Rig
from vla_sim.cameras import CAMERA_NAMES
from vla_sim.world import ARM_JOINTS, ARMS, JOINTS

COMMANDED_JOINTS = (*ARM_JOINTS, "gripper")
IMAGE_ENCODINGS = ("rgb8", "bgr8")


def arm_of(name: str, what: str) -> str:
    """The simulated arm that a source, sink or action of a rig file means: the one its name contains."""
    found = [arm for arm in ARMS if arm in name.split("_")]
    if len(found) != 1:
        raise UserError(
            f"{what} '{name}': the simulated ALOHA tells its arms by 'left' or 'right' in the name"
        )
    return found[0]


def check_rig(rig: Rig) -> None:
    """Raise UserError, naming the part, when the simulated ALOHA cannot play this rig."""
    for name in rig.follower_sources:
        arm_of(name, "joint source")
        _known(rig.joint_sources[name].joints, JOINTS, f"joint source '{name}'", "joint")
    for name, sink in rig.sinks.items():
        arm_of(name, "sink")
        _known(sink.joints, COMMANDED_JOINTS, f"sink '{name}'", "joint to command")
    for action in rig.action:
        if action.quantity != "position":
            raise UserError(
                f"action '{action.name}': the simulated ALOHA takes positions, not {action.quantity}"
            )
    _known(rig.cameras, CAMERA_NAMES, f"rig '{rig.name}'", "camera")
    for name, camera in rig.cameras.items():
        if camera.message == "raw":
            _known([camera.encoding], IMAGE_ENCODINGS, f"camera '{name}'", "encoding")
        camera_period_ticks(rig, name)


def _known(names: Iterable[str], known: tuple[str, ...], where: str, what: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{where}: the simulated ALOHA has no {what} '{name}', it has {', '.join(known)}")


def camera_period_ticks(rig: Rig, name: str) -> int:
    """Control steps from image to image. Raises UserError when that is not a whole number."""
    ratio = rig.control_rate_hz / rig.cameras[name].rate_hz
    if ratio < 1 or abs(ratio - round(ratio)) > 1e-9:
        raise UserError(
            f"camera '{name}': rate_hz {rig.cameras[name].rate_hz:g} must divide "
            f"control_rate_hz {rig.control_rate_hz:g}"
        )
    return round(ratio)
