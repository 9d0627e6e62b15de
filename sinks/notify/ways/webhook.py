"""By HTTP POST: a CloudEvents JSON batch, signed as Standard Webhooks 1.0 says (webhook-id, -timestamp, -signature)."""

import base64
import hashlib
import hmac
import ssl
from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from infra.http_request import ask
from schemas.errors import Refused
from sinks.notify import words
from sinks.notify.config import Webhook
from sinks.notify.notices import Notice
from sinks.notify.ways.port import Undelivered

ANSWER_CHARACTERS_MAX = 200


def key_of(secret: str) -> bytes:
    """The signing key: base64 behind `whsec_`, else the text's bytes."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except ValueError:
            raise Refused("notify: what follows whsec_ in a webhook's secret must be base64") from None
    return secret.encode()


def signature(key: bytes, notice_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`."""
    said = f"{notice_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()


class Hook:
    """The receiver knows a notice by its `webhook-id`, so one that comes again can be told from a new one."""

    once = True

    def __init__(self, way: Webhook, *, clock: Callable[[], datetime]) -> None:
        self._way, self._clock = way, clock

    def carry(self, notice: Notice) -> None:
        way, body = self._way, words.batch(notice.events)
        timestamp = int(self._clock().timestamp())
        headers = {
            "content-type": "application/cloudevents-batch+json",
            "webhook-id": notice.notice_id,
            "webhook-timestamp": str(timestamp),
        }
        try:
            verify: ssl.SSLContext | bool = True
            if way.ca_file is not None:
                verify = ssl.create_default_context(cafile=str(way.ca_file))
            if way.secret is not None:
                headers["webhook-signature"] = signature(key_of(way.secret.read()), notice.notice_id, timestamp, body)
            answer = ask("POST", way.url, within_s=way.timeout_s, content=body, headers=headers, verify=verify)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, Refused) as error:
            raise Undelivered(f"{_host(way.url)}: {error or type(error).__name__}") from None
        if not answer.is_success:
            said = answer.text[:ANSWER_CHARACTERS_MAX].replace("\n", " ")
            raise Undelivered(f"{_host(way.url)} answered {answer.status} {said}".rstrip())


def _host(url: str) -> str:
    """Without path and query: chat services put their secret there."""
    return urlsplit(url).hostname or ""
