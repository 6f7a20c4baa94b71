"""Checkpoints as VLA-Adapter releases them: read, written and converted (github.com/OpenHelix-Team/VLA-Adapter)."""

from vla_model.released.options import Options

__all__ = ["Options"]
