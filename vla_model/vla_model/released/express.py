"""Our models in the words of the released form, and what has no words there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vla_model.config import ModelConfig
from vla_model.files import CheckpointError
from vla_model.normalize import select
from vla_model.released import infer, names
from vla_model.released.options import Options

# of training alone, of another head, or without effect on what is computed
_FREE = {
    "dt_s", "fixed_task_tokens", "llm.max_positions", "head.gate_init", "head.stem_noise_std", "head.film",
    "head.bins", "head.decode",
}  # fmt: skip
_PRO_ALONE = {"head.rotary_pairing", "head.rotary_table"}


def check_expressible(config: ModelConfig, statistics: Mapping) -> None:
    """CheckpointError naming every option with which a reader of the released form would see another model."""
    if config.constant_state == "zero" and not _constant_state(config, statistics):
        config = config.model_copy(update={"constant_state": "published"})  # the two agree
    dual = config.head.type == "dual_arm"
    head = config.head.model_copy(update={"step_embedding": False} | ({} if dual else {"type": "l1"}))
    plain = config.model_copy(update={"head": head})
    try:
        seen = infer.model_config(
            config_json(config),
            preprocessor_json(config),
            names.read_shapes(plain),
            options_of(config),
            Path("converted"),
        )
    except CheckpointError as error:
        raise CheckpointError(f"the released form has no place for this model: {error}") from error
    free = _FREE | ({"head.block"} if dual else _PRO_ALONE if config.head.block == "base" else set())
    ours, theirs = _flat(config.model_dump()), _flat(seen.model_dump())
    ours["task_tokens"], theirs["task_tokens"] = config.task_tokens, seen.task_tokens
    faults = [
        f"{key} is {value}, there always {theirs.get(key)}"
        for key, value in ours.items()
        if key not in free and value != theirs.get(key)
    ]
    if faults:
        raise CheckpointError(f"the released form cannot say what this model is: {'; '.join(faults)}")


def _constant_state(config: ModelConfig, statistics: Mapping) -> bool:
    """Whether some dimension of the state never changed in the data."""
    state = select(statistics, config.dataset)[0]["proprio"]
    pairs = [keys for keys in (("min", "max"), ("q01", "q99")) if state.keys() >= set(keys)]
    return any(a == b for low, high in pairs for a, b in zip(state[low], state[high], strict=True))


def options_of(config: ModelConfig) -> Options:
    """What must be said beside a released folder for it to be this model."""
    known = config.normalization in ("bounds", "bounds_q99")
    return Options(
        cameras=config.camera_names,
        rate_hz=round(1 / config.dt_s, 9),
        horizon=config.horizon,
        normalization=config.normalization if known else "bounds",
        gripper=config.gripper,
        dataset=config.dataset,
        center_crop=config.vision.crop_area != 1.0,
    )


def config_json(config: ModelConfig) -> dict:
    """config.json, as far as a loader reads it (the reference's configuration_prismatic.py)."""
    llm = config.llm
    return {
        "architectures": ["OpenVLAForActionPrediction"],
        "model_type": "openvla",
        "arch_specifier": "no-align+fused-gelu-mlp",
        "vision_backbone_id": "dinosiglip-vit-so-224px",
        "use_fused_vision_backbone": True,
        "timm_model_ids": list(infer.TIMM_IDS),
        "timm_override_act_layers": [None, None],
        "image_sizes": [config.vision.image_size] * 2,
        "image_resize_strategy": "resize-naive",
        "llm_backbone_id": "qwen25-0_5b-extra",
        "llm_max_length": 2048,
        "n_action_bins": 256,
        "pad_token_id": 32000,
        "pad_to_multiple_of": 64,
        "output_projector_states": False,
        "transformers_version": "4.40.1",
        "text_config": {
            "model_type": "qwen2",
            "hidden_size": llm.width,
            "num_hidden_layers": llm.layers,
            "num_attention_heads": llm.heads,
            "num_key_value_heads": llm.kv_heads,
            "intermediate_size": llm.mlp,
            "vocab_size": llm.vocab,
            "rope_theta": llm.rope_theta,
            "rms_norm_eps": llm.rms_norm_eps,
            "max_position_embeddings": llm.max_positions,
            "hidden_act": "silu",
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
        },
    }


def preprocessor_json(config: ModelConfig) -> dict:
    """preprocessor_config.json (the reference's processing_prismatic.py)."""
    towers, size = (config.vision.dinov2, config.vision.siglip), config.vision.image_size
    means, stds = [list(t.mean) for t in towers], [list(t.std) for t in towers]
    return {
        "image_processor_type": "PrismaticImageProcessor",
        "processor_class": "PrismaticProcessor",
        "use_fused_vision_backbone": True,
        "image_resize_strategy": "resize-naive",
        "input_sizes": [[3, size, size]] * 2,
        "interpolations": ["bicubic"] * 2,
        "means": means,
        "stds": stds,
        "tvf_do_letterbox": False,
        "tvf_letterbox_fill": None,
        "tvf_resize_params": [{"size": [size, size], "interpolation": 3, "max_size": None, "antialias": True}]
        * 2,
        "tvf_crop_params": [{"output_size": [size, size]}] * 2,
        "tvf_normalize_params": [
            {"mean": mean, "std": std, "inplace": False} for mean, std in zip(means, stds, strict=True)
        ],
    }


def _flat(values: Mapping, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
