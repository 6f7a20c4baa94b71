"""The prompt, and the tokenizer for models that start from random weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from vla_model.tokenizer import build_tokenizer, encode_batch, encode_prompt, prompt

TOKENIZER = build_tokenizer()


def test_prompt_is_the_published_one():
    assert prompt(" Pick up the RED cube ") == (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nWhat action should the robot take to pick up the red cube?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@given(st.text(max_size=60))
def test_any_text_is_encoded_without_loss(text):
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    # NFC is Qwen2's own normalisation
    import unicodedata

    assert TOKENIZER.decode(ids, skip_special_tokens=False) == unicodedata.normalize("NFC", text)


def test_special_tokens_are_one_token_each_and_the_prompt_starts_with_one():
    ids = encode_prompt(TOKENIZER, "open the drawer")
    start, end = TOKENIZER.token_to_id("<|im_start|>"), TOKENIZER.token_to_id("<|im_end|>")
    assert ids[0] == start and ids.count(start) == 3 and ids.count(end) == 2
    assert max(ids) < TOKENIZER.get_vocab_size() <= 512


def test_known_instructions_are_short():
    instruction = "transfer the red cube to the left gripper"
    known = encode_prompt(build_tokenizer([instruction]), instruction)
    assert len(known) < len(encode_prompt(TOKENIZER, instruction)) < len(prompt(instruction)) / 2


def test_building_is_repeatable_and_survives_a_file(tmp_path):
    assert build_tokenizer(["a b", "c d"]).to_str() == build_tokenizer(["c d", "a b", "a b"]).to_str()
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert encode_prompt(again, "pick up") == encode_prompt(TOKENIZER, "pick up")


def test_a_batch_is_padded_on_the_right():
    ids, mask = encode_batch(TOKENIZER, ["pick up the cube", "wait"])
    long, short = encode_prompt(TOKENIZER, "pick up the cube"), encode_prompt(TOKENIZER, "wait")
    assert ids.shape == mask.shape == (2, len(long))
    assert ids[0].tolist() == long and ids[1, : len(short)].tolist() == short
    assert mask.sum(1).tolist() == [len(long), len(short)]
    assert encode_batch(TOKENIZER, ["wait", "wait"])[1] is None


def test_an_empty_instruction_is_refused():
    with pytest.raises(ValueError, match="instruction is empty"):
        encode_prompt(TOKENIZER, "  ")
