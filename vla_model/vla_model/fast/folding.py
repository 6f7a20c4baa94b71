"""Linear maps taken out of plain modules, in float32, and the ways of folding into them what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Affine(NamedTuple):
    """x -> weight x + bias; weight (rows, columns) and bias (rows,). Goes into F.linear as *affine."""

    weight: Tensor
    bias: Tensor | None = None

    @classmethod
    def of(cls, linear: nn.Linear, device: torch.device) -> Affine:
        return cls(exact(linear.weight, device), None if linear.bias is None else exact(linear.bias, device))

    def after(self, norm: nn.Module) -> Affine:
        """With the scale and shift of the norm before it; what remains of the norm has no weights."""
        weight, shift = exact(norm.weight, self.weight.device), getattr(norm, "bias", None)
        bias = self.bias
        if shift is not None:
            bias = self.weight @ exact(shift, self.weight.device) + (0 if bias is None else bias)
        return Affine(self.weight * weight, bias)

    def times(self, scale: Tensor) -> Affine:
        """With its output scaled, by one factor or one for each row."""
        return Affine(self.weight * scale.reshape(-1, 1), None if self.bias is None else self.bias * scale)

    def rows(self, index: Tensor) -> Affine:
        return Affine(self.weight[index], None if self.bias is None else self.bias[index])

    def plus(self, bias: Tensor) -> Affine:
        return Affine(self.weight, self.bias + bias)

    def to(self, dtype: torch.dtype) -> Affine:
        return Affine(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))


def joined(parts: Sequence[Affine]) -> Affine:
    """One map in place of several with the same input; either all have a bias or none has."""
    bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
    return Affine(torch.cat([part.weight for part in parts]), bias)


def exact(tensor: Tensor, device: torch.device) -> Tensor:
    """In float32 on the device; the tensor itself when it is so already."""
    return tensor.detach().to(device, torch.float32)
