"""Which processes make up a rig, as data; the vla command."""
