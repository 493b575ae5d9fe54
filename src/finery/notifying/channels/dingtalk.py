"""The channel `dingtalk`: a custom robot of a group (open.dingtalk.com/document/robots/custom-robot-access).

Messages are of the type `text`, in which DingTalk reads no markup. They begin with `Finery`, which can be the robot's
keyword. With a secret the address gets `timestamp` (milliseconds) and `sign`: base64 of HMAC-SHA256 with the secret as
key over "timestamp\\nsecret". DingTalk answers 200 whatever happens and says in `errcode` what did; it knows no
idempotency key.
"""

import base64
import hashlib
import hmac
from typing import Final

import httpx
import orjson
from pydantic import Field

from finery.core.refs import SecretRef
from finery.core.spec import Spec
from finery.notifying.channels import OPTIONAL_SECRET_NAME, SECRET, SECRET_NAME, SECRET_URL, registry
from finery.notifying.wire import Wire
from finery.notifying.words import Message

_REFUSED: Final = frozenset({40035, 300001, 310000, 400013, 400101, 400102, 400105, 400106, 430101, 430102, 430104})
"""Wrong parameter, unknown token, keyword or signature or address not allowed, robot stopped, group gone, or a text
that DingTalk does not pass on."""
_TOO_MANY: Final = frozenset({130101, 410100})
_REST_SECONDS: Final = 600.0
"""How long DingTalk takes nothing after more than 20 messages in a minute."""


class DingtalkParams(Spec):
    url: SecretRef = Field(pattern=SECRET_NAME, json_schema_extra=SECRET_URL)
    """Of the robot: https://oapi.dingtalk.com/robot/send?access_token=..."""
    secret: SecretRef = Field("", pattern=OPTIONAL_SECRET_NAME, json_schema_extra=SECRET)
    """Of a robot with the security setting `sign`: SEC... Empty for one with a keyword, which can be `Finery`."""


@registry.register("dingtalk", params=DingtalkParams)
def dingtalk(message: Message, params: DingtalkParams, wire: Wire) -> None:
    """A DingTalk group, by a custom robot."""
    url, secret = wire.secret(params.url), wire.secret(params.secret)
    if secret:
        timestamp = str(int(1000 * wire.now()))
        url = str(httpx.URL(url).copy_merge_params({"timestamp": timestamp, "sign": signature(secret, timestamp)}))
    lines = [message.title, *message.lines, *([message.link] if message.link else [])]
    answer = wire.post(url, orjson.dumps({"msgtype": "text", "text": {"content": "\n".join(lines)}}))
    code = _code(answer)
    if code != 0:
        wait = _REST_SECONDS if code in _TOO_MANY else 0.0
        raise wire.failure(f"refused by DingTalk: {answer}", is_final=code in _REFUSED, wait_seconds=wait)


def signature(secret: str, timestamp: str) -> str:
    """What the parameter `sign` is before it is quoted for an address."""
    return base64.b64encode(hmac.digest(secret.encode(), f"{timestamp}\n{secret}".encode(), hashlib.sha256)).decode()


def _code(answer: str) -> int | None:
    """0 is success; None where the answer is not DingTalk's."""
    try:
        return int(orjson.loads(answer)["errcode"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
