"""The JourneyApps backend API as a real server, for the demo, for tests and for the integration of consumers.

The way of a request: `app` (routes, credentials, faults) asks `page` (parameters to bytes), which reads the `log`
(rows of sequence and encoded body). `misread` bends what `page` does when `faults` ordered it. What is in the log comes
from `workload` (seeded) and `history` (also JSON Lines), or from `Emulator.append`. docs/emulator.md is the manual.
"""

from oplogbridge.emulator.faults import Fault, FaultQueue
from oplogbridge.emulator.requests import Request, RequestLog
from oplogbridge.emulator.server import Emulator, serve
from oplogbridge.emulator.settings import EmulatorSettings
from oplogbridge.emulator.switches import Switches

__all__ = ["Emulator", "EmulatorSettings", "Fault", "FaultQueue", "Request", "RequestLog", "Switches", "serve"]
