"""The recorder node, the HDF5 episode file and episode tools."""
