"""The prompt and its tokenizer, which travels with the checkpoint; Qwen's own loads by the same code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from vla_model.files import CheckpointError, read_json, read_text, write_json

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PROMPT = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWhat action should the robot take to {instruction}?<|im_end|>\n<|im_start|>assistant\n"
)
# how Qwen2 splits text before merging bytes: words with a leading space, single digits, punctuation, line ends
_SPLIT = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def prompt(instruction: str) -> str:
    """The released models' prompt (reference, openvla_utils.get_vla_action with use_minivlm)."""
    return PROMPT.format(instruction=instruction.strip().lower())


def encode_prompt(tokenizer: Tokenizer, instruction: str) -> list[int]:
    """Token ids of the prompt; the first one is <|im_start|>."""
    if not instruction.strip():
        raise ValueError("the instruction is empty; say what the robot should do")
    return tokenizer.encode(prompt(instruction), add_special_tokens=False).ids


def load_tokenizer(directory: Path) -> Tokenizer:
    """From tokenizer.json, or from Qwen2's vocab.json, merges.txt and added_tokens.json. CheckpointError."""
    path = directory / "tokenizer.json"
    tokenizer = _from_file(path) if path.is_file() else _from_parts(directory)
    tokenizer.no_padding()  # settings that a training script may have left in the file
    tokenizer.no_truncation()
    for token in SPECIAL_TOKENS:
        if tokenizer.encode(token, add_special_tokens=False).ids != [tokenizer.token_to_id(token)]:
            raise CheckpointError(
                f"the tokenizer in {directory} has no special token {token}: it is another model's than Qwen2's"
            )
    return tokenizer


def _from_file(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(read_text(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise CheckpointError(f"{path} is not a tokenizer file: {error}") from error


def _from_parts(directory: Path) -> Tokenizer:
    vocab, merges, added = (directory / name for name in ("vocab.json", "merges.txt", "added_tokens.json"))
    if not (vocab.is_file() and merges.is_file()):
        raise CheckpointError(
            f"{directory} has no tokenizer: neither tokenizer.json nor vocab.json with merges.txt"
        )
    table, specials, pairs = read_json(vocab), read_json(added) if added.is_file() else {}, _merges(merges)
    try:
        # one table for both: tokens that are added later would be numbered anew
        model = models.BPE(table | specials, pairs)
    except Exception as error:
        raise CheckpointError(f"{vocab} and {merges.name} do not make a tokenizer: {error}") from error
    return _tokenizer(model, specials or SPECIAL_TOKENS)


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """All files in which transformers looks for a Qwen2 tokenizer, in a form that tokenizers 0.19 reads, too."""
    content = json.loads(tokenizer.to_str())
    merges = content["model"]["merges"]
    content["model"]["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    write_json(directory / "tokenizer.json", content)
    tokenizer.model.save(str(directory))  # vocab.json, merges.txt
    added = {str(i): token for i, token in tokenizer.get_added_tokens_decoder().items()}
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "processor_class": "PrismaticProcessor",
        "eos_token": SPECIAL_TOKENS[0],
        "pad_token": SPECIAL_TOKENS[0],
        "bos_token": None,
        "unk_token": None,
        "model_max_length": 131072,
        "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {
            i: {flag: getattr(token, flag) for flag in flags} for i, token in added.items()
        },
    }
    write_json(directory / "tokenizer_config.json", config)
    ids = {token.content: int(i) for i, token in added.items()}
    write_json(directory / "added_tokens.json", ids)


def build_tokenizer(instructions: Iterable[str] = (), vocab: int = 512) -> Tokenizer:
    """A byte-level BPE tokenizer of at most `vocab` tokens, for models that start from random weights.

    It merges what occurs in the prompt and in `instructions`; anything else is spelled in bytes, so every
    text has an encoding.
    """
    tokenizer = _tokenizer(models.BPE(), ())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [prompt(instruction) for instruction in sorted(set(instructions))] or [prompt("")]
    tokenizer.train_from_iterator(_without_specials(texts), trainer)
    return tokenizer


def _tokenizer(model: models.BPE, specials: Iterable[str]) -> Tokenizer:
    """Qwen2's byte-level BPE around a table of merges."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_SPLIT, "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, normalized=False) for special in specials])
    return tokenizer


def _merges(path: Path) -> list[tuple[str, str]]:
    lines = read_text(path).split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    wrong = next((pair for pair in pairs if len(pair) != 2), None)
    if wrong:
        raise CheckpointError(f"{path}: expected two pieces a line, found {' '.join(wrong)!r}")
    return pairs


def _without_specials(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        for special in SPECIAL_TOKENS:
            text = text.replace(special, "\n")
        yield text


def encode_batch(tokenizer: Tokenizer, instructions: Sequence[str]) -> tuple[Tensor, Tensor | None]:
    """Prompt ids (B, L), padded on the right, and their mask (B, L), 1 = valid; None if none is padded."""
    prompts = [encode_prompt(tokenizer, instruction) for instruction in instructions]
    longest = max(map(len, prompts))
    pad = tokenizer.token_to_id(SPECIAL_TOKENS[0])
    ids = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in prompts])
    if all(len(ids) == longest for ids in prompts):
        return ids, None
    return ids, torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in prompts])
