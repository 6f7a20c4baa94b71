"""Replay of an episode into a ROS graph: its observations as messages, or its commands through the gate."""
