"""Vision-language-action models without ROS: backbones, heads, normalisation, checkpoints, fast inference."""
