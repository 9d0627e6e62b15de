"""One partition of all source topics: taken over, its batches worked out and committed, its devices looked at.

Everything here blocks and runs in a thread. Whatever fails ends the process, and its successor goes on from what was
committed.
"""

import time
from collections.abc import Mapping, Sequence

import structlog

from infra.offsets import Mark
from infra.security.keys import Keyring
from infra.telemetry.tracing import Tracing
from schemas.codec import Codec
from schemas.records import Rejected
from schemas.topics import READINGS_RAW
from streams.agents import measured
from streams.agents.batches import TIMESTAMP, Record, key_of
from streams.agents.delivered import Delivered
from streams.agents.devices import DeviceTable
from streams.agents.looks import Looks
from streams.agents.takeover import take_over
from streams.agents.told import Told
from streams.agents.transaction import Headers, Transactions
from streams.agents.unfinished import finish
from streams.agents.work import Work, Worked
from streams.pipeline import Outcome

log = structlog.get_logger()


class Ownership:
    """Of one partition; nothing but `open` may be called before that has returned."""

    def __init__(
        self,
        number: int,
        partitions: int,
        *,
        kafka: str,
        codec: Codec,
        devices: DeviceTable,
        told: Told,
        keyring: Keyring | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.number = number
        self._kafka = kafka
        self._codec = codec
        self._devices = devices
        self._keyring = keyring
        self._tracing = tracing
        self._looks = Looks(number, partitions, devices=devices, told=told)
        self._applied_us = 0  # when the newest reading applied was appended

    def open(self, *, transaction_timeout_s: int) -> None:
        """Fence the former owner, then take over its offsets and state: in this order, or it could still change them.

        Raises `Refused` where states are missing or cannot be read.
        """
        began = time.monotonic()
        kafka, codec, timeout_s = self._kafka, self._codec, transaction_timeout_s
        self._transactions = Transactions(kafka, codec, self.number, timeout_s=timeout_s)
        finish(kafka, codec, self.number, self._transactions, timeout_s=timeout_s)
        found = take_over(kafka, codec, self.number, timeout_s=timeout_s)
        self._group = found.group
        self._delivered = Delivered(self.number, found.next, kafka=kafka, timeout_s=timeout_s)
        self._work = Work(
            self.number,
            found.states,
            generation=found.generation,
            codec=codec,
            devices=self._devices,
            keyring=self._keyring,
        )
        if found.is_due:
            self._transact([(name, Outcome()) for name in found.changed], [], forgotten=tuple(found.broken))
        log.info(
            "partition.opened",
            partition=self.number,
            generation=self.generation,
            devices=self.devices,
            next=self._delivered.next,
            seconds=round(time.monotonic() - began, 3),
        )

    # -- what happens to a batch --

    def work_out(self, records: Sequence[Record]) -> Worked | None:
        """What one transaction is to hold for all of them; None: nothing. `records` of one topic are in log order.

        What has been worked out must be committed before anything else is done here.
        """
        began = time.monotonic()
        fresh = self._delivered.fresh(records)
        if not any(fresh.values()):
            return None
        worked = self._work.out(fresh)
        if worked.readings:
            self._applied_us = max(self._applied_us, max(map(TIMESTAMP, worked.readings)) * 1000)
        for topic, taken in fresh.items():
            measured.RECORDS.labels(topic).inc(len(taken))
        measured.WORK.observe(time.monotonic() - began)
        return worked

    def commit(self, worked: Worked) -> None:
        """Make it visible, all or nothing."""
        followed = self._followed(worked.readings)
        if not followed or self._tracing is None:
            self._transact(worked.outputs, worked.rejected)
            return
        origins = [origin for some in followed.values() for origin in some]
        about = {"partition": self.number, "outputs": len(worked.outputs), "rejected": len(worked.rejected)}
        span = self._tracing.batch("stage.transaction", origins, began_s=worked.began_s, attributes=about)
        self._transact(worked.outputs, worked.rejected, headers=dict.fromkeys(followed, span.headers))
        span.end()

    def _followed(self, readings: Sequence[Record]) -> dict[str, list[bytes]]:
        """Traceparents by device: what the edge wants followed. Not even looked for where nobody collects it."""
        found: dict[str, list[bytes]] = {}
        if self._tracing is not None:
            for record in readings:
                if record.traceparent is not None:
                    found.setdefault(key_of(record), []).append(record.traceparent)
        return found

    def _transact(
        self,
        outcomes: Sequence[tuple[str, Outcome]],
        rejected: Sequence[Rejected],
        *,
        forgotten: Sequence[bytes] = (),
        headers: Mapping[str, Headers] | None = None,
    ) -> None:
        """Outcomes, the states of their devices, and how far the sources have been delivered."""
        states = self._work.states
        self._transactions.commit(
            outcomes,
            rejected,
            [states[name] for name in {name: None for name, _ in outcomes if name in states}],
            offsets=self._delivered.next,
            mark=Mark(self.generation, len(states)),
            group=self._group,
            forgotten=forgotten,
            headers=headers,
        )

    # -- how it stands, from any thread --

    @property
    def generation(self) -> int:
        return self._work.generation

    @property
    def devices(self) -> int:
        """How many have a state."""
        return len(self._work.states)

    @property
    def next(self) -> dict[str, int]:
        """The offset of each source topic that comes next."""
        return dict(self._delivered.next)

    def left(self, ends: Mapping[str, int]) -> dict[str, int]:
        """Records up to `ends` that are not worked out, of each source topic that silence is judged by."""
        return self._delivered.left(ends)

    # -- what time alone brings about --

    def look_for_silence(self, ends: Mapping[str, int], *, now_us: int, look_every_us: int) -> None:
        """Judge silence and delays, if everything that had arrived by `now_us` is applied.

        Args:
            ends: the end of each source topic's partition, asked from the broker at `now_us`.
        """
        self._looks.began(now_us, every_us=look_every_us)
        if any(self.left(ends).values()):
            return
        changed = self._looks.at_devices(self._work.states, now_us, generation=self.generation)
        if changed:
            self._work.states.update({state.device_id: state for state, _ in changed})
            self._transact([(state.device_id, outcome) for state, outcome in changed], [])

    def look_behind(self, ends: Mapping[str, int], *, now_us: int, limit_us: int) -> None:
        """The stage's own alarm: what waits for this partition is older than the limit, and stays so for a while."""
        caught_up = not self.left(ends).get(READINGS_RAW)
        alarm = self._looks.at_backlog(
            caught_up=caught_up, applied_us=self._applied_us, now_us=now_us, limit_us=limit_us
        )
        if alarm is not None:
            self._transactions.alarm(alarm)
