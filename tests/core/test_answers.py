"""What counts as the answer of a completion, and what counts as equal to the target."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finery.core import symbolic
from finery.core.answers import exact_equal, extract_answer, last_number, math_equal, numbers_equal
from finery.core.errors import Unavailable

LAST_NUMBERS = [
    ("17", "17"),
    ("12+5=17\n", "17"),
    ("5-3", "3"),
    ("10 - 3", "3"),
    ("x=-3", "-3"),
    ("it is -3.", "-3"),
    ("\u22125", "-5"),
    ("3\u20135 apples", "5"),
    ("$1,234,567.50 in all", "1234567.50"),
    ("-$5", "-5"),
    ("$-5", "-5"),
    ("\u00a51,000", "1000"),
    ("1{,}000", "1000"),
    ("1\\,000", "1000"),
    ("11,\\! 111,\\! 100", "11111100"),
    ("1,2345", "2345"),
    ("25%", "25"),
    (".5", "0.5"),
    ("0.50.", "0.50"),
    ("half is 1/2", "1/2"),
    ("\\frac{3}{4}", "3/4"),
    ("-\\dfrac34", "-3/4"),
    ("2\\frac{1}{2}", "5/2"),
    ("1 1/2 cups", "3/2"),
    ("on 3/4/2020", "2020"),
    ("2e5", "2e5"),
    ("2 \\times 10^{-3} m", "2e-3"),
    ("12 cm^2", "12"),
    ("12 m2", "12"),
    ("10^-3", "10"),
    ("48/2 = <<48/2=24>>24", "24"),
    ("\u7b54\u6848\u662f42\u5143\u3002", "42"),
    ("\u7b54\u6848\u662f\uff14\uff12\u3002", "42"),
    ("\u6709100\uff0c200\u4e2a", "200"),
    ("\u0663\u0664", "34"),
    ("H2O", "2"),
    ("", None),
    ("none at all", None),
    ("1e999999999", None),
    ("9" * 5000, None),
    ("3/0", None),
]

ANSWERS = [
    ("so \\boxed{42}.", "42"),
    ("first \\boxed{1}, then \\boxed{2}, not 3", "2"),
    ("\\boxed{\\frac{\\sqrt{3}}{2}}", "\\frac{\\sqrt{3}}{2}"),
    ("\\boxed{\\left\\{1, 2\\right\\}}", "\\left\\{1, 2\\right\\}"),
    ("\\boxed{\\boxed{5}}", "5"),
    ("\\boxed{42 \\text{ dollars}}", "42"),
    ("\\boxed{50\\%}", "50%"),
    ("\\boxed{\\text{Evelyn}}", "Evelyn"),
    ("\\boxed{x^2+1}", "x^2+1"),
    ("\\boxed 7", "7"),
    ("\\boxed{} but 5", "5"),
    ("cut off: \\boxed{42", "42"),
    ("steps\n#### 1,234", "1234"),
    ("#### 42 apples\nmore 7", "42"),
    ("#### -3", "-3"),
    ("The answer is 42.", "42"),
    ("The answer is 42 apples because 3 of them are red.", "42"),
    ("the answer is 3.5", "3.5"),
    ("Answer: **42**", "42"),
    ("**Answer:** 42", "42"),
    ("Final Answer:\n\n42", "42"),
    ("the answer is $18.50 per day", "18.50"),
    ("The answer is: Janet makes $18 every day", "18"),
    ("The answer to 12 + 5 is 17", "17"),
    ("The answer is 12 cm^2.", "12"),
    ("The answer is 5 km/h", "5"),
    ("The answer is $90^{\\circ}$", "90"),
    ("The answer is \\(\\frac{1}{2}\\).", "1/2"),
    ("convert the answer to weeks: 28 days / 7 = 4", "4"),
    ("answer is x = 5", "x = 5"),
    ("answer is 2\\sqrt{3}.", "2\\sqrt{3}"),
    ("The answer is 2x+1", "2x+1"),
    ("answer is 3 or 4", "3 or 4"),
    ("The answer is $3, 5, 7$.", "3, 5, 7"),
    ("the answer is p - q.", "p - q"),
    ("ANSWER: C", "C"),
    ("\u7b54\u6848\u662f42\u5143\u3002", "42"),
    ("\u7b54\u6848\uff1a\uff0d3", "-3"),
    ("\u6700\u7ec8\u7b54\u6848\u4e3a 3/4\uff0c\u8c22\u8c22", "3/4"),
    ("\u7b54\u6848\u4e3a\u201c42\u201d", "42"),
    ("\u56e0\u6b64\u4e00\u517142\u4e2a\u82f9\u679c", "42"),
    ("<think>the answer is 3</think> It is 7.", "7"),
    ("25% of 80", "80"),
    ("it rose by 25%", "25%"),
    ("the answer is 1. the answer is 2.", "2"),
    ("", None),
    ("I do not know", None),
    ("\\boxed{}", None),
]

EQUAL = [
    ("18", "18"),
    ("18.00", "18"),
    ("1,000", "1000"),
    ("$18", "18"),
    ("1/2", "0.5"),
    ("\\frac{1}{2}", "0.5"),
    ("0.333333", "1/3"),
    ("25%", "25"),
    ("25\\%", "0.25"),
    ("2e3", "2000"),
    ("-0", "0"),
    ("\uff14\uff12", "42"),
    ("2^{10}", "1024"),
    ("\\sqrt{8}", "2\\sqrt{2}"),
    ("-q+p", "p - q"),
    ("x=5", "5"),
    ("(1,2)", "(1, 2)"),
    ("\\{2,1\\}", "\\{1, 2\\}"),
    ("\\text{Evelyn}", "Evelyn"),
    ("10!", "3628800"),
    ("9**9**9", "9**9**9"),
    ("4", "2 + 2 = 4\n#### 4"),
    ("1/2", "so it is $\\boxed{\\frac12}$."),
]

UNEQUAL = [
    ("18", "19"),
    ("-3", "3"),
    ("0.33", "1/3"),
    ("0.25%", "25%"),
    ("25", "0.25"),
    ("0.0000001", "0"),
    ("", "5"),
    ("5", ""),
    ("no", "5"),
    ("\\sqrt{8}", "3"),
    ("x+1", "x-1"),
    ("\\frac{1}{0}", "0"),
    ("{{{", "1"),
    ("\ud800", "1+x"),
    ("__import__('os').system('true')", "0"),
]

EXPLOSIONS = [
    "9**9**9",
    "9^{9^{9}}",
    "10^{1000000000}",
    "2^(9^9)",
    "99999!",
    "((3!)!)!",
    "(9^{999})^{999}",
    "1e999999999",
    "1+" * 5000 + "1",
    "(" * 2000,
]


@pytest.mark.parametrize(("text", "expected"), LAST_NUMBERS)
def test_the_last_number_is_read_in_plain_form(text: str, expected: str | None) -> None:
    assert last_number(text) == expected


@pytest.mark.parametrize(("text", "expected"), ANSWERS)
def test_the_answer_is_found_where_completions_put_it(text: str, expected: str | None) -> None:
    assert extract_answer(text) == expected


@pytest.mark.parametrize(("answer", "target"), EQUAL)
def test_equal_mathematics_is_equal(answer: str, target: str) -> None:
    assert math_equal(answer, target)


@pytest.mark.parametrize(("answer", "target"), UNEQUAL)
def test_unequal_or_unreadable_mathematics_is_not_equal(answer: str, target: str) -> None:
    assert not math_equal(answer, target)


@pytest.mark.parametrize("answer", EXPLOSIONS)
def test_an_explosive_expression_is_refused_at_once(answer: str) -> None:
    started = time.monotonic()

    assert not math_equal(answer, "2")
    assert not math_equal("2", answer)

    assert time.monotonic() - started < 4


def test_a_computation_that_ignores_signals_is_killed_in_time_and_the_next_one_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(symbolic, "_explodes", lambda text: False)
    math_equal("x+1", "1+x")
    started = time.monotonic()

    assert not math_equal("9^{9^9}", "2", 0.5)
    assert symbolic._worker._process is None
    assert math_equal("x+1", "1+x")

    assert time.monotonic() - started < 30


def test_a_computation_ends_when_nobody_waits_for_it_any_more() -> None:
    math_equal("x+1", "1+x")
    process = symbolic._worker._process
    assert process is not None
    assert process.stdin is not None
    symbolic._worker.forget()

    process.stdin.write(b'["9^{9^9}", "2", 0.2]\n')
    process.stdin.close()

    assert process.wait(timeout=20) != 0
    assert math_equal("x+1", "1+x")


def test_a_request_to_stop_does_not_spoil_a_comparison() -> None:
    math_equal("x+1", "1+x")
    process = symbolic._worker._process
    assert process is not None

    process.send_signal(signal.SIGTERM)

    assert math_equal("x+2", "2+x")
    assert symbolic._worker._process is process


def test_mathematics_is_compared_off_the_main_thread() -> None:
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(math_equal("x+1", "1+x"))) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [True] * 4


def test_a_fork_compares_on_its_own() -> None:
    math_equal("x+1", "1+x")

    child = os.fork()
    if child == 0:
        os._exit(0 if math_equal("y+1", "1+y") and not math_equal("y+1", "y") else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert math_equal("x+2", "2+x")


def test_without_math_verify_plain_answers_still_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    symbolic._worker.close()
    monkeypatch.setattr(symbolic.importlib.util, "find_spec", lambda name: None)

    assert math_equal("1,000", "1000")
    with pytest.raises(Unavailable, match="math-verify"):
        math_equal("x+1", "1+x")


@pytest.mark.parametrize(
    ("answer", "target", "ignore_case", "expected"),
    [
        (" New  York\n", "New York", False, True),
        ("new york", "New York", False, False),
        ("new york", "New York", True, True),
        ("STRASSE", "stra\u00dfe", True, True),
        ("4 2", "42", False, False),
    ],
)
def test_text_is_equal_but_for_white_space(answer: str, target: str, ignore_case: bool, expected: bool) -> None:
    assert exact_equal(answer, target, ignore_case=ignore_case) is expected


@given(value=st.integers(-(10**12), 10**12))
def test_an_integer_survives_its_ways_of_being_written(value: int) -> None:
    for written in (f"{value}", f"{value:,}", f"{value}.0", f"${value}$", f" {value}. "):
        assert numbers_equal(written, str(value))
    assert last_number(f"so it is {value:,} apples.") == str(value)
    assert extract_answer(f"\\boxed{{{value:,}}}") == str(value)


@given(num=st.integers(-999, 999), den=st.integers(1, 999))
def test_a_fraction_is_compared_exactly(num: int, den: int) -> None:
    sign = "-" if num < 0 else ""

    assert numbers_equal(f"{num}/{den}", f"{sign}\\frac{{{abs(num)}}}{{{den}}}")
    assert numbers_equal(f"{2 * num}/{2 * den}", f"{num}/{den}")
    assert not numbers_equal(f"{num}/{den}", f"{num + 1}/{den}")


@given(text=st.text(max_size=60) | st.text(alphabet="0123456789.,/-+$%{}\\ boxedfranswi#:=e^x()", max_size=60))
def test_extraction_never_fails_and_its_numbers_are_numbers(text: str) -> None:
    extract_answer(text)
    number = last_number(text)

    assert number is None or numbers_equal(number, number)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 20_000,
        "{" * 50_000,
        "answer is " * 20_000,
        "1 " * 50_000,
        "9" * 100_000,
        "$" * 50_000,
        "\\frac{" * 20_000,
    ],
)
def test_a_long_hostile_text_takes_no_time(text: str) -> None:
    started = time.monotonic()

    extract_answer(text)
    last_number(text)

    assert time.monotonic() - started < 5


def test_every_gsm8k_answer_is_found_however_it_is_marked(data_dir: Path) -> None:
    for line in (data_dir / "bench" / "gsm8k_test.jsonl").read_text().splitlines():
        solution = json.loads(line)["answer"]
        worked, _, target = solution.rpartition("####")
        target = target.strip()

        for text in (
            solution,
            f"{worked}The answer is {target}.",
            f"{worked}\\boxed{{{target}}}",
            f"{worked}so {target} in all",
        ):
            assert math_equal(extract_answer(text) or "", target), text


def test_every_math500_answer_equals_itself_however_it_is_marked(data_dir: Path) -> None:
    for line in (data_dir / "bench" / "math500.jsonl").read_text().splitlines()[::5]:
        target = json.loads(line)["answer"]

        for text in (f"Thus $\\boxed{{{target}}}$.", f"The answer is ${target}$.", f"#### {target}"):
            assert math_equal(extract_answer(text) or "", target), text
