"""Backbones: from camera images and an instruction to features."""
