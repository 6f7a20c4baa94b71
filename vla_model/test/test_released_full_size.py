"""Once at full size: a released folder of 2.9 GB with random weights is written, loaded and asked for a chunk."""

import os
import shutil

import numpy as np
import pytest
import torch

from vla_model import presets
from vla_model.policy import Observation, Policy
from vla_model.released.write import write_released

CAMERAS = ("head", "left_wrist")
MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(MEMORY < 12e9, reason="needs 12 GB of memory")
def test_a_full_size_folder_is_written_loaded_and_asked(tmp_path):
    if shutil.disk_usage(tmp_path).free < 4e9:
        pytest.skip("needs 4 GB of free disk")
    config = presets.published(CAMERAS, 8, 7, 8, 0.05, gripper="libero", gripper_dims=(6,))
    folder = tmp_path / "released"
    try:
        assert len(write_released(folder, config)) == 982 + 560 + 4
        assert (folder / "model.safetensors").stat().st_size > 2 * 1_252_553_792
        policy = Policy.from_checkpoint(folder, "cpu", torch.bfloat16)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert policy.config == config
    images = {name: np.full((480, 640, 3), 90 * i, np.uint8) for i, name in enumerate(CAMERAS)}
    chunk = policy.predict(Observation(images, np.zeros(8, np.float32), "pick up the red cube", 0))
    assert chunk.shape == (8, 7) and np.isfinite(chunk).all()
