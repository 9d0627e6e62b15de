"""The watchdog's rounds against a real broker and database, through lines that are cut; the clock is moved by hand."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Producer
from fix_services import await_true
from fix_sink import until
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from infra.client import reader
from infra.kept_alarms import KeptAlarms
from infra.telling import tell_all
from infra.watchdog.findings import Rule
from infra.watchdog.rounds import Rounds
from infra.watchdog.settings import WatchdogSettings
from infra.whole_topic import partition_to_end, partitions_of
from schemas.alarms import read_alarm
from schemas.codec import Codec
from schemas.records import Rejected
from schemas.rejection import Rejection
from schemas.topics import ALARMS, READINGS_CLEAN, READINGS_RAW, READINGS_REJECTED

pytestmark = pytest.mark.integration


class Watch:
    """One watchdog with its own clock, and what it has told."""

    def __init__(self, kafka, database, folder, **settings):
        self.ahead, self.inbox = timedelta(0), folder / "notify" / "inbox"
        self.rounds = Rounds(
            kafka,
            database,
            "telltale",
            folder,
            WatchdogSettings(unreachable_s=5, disk_share_min=0, disk_hours_min=0, **settings),
            KeptAlarms(
                folder / "watchdog" / "alarms.json",
                speaker="watchdog",
                tell=lambda events: tell_all(kafka, events, client_id="test", within_s=3),
            ),
            lambda: datetime.now(UTC) + self.ahead,
            inbox=self.inbox,
        )

    def turn(self, later_s=0):
        """What is wrong: (rule, source)."""
        self.ahead += timedelta(seconds=later_s)
        return {(each.rule, each.source) for each in self.rounds.turn() if each.bad}

    def of_refused(self, later_s=0):
        """The same of rejected records only: where no sink runs, its group lags, too."""
        return {each for each in self.turn(later_s) if each[0] in self.rounds.refused}

    def await_well(self):
        """A broker whose topics were just made answers some questions late; that lasts too short for an alarm."""
        await_true(lambda: self.turn() == set(), what="all is well")


@pytest.fixture
def topic(cluster):
    def told():
        """(rule, state) of all alarms in the topic."""
        consumer = Consumer(reader(cluster, group="test"))
        try:
            found = []
            for number in partitions_of(consumer, cluster, ALARMS):
                for message in partition_to_end(consumer, ALARMS, number):
                    event = read_alarm(message.value())
                    found.append((event.time, event.data.rule, event.data.state.value))
            return [each[1:] for each in sorted(found)]
        finally:
            consumer.close()

    return told


def test_a_broker_that_is_away_is_told_directly_and_published_later(cluster, database, topic, proxy_to, tmp_path):
    line = proxy_to(int(cluster.rpartition(":")[2]))
    watch = Watch(line.address, database, tmp_path)
    watch.await_well()
    line.refuses = True
    line.cut()
    assert watch.turn() == {(Rule.BROKER, "kafka")}
    assert not watch.inbox.exists()  # not for long enough
    assert watch.turn(later_s=6) == {(Rule.BROKER, "kafka")}
    direct = [read_alarm(path.read_bytes()) for path in watch.inbox.glob("*.json")]
    assert [(event.data.rule, event.data.state) for event in direct] == [(Rule.BROKER, "raised")]
    assert watch.turn() == {(Rule.BROKER, "kafka")}  # still: no second alarm
    line.heal()
    watch.await_well()
    assert topic() == [(Rule.BROKER, "raised"), (Rule.BROKER, "cleared")]
    assert len(list(watch.inbox.glob("*.json"))) == 1


def test_a_database_that_is_away_is_raised_and_cleared(cluster, database, topic, proxy_to, tmp_path):
    parts = conninfo_to_dict(database)
    line = proxy_to(int(parts["port"]))
    host, port = line.address.split(":")
    watch = Watch(cluster, make_conninfo(**(parts | {"host": host, "port": port})), tmp_path)
    watch.await_well()
    line.refuses = True
    line.cut()
    watch.turn()
    assert watch.turn(later_s=6) == {(Rule.DATABASE, "database")}
    line.heal()
    watch.await_well()
    assert topic() == [(Rule.DATABASE, "raised"), (Rule.DATABASE, "cleared")]


def test_a_group_that_does_not_move_is_found_by_its_position(cluster, database, topic, tmp_path):
    watch = Watch(cluster, database, tmp_path)
    producer = Producer({"bootstrap.servers": cluster})
    producer.produce(READINGS_CLEAN, key=b"d", value=b"what nobody has stored")
    assert producer.flush(30) == 0
    watch.await_well()
    assert watch.turn(later_s=61) == {(Rule.NO_PROGRESS, "group/telltale-sink")}
    bad = watch.turn(later_s=6 * 86_400)
    assert {(Rule.LAG, "group/telltale-sink"), (Rule.RETENTION, "group/telltale-sink")} <= bad
    assert (Rule.NO_PROGRESS, "raised") in topic()


def reject(cluster, *about):
    """Tells that (device, offset, reason, payload) were rejected, now."""
    producer = Producer({"bootstrap.servers": cluster})
    for device, offset, reason, payload in about:
        facts = {"topic": READINGS_RAW, "partition": 0, "offset": offset, "detail": "as it is", "rows": 1}
        record = Rejected(device_id=device, reason=reason, time=datetime.now(UTC), payload=payload, **facts)
        producer.produce(READINGS_REJECTED, Codec().encode(record))
    assert producer.flush(30) == 0


def test_records_that_no_rule_of_a_device_counts_are_told_until_no_more_come(cluster, database, topic, tmp_path):
    watch = Watch(cluster, database, tmp_path)
    reasons = ["unreadable_truncated", Rejection.UNKNOWN_DEVICE, Rejection.TIME_IN_FUTURE, Rejection.UNSIGNED]
    reject(cluster, *((f"d{number}", number, reason, b"x") for number, reason in enumerate(reasons)))
    bad = {(Rule.UNUSABLE, "device/d0"), (Rule.UNUSABLE, "device/d1"), (Rule.STRANGER, "device/d3")}
    await_true(lambda: watch.of_refused() == bad, what="all is told")
    assert watch.of_refused(later_s=watch.rounds.settings.calm_s - 60) == bad
    assert watch.of_refused(later_s=61) == set()
    told = [each for each in topic() if each[0] in watch.rounds.refused]
    assert sorted(told) == sorted((rule, state) for rule, _ in bad for state in ("raised", "cleared"))


def test_records_that_a_replay_rejects_again_are_not_told_again(cluster, stored, start_sink, topic, tmp_path):
    watch = Watch(cluster, stored.dsn, tmp_path)
    start_sink().working()
    first = [("d0", 0, "unreadable_truncated", b"x"), ("d1", 1, Rejection.UNSIGNED, b"x")]
    reject(cluster, *first)
    bad = {(Rule.UNUSABLE, "device/d0"), (Rule.STRANGER, "device/d1")}
    await_true(lambda: watch.of_refused() == bad, what="both are told")
    until(lambda: stored.one("SELECT count(*) FROM rejected") == 2, what="what was rejected is stored")
    assert watch.of_refused(later_s=watch.rounds.settings.calm_s + 1) == set()
    new = ("d2", 0, "unreadable_truncated", b"of a log that was made again")
    reject(cluster, *first, new)
    await_true(lambda: watch.of_refused() == {(Rule.UNUSABLE, "device/d2")}, what="the new one is told")
    told = [rule for rule, state in topic() if rule in watch.rounds.refused and state == "raised"]
    assert sorted(told) == sorted([Rule.STRANGER, Rule.UNUSABLE, Rule.UNUSABLE])


def test_a_topic_that_was_changed_by_hand_is_found(cluster, database, tmp_path):
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

    watch = Watch(cluster, database, tmp_path)
    watch.await_well()  # topics that were just made have no leader for a moment
    change = ConfigResource(
        ConfigResource.Type.TOPIC,
        ALARMS,
        incremental_configs=[ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)],
    )
    admin = AdminClient({"bootstrap.servers": cluster})  # its answers come while it lives
    for done in admin.incremental_alter_configs([change]).values():
        done.result(30)
    found = []
    await_true(  # the broker hears of it after the controller has answered
        lambda: (
            found.extend(each for each in watch.rounds.look() if each.bad and each.rule is Rule.TOPICS) or bool(found)
        ),
        what="the difference",
    )
    assert ["retention.ms" in each.said for each in found] == [True]


def test_a_look_says_what_is_wrong_and_exits_with_one(cluster, database, tmp_path, monkeypatch):
    monkeypatch.setenv("TELLTALE_WATCHDOG_CERTIFICATES", json.dumps([str(tmp_path / "none.pem")]))
    monkeypatch.setenv("TELLTALE_DIR", str(tmp_path))
    words = [sys.executable, "-m", "infra.command", "watchdog", "look", "--kafka", cluster, "--database", database]
    done = subprocess.run([*words, "--json"], capture_output=True, text=True, timeout=60, check=False)
    found = {each["rule"]: each["bad"] for each in json.loads(done.stdout)}
    assert (done.returncode, found[Rule.CERTIFICATE], found[Rule.BROKER]) == (1, True, False)
