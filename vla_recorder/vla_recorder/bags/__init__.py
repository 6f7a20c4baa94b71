"""rosbag2 and MCAP recordings of a rig -> episodes, through the recorder's own alignment."""
