"""The simulated ALOHA rig behind the real rig's topics, and its scripted demonstrator."""

import os

# MuJoCo picks its OpenGL platform when it is imported; EGL needs no display and may live in any thread.
os.environ.setdefault("MUJOCO_GL", "egl")
