"""What happens to the bridge: killed at any moment, killed at chosen points, frozen beyond its lease."""

from __future__ import annotations

import signal

import rig
from chaos.line import Line


def kill(line: Line) -> None:
    """SIGKILL at random moments."""
    line.start()
    for _ in line.struck():
        line.restarted()


def kill_at_points(line: Line) -> None:
    """SIGKILL right behind: the lease was taken, the sink opened, a write arrived whose answer did not, a save arrived
    whose answer did not, SIGTERM asked for a drain."""
    line.start()
    points = ["lease held", "pipeline open", "save sent", "draining"] + ["write sent"] * (
        line.destination.wire is not None
    )
    for number in line.struck():
        point = points[number % len(points)]
        if point in ("lease held", "pipeline open"):
            line.bridge.kill()
            mark = line.mark()
            line.bridge.start()
            line.said_since(mark, point)
        elif point == "draining":
            mark = line.mark()
            line.bridge.signal(signal.SIGTERM)
            line.bridge.exited(line.moments.uniform(0.0, 0.05))  # it may be done: then it is no kill, and as well
        else:
            wire = line.destination.wire if point == "write sent" else line.store_wire
            assert wire is not None
            dropped = wire.reset_before_reply()
            line.work()
            assert wire.happened(dropped, rig.WITHIN_SECONDS), f"no {point}"
        line.restarted()


def freeze(line: Line) -> None:
    """SIGSTOP beyond the lease, while a standby takes over; it wakes up in the middle of what it was doing."""
    line.start()
    line.standby = line.instance("standby")
    line.standby.start()
    line.standby.logged("waiting for the lease")
    for _ in line.struck():
        frozen, other = line.bridge, line.standby
        assert other is not None
        line.bridge, line.standby = other, frozen  # from now on the other one is who is to deliver
        mark = line.mark()
        frozen.signal(signal.SIGSTOP)
        if line.destination.kind == "file":  # its lock cannot be taken away: the successor waits, and says so
            line.said_since(mark, "lease held")
            frozen.signal(signal.SIGCONT)
            line.recovered()
        else:
            with line.recovery():
                line.said_since(mark, "lease held")
            frozen.signal(signal.SIGCONT)
        line.gave_up(frozen)
    line.standby.kill()
    line.note("the standby took over" if line.destination.kind != "file" else "the standby waited for the file's lock")
