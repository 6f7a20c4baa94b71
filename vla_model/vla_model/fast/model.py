"""FastModel: from resized images to a normalised chunk, the way that is short enough to read in one go.

torch.compile does not pay here: the small model's `run` on one CPU core took 36 s to compile and was 8 % slower than
without; what it fuses on a GPU is mostly folded by hand already, and a robot would wait for it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_model.adapter import VLAAdapter
from vla_model.fast.folding import Affine
from vla_model.fast.head import FastHead
from vla_model.fast.llm import LanguageModel
from vla_model.fast.sequence import Prompt, PromptMaker, Sequence
from vla_model.fast.tower import Vision


class FastModel:
    """Equals VLAAdapter's features and its head's `sample` for one observation; weights as they were when it was made.

    It lives on `device`, by default the model's own, in the type of the model's weights. What is folded is a copy,
    the rest (embeddings, a few maps) is shared where device and type are the same. Not for two threads at a time: a
    call leaves its intermediate results in buffers that the next one fills anew.
    """

    @torch.inference_mode(False)  # tensors that are kept must not depend on who made the model
    @torch.no_grad()
    def __init__(self, model: VLAAdapter, device: torch.device | str | None = None):
        backbone, self.config = model.backbone, model.config
        self.device = torch.device(device or model.device)
        self.dtype = backbone.action_queries.weight.dtype
        place = {"device": self.device, "dtype": self.dtype}
        self._vision = Vision(backbone, **place)
        self._llm = LanguageModel(backbone.llm, self.config.llm, **place)
        self._head = FastHead(model.head, self.config, **place)
        projector = model.head.proprio_projector
        self._state1, self._state2 = (
            Affine.of(fc, self.device).to(self.dtype) for fc in (projector.fc1, projector.fc2)
        )
        embeddings = backbone.llm.embed_tokens.weight, backbone.action_queries.weight
        embeddings = (weight.detach().to(**place) for weight in embeddings)
        self._prompt = PromptMaker(self.config, *embeddings)

    def __call__(self, resized: Tensor, input_ids: Tensor, state: Tensor) -> Tensor:
        """Resized uint8 (N, 3, s, s), ids (1, L) and a normalised state (1, S) -> actions (1, H, A), float32."""
        prompt = self.prompt(input_ids[0])
        sequence = self.sequence(prompt.length)
        sequence.use(prompt)
        return self.run(resized, sequence, state)

    @torch.inference_mode(False)
    @torch.no_grad()
    def prompt(self, ids: Tensor, multiple: int = 1) -> Prompt:
        """Of ids (L,), padded to a multiple of so many tokens."""
        return self._prompt(ids, multiple)

    @torch.inference_mode(False)
    def sequence(self, length: int) -> Sequence:
        """Memory for prompts of this length."""
        return Sequence(self.config, length, self.device, self.dtype)

    def run(self, resized: Tensor, sequence: Sequence, state: Tensor) -> Tensor:
        """The same with a sequence that uses a prompt."""
        self._vision(resized, out=sequence.patches)
        self._llm(sequence.x, sequence.states)
        hidden = F.gelu(F.linear(state.to(self.dtype), *self._state1))
        sequence.state_token.copy_(F.linear(hidden, *self._state2))
        return self._head(*sequence.read()).unsqueeze(0)
