"""The golden prompt: template, splitting and special tokens give the published ids.

The vocabulary here holds the golden pieces under their published ids, with merges learned from those pieces;
everything else in it is made up. So these tests prove the prompt's text, how it is cut into words, what is a
special token, and that ids survive the files. Qwen2.5's own merges are not here: with them the golden ids, and 20,000
random texts against transformers' own class, were checked once, outside this suite.
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from released_model import released_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import Qwen2Tokenizer

from vla_model.config import LLMConfig
from vla_model.files import CheckpointError
from vla_model.stored import check_vocabulary
from vla_model.tokenizer import encode_prompt, load_tokenizer, prompt, save_tokenizer

INSTRUCTION = "pick up the red cube"
GOLDEN = [
    (151644, "<|im_start|>"), (8948, "system"), (198, "\n"), (2610, "You"), (525, " are"), (1207, " Q"),
    (16948, "wen"), (11, ","), (3465, " created"), (553, " by"), (54364, " Alibaba"), (14817, " Cloud"), (13, "."),
    (1446, " You"), (525, " are"), (264, " a"), (10950, " helpful"), (17847, " assistant"), (13, "."),
    (151645, "<|im_end|>"), (198, "\n"), (151644, "<|im_start|>"), (872, "user"), (198, "\n"), (3838, "What"),
    (1917, " action"), (1265, " should"), (279, " the"), (12305, " robot"), (1896, " take"), (311, " to"),
    (3735, " pick"), (705, " up"), (279, " the"), (2518, " red"), (23739, " cube"), (30, "?"),
    (151645, "<|im_end|>"), (198, "\n"), (151644, "<|im_start|>"), (77091, "assistant"), (198, "\n"),
]  # fmt: skip
IDS = [number for number, _ in GOLDEN]
ALPHABET = "Grasp it'stop it'REst  're'd 42,7 cube's I'LL do\t\tit ?!\n\nso \r\n  "
ALPHABET += "e\u0301\u00e9\u3000\ufb01x\u4f60\u597d\U0001f642...?"


def bytes_of(text):
    """A piece in BPE's alphabet of printable bytes."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)[0][0]


@pytest.fixture
def folder(tmp_path):
    """vocab.json, merges.txt and added_tokens.json as releases carry them."""
    pieces = {bytes_of(text): number for number, text in GOLDEN if not text.startswith("<|")}
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Split("|", "removed")
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator(["|".join(pieces)], trainer)
    unused = (number for number in range(151643) if number not in pieces.values())
    table = {piece: pieces[piece] if piece in pieces else next(unused) for piece in learned.get_vocab()}
    merges = json.loads(learned.to_str())["model"]["merges"]
    (tmp_path / "vocab.json").write_text(json.dumps(table))
    (tmp_path / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""])
    )
    added = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}
    (tmp_path / "added_tokens.json").write_text(json.dumps(added))
    return tmp_path


def test_the_golden_prompt_has_the_golden_ids(folder):
    assert encode_prompt(load_tokenizer(folder), INSTRUCTION) == IDS
    assert len(IDS) == 42


def test_the_template_is_31_ids_before_the_instruction_and_6_after(folder):
    ids = encode_prompt(load_tokenizer(folder), "take the red robot to a helpful user")
    assert ids[:31] == IDS[:31] and ids[-6:] == IDS[-6:]
    assert ids[31:35] == [1896, 279, 2518, 12305]


def test_one_file_says_the_same_as_three(folder, tmp_path):
    saved = tmp_path / "saved"
    saved.mkdir()
    save_tokenizer(load_tokenizer(folder), saved)
    assert encode_prompt(load_tokenizer(saved), INSTRUCTION) == IDS
    (saved / "tokenizer.json").unlink()
    assert encode_prompt(load_tokenizer(saved), INSTRUCTION) == IDS
    (saved / "added_tokens.json").unlink()  # its tokens are in vocab.json, too
    assert encode_prompt(load_tokenizer(saved), INSTRUCTION) == IDS


def test_merges_are_saved_as_older_tokenizers_read_them(folder, tmp_path):
    save_tokenizer(load_tokenizer(folder), tmp_path)
    merges = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["merges"]
    assert all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Ours from its files, and transformers' own class around the same merges, many of which cross words: whether they
    apply depends on how a text is cut first.
    """
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        min_frequency=1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learned.train_from_iterator([ALPHABET[i:] + ALPHABET[:i] for i in range(len(ALPHABET))], trainer)
    folder = tmp_path_factory.mktemp("crossing")
    learned.model.save(str(folder))
    vocab = json.loads((folder / "vocab.json").read_text())
    merges = [tuple(merge) for merge in json.loads(learned.to_str())["model"]["merges"]]
    theirs = Qwen2Tokenizer(vocab=vocab, merges=merges, extra_special_tokens=["<|im_start|>", "<|im_end|>"])
    return load_tokenizer(folder), theirs


@given(st.integers(0, 200), st.integers(0, 40), st.lists(st.sampled_from(ALPHABET), max_size=20))
def test_any_text_is_cut_as_transformers_own_qwen2_cuts_it(pair, start, length, letters):
    ours, theirs = pair
    text = (ALPHABET * 3)[start : start + length] + "".join(letters)
    for whole in (text, prompt(text)):
        assert ours.encode(whole, add_special_tokens=False).ids == theirs.encode(
            whole, add_special_tokens=False
        )


def test_what_a_training_script_left_in_the_file_is_no_part_of_a_prompt(folder):
    tokenizer = load_tokenizer(folder)
    tokenizer.enable_truncation(20)
    tokenizer.enable_padding(length=60)
    ends = ("<|endoftext|>", 151643)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {ends[0]}", special_tokens=[ends])
    tokenizer.save(str(folder / "tokenizer.json"))
    assert encode_prompt(load_tokenizer(folder), INSTRUCTION) == IDS


def test_another_models_tokenizer_is_refused(folder):
    words = Tokenizer(models.WordLevel({"pick": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.save(str(folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"no special token <\|endoftext\|>: it is another model's"):
        load_tokenizer(folder)


def test_an_id_beyond_the_embedding_is_refused(folder):
    config = released_config()
    vocabulary = LLMConfig(**(config.llm.model_dump() | {"vocab": 151645}))
    with pytest.raises(CheckpointError, match="has 151646 tokens, the language model only 151645"):
        check_vocabulary(config.model_copy(update={"llm": vocabulary}), load_tokenizer(folder))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("vocab.json", "{", "vocab.json is not valid JSON"),
        ("vocab.json", "[1]", "vocab.json holds a list, expected an object"),
        ("added_tokens.json", "[1]", "added_tokens.json holds a list, expected an object"),
        (
            "added_tokens.json",
            '{"<|endoftext|>": 151643}',
            r"no special token <\|im_start\|>: it is another model's",
        ),
        ("merges.txt", "a b c\n", "merges.txt: expected two pieces a line, found 'a b c'"),
        ("merges.txt", "nowhere else\n", "do not make a tokenizer"),
        ("tokenizer.json", "{}", "tokenizer.json is not a tokenizer file"),
    ],
)
def test_broken_files_are_named(folder, name, text, message):
    (folder / name).write_text(text)
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(folder)
