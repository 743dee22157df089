"""What an entry costs, step by step, in one process without servers: `python benchmarks/steps.py`.

The steps are the line's own functions, each fed with what the one before it made, a page of 1000 at a time; what a page
made is freed before the next, as it is on the line. The figure is the best of many passes: the cost without the
machine's other business.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from time import perf_counter

import cramjam
from aiokafka.record.util import calc_crc32c
from source import PAGE_ENTRIES

from oplogbridge.codec.encode import Codec
from oplogbridge.codec.subjects import Filter
from oplogbridge.emulator import EmulatorSettings, Switches
from oplogbridge.emulator.backend import Backend
from oplogbridge.emulator.page import Query, read_answer, render
from oplogbridge.source.decode import PageDecoder
from oplogbridge.values import OFFSET_MAX, Event
from oplogbridge_sinks.kafka.records import lay_out
from oplogbridge_sinks.redis.wire import pack_event

PAGES = 40
PASSES = 25


def _bodies(entry_bytes: int) -> list[bytes]:
    backend = Backend(EmulatorSettings(entries=PAGES * PAGE_ENTRIES, entry_bytes=entry_bytes))
    backend.fill()
    bodies, start, switches = [], 0, Switches()
    for _ in range(PAGES):
        query = Query(start, OFFSET_MAX, PAGE_ENTRIES, tail=False, sequence_ids=True)
        answer = read_answer(backend.log, query, switches)
        bodies.append(render(answer, query, switches, backend.datamodel_hash))
        start = answer.next_start
    return bodies


def _records(events: list[Event]) -> bytearray:
    records = bytearray()
    lay_out(records, events, 0, 64 << 20)
    return records


def _best_us(step: Callable[[int], object]) -> float:
    best_seconds = float("inf")
    for _ in range(PASSES):
        begun = perf_counter()
        for page in range(PAGES):
            step(page)
        best_seconds = min(best_seconds, perf_counter() - begun)
    return best_seconds / (PAGES * PAGE_ENTRIES) * 1e6


def measure(entry_bytes: int) -> None:
    decoder, codec = PageDecoder(), Codec(source="bench", format="cloudevents", filter=Filter("bench"))
    bodies = _bodies(entry_bytes)
    pages = [decoder.decode(body, 0) for body in bodies]
    binary = Codec(source="bench", format="cloudevents", filter=Filter("bench"), binary="ce_")
    events = [codec.events(page) for page in pages]
    binary_events = [binary.events(page) for page in pages]
    payloads = [b"".join([event.payload for event in of_one]) for of_one in events]
    packed = [cramjam.zstd.compress(payload, level=1) for payload in payloads]
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)  # as `oplog-bridge run` does
    steps: list[tuple[str, Callable[[int], object]]] = [
        ("decode a page, checked", lambda page: decoder.decode(bodies[page], 0)),
        ("encode CloudEvents", lambda page: codec.events(pages[page])),
        ("both, as the line does", lambda page: codec.events(decoder.decode(bodies[page], 0))),
        ("Kafka: lay out records", lambda page: _records(events[page])),
        ("encode, binary mode", lambda page: binary.events(pages[page])),
        ("Kafka: lay out records, binary mode", lambda page: _records(binary_events[page])),
        ("Kafka: compress, zstd level 1", lambda page: cramjam.zstd.compress(payloads[page], level=1)),
        ("Kafka: checksum of what is sent", lambda page: calc_crc32c(bytes(packed[page]))),
        ("Redis: pack the arguments", lambda page: b"".join([pack_event(event) for event in events[page]])),
        ("file: join the lines", lambda page: b"\n".join([event.payload for event in events[page]])),
    ]
    size = sum(map(len, payloads)) / (PAGES * PAGE_ENTRIES)
    part = sum(map(len, packed)) / sum(map(len, payloads))
    print(f"entries of {entry_bytes} B become events of {size:.0f} B, {part:.0%} of that compressed\n")
    print("| step | µs/entry |\n| --- | ---: |")
    for name, step in steps:
        print(f"| {name} | {_best_us(step):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What an entry costs, step by step.")
    parser.add_argument("--entry-bytes", type=int, default=500)
    measure(parser.parse_args().entry_bytes)
