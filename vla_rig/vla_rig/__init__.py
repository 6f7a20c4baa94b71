"""What is connected: rig file, cameras, joints, time alignment, command gate, teleop."""
