"""JSON Lines in a local file: exactly once, in order. See `sink` for the promise, `log` for the steps."""

from oplogbridge_sinks.file.settings import FileSettings
from oplogbridge_sinks.file.sink import FileSink, plugin

__all__ = ["FileSettings", "FileSink", "plugin"]
