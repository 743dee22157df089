"""Proof that the oracle bites: the code broken on purpose, and for each way a seed whose scenario shows it.

    python -m simulation --mutants      # from `tests/`: finds the first seed that kills each, and prints the list anew

The first thirteen are those of the protocol's check; the others are ours. A mutant is a change of a function's source
text, so it fails loudly when that text is no longer there.
"""

from __future__ import annotations

import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from oplogbridge import beliefs, choice, dead_letters, delivery, lanes, lease
from oplogbridge.source import reader, settle
from oplogbridge.state import kept
from oplogbridge.state.memory import MemoryStateStore
from simulation.oracle import Violation
from simulation.scenario import Scenario
from simulation.sinks import file, kafka, nats, redis
from simulation.sinks.place import Kind

SEEDS_MAX = 20_000  # of a search


@dataclass(frozen=True)
class Mutant:
    name: str
    function: Callable[..., Any]
    was: str
    becomes: str
    seed: int  # kills it
    kinds: tuple[Kind, ...] = ()  # where it can show; else anywhere


MUTANTS = [
    Mutant(
        "the offset is saved before the write",
        delivery.Delivery._write,
        "self._position = await self._sink.write(batch)",
        "await self.save(part.next_offset)\n            self._position = await self._sink.write(batch)",
        0,
    ),
    Mutant(
        "work goes on from the stored offset, not from the destination's",
        choice.choose_offset,
        "return GoOn(position.offset)  # a crash between write and save",
        "return GoOn(stored.offset)",
        18,
    ),
    Mutant(
        "a save needs neither a token nor what it replaces",
        MemoryStateStore.save,
        """self._fence(source, token)
    expected = None if replacing is None else replacing.to_text()
    if self.memory.offsets.get(pipeline) != expected:""",
        "if False:",
        620,
    ),
    Mutant(
        "the position is read before the predecessor is fenced",
        kafka.SimulatedKafka.open,
        'self._producer, last = await self._ask("begin epoch", KafkaState.begin_epoch)',
        """self._offset = await self._ask("checkpoint", KafkaState.checkpoint)
    self._producer, last = await self._ask("begin epoch", KafkaState.begin_epoch)
    return self._position(self._offset)""",
        10,
        (kafka.KIND,),
    ),
    Mutant(
        "tokens have no nonce",
        kept.token,
        "{nonce}",
        "",
        1026,
    ),
    Mutant(
        "Kafka without a fence",
        kafka.KafkaState._checked,
        "if epoch != self.epoch:",
        "if False:",
        30,
        (kafka.KIND,),
    ),
    Mutant(
        "NATS without an expectation",
        nats.NatsState.write,
        "if expected != self.last_sequence:",
        "if False:",
        0,
        (nats.KIND,),
    ),
    Mutant(
        "Redis without a look at the offset",
        redis.RedisState.write,
        "if from_offset != self.kept_offset:",
        "if False:",
        30,
        (redis.KIND,),
    ),
    Mutant(
        "a file's torn end is not cut off",
        file.FileState.open,
        "del self.lines[self.count :]",
        "pass",
        2,
        (file.KIND,),
    ),
    Mutant(
        "a file's lock outlives its holder",
        file.FileState.open,
        "and not self.holder.is_dead",
        "",
        7,
        (file.KIND,),
    ),
    Mutant(
        "memory is trusted after an ambiguous answer",
        kafka.SimulatedKafka._transaction,
        'await self._ask(f"commit to {offset}", lambda state: state.commit(producer))',
        'with __import__("contextlib").suppress(Unavailable):\n'
        '        await self._ask(f"commit to {offset}", lambda state: state.commit(producer))',
        30,
        (kafka.KIND,),
    ),
    Mutant(
        "the mark is ignored when the destination went back",
        choice.choose_offset,
        "if mark_of(position) == stored.mark:",
        "if True:",
        18,
    ),
    Mutant(
        "an orphaned transaction is always aborted",
        kafka.SimulatedKafka.open,
        "commit = outcome_is_commit(orphans, last, offset or 0, visible)",
        "commit = False",
        10,
        (kafka.KIND,),
    ),
    Mutant(
        "a lease counts from its answer",
        lease.Lease._renew,
        "self.valid_until = sent_at + self.ttl_seconds",
        "self.valid_until = self.clock.monotonic() + self.ttl_seconds",
        180,
    ),
    Mutant(
        "a new holder polls at once",
        reader.Reader.__init__,
        "self._not_before = clock.monotonic() + poll_interval_seconds",
        "self._not_before = clock.monotonic()",
        33,
    ),
    Mutant(
        "nobody looks at the lease before a poll",
        lease.Lease.check,
        "if self.clock.monotonic() >= self.valid_until:",
        "if False:",
        1,
    ),
    Mutant(
        "a save that is late replaces what came after it",
        MemoryStateStore.save,
        "if self.memory.offsets.get(pipeline) != expected:",
        "if False:",
        620,
    ),
    Mutant(
        "`latest` is resolved again when the store forgot it",
        delivery.Delivery.open,
        "known = stored if stored is not None else self.saved",
        "known = stored",
        230,
    ),
    Mutant(
        "a resolved start is not put into the destination",
        delivery.Delivery.open,
        "if position is None and spec.traits.holds_position:",
        "if False:",
        1,
    ),
    Mutant(
        "what was chosen is not saved before the first poll",
        delivery.Delivery.open,
        "await self.save(offset)",
        "pass",
        0,
    ),
    Mutant(
        "a malformed entry is passed over",
        delivery.Delivery.deliver,
        "await self._refusals.malformed(malformed)",
        "pass",
        0,
    ),
    Mutant(
        "a letter that is there already is written again",
        dead_letters.DeadLetters.keep,
        "if self._position is not None and self._position.offset > sequence:",
        "if False:",
        3,
    ),
    Mutant(
        "nobody looks whether the destination lost what stood before a refused event",
        beliefs.position_before,
        "if not as_promised:",
        "if False:",
        692,
    ),
    Mutant(
        "an idle line does not look after its destination",
        beliefs.check_both,
        "if found != position:",
        "if False:",
        164,
    ),
    Mutant(
        "a key's next event does not wait for the one before",
        lanes.Lanes._begin,
        "if lane is not None:",
        "if False:",
        25,
    ),
    Mutant(
        "the offset follows the highest event that was delivered",
        lanes.Lanes.acknowledged,
        "return pending.event.sequence, events",
        "continue",
        13,
    ),
    Mutant(
        "what was delivered beyond the offset is forgotten, and never sent",
        lanes.Lanes._begin,
        "self._taken_offset = event.sequence + 1",
        "self._taken_offset = event.sequence + 2",
        580,
    ),
    Mutant(
        "a destination that was made anew is filled from where the store stands",
        choice.choose_offset,
        "if stored.mark is None:\n            return GoOn(stored.offset)",
        "if True:\n            return GoOn(stored.offset)",
        2,
    ),
    Mutant(
        "of entries that wait for `settle` the first one's sequence is the offset",
        settle.Settling.hold_back,
        "malformed=malformed, next_offset=last + 1",
        "malformed=malformed, next_offset=cut",
        14,
    ),
    Mutant(
        "the age of an entry counts up to when its page came",
        reader.Reader._poll,
        "asked_at=started_at, came_at=now, unix_asked=unix_asked",
        "asked_at=now, came_at=now, unix_asked=self._clock.unix()",
        1079,
    ),
    Mutant(
        "an entry that shows no time counts as old",
        settle.Settling._is_new,
        "or self._seen[index][1] > asked_at - self._seconds",
        "and False",
        14,
    ),
    Mutant(
        "the second in which an entry was written is taken for its moment",
        settle.Settling._is_old,
        "1.0 if",
        "0.0 if",
        613,
    ),
]


@contextlib.contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """The code with the mutant in it."""
    function = mutant.function
    text = textwrap.dedent(inspect.getsource(function))
    assert text.count(mutant.was) == 1, f"{mutant.name}: {mutant.was!r} stands {text.count(mutant.was)} times"
    scope: dict[str, Any] = dict(function.__globals__)
    exec(compile(text.replace(mutant.was, mutant.becomes), f"<{mutant.name}>", "exec"), scope)
    before = function.__code__
    function.__code__ = scope[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before


def kills(mutant: Mutant, seed: int) -> Violation | None:
    """What the oracle says of this seed's scenario, with the mutant in the code."""
    with mutated(mutant):
        try:
            Scenario(seed, kinds=[*mutant.kinds] or None).run()
        except Violation as violation:
            return violation
        except (RuntimeError, AttributeError, TypeError) as broken:
            return Violation(f"it does not even run: {broken!r}")
    return None


def first_seed(mutant: Mutant) -> int | None:
    return next((seed for seed in range(SEEDS_MAX) if kills(mutant, seed) is not None), None)
