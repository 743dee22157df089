"""What a receiver can answer."""

from __future__ import annotations

from chaos.destinations import WebhookDestination
from chaos.line import Line
from receiver import Answer, Post, never

LATER = {"Retry-After": "1"}
WRONG = (
    Answer(500),
    Answer(502, text="<html>"),
    Answer(503, LATER),
    Answer(429, LATER),
    Answer(429),
    Answer(301, {"Location": "http://127.0.0.1:1/"}),
    Answer(302, {"Location": "/elsewhere"}),
    Answer(304),
    Answer(202, {"Oplog-Ack": "+WPI"}),
    Answer(204, lost=True),
)


def every_wrong_answer(line: Line) -> None:
    """One request in twenty is answered wrongly, in every way that passes; and some never."""
    destination = line.destination
    assert isinstance(destination, WebhookDestination)
    receiver = destination.receiver
    given: list[int] = []

    def decide(_: Post) -> Answer | None:
        if line.moments.random() > 0.05 or len(given) >= line.times * len(WRONG):
            return None
        given.append(1)
        return never() if line.moments.random() < 0.05 else WRONG[len(given) % len(WRONG)]

    line.start()
    receiver.decide = decide
    for _ in line.struck():
        with line.recovery():
            line.work(300)
    line.note(f"{len(given)} wrong answers of {len(WRONG) + 1} kinds")


def gone(line: Line) -> None:
    """410: gone for good. The pipeline stops and says so; when the receiver is there again, a restart goes on."""
    destination = line.destination
    assert isinstance(destination, WebhookDestination)
    line.start()
    for _ in line.struck():
        mark = line.mark()
        destination.receiver.decide = lambda _: Answer(410)
        line.work()
        line.said_since(mark, "pipeline stopped")
        destination.receiver.decide = lambda _: None
        line.restarted()
    line.note("stops and says so")
