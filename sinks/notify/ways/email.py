"""By SMTP, with the library of Python."""

import smtplib
import ssl
from contextlib import suppress
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses

from schemas.errors import Refused
from sinks.notify import words
from sinks.notify.config import Email
from sinks.notify.notices import Notice
from sinks.notify.ways.port import Partly, Undelivered

FOR_GOOD = 500
"""Below, a refusal is for now (a mailbox that is full, greylisting)."""


class Mail:
    """One mail a notice. A mail server that took it and was cut off before it said so gets it a second time; the
    Message-ID is the same, which most mailboxes show as one."""

    once = False

    def __init__(self, way: Email, *, dashboard: str | None) -> None:
        self._way, self._dashboard = way, dashboard
        self._to = [address for _, address in getaddresses(way.to)]
        self._notice_id, self._have_it = "", set[str]()

    def carry(self, notice: Notice) -> None:
        """Another try goes only to those who do not have it. Who is refused for good (5xx) while others have it does
        not keep later notices from these."""
        way = self._way
        if notice.notice_id != self._notice_id:
            self._notice_id, self._have_it = notice.notice_id, set()
        left = [address for address in self._to if address not in self._have_it]
        taken: set[str] = set()
        try:
            server = self._connected()
            try:
                if way.user is not None and way.password is not None:
                    server.login(way.user, way.password.read())
                refused = server.send_message(self._message(notice), to_addrs=left)
            finally:
                _part(server)
            taken = set(left) - refused.keys()
        except smtplib.SMTPRecipientsRefused as error:  # all, or the server left at one (421): nobody has it
            refused = error.recipients
        except (OSError, smtplib.SMTPException, UnicodeError, Refused) as error:
            raise Undelivered(f"{way.host}:{way.port}: {_said(error)}") from None
        self._have_it |= taken
        if refused:
            for_good = bool(self._have_it) and all(code >= FOR_GOOD for code, _ in refused.values())
            why = _answer(*next(iter(refused.values())))
            raise (Partly if for_good else Undelivered)(
                f"{way.host}:{way.port} takes no mail for {', '.join(refused)}: {why}"
            )

    def _connected(self) -> smtplib.SMTP:
        way = self._way
        if way.tls == "none":
            return smtplib.SMTP(way.host, way.port, timeout=way.timeout_s)
        context = ssl.create_default_context(cafile=None if way.ca_file is None else str(way.ca_file))
        if way.tls == "implicit":
            return smtplib.SMTP_SSL(way.host, way.port, timeout=way.timeout_s, context=context)
        server = smtplib.SMTP(way.host, way.port, timeout=way.timeout_s)
        try:
            server.starttls(context=context)  # raises where the server does not offer it: never in the clear
        except BaseException:
            server.close()
            raise
        return server

    def _message(self, notice: Notice) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = words.subject(notice)
        message["From"] = self._way.sender
        message["To"] = ", ".join(self._way.to)
        message["Date"] = format_datetime(notice.events[-1].time)
        message["Message-ID"] = f"<{notice.notice_id}@telltale>"
        message["Auto-Submitted"] = "auto-generated"
        message["X-Telltale-Alarms"] = " ".join(event.data.alarm_id for event in notice.events[:20])
        message.set_content(words.text(notice, dashboard=self._dashboard))
        return message


def _part(server: smtplib.SMTP) -> None:
    """However the server takes our leave, what it has said of the mail counts."""
    with suppress(OSError, smtplib.SMTPException):
        server.quit()
    server.close()


def _answer(code: int, detail: bytes | str) -> str:
    return f"{code} {detail.decode(errors='replace') if isinstance(detail, bytes) else detail}"


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _answer(error.smtp_code, error.smtp_error)
    if isinstance(error, UnicodeError):  # which would repeat a part of it
        return "user, password and addresses must be ASCII for this mail server"
    return str(error) or type(error).__name__
