"""The channel `feishu`: a custom bot of a Feishu or Lark group (open.feishu.cn/document/client-docs/bot-v3).

Messages are of the type `post`, whose text elements are no markup: a text of a run mentions nobody. With a secret the
body gets `timestamp` (seconds) and `sign`: base64 of HMAC-SHA256 over nothing, with "timestamp\\nsecret" as key. Feishu
answers 200 whatever happens and says in `code` what did; it knows no idempotency key.
"""

import base64
import hashlib
import hmac
from typing import Any, Final

import orjson
from pydantic import Field

from finery.core.refs import SecretRef
from finery.core.spec import Spec
from finery.notifying.channels import OPTIONAL_SECRET_NAME, SECRET, SECRET_NAME, SECRET_URL, registry
from finery.notifying.wire import Wire
from finery.notifying.words import Message

_REFUSED: Final = frozenset({9499, 19001, 19002, 19021, 19022, 19024})
"""Bad request, unknown bot, signature or clock wrong, address not allowed, keyword missing."""
_TOO_MANY: Final = 11232
_REST_SECONDS: Final = 60.0
_LANGUAGES: Final = {"zh": "zh_cn", "en": "en_us"}


class FeishuParams(Spec):
    url: SecretRef = Field(pattern=SECRET_NAME, json_schema_extra=SECRET_URL)
    """Of the bot: https://open.feishu.cn/open-apis/bot/v2/hook/... or the same of open.larksuite.com."""
    secret: SecretRef = Field("", pattern=OPTIONAL_SECRET_NAME, json_schema_extra=SECRET)
    """Of a bot with signature verification. Empty for one with a keyword, which can be `Finery`."""


@registry.register("feishu", params=FeishuParams)
def feishu(message: Message, params: FeishuParams, wire: Wire) -> None:
    """A Feishu or Lark group, by a custom bot."""
    lines: list[list[dict[str, str]]] = [[{"tag": "text", "text": line}] for line in message.lines]
    if message.link:
        lines.append([{"tag": "a", "text": message.link_text, "href": message.link}])
    post = {_LANGUAGES[message.language]: {"title": message.title, "content": lines}}
    body: dict[str, Any] = {"msg_type": "post", "content": {"post": post}}
    secret = wire.secret(params.secret)
    if secret:
        timestamp = str(int(wire.now()))
        body |= {"timestamp": timestamp, "sign": signature(secret, timestamp)}
    answer = wire.post(wire.secret(params.url), orjson.dumps(body))
    code = _code(answer)
    if code != 0:
        wait = _REST_SECONDS if code == _TOO_MANY else 0.0
        raise wire.failure(f"refused by Feishu: {answer}", is_final=code in _REFUSED, wait_seconds=wait)


def signature(secret: str, timestamp: str) -> str:
    """What `sign` is in the body."""
    return base64.b64encode(hmac.digest(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256)).decode()


def _code(answer: str) -> int | None:
    """0 is success; None where the answer is not Feishu's. Older bots answer with `StatusCode`."""
    try:
        found = orjson.loads(answer)
        return int(found["code"] if "code" in found else found["StatusCode"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
