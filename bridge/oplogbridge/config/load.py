"""Files become checked settings: read, merge, substitute, validate. The only part of the configuration that does I/O.

-c FILE… ──read──▶ data ──merge──▶ data ──substitute──▶ data ──validate──▶ Settings + warnings
                each step adds its mistakes; they are raised together, at the end
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oplogbridge.config.merge import merge_files
from oplogbridge.config.problems import Problem
from oplogbridge.config.substitution import substitute
from oplogbridge.config.validation import Loaded, validate
from oplogbridge.config.yaml_reader import FILE_BYTES_MAX, YamlMistake, read_yaml
from oplogbridge.errors import ConfigError

SECRET_FILE_BYTES_MAX = 64 * 1024


def load(paths: Sequence[Path | str], env: Mapping[str, str]) -> Loaded:
    """The settings in one or several files, with `${…}` taken from `env`.

    Raises:
        ConfigError: With every mistake, a line for each. A file that cannot be read at all hides those in the others.
    """
    names = [str(path) for path in paths]
    title = ", ".join(names) or "configuration"
    problems: list[Problem] = []
    files: list[tuple[str, Mapping[str, Any]]] = []
    unreadable: list[str] = []
    if not names:
        unreadable.append("no file is given: -c FILE")
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            unreadable.append(f"{name}: is given {names.count(name)} times")
        try:
            data, repeated = _read(name)
        except ValueError as error:
            unreadable.append(str(error))
            continue
        files.append((name, data))
        problems += repeated
    if unreadable:
        raise ConfigError(title, unreadable)
    merged, repeated = merge_files(files)
    return validate(substitute(merged, env, read_secret_file), title, [*problems, *repeated])


def from_data(data: Mapping[str, Any], env: Mapping[str, str] | None = None, *, title: str = "configuration") -> Loaded:
    """The settings in plain data, for what is put together in Python (`demo`, tests). Raises ConfigError."""
    return validate(substitute(dict(data), env or {}, read_secret_file), title)


def read_secret_file(path: str) -> str:
    """What `${file:PATH}` stands for: the text without the line break at its end. Raises OSError and ValueError."""
    content = _bounded(Path(path), SECRET_FILE_BYTES_MAX)
    try:
        return content.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _read(name: str) -> tuple[dict[str, Any], list[Problem]]:
    """The mapping in a file, and the keys defined twice. Raises ValueError with the whole line to show."""
    try:
        text = _bounded(Path(name), FILE_BYTES_MAX).decode("utf-8-sig")
        data, repeated = read_yaml(text)
    except OSError as error:
        raise ValueError(f"{name}: cannot be read: {error.strerror or type(error).__name__}") from None
    except YamlMistake as mistake:
        raise ValueError(f"{name}:{mistake.line}: {mistake}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{name}:{line}: is not UTF-8") from None
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not isinstance(data, (dict, type(None))):
        raise ValueError(f"{name}:1: must be a mapping (key: value)")
    return data or {}, repeated


def _bounded(path: Path, bytes_max: int) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("is no file")  # a pipe could keep us waiting for ever
    with path.open("rb") as file:
        content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise ValueError(f"is larger than {bytes_max // 1024} KiB")
    return content
