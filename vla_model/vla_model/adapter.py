"""VLAAdapter: backbone and head as one module; what training optimises and a policy runs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vla_model.backbones.prismatic import PrismaticBackbone
from vla_model.config import ModelConfig
from vla_model.features import Features
from vla_model.heads.contract import ActionHead
from vla_model.heads.discrete import DiscreteHead
from vla_model.heads.dual_arm import DualArmHead
from vla_model.heads.l1 import L1Head
from vla_model.preprocess import Preprocessor

HEADS: dict[str, type[ActionHead]] = {"l1": L1Head, "discrete": DiscreteHead, "dual_arm": DualArmHead}


class VLAAdapter(nn.Module):
    """All weights of a model. Calling it is `loss`, so that DistributedDataParallel wraps every gradient."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.preprocess = Preprocessor(config.vision)
        self.backbone = PrismaticBackbone(config)
        self.head = HEADS[config.head.type](config)

    def features(self, images: Tensor, input_ids: Tensor, attention_mask: Tensor | None = None) -> Features:
        """Features of images uint8 (B, N, H, W, 3), cameras in the config's order; ids and mask (B, L)."""
        return self.backbone(self.preprocess(images), input_ids, attention_mask)

    def loss(self, batch: Mapping[str, Tensor], noise: Tensor | None = None) -> dict:
        """Loss of one batch: {"loss": scalar with gradient, "metrics": {name: detached scalar}}.

        batch: images uint8 (B, N, H, W, 3) or already resized (B, N, 3, s, s); input_ids (B, L);
        attention_mask (B, L), 1 = valid (absent when no prompt is padded); state (B, S) and actions (B, H,
        A), normalised; action_mask (B, H), 1 = valid.
        """
        images = batch["images"]
        resized = images.shape[-3:] == (3, self.config.vision.image_size, self.config.vision.image_size)
        pixels = self.preprocess.normalize(images) if resized else self.preprocess(images)
        features = self.backbone(pixels, batch["input_ids"], batch.get("attention_mask"))
        result = self.head.loss(
            features, batch["actions"], batch["state"], batch.get("action_mask"), noise=noise
        )
        return {"loss": result.loss, "metrics": result.metrics}

    forward = loss

    @property
    def device(self) -> torch.device:
        return self.backbone.action_queries.weight.device
