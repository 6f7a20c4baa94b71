"""Sets up the workspace on any machine: system packages, virtual environment, wheels, colcon build.

`python3 -m scripts.setup` runs it; only the standard library is used, because nothing else is there yet.
Each step first looks whether it has anything to do, so that a second run takes a fraction of a second.
"""
