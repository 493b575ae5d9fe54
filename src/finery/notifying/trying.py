"""Sends a test message, at once and in the open: what the other side says is the answer."""

import time
import uuid

from finery.core.clock import Clock
from finery.core.settings import Settings
from finery.notifying import delivering
from finery.notifying.queue import Claimed
from finery.notifying.specs import Language, Notice, TrialView
from finery.notifying.tables import Channel
from finery.notifying.wire import NotSent

_WORDS: dict[Language, str] = {
    "en": "This channel works. Finery tells here what was chosen for it.",
    "zh": "此渠道可用。Finery 会在这里发送为它选定的通知。",
}


def trial(channel: Channel, settings: Settings, clock: Clock) -> TrialView:
    """Send a test message through a channel. Not to be called while a session is open."""
    language: Language = channel.language  # type: ignore[assignment]  # checked when it was stored
    notice = Notice(
        kind="test",
        run="test",
        job_id=None,
        name="test",
        attempt=1,
        severity="info",
        message=_WORDS[language],
        step=None,
        time=clock.now().timestamp(),
    )
    claimed = Claimed(uuid.uuid4().hex, channel.name, channel.kind, channel.params, language, (notice,))
    begun = time.monotonic()
    try:
        delivering.send(claimed, settings, clock)
        answer = ""
    except NotSent as error:
        answer = str(error)
    return TrialView(is_sent=not answer, answer=answer, seconds=round(time.monotonic() - begun, 3))
