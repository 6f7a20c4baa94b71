"""Find, read and explain rig files: names, `extends`, errors with file, line and key."""

from __future__ import annotations

import os
from pathlib import Path

import yaml
from pydantic import ValidationError

from vla_rig.rig import Rig


class RigError(ValueError):
    """A rig file that cannot be used; the message names the file, the line and the key."""


def load_rig(path_or_name: str | os.PathLike) -> Rig:
    """Load a rig by path ("my/rig.yaml") or by the name of an installed one ("aloha").

    Raises RigError, never a bare YAML or validation error.
    """
    path = find_rig(path_or_name)
    files = _read_chain(path)
    merged: dict = {}
    for _, _, data in reversed(files):
        merged = _merge(merged, data)
    return _validate(merged, files)


def rig_from_yaml(text: str, where: str = "embedded rig") -> Rig:
    """The inverse of Rig.to_yaml, for the text inside an episode or a checkpoint."""
    return _validate(_parse(text, where), [(where, text, {})])


def find_rig(path_or_name: str | os.PathLike) -> Path:
    """The file of a rig: a path that exists, or a name looked up among the installed rig files."""
    path = Path(path_or_name)
    if path.suffix in {".yaml", ".yml"} or path.is_file():
        if not path.is_file():
            raise RigError(f"rig file '{path}' does not exist")
        return path
    folder = _installed_folder()
    candidates = sorted(folder.glob("*.yaml")) if folder else []
    for candidate in candidates:
        if candidate.stem == str(path_or_name):
            return candidate
    known = ", ".join(c.stem for c in candidates) or "none installed; is the workspace built and sourced?"
    raise RigError(f"no rig named '{path_or_name}': expected a path to a rig file or one of: {known}")


def _installed_folder() -> Path | None:
    from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

    try:
        return Path(get_package_share_directory("vla_policy_node")) / "config"
    except PackageNotFoundError:
        return None


def _read(path: Path, chain: list[tuple[str, str, dict]]) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    by = f" (extends, {chain[-1][0]}:{_locate(['extends'], chain[-1:])[1]})" if chain else ""
    raise RigError(f"rig file '{path}' cannot be read: {reason}{by}")


def _read_chain(path: Path) -> list[tuple[str, str, dict]]:
    """[(file, text, mapping)] of the file and those it extends, nearest first."""
    chain, seen = [], set()
    while True:
        if path.resolve() in seen:
            file, line = _locate(["extends"], chain[-1:])
            raise RigError(f"{file}:{line}: extends: '{path}' is part of a circle of files")
        seen.add(path.resolve())
        text = _read(path, chain)
        data = _parse(text, str(path))
        base = data.pop("extends", None)
        chain.append((str(path), text, data))
        if base is None:
            return chain
        path = path.resolve().parent / str(base)


def _parse(text: str, where: str) -> dict:
    try:
        data = yaml.safe_load(text)
        repeated = list(_repeated_keys(yaml.compose(text)))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise RigError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(data, dict):
        raise RigError(
            f"{where}: expected a mapping of rig keys (name, cameras, ...), got {type(data).__name__}"
        )
    if repeated:
        raise RigError("\n".join(f"{where}:{line}: key '{key}' occurs twice" for key, line in repeated))
    return data


def _repeated_keys(node):
    """(key, line) of keys that a mapping has twice; YAML would quietly take the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen and key.value != "<<":
                yield key.value, key.start_mark.line + 1
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated_keys(item)


def _merge(base: dict, over: dict) -> dict:
    """Mappings merge key by key; anything else is replaced."""
    out = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


def _validate(data: dict, files: list[tuple[str, str, dict]]) -> Rig:
    try:
        return Rig.model_validate(data)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            keys = [k for k in item["loc"] if k != "[key]"]
            message = item["msg"].removeprefix("Value error, ")
            if not keys:  # Rig's own checks: one line each, beginning with the key
                for problem in message.split("\n"):
                    place, _, what = problem.partition(": ")
                    lines.append(_explain(place.split("."), what, files))
                continue
            got = f" (got {item['input']!r})" if isinstance(item["input"], (str, int, float)) else ""
            lines.append(_explain(keys, message + got, files))
        raise RigError("\n".join(lines)) from None


def _explain(keys: list, message: str, files: list[tuple[str, str, dict]]) -> str:
    file, line = _locate(keys, files)
    return f"{file}{f':{line}' if line else ''}: {'.'.join(map(str, keys))}: {message}"


def _locate(keys: list, files: list[tuple[str, str, dict]]) -> tuple[str, int | None]:
    """The file and line that define the deepest part of a key path."""
    best = (files[0][0], None, -1)
    for file, text, _ in files:
        node, depth, line = yaml.compose(text), 0, None
        for key in keys:
            child = _child(node, key)
            if child is None:
                break
            node, depth, line = child, depth + 1, child.start_mark.line + 1
        if depth > best[2]:
            best = (file, line, depth)
    return best[0], best[1]


def _child(node, key):
    if isinstance(node, yaml.MappingNode):
        return next((value for k, value in node.value if k.value == str(key)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key]
    if isinstance(node, yaml.SequenceNode):  # a channel, by its name
        named = (item for item in node.value if getattr(_child(item, "name"), "value", None) == key)
        return next(named, None)
    return None
