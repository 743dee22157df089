"""A transactional producer that is used until the first doubt, then thrown away.

aiokafka's producer cannot be recovered. After one failed batch its sequence numbers are wrong; its commit returns
although a record failed, unless that record's future was awaited; with the broker gone commit, abort and stop wait for
ever, and `async with producer.transaction()` does not come back from its abort. So: await every batch before the
commit, hold every call to a deadline, and after anything unexpected `discard` and start a new one (docs/adr/0006).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Iterable
from typing import Any, NamedTuple

import aiokafka.producer.sender as sender
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.conn import AIOKafkaConnection

from oplogbridge_sinks.kafka.records import RecordBatch
from oplogbridge_sinks.kafka.wire import LastTransactionRequest

# After nearly every commit the next transaction's first request meets CONCURRENT_TRANSACTIONS, because the markers are
# still being written. aiokafka then sleeps 20 ms: 50 transactions a second at best. 1 ms: 24 -> 2.6 ms each.
sender.BACKOFF_OVERRIDE = 0.001

# aiokafka logs each of its retries, fifty lines a second while a broker is down. What comes of them is raised, and
# logged once by whoever hears it. Whoever wants the lines sets the level of the logger "aiokafka".
_log = logging.getLogger("aiokafka")
if _log.level == logging.NOTSET:
    _log.setLevel(logging.CRITICAL)

RETRY_BACKOFF_MS = 20  # init_transactions after a kill: 122 ms with the default of 100, 30-46 ms with 20
STOP_SECONDS_MAX = 2.0
_CANCEL_ATTEMPTS_MAX = 3  # the sender, when cancelled, awaits its own requests, which want cancelling as well
_POLL_SECONDS = 0.005
_COORDINATOR_BUSY_CODES = (14, 15, 16)  # loading, not available, not this one


class LastTransaction(NamedTuple):
    """How the coordinator remembers the last transaction of a transactional id."""

    state: str
    producer_id: int
    epoch: int

    @property
    def committed(self) -> bool:
        return self.state in ("PrepareCommit", "CompleteCommit")


class Producer:
    """One life of a transactional id. `start` fences whoever used the id before."""

    def __init__(self, connection: dict[str, Any], transactional_id: str, timeout: float, txn_timeout: float) -> None:
        self._connection = connection
        # Three requests fit into the caller's deadline, so that one lost answer does not use all of it up.
        self._request_timeout_ms = max(1, int(timeout * 1000 / 3))
        new: Any = AIOKafkaProducer
        self._producer = new(
            **connection,
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(txn_timeout * 1000),
            request_timeout_ms=self._request_timeout_ms,
            retry_backoff_ms=RETRY_BACKOFF_MS,
        )
        self._transactions = self._producer._txn_manager
        self._transactional_id = transactional_id
        self.predecessors: LastTransaction | None = None  # known after `start`

    @property
    def client(self) -> Any:
        return self._producer.client

    @property
    def producer_id(self) -> int:
        return int(self._transactions.producer_id)

    async def start(self) -> None:
        """Connect and fence; the predecessor's open transaction is aborted."""
        if (tokens := self._connection.get("sasl_oauth_token_provider")) is not None:
            await tokens.token()  # asked by the bootstrap, it would only say that no broker could be reached
        try:
            await self.client.bootstrap()
        except kafka.KafkaConnectionError:
            await self._explain_bootstrap()
            raise
        self.predecessors = await self._last_transaction()  # before fencing, which forgets it
        await self._producer._sender.start()

    async def _last_transaction(self) -> LastTransaction | None:
        """None: there was none, or the broker does not tell (Kafka before 3.0)."""
        coordinators = self._producer._sender
        while True:
            node = await coordinators._find_coordinator(CoordinationType.TRANSACTION, self._transactional_id)
            try:
                request = LastTransactionRequest(self._transactional_id)
                response = await self.client.send(node, request, group=ConnectionGroup.COORDINATION)
            except (NotImplementedError, kafka.IncompatibleBrokerVersion):
                return None
            (found,) = response.to_object()["transactions"]
            if kafka.for_code(found["error_code"]) is kafka.NoError:
                return LastTransaction(found["state"], found["producer_id"], found["producer_epoch"])
            if found["error_code"] not in _COORDINATOR_BUSY_CODES:
                return None
            coordinators._coordinator_dead(CoordinationType.TRANSACTION)
            await asyncio.sleep(_POLL_SECONDS)

    async def _explain_bootstrap(self) -> None:
        """Connect once more and raise why it fails: the bootstrap tells a wrong password and no broker alike."""
        connection = {name: value for name, value in self._connection.items() if name != "bootstrap_servers"}
        new: Any = AIOKafkaConnection
        for server in self._connection["bootstrap_servers"]:
            host, _, port = server.rpartition(":")
            trial = new(host.strip("[]"), int(port), request_timeout_ms=self._request_timeout_ms, **connection)
            try:
                await trial.connect()
            except ssl.SSLError:
                raise
            except (OSError, kafka.KafkaConnectionError) as error:
                if isinstance(error.__cause__, ssl.SSLError):
                    raise  # a client's certificate is refused after the handshake, in the first answer
            finally:
                closed = trial.close()
                if trial._protocol is not None:  # a refused login's TLS still says good-bye: nothing outlives `open`
                    await asyncio.wait([closed], timeout=STOP_SECONDS_MAX)

    def sequence_number(self, partition: TopicPartition) -> int:
        """Of the next record for the partition. The broker knows a retry by it."""
        return int(self._transactions.sequence_number(partition))

    async def know(self, topics: Iterable[str]) -> None:
        """Make the client learn the topics' leaders, so that the first write to them does not wait for it."""
        for topic in topics:
            await self._producer.partitions_for(topic)

    async def begin(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin a transaction and have its coordinator told of all the partitions in one request: told of one after
        the other, they cost 20 ms each."""
        await self._producer.begin_transaction()
        for partition in partitions:
            self._transactions.maybe_add_partition_to_txn(partition)

    async def added(self, partitions: Iterable[TopicPartition]) -> None:
        """Wait until the coordinator has confirmed the partitions."""
        waiting = set(partitions)
        while not waiting <= self._transactions.txn_partitions:
            if self._transactions.is_fatal_error():
                await self._transactions.wait_for_transaction_end()  # raises what went wrong
            await asyncio.sleep(_POLL_SECONDS)

    async def send(self, batch: RecordBatch, partition: TopicPartition) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = await self._producer.send_batch(
            batch, partition.topic, partition=partition.partition
        )
        return future

    async def delivered(self, futures: list[asyncio.Future[Any]]) -> None:
        """Wait for every batch. Nothing may be committed before this has returned.

        Raises:
            KafkaError: The first failure, or better what the coordinator said: when it refused a partition the broker
                rejects the batch with INVALID_TXN_STATE, which tells nobody anything.
        """
        done, pending = await asyncio.wait(futures, return_when=asyncio.FIRST_EXCEPTION)
        failures = [error for future in done if (error := future.exception()) is not None]
        if not failures:
            return
        for future in pending:
            future.cancel()
        raise self._refusal() or failures[0]

    def _refusal(self) -> BaseException | None:
        waiter = self._transactions.wait_for_transaction_end()
        if waiter is None or not waiter.done() or waiter.cancelled():
            return None
        refusal: BaseException | None = waiter.exception()
        return refusal

    async def commit(self) -> None:
        await self._producer.commit_transaction()

    async def abort_empty(self) -> None:
        """End a transaction that has partitions but no records. Never for one with records: discard those."""
        await self._producer.abort_transaction()

    async def stop(self) -> None:
        """Close a producer that nothing is wrong with."""
        try:
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await self._producer.stop()
        except Exception:  # noqa: S110 - whatever is wrong with it, it is being thrown away
            pass
        await self.discard()

    async def discard(self) -> None:
        """Throw the producer away, whatever it is doing: nothing of it runs or sends afterwards. Never raises.

        Not through its own `stop`, which waits for what cannot be delivered, leaves its requests running when it is
        cancelled, and lets them connect again.
        """
        producer = self._producer
        producer._closed = True
        parts = {id(producer._sender), id(producer._message_accumulator), id(producer.client)}
        for _ in range(_CANCEL_ATTEMPTS_MAX):
            tasks = [task for task in asyncio.all_tasks() if _owner(task) in parts]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            done, _ = await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX / _CANCEL_ATTEMPTS_MAX)
            for task in done:
                if not task.cancelled():
                    task.exception()  # retrieved, or asyncio complains about it later
        self._retrieve_exceptions()
        with contextlib.suppress(Exception):
            async with asyncio.timeout(STOP_SECONDS_MAX):
                await producer.client.close()

    def _retrieve_exceptions(self) -> None:
        """Or asyncio complains, much later, about each future that failed with nobody waiting."""
        with contextlib.suppress(Exception):
            self._refusal()
            for batches in self._producer._message_accumulator._batches.values():
                for batch in batches:
                    for future in (batch.future, batch._drain_waiter):
                        if future.done() and not future.cancelled():
                            future.exception()


def _owner(task: asyncio.Task[Any]) -> int | None:
    """Whose method the task runs. aiokafka keeps no list of the tasks that it starts."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return None if frame is None else id(frame.f_locals.get("self"))
