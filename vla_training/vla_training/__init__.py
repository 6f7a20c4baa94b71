"""Fine-tuning on recorded episodes, without ROS."""
