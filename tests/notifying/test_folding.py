"""A storm of notices becomes few messages, and nothing of it is left out."""

from hypothesis import given
from hypothesis import strategies as st

from finery.notifying import folding
from finery.notifying.folding import PER_CHANNEL, PER_RUN, Waiting


def waiting(*runs: str) -> list[Waiting]:
    return [Waiting(number, run) for number, run in enumerate(runs)]


def test_a_few_go_each_for_itself() -> None:
    assert folding.plan(waiting(*["a"] * PER_RUN), {}) == [[0], [1], [2], [3], [4]]


def test_of_a_storm_the_last_message_holds_the_rest() -> None:
    assert folding.plan(waiting(*["a"] * 19), {}) == [[0], [1], [2], [3], list(range(4, 19))]


def test_what_was_sent_in_the_last_minute_takes_room() -> None:
    assert folding.plan(waiting("a", "a", "a"), {"a": 4}) == [[0, 1, 2]]
    assert folding.plan(waiting("a", "a", "a"), {"a": 5}) == []
    assert folding.plan(waiting("a", "b"), {"a": 5}) == [[1]]


def test_many_runs_share_the_room_of_a_channel() -> None:
    runs = [f"run {number}" for number in range(30)]

    assert folding.plan(waiting(*runs), {}) == [[number] for number in range(PER_CHANNEL)]
    assert folding.plan(waiting(*runs), {"other": PER_CHANNEL}) == []


@given(
    st.lists(st.sampled_from("abcdefg"), max_size=60), st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 5))
)
def test_the_limits_hold_and_nothing_is_told_twice(runs: list[str], planned: dict[str, int]) -> None:
    items = waiting(*runs)
    messages = folding.plan(items, planned)

    told = [one for message in messages for one in message]
    assert len(told) == len(set(told))
    assert len(messages) <= max(0, PER_CHANNEL - sum(planned.values()))
    for run in set(runs):
        of_run = [message for message in messages if {items[one].run for one in message} == {run}]
        assert len(of_run) <= max(0, PER_RUN - planned.get(run, 0))
    assert all(len({items[one].run for one in message}) == 1 for message in messages)
