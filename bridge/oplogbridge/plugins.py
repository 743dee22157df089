"""Finds sinks by the entry-point group `oplogbridge.sinks`: ours are plug-ins like anyone's.

Only the one that is asked for is imported, so nobody needs the client library of a sink that they do not use.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from oplogbridge.errors import ConfigError
from oplogbridge.nearest import hint
from oplogbridge.sink import SinkPlugin

GROUP = "oplogbridge.sinks"


def sink_kinds() -> dict[str, str]:
    """The kinds of sinks that are installed, sorted, and the distribution that each comes from."""
    return {name: ", ".join(_distributions(found)) for name, found in sorted(_by_kind().items())}


def load_plugin(kind: str) -> SinkPlugin:
    """Import the sink of this kind.

    Raises:
        ConfigError: There is none, it needs an extra, or two distributions offer it.
    """
    kinds = _by_kind()
    found = kinds.get(kind, [])
    if not found:
        raise _problem(f'unknown sink "{kind}"' + hint(kind, sorted(kinds)))
    if len(found) > 1:
        raise _problem(f'sink "{kind}" is offered by {" and by ".join(_distributions(found))}: uninstall one of them')
    try:
        plugin = found[0].load()
    except ModuleNotFoundError as error:
        raise _problem(_missing_module(found[0], error)) from error
    except Exception as error:  # whatever a third party's import does, it is one line here
        by = _distributions(found)[0]
        raise _problem(f'sink "{kind}" of {by} cannot be imported: {type(error).__name__}: {error}') from error
    if not isinstance(plugin, SinkPlugin) or plugin.kind != kind:
        raise _problem(f'sink "{kind}" of {_distributions(found)[0]}: {found[0].value} is no SinkPlugin of that kind')
    return plugin


def _by_kind() -> dict[str, list[EntryPoint]]:
    kinds: dict[str, list[EntryPoint]] = {}
    for found in entry_points(group=GROUP):
        same = kinds.setdefault(found.name, [])
        if not any(_place(other) == _place(found) for other in same):  # one package may be on the path twice
            same.append(found)
    return kinds


def _place(found: EntryPoint) -> tuple[str, str]:
    return found.dist.name if found.dist is not None else "", found.value


def _distributions(found: list[EntryPoint]) -> list[str]:
    return [entry.dist.name if entry.dist is not None else entry.value for entry in found]


def _missing_module(found: EntryPoint, error: ModuleNotFoundError) -> str:
    distribution = _distributions([found])[0]
    extras = found.dist.metadata.get_all("Provides-Extra") or [] if found.dist is not None else []
    own = error.name is not None and found.module.split(".")[0] == error.name.split(".")[0]
    if found.name in extras and not own:
        return f"sink \"{found.name}\" needs an extra: pip install '{distribution}[{found.name}]'"
    return f'sink "{found.name}" of {distribution} cannot be imported: {error}'


def _problem(text: str) -> ConfigError:
    return ConfigError("sinks", [text])
