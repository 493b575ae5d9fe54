"""The channel `webhook`: for programs of one's own.

Headers are those of Standard Webhooks (standardwebhooks.com): `webhook-id`, `webhook-timestamp` and, with a secret,
`webhook-signature: v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`. `Idempotency-Key` repeats the id: it is the
same for each try, so that a receiver which remembers it takes a message exactly once.
"""

import base64
import binascii
import hashlib
import hmac
from contextlib import suppress
from typing import Final

import orjson
from pydantic import Field

from finery.core.refs import SecretRef
from finery.core.spec import Spec
from finery.notifying.channels import OPTIONAL_SECRET_NAME, SECRET, SECRET_NAME, SECRET_URL, registry
from finery.notifying.wire import Wire
from finery.notifying.words import Message

_PREFIX: Final = "whsec_"
_MOST_NOTICES: Final = 100


class WebhookParams(Spec):
    url: SecretRef = Field(pattern=SECRET_NAME, json_schema_extra=SECRET_URL)
    """Address that takes a POST of JSON."""
    secret: SecretRef = Field("", pattern=OPTIONAL_SECRET_NAME, json_schema_extra=SECRET)
    """Signs messages with HMAC-SHA256, any text or `whsec_...`. Empty signs none."""


@registry.register("webhook", params=WebhookParams)
def webhook(message: Message, params: WebhookParams, wire: Wire) -> None:
    """POST JSON to an address, signed where there is a secret."""
    body = orjson.dumps(
        {
            "version": 1,
            "id": message.key,
            "title": message.title,
            "text": "\n".join(message.lines),
            "severity": message.severity,
            "link": message.link,
            "num_notices": len(message.notices),
            "notices": [notice.model_dump() for notice in message.notices[:_MOST_NOTICES]],
        }
    )
    timestamp = str(int(wire.now()))
    headers = {"webhook-id": message.key, "webhook-timestamp": timestamp, "Idempotency-Key": message.key}
    secret = wire.secret(params.secret)
    if secret:
        headers["webhook-signature"] = f"v1,{signature(secret, message.key, timestamp, body)}"
    wire.post(wire.secret(params.url), body, headers)


def signature(secret: str, key: str, timestamp: str, body: bytes) -> str:
    """What `webhook-signature` says after the version."""
    signed = b".".join((key.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    """The bytes behind `whsec_`, or the text itself where it is none."""
    if secret.startswith(_PREFIX):
        with suppress(binascii.Error):
            return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()
