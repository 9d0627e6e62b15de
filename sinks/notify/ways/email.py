"""By SMTP, with the library of Python."""

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import format_datetime

from schemas.errors import Refused
from sinks.notify import words
from sinks.notify.config import Email
from sinks.notify.notices import Notice
from sinks.notify.ways.port import Undelivered


class Mail:
    """One mail a notice. A mail server that took it and was cut off before it said so gets it a second time; the
    Message-ID is the same, which most mailboxes show as one."""

    once = False

    def __init__(self, way: Email, *, dashboard: str | None) -> None:
        self._way, self._dashboard = way, dashboard

    def carry(self, notice: Notice) -> None:
        way = self._way
        try:
            with self._connected() as server:
                if way.user is not None and way.password is not None:
                    server.login(way.user, way.password.read())
                refused = server.send_message(self._message(notice))
        except (OSError, smtplib.SMTPException, Refused) as error:
            raise Undelivered(f"{way.host}:{way.port}: {_said(error)}") from None
        if refused:
            raise Undelivered(f"{way.host}:{way.port} takes no mail for {', '.join(refused)}")

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


def _said(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        detail = error.smtp_error
        return f"{error.smtp_code} {detail.decode(errors='replace') if isinstance(detail, bytes) else detail}"
    return str(error) or type(error).__name__
