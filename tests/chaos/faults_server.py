"""What happens to the destination's server as a process."""

from __future__ import annotations

from chaos.line import Line

DOWN_SECONDS = 30.0
FROZEN_SECONDS = 6.0


def kill(line: Line) -> None:
    """SIGKILL in the middle of a write, and a start with the same data."""
    line.start()
    for _ in line.struck():
        line.destination.kill()
        line.destination.restart()
        line.recovered()


def down(line: Line) -> None:
    """It is away for 30 seconds while the source goes on."""
    line.start()
    for _ in line.struck():
        line.destination.kill()
        for _part in range(3):
            line.works_for(DOWN_SECONDS / 3)
        line.destination.restart()
        line.recovered()


def freeze(line: Line) -> None:
    """SIGSTOP: connections stay open and nothing answers, and then everything does."""
    line.start()
    for _ in line.struck():
        line.destination.server.pause()
        line.works_for(FROZEN_SECONDS)
        line.destination.server.resume()
        line.recovered()
