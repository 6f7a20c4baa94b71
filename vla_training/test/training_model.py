"""The small model of the tests: command-line options for `finetune`."""

TOWER = "width=16 depth=2 heads=2 mlp=32"
SETTINGS = [
    "vision.image_size=28",
    "vision.patch_size=14",
    "llm.width=32",
    "llm.layers=2",
    "llm.heads=2",
    "llm.kv_heads=1",
    "llm.mlp=64",
    "projector_hidden=32",
    "action_queries=4",
    "head.heads=2",
    *(f"vision.{tower}.{setting}" for tower in ("dinov2", "siglip") for setting in TOWER.split()),
]
MODEL = [part for setting in SETTINGS for part in ("--model", setting)]
COMMON = [*MODEL, "--horizon", "8", "--device", "cpu", "--threads", "1", "--batch", "16", "--warmup", "10"]
