"""The model config that a released folder implies: its config.json, the shapes of its weights, and the options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from vla_model import presets
from vla_model.config import HeadConfig, LLMConfig, ModelConfig, TowerConfig, VisionConfig
from vla_model.files import CheckpointError, explain
from vla_model.released.names import DINOV2, HEAD, PROJECTOR, SIGLIP
from vla_model.released.options import Options
from vla_model.weights import Shapes

TIMM_IDS = ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")
# of those two; their widths are read off the weights
DEPTHS, TOWER_HEADS, PATCH_SIZE, REGISTERS = (24, 27), 16, 14, 4
_EXPECTED_LLM = {"hidden_act": "silu", "rope_scaling": None, "use_sliding_window": False}  # unless left out
_EXPECTED = {
    "timm_model_ids": list(TIMM_IDS),
    "timm_override_act_layers": [None, None],
    "image_resize_strategy": "resize-naive",
    "use_fused_vision_backbone": True,
}
_Q, _FC2 = "action_queries.weight", f"{HEAD}.model.fc2.weight"
_ARMS = tuple(f"{HEAD}.model.fc2_{arm}.weight" for arm in "LR")  # of derivatives with a dual-arm head


def dims(shapes: Shapes, path: Path) -> tuple[int, int]:
    """Action and state values that the weights are made for."""
    outputs = _ARMS if _ARMS[0] in shapes else (_FC2,)
    actions = sum(_size(shapes, name, 0, path) for name in outputs)
    return actions, _size(shapes, f"{PROJECTOR}.fc1.weight", 1, path)


def model_config(
    config: Mapping, preprocessor: Mapping, shapes: Shapes, options: Options, path: Path
) -> ModelConfig:
    """The config of a folder whose options are complete. CheckpointError names what this code cannot run."""
    _check_supported(config, path)
    action_dim, state_dim = dims(shapes, path)
    head = _head(shapes, path)
    try:
        vision, llm = _vision(config, preprocessor, shapes, path), _llm(config, path)
        return presets.published(
            options.cameras,
            state_dim,
            action_dim,
            options.horizon,
            1 / options.rate_hz,
            vision=vision.model_copy(update={"crop_area": 0.9 if options.center_crop else 1.0}),
            llm=llm,
            projector_hidden=4 * vision.width,
            action_queries=_size(shapes, _Q, 0, path),
            fixed_task_tokens=None if head.type == "dual_arm" else options.task_tokens,
            head=head,
            normalization=options.normalization,
            gripper=options.gripper,
            gripper_dims=() if options.gripper == "none" else (action_dim - 1,),
            dataset=options.dataset,
        )
    except ValidationError as error:
        raise CheckpointError(f"{path}: {explain(error)}") from error


def _head(shapes: Shapes, path: Path) -> HeadConfig:
    """Base, Pro or dual-arm, by the names of the weights."""
    if _ARMS[0] in shapes:
        return presets.published_head(
            type="dual_arm", arm_dims=tuple(_size(shapes, n, 0, path) for n in _ARMS)
        )
    block = f"{HEAD}.model.mlp_resnet_blocks.0"
    pro, film = (
        any(name.startswith(f"{block}.{part}") for name in shapes) for part in ("k_self", "film_gen")
    )
    return presets.published_head(block="pro" if pro else "base", film=film)


def _check_supported(config: Mapping, path: Path) -> None:
    text = config.get("text_config")
    text = text if isinstance(text, Mapping) else {}
    llm = {"model_type": (text.get("model_type"), "qwen2")}
    llm |= {key: (text.get(key, value), value) for key, value in _EXPECTED_LLM.items()}
    pairs = {key: (config.get(key), value) for key, value in _EXPECTED.items()}
    pairs |= {f"text_config.{key}": pair for key, pair in llm.items()}
    faults = [
        f"{key} is {found}, expected {expected}"
        for key, (found, expected) in pairs.items()
        if found != expected
    ]
    if faults:
        raise CheckpointError(
            f"{path / 'config.json'} describes another model than VLA-Adapter's: {'; '.join(faults)}"
        )


def _vision(config: Mapping, preprocessor: Mapping, shapes: Shapes, path: Path) -> VisionConfig:
    sizes = config.get("image_sizes")
    if not isinstance(sizes, list) or not sizes or any(size != sizes[0] for size in sizes):
        raise CheckpointError(f"{path / 'config.json'}: image_sizes is {sizes}, expected [224, 224]")
    towers = []
    for prefix, depth in zip((DINOV2, SIGLIP), DEPTHS, strict=True):
        width = _size(shapes, f"{prefix}.patch_embed.proj.weight", 0, path)
        mlp = _size(shapes, f"{prefix}.blocks.0.mlp.fc1.weight", 0, path)
        towers.append({"width": width, "depth": depth, "heads": TOWER_HEADS, "mlp": mlp})
    published = presets.published(("any",), 1, 1, 1, 1.0).vision
    scales = preprocessor.get("tvf_normalize_params") or [
        {"mean": tower.mean, "std": tower.std} for tower in (published.dinov2, published.siglip)
    ]
    try:
        for tower, scale in zip(towers, scales, strict=True):
            tower |= {"mean": tuple(scale["mean"]), "std": tuple(scale["std"])}
    except (TypeError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path / 'preprocessor_config.json'}: tvf_normalize_params is {scales}, "
            "expected mean and std of two towers"
        ) from error
    return VisionConfig.model_validate(
        published.model_dump()
        | {
            "image_size": sizes[0],
            "patch_size": PATCH_SIZE,
            "dinov2": TowerConfig(registers=REGISTERS, **towers[0]).model_dump(),
            "siglip": TowerConfig(**towers[1]).model_dump(),
        }
    )


def _llm(config: Mapping, path: Path) -> LLMConfig:
    """Sizes as in text_config; what transformers 4.40 leaves out of a saved file has the value that it has there."""
    text = config["text_config"]
    ours = {
        "width": "hidden_size",
        "layers": "num_hidden_layers",
        "heads": "num_attention_heads",
        "kv_heads": "num_key_value_heads",
        "mlp": "intermediate_size",
        "vocab": "vocab_size",
        "rope_theta": "rope_theta",
    }
    missing = [theirs for theirs in ours.values() if theirs not in text]
    if missing:
        raise CheckpointError(f"{path / 'config.json'}: text_config lacks {', '.join(missing)}")
    return LLMConfig(
        **{own: text[theirs] for own, theirs in ours.items()},
        rms_norm_eps=text.get("rms_norm_eps", 1e-6),
        max_positions=text.get("max_position_embeddings", 32768),
    )


def _size(shapes: Shapes, name: str, axis: int, path: Path) -> int:
    if name not in shapes:
        raise CheckpointError(f"{path} has no weight {name}, without which its sizes cannot be told")
    if len(shapes[name]) <= axis:
        raise CheckpointError(f"{path}: {name} is {shapes[name]}, expected {axis + 1} dimensions or more")
    return shapes[name][axis]
