"""How fast, at what cost, against whom: `make bench`, or `python benchmarks/bench.py --help`.

Everything is measured in one run, one after the other, on servers of its own: each sink behind, beside its client alone
in turns (A B A B A B, medians), then the live tail; with --peers also another bridge at the same source and servers;
with --soak the memory over five million entries and nothing else. docs/performance.md says how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
from array import array
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import fleet
import latency
import machine
import report
import soak
import yaml
from arrived import compare
from child import ROOT, Failed, bridge_command, child, script
from destinations import WEBHOOK_SECRET, Destination, KafkaTopic, LineFile, NatsStream, RedisStream, Webhook
from latency import Arrival, Latency
from measure import Run, Watch, measure_client, measure_reader
from peers import command as peer_command
from peers import routes
from source import Source

from services import KafkaServer, MissingServer, NatsServer, RedisServer

SINKS = ("kafka", "redis", "nats", "file", "webhook")
PAGES_A_WRITE = {"kafka": 4, "redis": 2, "nats": 1, "file": 4}  # what the sinks' traits and the hand-off come to
WEBHOOKS = {  # row: the sink's options, the client's, and how many entries: one by one, all would take minutes
    "webhook": ({}, [], 40_000),
    "webhook, by key": ({"ordering": "key"}, ["--at-once", "100"], 40_000),
    "webhook, batches of 100": ({"batch_max": 100}, ["--batch", "100"], None),
}
SOAK_ENTRIES, SOAK_ENTRY_BYTES = 5_000_000, 220
LATENCY_WARM_SECONDS, LATENCY_SECONDS = 2.0, 12.0


@dataclass(slots=True)
class Bench:
    """The servers, the directory and the source of one run of this program."""

    directory: Path
    kafka: KafkaServer | None
    redis: RedisServer | None
    nats: NatsServer | None
    source: Source
    sequences: array[int]
    made: int = 0
    runs: dict[str, list[Run]] = field(default_factory=dict)

    def destination(self, kind: str, *, expected: int | None = None) -> Destination:
        """Under a name that was not used before."""
        self.made += 1
        name, expected = f"bench-{self.made}", len(self.sequences) if expected is None else expected
        if kind == "kafka":
            assert self.kafka is not None
            return KafkaTopic(self.kafka, name, expected)
        if kind == "redis":
            assert self.redis is not None
            return RedisStream(self.redis, name, expected)
        if kind == "nats":
            assert self.nats is not None
            return NatsStream(self.nats, name, expected)
        if kind in WEBHOOKS:
            return Webhook(self.directory, name, expected, WEBHOOKS[kind][0])
        return LineFile(self.directory, name, expected)

    def wanted(self, kind: str) -> Sequence[int]:
        """The sequences that a run delivers: the last of the source's."""
        entries = WEBHOOKS[kind][2] if kind in WEBHOOKS else None
        return self.sequences if entries is None else self.sequences[-entries:]

    def config(
        self,
        destination: Destination,
        source_url: str,
        *,
        poll_interval: str = "0s",
        plain: bool = False,
        start: Any = "earliest",
    ) -> Path:
        """`plain`: the entry as received, uncompressed, which is what the peer writes."""
        sink, format_ = destination.sink(), "raw" if plain else "cloudevents"
        if plain and destination.kind == "kafka":
            sink["compression"] = "none"
        settings = {
            "name": destination.name,
            "state": f"sqlite:///{self.directory / destination.name}.db",
            "sources": {"bench": {"url": source_url, "poll_interval": poll_interval}},
            "pipelines": {"bench": {"source": "bench", "format": format_, "sink": sink, "start": start}},
        }
        path = self.directory / f"{destination.name}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    async def bridge(self, kind: str, *, one_page: bool = False, plain: bool = False) -> Run:
        wanted = self.wanted(kind)
        async with self.destination(kind) as destination:
            config = self.config(destination, self.source.url, plain=plain, start=str(wanted[0]))
            command = script("one_page.py", str(config)) if one_page else bridge_command(config)
            return await self._reader(destination, command, wanted)

    async def peer(self, kind: str) -> Run:
        async with self.destination(kind) as destination:
            config = self.directory / f"{destination.name}.yaml"
            config.write_text(routes(self.source.url, destination, self.directory))
            return await self._reader(destination, peer_command(config), self.sequences, ends_itself=False)

    async def _reader(
        self, destination: Destination, command: list[str], wanted: Sequence[int], *, ends_itself: bool = True
    ) -> Run:
        await self.source.forget_requests()
        async with child(destination.name, command, self.directory) as process:
            watch = await measure_reader(process, destination, ends_itself=ends_itself)
        begun, ended = (await self.source.served())[0].at, watch.reached(watch.samples[-1].end)
        return watch.run(begun, ended, await compare(wanted, destination.stored()))

    async def client(self, kind: str, *, pages: int = 1) -> Run:
        wanted, options = self.wanted(kind), WEBHOOKS[kind][1] if kind in WEBHOOKS else []
        async with self.destination(kind) as destination:
            command = script("client_alone.py", destination.kind, "--source", self.source.url, "--pages", str(pages))
            command += [*_where(destination), *options, "--last", str(len(wanted))]
            async with child(destination.name, command, self.directory) as process:
                watch, begun, ended = await measure_client(process, destination)
            return watch.run(begun, ended, await compare(wanted, destination.stored()))

    async def row(self, name: str, run: Run) -> None:
        self.runs.setdefault(name, []).append(run)
        say(f"  {name:<36} {run.entries_per_second:>9,.0f}/s  {run.cpu_us_per_entry:5.1f} us  {run.arrived}")


def _where(destination: Destination) -> list[str]:
    if isinstance(destination, KafkaTopic):
        checkpoint = destination.checkpoint_topic
        return ["--url", destination.bootstrap_servers, "--into", destination.name, "--checkpoint", checkpoint]
    if isinstance(destination, (RedisStream, NatsStream)):
        return ["--url", destination.url, "--into", destination.name]
    if isinstance(destination, Webhook):
        return ["--url", destination.url, "--secret", WEBHOOK_SECRET]
    assert isinstance(destination, LineFile)
    return ["--into", str(destination.path)]


async def behind(bench: Bench, kinds: Sequence[str], *, rounds: int, peers: bool) -> None:
    """Bridge, client alone, one page a write, peer: in turns, so that a slow minute hits all of them."""
    kinds = [kind for one in kinds for kind in (WEBHOOKS if one == "webhook" else [one])]
    for kind in kinds:
        say(f"{kind}, {len(bench.wanted(kind)):,} entries behind")
        await bench.bridge(kind)  # the server's first run: not counted
        for _ in range(rounds):
            await bench.row(kind, await bench.bridge(kind))
            await bench.row(f"{kind} client alone", await bench.client(kind, pages=PAGES_A_WRITE.get(kind, 1)))
            if kind == "kafka":
                await bench.row("kafka, one page a write", await bench.bridge(kind, one_page=True))
                await bench.row("kafka client alone, one page a write", await bench.client(kind, pages=1))
            if peers and kind in ("kafka", "redis"):
                await bench.row(f"{kind}, plain", await bench.bridge(kind, plain=True))
                await bench.row(f"{kind} by a peer", await bench.peer(kind))


async def live(bench: Bench, kinds: Sequence[str]) -> dict[str, Latency]:
    """The tail of a source that is written to all the time."""
    found = {}
    for kind in kinds:
        arrived: list[Arrival] = []
        options = ["--rate", str(latency.RATE_PER_SECOND), "--entry-bytes", "500"]
        async with started_source(bench.directory, *options) as source, bench.destination(kind) as destination:
            config = bench.config(destination, source.url, poll_interval=latency.POLL_INTERVAL)
            command = [part for part in bridge_command(config) if part != "--until-caught-up"]
            async with child(destination.name, command, bench.directory):
                consuming = asyncio.create_task(_consume(destination, arrived))
                while not arrived and not consuming.done():
                    await asyncio.sleep(0.05)
                since = monotonic() + LATENCY_WARM_SECONDS
                await asyncio.sleep(LATENCY_WARM_SECONDS + LATENCY_SECONDS)
                consuming.cancel()
                await asyncio.wait([consuming])
                if not consuming.cancelled():
                    consuming.result()  # it ended before it was told to
                found[kind] = latency.latency_of(arrived, await source.served(), since=since)
        say(f"  {kind:<8} {found[kind]}")
    return found


async def _consume(destination: Destination, arrived: list[Arrival]) -> None:
    async for part in latency.arrivals(destination):
        arrived.extend(part)


async def soaked(bench: Bench, *, entries: int) -> soak.Growth:
    options = ["--entries", str(entries), "--entry-bytes", str(SOAK_ENTRY_BYTES)]
    async with started_source(bench.directory, *options) as source, bench.destination("kafka") as destination:
        config = bench.config(destination, source.url)
        async with child(destination.name, bridge_command(config), bench.directory) as process:
            watch: Watch = await measure_reader(process, destination)
        served = await source.served()
        return soak.growth_of(watch.samples, served[0].at, watch.reached(watch.samples[-1].end), entries)


@contextlib.asynccontextmanager
async def started_source(directory: Path, *options: str) -> AsyncIterator[Source]:
    async with child("source", script("source.py", *options), directory) as process:
        yield Source(await process.line())


async def run(arguments: argparse.Namespace) -> int:
    kinds = ["kafka"] if arguments.soak else [kind for kind in SINKS if kind in arguments.sinks.split(",")]
    kinds = [] if arguments.fleet_only else kinds
    about = machine.lines(peers=arguments.peers)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oplog-bench-")))
        kafka = stack.enter_context(KafkaServer()).start(heap_max="512m") if "kafka" in kinds else None
        redis = stack.enter_context(RedisServer()).start() if "redis" in kinds or arguments.fleet else None
        nats = stack.enter_context(NatsServer()).start() if "nats" in kinds else None
        options = ["--entries", str(arguments.entries), "--entry-bytes", str(arguments.entry_bytes), "--prepared"]
        async with started_source(directory, *options) as source:
            sequences = await source.sequences()
            if arguments.peers:
                await source.prepare_for_peers(sequences)
            bench = Bench(directory, kafka, redis, nats, source, sequences)
            result: dict[str, Any] = {"about": about, "entries": len(sequences), "entry_bytes": arguments.entry_bytes}
            if arguments.fleet_only:
                pass
            elif arguments.soak:
                result["growth"] = await soaked(bench, entries=arguments.soak_entries)
            else:
                await behind(bench, kinds, rounds=arguments.rounds, peers=arguments.peers)
                say("live tail")
                result["latencies"] = await live(bench, [kind for kind in kinds if kind != "webhook"])
            if not arguments.soak and arguments.fleet:
                say(f"{arguments.fleet:,} idle sources")
                assert redis is not None
                result["fleet"] = await fleet.measured(directory, arguments.fleet, redis.url)
            result["runs"] = bench.runs
    text = report.tables(result)
    print(text)
    if arguments.out != "none":
        path = report.write(ROOT / arguments.out, text, about, _command(arguments))
        say(f"written to {path}: add what you observed")
    kept = all(idle.keeps_its_word for idle in result.get("fleet", []) if idle.ended_seconds is not None)
    return 0 if report.all_delivered(bench.runs) and kept else 1


def _command(arguments: argparse.Namespace) -> str:
    return " ".join(["benchmarks/bench.py", *sys.argv[1:]])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast oplog-bridge is here, and against whom.")
    parser.add_argument("--entries", type=int, default=400_000)
    parser.add_argument("--entry-bytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sinks", default=",".join(SINKS))
    parser.add_argument("--peers", action="store_true", help="also mq-bridge: pip install 'oplog-bridge[bench]'")
    parser.add_argument("--fleet", type=int, default=1_000, help="so many idle sources in one process; 0: not measured")
    parser.add_argument("--fleet-only", action="store_true", help="nothing but the idle sources")
    parser.add_argument("--soak", action="store_true", help="memory over a long catch-up into Kafka, and nothing else")
    parser.add_argument("--soak-entries", type=int, default=SOAK_ENTRIES)
    parser.add_argument("--out", default="benchmarks/results", help="directory for the results, or none")
    try:
        return asyncio.run(run(parser.parse_args()))
    except (Failed, MissingServer) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
