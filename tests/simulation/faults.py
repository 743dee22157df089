"""What goes wrong in a scenario, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from oplogbridge.source.start import Start
from simulation.loop import Process
from simulation.network import Server, Weather
from simulation.sinks import kafka, nats
from simulation.source import POLL_DEADLINE_SECONDS
from simulation.stores import StoreState

if TYPE_CHECKING:
    from simulation.scenario import Scenario

LATEST = Start("latest")
FAULTY_SECONDS = 45.0


class Faults:
    """What goes wrong in a scenario, drawn from its seed. Everything ends with the faulty time."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._random = scenario.random
        self.seconds = scenario.random.choice([15.0, 30.0, FAULTY_SECONDS])

    def schedule(self) -> None:
        random, scenario = self._random, self._scenario
        # Where `latest` is kept in the store alone, a store that forgets it loses what came since (docs/delivery.md).
        store_loses = scenario.start != LATEST or (
            scenario.kind.traits.holds_position and scenario.kind.keeps_bare_offset
        )
        kinds: list[tuple[Callable[[], None], int]] = [
            (self._kill, 5),
            (self._pause, 4),
            (self._stop, 2),
            (self._cut, 4),
            (self._server_down, 3),
            (self._bad_weather, 4),
            (self._odd_source, 3),
            (self._store_fails_over, 1 if store_loses else 0),
            (self._store_forgets, 1 if store_loses else 0),
            (self._store_forgets_offsets, 1 if store_loses else 0),
            (self._sink_fails_over, 1),
            (self._coordinator_forgets, 2),
            (self._messages_expire, 2),
            (self._somebody_writes, 1),
            (self._made_anew, 1),
            (self._clock_jumps, 2),
            (self._store_clock_jumps, 1),
        ]
        if scenario.one_that_lives:
            kinds = [(self._bad_weather, 2), (self._odd_source, 1), (self._store_forgets_offsets, 2), (self._blink, 2)]
        actions, weights = [kind for kind, _ in kinds], [weight for _, weight in kinds]
        for action in random.choices(actions, weights, k=random.randint(1, 7)):
            scenario.loop.call_by_world(random.random() * self.seconds, action)
        scenario.loop.call_by_world(self.seconds, self._end)

    def _end(self) -> None:
        scenario = self._scenario
        scenario.note("-- no more faults --")
        scenario.network.weather = Weather()
        scenario.network.cuts.clear()
        scenario.source.state.oddity = 0.0
        if scenario.store.old is not None:
            self._heal_store()
        for server in self._servers():
            server.is_up = True
            server.heal()
        for instance in scenario.instances:
            instance.process.resume()
            instance.clock.unix_ahead_seconds = 0.0

    def _kill(self) -> None:
        instance = self._random.choice(self._scenario.instances)
        self._scenario.note(f"** {instance.name} is killed")
        instance.process.kill()

    def _pause(self) -> None:
        instance = self._random.choice(self._scenario.instances)
        process, seconds = instance.process, self._random.choice([0.5, 3.0, 12.0, 20.0])
        self._scenario.note(f"** {instance.name} is stopped for {seconds} s")
        process.pause()
        self._scenario.loop.call_by_world(seconds, self._resume, instance.name, process)

    def _resume(self, name: str, process: Process) -> None:
        self._scenario.note(f"** {name} goes on")
        process.resume()

    def _stop(self) -> None:
        instance = self._random.choice(self._scenario.instances)
        if instance.runner is None or instance.process.is_dead:
            return
        self._scenario.note(f"** {instance.name} is asked to end")
        process, runner = instance.process, instance.runner

        def end() -> None:
            process.context.run(runner.stop)

        end()
        self._scenario.loop.call_by_world(self._random.choice([1.0, 10.0]), self._kill_one, process)

    def _kill_one(self, process: Process) -> None:
        process.kill()

    def _cut(self) -> None:
        scenario, random = self._scenario, self._random
        instance, server = random.choice(scenario.instances), random.choice(self._servers())
        there, back = (instance.name, server.name), (server.name, instance.name)
        cut = random.choice([{there}, {back}, {there, back}])
        seconds = random.choice([1.0, 6.0, 15.0])
        scenario.note(f"** cut for {seconds} s: {sorted(cut)}")
        scenario.network.cuts |= cut
        scenario.loop.call_by_world(seconds, scenario.network.cuts.difference_update, cut)

    def _server_down(self) -> None:
        server, seconds = self._random.choice(self._servers()), self._random.choice([1.0, 8.0])
        self._scenario.note(f"** {server.name} is down for {seconds} s")
        server.is_up = False

        def up() -> None:
            server.is_up = True

        self._scenario.loop.call_by_world(seconds, up)

    def _bad_weather(self) -> None:
        random = self._random
        often = [0, 5] if self._scenario.one_that_lives else [0, 10, 30]
        weather = Weather(random.choice(often), random.choice(often), random.choice(often[:2]))
        self._scenario.note(f"** {weather}")
        self._scenario.network.weather = weather

        def better() -> None:
            self._scenario.network.weather = Weather()

        self._scenario.loop.call_by_world(random.choice([3.0, 12.0]), better)

    def _odd_source(self) -> None:
        self._scenario.source.state.oddity = self._random.choice([20.0, 50.0])

    def _store_fails_over(self) -> None:
        scenario = self._scenario
        missed = self._random.randint(0, 4)
        old = scenario.store.state
        scenario.note(f"** the store fails over to a replica that missed {missed} changes")
        scenario.store.state = old.behind(missed)
        self._lose_store()
        if self._random.random() < 0.5:
            cut_off = frozenset({self._random.choice(scenario.instances).name})
            scenario.note(f"** {sorted(cut_off)} still reaches the old primary")
            scenario.store.split(old, cut_off)
            scenario.loop.call_by_world(self._random.choice([3.0, 15.0]), self._heal_store)

    def _heal_store(self) -> None:
        self._scenario.store.heal()
        self._lose_store()

    def _store_forgets(self) -> None:
        self._scenario.note("** the store forgets everything")
        self._scenario.store.state = StoreState(self._scenario.store_clock)
        self._lose_store()

    def _store_forgets_offsets(self) -> None:
        self._scenario.note("** the store forgets the offsets")
        self._scenario.store.state.memory.offsets.clear()
        self._lose_store()

    def _blink(self) -> None:
        """Away for so short a time that no lease runs out."""
        server = self._random.choice(self._servers())
        self._scenario.note(f"** {server.name} is away for a moment")
        server.is_up = False
        self._scenario.loop.call_by_world(0.4, setattr, server, "is_up", True)

    def _lose_store(self) -> None:
        self._scenario.oracle.store_lossless = False
        self._two_may_poll()

    def _two_may_poll(self) -> None:
        scenario = self._scenario
        # Its lease, and a poll that is under way; docs/delivery.md: after that nobody polls beside the holder.
        patience = scenario.lease_ttl_seconds + POLL_DEADLINE_SECONDS + 1.0
        scenario.oracle.two_may_poll_until = scenario.loop.now + patience

    def _sink_fails_over(self) -> None:
        scenario = self._scenario
        line = self._random.choice(scenario.oracle.lines)
        if not line.kind.fails_over:
            return
        missed = self._random.randint(1, 4)
        server = line.place.server
        old = server.state
        scenario.note(f"** {server.name} fails over to a replica that missed {missed} writes")
        server.state = old.behind(missed)
        line.lossless = False
        line.tainted = line.kind.traits.holds_position and server.state.offset() is None
        if self._random.random() < 0.5:
            cut_off = frozenset({self._random.choice(scenario.instances).name})
            scenario.note(f"** {sorted(cut_off)} still reaches the old primary")
            server.split(old, cut_off)
            scenario.loop.call_by_world(self._random.choice([3.0, 15.0]), server.heal)

    def _coordinator_forgets(self) -> None:
        line = self._random.choice(self._scenario.oracle.lines)
        state = line.place.server.state
        if isinstance(state, kafka.KafkaState):
            count = self._random.randint(1, kafka.PARTITIONS + 1)
            state.forgets = self._random.sample(range(kafka.PARTITIONS + 1), count)
            self._scenario.note(f"** the coordinator will forget the end of a transaction in {state.forgets}")

    def _messages_expire(self) -> None:
        line = self._random.choice(self._scenario.oracle.lines)
        state = line.place.server.state
        if isinstance(state, nats.NatsState):
            self._scenario.note(f"** the messages of {line.place.server.name} expire")
            state.expire()
            # What came after the last save, or with a store that forgot, nobody can know of: a person is asked.
            line.tainted = True

    def _somebody_writes(self) -> None:
        line = self._random.choice(self._scenario.oracle.lines)
        if line.tainted:
            return  # into a stream made anew, up to the number where ours stood: no expectation tells (docs/sinks.md)
        self._scenario.note(f"** somebody else writes into {line.place.server.name}")
        line.place.server.state.write_foreign()
        line.stops = line.stops or line.kind.stops_for_foreign

    def _made_anew(self) -> None:
        line = self._random.choice(self._scenario.oracle.lines)
        if not line.kind.traits.holds_position:
            return  # a receiver cannot be told from another one
        self._scenario.note(f"** {line.place.server.name} is deleted and made anew")
        line.place.server.state = line.place.server.state.recreated()
        line.tainted, line.lossless = True, False

    def _clock_jumps(self) -> None:
        """Of one machine, as time servers and suspended laptops do it."""
        scenario = self._scenario
        instance = self._random.choice(scenario.instances)
        # One that runs ahead would end the wait of `settle`, which trusts it, too soon (docs/source.md).
        ahead = [-3600.0, -2.0] if scenario.settle_seconds else [-3600.0, -2.0, 2.0, 3600.0]
        instance.clock.unix_ahead_seconds = self._random.choice(ahead)
        scenario.note(f"** the clock of {instance.name} is {instance.clock.unix_ahead_seconds:+g} s off")

    def _store_clock_jumps(self) -> None:
        scenario = self._scenario
        seconds = self._random.choice([-20.0, 20.0])
        scenario.note(f"** the store's clock jumps by {seconds:+g} s")
        scenario.store_clock.ahead_seconds += seconds
        if seconds > 0:  # leases end before their time
            self._two_may_poll()

    def _servers(self) -> list[Server[Any]]:
        scenario = self._scenario
        places = [place.server for line in scenario.oracle.lines for place in (line.place, line.letters)]
        return [scenario.source, scenario.store, *places]
