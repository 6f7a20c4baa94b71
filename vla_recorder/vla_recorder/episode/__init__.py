"""The episode file: one HDF5 file per demonstration or rollout. Imports no ROS."""
