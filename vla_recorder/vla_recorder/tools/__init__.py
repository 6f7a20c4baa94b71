"""The `episode` command: tools for episode files. Only `replay` imports ROS, and only when it runs."""
