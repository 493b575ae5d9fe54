"""From notices to the words of one message, in the language of the channel. Pure.

Texts of runs are put on one line, without characters that are not to be seen; how a channel keeps them from being
markup is the channel's own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from finery.notifying.specs import Language, Notice
from finery.rules.specs import Severity

_LONGEST = 600
"""Characters of a text of a run that are told."""
_MOST_LISTED = 8
"""Rules and states that a folded message lists."""

_WORDS: Final[Mapping[Language, Mapping[str, str]]] = MappingProxyType(
    {
        "en": {
            "alerts": "{name}: {rule}",
            "failed": "{name} has failed",
            "lost": "{name}: no contact",
            "completed": "{name} is completed",
            "paused": "{name} has stopped before its end",
            "test": "Test message",
            "more": "{title}, and {n} more",
            "info": "info",
            "warning": "warning",
            "error": "error",
            "run": "Run",
            "attempt": ", attempt {attempt}",
            "rule": "Rule",
            "seen": "Seen",
            "cause": "Cause",
            "step": "Step",
            "severity": "Severity",
            "time": "Time",
            "rest": "And {n} more",
            "open": "Open the run",
            "failed_short": "failed",
            "lost_short": "no contact",
            "completed_short": "completed",
            "paused_short": "stopped",
        },
        "zh": {
            "alerts": "{name}：{rule}",
            "failed": "{name} 已失败",
            "lost": "{name}：失去联系",
            "completed": "{name} 已完成",
            "paused": "{name} 提前停止",
            "test": "测试消息",
            "more": "{title}，另有 {n} 条",
            "info": "提示",
            "warning": "警告",
            "error": "错误",
            "run": "运行",
            "attempt": "，第 {attempt} 次尝试",
            "rule": "规则",
            "seen": "现象",
            "cause": "原因",
            "step": "步数",
            "severity": "级别",
            "time": "时间",
            "rest": "另有 {n} 条",
            "open": "打开运行页面",
            "failed_short": "失败",
            "lost_short": "失去联系",
            "completed_short": "完成",
            "paused_short": "停止",
        },
    }
)
_ENDS: Final = ("failed", "lost")
"""What a folded message leads with, whatever else happened."""


@dataclass(frozen=True)
class Message:
    """What a channel is handed."""

    key: str
    """The same for each try of the same message."""
    title: str
    severity: Severity
    facts: tuple[tuple[str, str], ...]
    """(label, text), in the order in which they are shown."""
    link: str
    """Of the run's page; empty where nobody said how people reach it."""
    link_text: str
    language: Language
    notices: tuple[Notice, ...]
    """All that it tells, in their order."""

    @property
    def lines(self) -> list[str]:
        """The facts as lines of text."""
        colon = "：" if self.language == "zh" else ": "
        return [f"{label}{colon}{text}" for label, text in self.facts]


def compose(key: str, notices: Sequence[Notice], language: Language, *, public_url: str) -> Message:
    """One message for notices of one run.

    Args:
        key: Of the message.
        notices: In their order, at least one.
        language: Of the words around what the run said.
        public_url: Where people reach the web UI; empty links nowhere.
    """
    words = _WORDS[language]
    lead = next((notice for notice in notices if notice.kind in _ENDS), notices[0])
    title = words[lead.kind].format(name=visible(lead.name), rule=visible(lead.rule))
    if len(notices) > 1:
        title = words["more"].format(title=title, n=len(notices) - 1)
    link = f"{public_url.rstrip('/')}/runs/{lead.job_id}" if public_url and lead.job_id is not None else ""
    return Message(
        key=key,
        title=f"Finery · {title}",
        severity=lead.severity,
        facts=_facts(lead, words) + _rest([notice for notice in notices if notice is not lead], words),
        link=link,
        link_text=words["open"],
        language=language,
        notices=tuple(notices),
    )


def visible(text: str) -> str:
    """A text of a run on one line: without control characters and marks of direction, cut where it is long."""
    line = "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."


def _facts(notice: Notice, words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if notice.kind == "test":
        return ((words["seen"], visible(notice.message)),)
    number = f" #{notice.job_id}" if notice.job_id is not None else f" ({visible(notice.run)})"
    attempt = words["attempt"].format(attempt=notice.attempt) if notice.attempt > 1 else ""
    moment = datetime.fromtimestamp(notice.time, UTC)
    facts = (
        ("run", f"{visible(notice.name)}{number}{attempt}"),
        ("rule", visible(notice.rule)),
        ("seen" if notice.kind == "alerts" else "cause", visible(notice.message)),
        ("step", "" if notice.step is None else str(notice.step)),
        ("severity", words[notice.severity]),
        ("time", f"{moment:%Y-%m-%d %H:%M:%S} UTC"),
    )
    return tuple((words[name], text) for name, text in facts if text)


def _rest(notices: Sequence[Notice], words: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The others by what they are and how often."""
    if not notices:
        return ()
    counts = Counter(
        visible(notice.rule) if notice.kind == "alerts" else words.get(f"{notice.kind}_short", notice.kind)
        for notice in notices
    )
    listed = [name if number == 1 else f"{name} ×{number}" for name, number in counts.most_common(_MOST_LISTED)]
    more = ["..."] if len(counts) > _MOST_LISTED else []
    return ((words["rest"].format(n=len(notices)), ", ".join(listed + more)),)
