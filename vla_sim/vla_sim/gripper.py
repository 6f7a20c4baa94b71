"""The finger linkage of the ALOHA grippers: motor angle <-> finger position.

A crank of radius r drives each finger through a rod of length L (slider-crank). Formula:
interbotix_xs_driver, convert_angular_position_to_linear; r and L: Interbotix's ALOHA.
Positions are the distance of one finger from the middle (m), angles the gripper motor's (rad).
"""

import math

CRANK_M = 0.022
ROD_M = 0.036
CLOSED_M, OPEN_M = ROD_M - CRANK_M, ROD_M + CRANK_M
"""Finger positions at -pi/2 and +pi/2; nothing outside can be reached."""


def finger_from_angle(angle_rad: float) -> float:
    """Finger position (m) of a motor angle; angles past the dead centres stop there."""
    a = CRANK_M * math.sin(min(max(angle_rad, -math.pi / 2), math.pi / 2))
    return a + math.sqrt(ROD_M**2 - CRANK_M**2 + a**2)


def angle_from_finger(finger_m: float) -> float:
    """Motor angle (rad) of a finger position, the inverse of finger_from_angle.

    Squaring the linkage equation gives a = (p^2 - (L^2 - r^2)) / (2 p) for the crank's projection a.
    """
    p = min(max(finger_m, CLOSED_M), OPEN_M)
    a = (p**2 - (ROD_M**2 - CRANK_M**2)) / (2 * p)
    return math.asin(min(max(a / CRANK_M, -1.0), 1.0))


def angular_velocity(finger_m: float, finger_m_s: float) -> float:
    """Motor velocity (rad/s) that belongs to a finger velocity; 0 at the dead centres, where it is undefined."""
    p = min(max(finger_m, CLOSED_M), OPEN_M)
    sine = (p**2 - (ROD_M**2 - CRANK_M**2)) / (2 * p * CRANK_M)
    cosine = math.sqrt(max(1.0 - sine**2, 0.0))
    if cosine < 1e-6:
        return 0.0
    return finger_m_s * (1.0 + (ROD_M**2 - CRANK_M**2) / p**2) / (2 * CRANK_M * cosine)
