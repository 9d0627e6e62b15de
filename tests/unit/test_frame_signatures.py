"""Signatures on frames and the keys behind them: standard HMAC, of one topic and device, judged by append time."""

import datetime as dt
import hmac
import stat

import pytest
from fix_stage import consumed, make_frame
from hypothesis import given
from hypothesis import strategies as st

from infra.security import keys
from producers.delivery.signing import Signatures
from producers.settings import EdgeSettings
from schemas.codec import Codec
from schemas.errors import Refused
from schemas.rejection import Rejection
from schemas.signing import CODE_BYTES, HEADER, Signer, context, serial_of
from schemas.topics import HEARTBEATS, READINGS_RAW
from sinks.timescale.decode import Decoder
from sinks.timescale.entries import Entries
from streams.agents.signatures import genuine

NOW = dt.datetime(2026, 11, 26, 8, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
FRAME = b"a frame"


def ms(at):
    return round(at.timestamp() * 1000)


@pytest.fixture
def place(tmp_path):
    return tmp_path / "security"


def edge(said, device="pi-1", **settings):
    """An edge that is no server: it has what its edge.toml says."""
    return Signatures(EdgeSettings(device_id=device, frame_key=said, **settings), server=keys.Path("/nowhere"))


def signed(said, device="pi-1", topic=READINGS_RAW, value=FRAME):
    ((name, signature),) = edge(said, device).headers(topic, device, value)
    assert name == HEADER
    return signature


def verdict(place, signature, *, device="pi-1", topic=READINGS_RAW, value=FRAME, at=NOW, **settings):
    ring = keys.Keyring(place, **settings)
    ring.refresh()
    refusal = ring.refusal(topic, device.encode(), value, signature, ms(at))
    return None if refusal is None else refusal[0]


@given(st.binary(min_size=1, max_size=64), st.text(max_size=20), st.binary(max_size=300))
def test_a_signature_is_the_standards_hmac_cut_short(key, device, value):
    signer = Signer(key, 7, topic="t", device_id=device)
    assert signer.sign(value) == (7).to_bytes(4, "big") + hmac.digest(key, context("t", device) + value, "sha256")[:16]
    assert signer.made(signer.sign(value), value)
    assert not signer.made(signer.sign(value), value + b"x")


@given(st.text(max_size=9), st.text(max_size=9), st.binary(max_size=9), st.binary(max_size=9))
def test_a_part_of_the_device_never_passes_for_a_part_of_the_frame(one, other, value, of_other):
    if (one, value) != (other, of_other):
        assert context("t", one) + value != context("t", other) + of_other


def test_a_devices_frames_pass_and_nobody_elses_do(place):
    mine = keys.issue(place, "pi-1", now=NOW, grace=0 * HOUR)
    other = keys.issue(place, "pi-2", now=NOW, grace=0 * HOUR)
    assert verdict(place, signed(mine)) is None
    assert verdict(place, signed(mine), value=b"another") == Rejection.WRONG_SIGNATURE
    assert verdict(place, signed(mine), topic=HEARTBEATS) == Rejection.WRONG_SIGNATURE
    assert verdict(place, signed(other, "pi-2"), device="pi-1") == Rejection.WRONG_SIGNATURE
    assert verdict(place, signed(other, "pi-1")) == Rejection.WRONG_SIGNATURE
    assert verdict(place, None) == Rejection.UNSIGNED
    assert verdict(place, b"") == Rejection.WRONG_SIGNATURE
    assert verdict(place, bytes(4 + CODE_BYTES)) == Rejection.WRONG_SIGNATURE
    assert verdict(place, (9).to_bytes(4, "big") + signed(mine)[4:]) == Rejection.WRONG_SIGNATURE


def test_devices_without_a_key_need_not_sign_unless_all_must(place):
    keys.issue(place, "pi-1", now=NOW, grace=0 * HOUR)
    assert verdict(place, None, device="demo") is None
    assert verdict(place, b"nonsense", device="demo") is None
    assert verdict(place, None, device="demo", all_must_sign=True) == Rejection.UNSIGNED


def test_the_old_key_counts_for_the_grace_and_a_replay_judges_as_the_first_run_did(place):
    old = keys.issue(place, "pi-1", now=NOW, grace=0 * HOUR)
    new = keys.issue(place, "pi-1", now=NOW + HOUR, grace=2 * HOUR)
    assert [serial_of(signed(key)) for key in (old, new)] == [1, 2]
    for hours, old_is in ((0.5, None), (2, None), (2.99, None), (3, Rejection.ENDED_KEY), (9, Rejection.ENDED_KEY)):
        assert verdict(place, signed(old), at=NOW + hours * HOUR) == old_is
    assert verdict(place, signed(new), at=NOW + 9 * HOUR) is None


def test_a_revoked_device_writes_nothing_more_and_what_it_wrote_stays(place):
    key = keys.issue(place, "pi-1", now=NOW, grace=0 * HOUR)
    keys.end(place, "pi-1", now=NOW + HOUR)
    assert verdict(place, signed(key), at=NOW + HOUR / 2) is None
    assert verdict(place, signed(key), at=NOW + HOUR) == Rejection.ENDED_KEY
    assert verdict(place, None, at=NOW + HOUR) == Rejection.UNSIGNED
    again = keys.issue(place, "pi-1", now=NOW + 2 * HOUR, grace=0 * HOUR)
    assert verdict(place, signed(again), at=NOW + 2 * HOUR) is None
    assert verdict(place, signed(key), at=NOW + 2 * HOUR) == Rejection.ENDED_KEY


def test_a_device_that_wrote_unsigned_has_the_grace_to_begin(place):
    keys.issue(place, "pi-1", now=NOW, grace=2 * HOUR)
    assert verdict(place, None, at=NOW + HOUR) is None
    assert verdict(place, None, at=NOW + 2 * HOUR) == Rejection.UNSIGNED


def test_the_server_signs_for_any_device_where_the_master_is_and_nowhere_else(place):
    nobody = Signatures(EdgeSettings(device_id="pi-1"), server=place)
    assert nobody.headers(READINGS_RAW, "pi-1", FRAME) is None
    keys.issue(place, "pi-1", now=NOW, grace=0 * HOUR)
    ((_, signature),) = nobody.headers(READINGS_RAW, "pi-1", FRAME)
    assert serial_of(signature) == keys.SERVER_SERIAL
    assert verdict(place, signature, at=NOW + 99 * HOUR) is None
    keys.end(place, "pi-1", now=NOW)  # an uploaded file of a stolen logger still counts
    assert verdict(place, signature, at=NOW + 99 * HOUR) is None
    assert verdict(place, signature, device="demo", all_must_sign=True) == Rejection.WRONG_SIGNATURE


def test_an_edge_with_several_devices_signs_each_with_its_own_key(place):
    one, two = (keys.issue(place, name, now=NOW, grace=0 * HOUR) for name in ("pi-1", "pi-2"))
    both = edge(one, frame_keys={"pi-2": two})
    for device in ("pi-1", "pi-2"):
        ((_, signature),) = both.headers(READINGS_RAW, device, FRAME)
        assert verdict(place, signature, device=device) is None
    assert both.headers(READINGS_RAW, "pi-3", FRAME) is None


def test_the_register_is_read_again_when_it_changes_and_holds_no_secret(place):
    ring = keys.Keyring(place)
    ring.refresh()
    assert ring.is_idle
    key = keys.issue(place, "pi-1", now=NOW, grace=0 * HOUR)
    ring.refresh()
    assert ring.refusal(READINGS_RAW, b"pi-1", FRAME, None, ms(NOW)) is not None
    master = (place / keys.MASTER).read_text().strip()
    register = (place / keys.REGISTER).read_text()
    assert master not in register
    assert key.partition(".")[2] not in register
    assert stat.S_IMODE((place / keys.MASTER).stat().st_mode) == 0o600


def test_without_its_master_the_stage_says_so_rather_than_judge(place):
    keys.issue(place, "pi-1", now=NOW, grace=dt.timedelta())
    (place / keys.MASTER).unlink()
    with pytest.raises(Refused, match="TELLTALE_SECURITY"):
        keys.Keyring(place).refresh()
    with pytest.raises(Refused, match="without it no frame could be checked"):
        keys.issue(place, "pi-2", now=NOW)
    with pytest.raises(Refused, match="TELLTALE_SECURITY"):
        keys.Keyring(place / "empty", all_must_sign=True).refresh()


@pytest.mark.parametrize("content", ["", "{}", '{"devices": {"a": {"required": "x", "keys": []}}}', "[1]"])
def test_a_register_that_cannot_be_read_is_told(place, content):
    place.mkdir()
    (place / keys.REGISTER).write_text(content)
    with pytest.raises(Refused, match="cannot be read"):
        keys.read_register(place)


@pytest.mark.parametrize("said", ["", "1", "1.", "x.AAAA", "1.AAAA", "-1." + 43 * "A", "1." + 43 * "*"])
def test_a_key_that_is_none_is_refused_without_repeating_it(said):
    with pytest.raises(Refused, match=r"telltale device add") as told:
        keys.parsed(said)
    assert "AAAA" not in str(told.value)


def test_records_are_sorted_out_one_by_one(place):
    key = keys.issue(place, "pi-1", now=NOW - 999 * 24 * HOUR * 9, grace=0 * HOUR)
    ring, signatures = keys.Keyring(place), edge(key)
    records = [consumed(n, make_frame("pi-1", n, first=n, rows=2), at_s=n) for n in range(4)]
    for record in records:
        ((_, record.signature),) = signatures.headers(READINGS_RAW, "pi-1", record.value)
    records[1].signature, records[2].key = None, b"pi-9"
    records[3].value += b"\0"
    kept, forged = genuine(ring, records)
    assert [record.offset for record in kept] == [0, 2]
    assert [(record.offset, reason) for record, reason, _ in forged] == [
        (1, Rejection.UNSIGNED),
        (3, Rejection.WRONG_SIGNATURE),
    ]


class NamelessHeaders:
    """A heartbeat as confluent-kafka (2.16) has it where a header's name is no UTF-8."""

    topic, key, value = (lambda _: HEARTBEATS), (lambda _: b"pi-1"), (lambda _: b"\0")
    partition, offset, timestamp = (lambda _: 0), (lambda _: 7), (lambda _: (2, ms(NOW)))

    def headers(self):
        raise SystemError("<method 'headers'> returned a result with an exception set")


def test_a_heartbeat_whose_headers_cannot_be_had_is_unsigned_and_ends_no_sink(place):
    keys.issue(place, "pi-1", now=NOW, grace=dt.timedelta())
    keyring = keys.Keyring(place, all_must_sign=True)
    (entry,) = Entries(Decoder(Codec()), keyring=keyring, is_traced=True).of([NamelessHeaders()])
    assert (entry.offset, entry.body.reason) == (7, Rejection.UNSIGNED)
