"""Files that a failing disk has spoilt anywhere: each is named in one line, and the others are done."""

import random

import h5py
import numpy as np
import pytest
from tool_episodes import names, run_episode, write

from vla_recorder.episode.layout import EpisodeError
from vla_recorder.episode.reader import EpisodeReader
from vla_recorder.episode.validate import problems

SPOILT = 16


def spoil(whole: bytes, seed: int) -> bytes:
    """A page of zeros, or a score of wrong bytes, where HDF5 keeps most of its own."""
    rng, spoilt = random.Random(seed), bytearray(whole)
    if seed % 2:
        begin = rng.randrange(60_000)
        spoilt[begin : begin + 4096] = bytes(4096)
    for _ in range(20):
        spoilt[rng.randrange(60_000)] = rng.randrange(256)
    return bytes(spoilt)


@pytest.fixture
def day(tmp_path):
    """Spoilt episodes, and a sound one at the end."""
    whole = write(tmp_path / "sound", rows=6).read_bytes()
    folder = tmp_path / "day"
    folder.mkdir()
    for i in range(SPOILT):
        (folder / f"episode_{i}.hdf5").write_bytes(spoil(whole, i))
    (folder / f"episode_{SPOILT}.hdf5").write_bytes(whole)
    return folder


@pytest.mark.parametrize(
    "words", ["inspect", "validate --every-frame", "video --to {to}", "convert to-jpeg --to {to}"]
)
def test_the_others_are_done(day, tmp_path, words):
    to = tmp_path / "to"
    done = run_episode(
        *words.format(to=to).split(), day, check=1
    )  # which sees to it that there is no traceback
    last = day / f"episode_{SPOILT}.hdf5"
    assert any(line.startswith(str(last)) for line in done.stdout.splitlines()), done.stdout
    said = done.stdout if words.startswith("validate") else done.stderr
    failed = {i for i in range(SPOILT) if f"{day}/episode_{i}.hdf5: " in said.replace(": valid", "")}
    assert len(failed) > SPOILT / 2
    if to.exists():
        stems = {int(name.split("_")[1].split(".")[0]) for name in names(to)}
        assert stems == set(range(SPOILT + 1)) - failed, "what is not named is there, whole"


def test_validate_reads_the_texts(tmp_path):
    path = write(tmp_path, rows=3)
    with h5py.File(path, "r+") as file:
        file["vla/rig"][()] = "name: [unclosed"
        file["vla"].attrs["quality"] = "{"
    found = problems(path)
    assert [text.split(":")[0] for text in found] == ["its rig file is damaged", "its quality is damaged"]
    with h5py.File(path, "r+") as file:
        raw = h5py.h5d.open(file.id, b"/substep_reasonings")
        raw.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([b"\xff\xfe"] * 3, object))
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: is damaged: 'utf-8' codec")


def test_validate_wants_messages_in_their_order(tmp_path):
    path = write(tmp_path, rows=12)
    with h5py.File(path, "r+") as file:
        file["vla/streams/stamp_ns"][8, 4] -= 50_000_000
    assert problems(path) == ["/vla/streams/stamp_ns: follower_left goes back at row 8"]
    with h5py.File(path, "r+") as file:
        file["vla/streams/fresh"][8, 4] = (
            False  # of a clock that was set back: the row says that it is of no use
        )
    assert problems(path) == []


def test_only_what_hdf5_says_is_the_files_fault(tmp_path):
    path = write(tmp_path, rows=3)
    with pytest.raises(KeyError, match="a mistake of the program"), EpisodeReader(path):
        raise KeyError("a mistake of the program")
    with pytest.raises(EpisodeError, match=f"{path}: is damaged: "), EpisodeReader(path) as episode:
        _ = episode.file["nothing of that name"]
