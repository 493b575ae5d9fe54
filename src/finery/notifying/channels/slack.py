"""The channel `slack`: an incoming webhook (docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).

Facts are `plain_text`, in which Slack reads no markup; where there is none of that, its three control characters are
escaped, so that no text of a run mentions anybody or makes a link. Slack knows no idempotency key: a message whose
answer was lost is sent again.
"""

import orjson
from pydantic import Field

from finery.core.refs import SecretRef
from finery.core.spec import Spec
from finery.notifying.channels import SECRET_NAME, SECRET_URL, registry
from finery.notifying.wire import Wire
from finery.notifying.words import Message

_LONGEST_TITLE = 150
"""Of a header block."""


class SlackParams(Spec):
    url: SecretRef = Field(pattern=SECRET_NAME, json_schema_extra=SECRET_URL)
    """Of the incoming webhook: https://hooks.slack.com/services/..."""


@registry.register("slack", params=SlackParams)
def slack(message: Message, params: SlackParams, wire: Wire) -> None:
    """A Slack channel, by an incoming webhook."""
    title = {"type": "plain_text", "text": message.title[:_LONGEST_TITLE], "emoji": False}
    facts = {"type": "plain_text", "text": "\n".join(message.lines), "emoji": False}
    blocks: list[dict[str, object]] = [{"type": "header", "text": title}, {"type": "section", "text": facts}]
    if message.link:
        link = f"<{_escaped(message.link)}|{_escaped(message.link_text)}>"
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": link}})
    body = {"text": _escaped(message.title), "blocks": blocks, "unfurl_links": False, "unfurl_media": False}
    wire.post(wire.secret(params.url), orjson.dumps(body))


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
