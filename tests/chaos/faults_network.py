"""What happens on the wire between the bridge and the destination, or between the bridge and its state store."""

from __future__ import annotations

from collections.abc import Callable

import rig
from chaos.background import Wire
from chaos.line import Line
from oplogbridge.testing.proxy import Direction

Strike = Callable[[Line], None]
Pick = Callable[[Line], Wire]
HOLD_SECONDS = 4.0  # longer than the lease, longer than most of the clients' time-outs
CUT_BYTES_MAX = 60_000
ANSWER_BYTES_MAX = 300


def to_destination(line: Line) -> Wire:
    assert line.destination.wire is not None
    return line.destination.wire


def to_store(line: Line) -> Wire:
    assert line.store_wire is not None
    return line.store_wire


def cut(pick: Pick) -> Strike:
    """The connection is reset in the middle of what is sent, after a random number of bytes; or of the answer."""

    def strike(line: Line) -> None:
        line.start()
        for number in line.struck():
            wire = pick(line)
            answer = number % 4 == 3
            direction: Direction = "downstream" if answer else "upstream"
            bytes_max = ANSWER_BYTES_MAX if answer else CUT_BYTES_MAX
            happened = wire.cut_after(direction, line.moments.randrange(1, bytes_max))
            with line.recovery():
                while not wire.happened(happened, 0.2):
                    line.work()

    return strike


def answer_lost(pick: Pick, request: Callable[[bytes], bool] = bool) -> Strike:
    """Such a request arrives and is carried out; its answer never comes."""

    def strike(line: Line) -> None:
        line.start()
        for _ in line.struck():
            wire = pick(line)
            dropped = wire.reset_before_reply(request)
            line.work(100)
            assert wire.happened(dropped, rig.WITHIN_SECONDS), "nothing was sent"
            line.recovered()

    return strike


def stall(pick: Pick) -> Strike:
    """Connections stay open and nothing passes, in both directions, then in one, then in the other."""
    return _held(pick, Wire.stall, lambda wire: wire.stall("downstream"), lambda wire: wire.stall("upstream"))


def slow(pick: Pick) -> Strike:
    """20 kB a second, and no more."""
    return _held(pick, lambda wire: wire.slow(20_000))


def refuse(pick: Pick) -> Strike:
    """What is open is reset, and nobody listens."""

    def harm(wire: Wire) -> None:
        wire.refuse()
        wire.cut()

    return _held(pick, harm)


def _held(pick: Pick, *harms: Callable[[Wire], None]) -> Strike:
    """Each of them for a while, and then the wire is whole again."""

    def strike(line: Line) -> None:
        line.start()
        for _ in line.struck():
            for harm in harms:
                wire = pick(line)
                harm(wire)
                line.works_for(HOLD_SECONDS)
                wire.heal()
                line.recovered()

    return strike
