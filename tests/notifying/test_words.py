"""What a message says, in both languages, and what texts of runs cannot do to it."""

import pytest

from finery.notifying import words
from finery.notifying.words import compose
from tests.notifying.conftest import notice


def test_an_alert_names_run_rule_what_was_seen_step_severity_and_page() -> None:
    message = compose("k", [notice(job_id=41, attempt=2)], "en", public_url="https://finery.example.org/")

    assert message.title == "Finery · sums: grad_explosion"
    assert message.lines == [
        "Run: sums #41, attempt 2",
        "Rule: grad_explosion",
        "Seen: grad_norm > 100 (grad_norm = 153)",
        "Step: 120",
        "Severity: error",
        "Time: 2026-01-01 00:00:00 UTC",
    ]
    assert message.link == "https://finery.example.org/runs/41"


def test_the_same_in_chinese() -> None:
    message = compose("k", [notice(job_id=41, severity="warning")], "zh", public_url="")

    assert message.title == "Finery · sums：grad_explosion"
    assert message.lines[:2] == ["运行：sums #41", "规则：grad_explosion"]
    assert "级别：警告" in message.lines
    assert message.link == ""


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("failed", "sums has failed"),
        ("lost", "sums: no contact"),
        ("completed", "sums is completed"),
        ("paused", "sums has stopped before its end"),
    ],
)
def test_an_end_is_told_with_its_cause(kind: str, title: str) -> None:
    message = compose("k", [notice(kind=kind, rule="", message="out of memory")], "en", public_url="")

    assert message.title == f"Finery · {title}"
    assert "Cause: out of memory" in message.lines
    assert not any(line.startswith("Rule") for line in message.lines)


def test_a_folded_message_says_how_many_more_and_of_what() -> None:
    storm = [notice(step=step) for step in range(10)] + [notice(rule="kl_divergence_high")] * 5
    message = compose("k", storm, "en", public_url="")

    assert message.title == "Finery · sums: grad_explosion, and 14 more"
    assert message.lines[-1] == "And 14 more: grad_explosion ×9, kl_divergence_high ×5"


def test_an_end_leads_a_folded_message() -> None:
    message = compose("k", [notice(), notice(), notice(kind="failed", rule="")], "zh", public_url="")

    assert message.title == "Finery · sums 已失败，另有 2 条"
    assert message.severity == "error"
    assert message.lines[-1] == "另有 2 条：grad_explosion ×2"


def test_texts_of_runs_stay_on_their_line_and_are_cut() -> None:
    hostile = "a\nStep: 7\r\x00\x1b[31m\u202e\u2066b" + "x" * 5000
    message = compose("k", [notice(message=hostile, rule=hostile)], "en", public_url="")

    assert all("\n" not in line and "\r" not in line and "\x1b" not in line for line in (message.title, *message.lines))
    assert not any(sign in "".join(message.lines) for sign in "\u202e\u2066\x00")
    assert max(map(len, message.lines)) < 700
    assert len(message.lines) == 6
    assert sum(line.startswith("Step") for line in message.lines) == 1


def test_both_languages_have_the_same_words_with_the_same_places() -> None:
    english, chinese = words._WORDS["en"], words._WORDS["zh"]

    assert english.keys() == chinese.keys()
    for key, text in english.items():
        assert {part.split("}")[0] for part in text.split("{")[1:]} == {
            part.split("}")[0] for part in chinese[key].split("{")[1:]
        }
