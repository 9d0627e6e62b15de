"""Who the stage's own consumer is, in Faust's words. Knows what `infra.client` says of clients; opens nothing."""

import ssl
from typing import Any

import faust

from infra.client import Access


def credentials(access: Access) -> Any:
    """For the setting `broker_credentials`; None: nobody."""
    if access.protocol == "PLAINTEXT":
        return None
    context = _context(access) if access.has_tls else None
    if not access.has_password:
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=access.username, password=access.password, ssl_context=context, mechanism=access.mechanism
    )


def _context(access: Access) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=access.ca)
    if access.certificate:
        context.load_cert_chain(access.certificate, access.key)
    return context
