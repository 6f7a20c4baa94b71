"""Tools that look at episode files. They import no ROS."""
