"""What happens on the wire between the bridge and the destination, or between the bridge and its state store."""

from __future__ import annotations

from collections.abc import Callable

import rig
from chaos.background import Wire
from chaos.line import Line

Pick = Callable[[Line], "Wire | None"]
HOLD_SECONDS = 4.0  # longer than the lease, longer than most of the clients' time-outs
CUT_BYTES_MAX = 60_000


def to_destination(line: Line) -> Wire:
    assert line.destination.wire is not None
    return line.destination.wire


def to_store(line: Line) -> Wire:
    assert line.store_wire is not None
    return line.store_wire


def cut(pick: Callable[[Line], Wire]) -> Callable[[Line], None]:
    """The connection is reset in the middle of what is sent, after a random number of bytes; or of the answer."""

    def strike(line: Line) -> None:
        line.start()
        for number in line.struck():
            wire = pick(line)
            direction, bytes_max = ("downstream", 300) if number % 4 == 3 else ("upstream", CUT_BYTES_MAX)
            happened = wire.cut_after(direction, line.moments.randrange(1, bytes_max))  # type: ignore[arg-type]
            with line.recovery():
                while not wire.happened(happened, 0.2):
                    line.work()

    return strike


def answer_lost(pick: Callable[[Line], Wire]) -> Callable[[Line], None]:
    """The request arrives and is carried out; its answer never comes."""

    def strike(line: Line) -> None:
        line.start()
        for _ in line.struck():
            wire = pick(line)
            dropped = wire.reset_before_reply()
            line.work(100)
            assert wire.happened(dropped, rig.WITHIN_SECONDS), "nothing was sent"
            with line.recovery():
                pass

    return strike


def stall(pick: Callable[[Line], Wire]) -> Callable[[Line], None]:
    """Connections stay open and nothing passes, in both directions, then in one, then in the other."""

    def strike(line: Line) -> None:
        line.start()
        for _ in line.struck():
            for directions in ((), ("downstream",), ("upstream",)):
                wire = pick(line)
                wire.stall(*directions)  # type: ignore[arg-type]
                line.work()
                line.wait(HOLD_SECONDS)
                wire.heal()
                with line.recovery():
                    pass

    return strike


def slow(pick: Callable[[Line], Wire]) -> Callable[[Line], None]:
    """20 kB a second, and no more."""

    def strike(line: Line) -> None:
        line.start()
        for _ in line.struck():
            wire = pick(line)
            wire.slow(20_000)
            line.work()
            line.wait(HOLD_SECONDS)
            wire.heal()
            with line.recovery():
                pass

    return strike


def refuse(pick: Callable[[Line], Wire]) -> Callable[[Line], None]:
    """What is open is reset, and nobody listens."""

    def strike(line: Line) -> None:
        line.start()
        for _ in line.struck():
            wire = pick(line)
            wire.refuse()
            wire.cut()
            line.work()
            line.wait(HOLD_SECONDS)
            wire.heal()
            with line.recovery():
                pass

    return strike
