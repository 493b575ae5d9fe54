"""Rollouts of a run in a browser: steps, prompts, tokens, filters, a prompt over time, signs of reward hacking."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.platform import Server, sft_job

STEPS = 15


@pytest.fixture(scope="module")
def trained(shared: Server, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A run whose prompts ask for reasoning, and whose reward does not."""
    path: Path = tmp_path_factory.mktemp("rows") / "reasoning.jsonl"
    rows = [{"prompt": f"Think step by step: {a} + {a + 1} = ?", "answer": str(2 * a + 1)} for a in range(6)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    body = {"name": "reasoning", "object": shared.client.upload(path), "file_name": "reasoning.jsonl"}
    shared.client.post("/datasets/import", body)
    task: dict[str, Any] = {
        "algorithm": "grpo",
        "model": {"base": "tiny-char"},
        "data": {"train": "reasoning"},
        "rewards": [{"name": "format", "params": {"pattern": ".*[0-9a-m].*"}}, {"name": "exact", "weight": 0.5}],
        "optim": {"learning_rate": 1e-3, "steps": STEPS},
        "rollout": {"completions_per_prompt": 8, "max_new_tokens": 8},
        "prompts_per_step": 2,
        "kl_coef": 0.05,
    }
    job_id = shared.submit({"name": "theatre", "kind": "train", "task": task, "resources": {"cpu_threads": 1}})
    shared.await_state(job_id, "completed")
    return job_id


def test_steps_prompts_and_tokens(page: Page, trained: int) -> None:
    page.goto(f"/runs/{trained}?tab=samples")
    steps = page.get_by_test_id("rollout-steps")
    expect(steps).to_have_attribute("data-columns", str(STEPS))
    expect(page.get_by_test_id("sample-group")).to_have_count(2)
    expect(page.get_by_test_id("sample-row")).to_have_count(16)
    detail = page.get_by_test_id("rollout-detail")
    expect(detail).to_have_attribute("data-step", str(STEPS))
    expect(page.get_by_test_id("rollout-parts")).to_contain_text("× 0.5")

    tokens = page.get_by_test_id("rollout-tokens")
    expect(tokens).to_have_attribute("data-colour", "entropy")
    coloured = "getComputedStyle(document.querySelector('.token')).backgroundColor"
    strong = page.evaluate(coloured)
    page.get_by_test_id("rollout-colour-none").click()
    expect(tokens).to_have_attribute("data-colour", "none")
    assert page.evaluate(coloured) == "rgba(213, 94, 0, 0)" != strong
    page.get_by_test_id("rollout-colour-kl").click()
    expect(page).to_have_url(re.compile("colour=kl"))
    tokens.locator(".token").first.hover()
    readout = page.get_by_test_id("rollout-readout")
    for name in ("token 1", "Entropy", "KL", "Log-probability"):
        expect(readout).to_contain_text(name)

    box = steps.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 2.5 / STEPS, box["y"] + 20)
    expect(detail).to_have_attribute("data-step", "3")
    page.get_by_test_id("rollout-next").click()
    expect(detail).to_have_attribute("data-step", "4")
    steps.press("ArrowLeft")
    expect(detail).to_have_attribute("data-step", "3")
    page.get_by_test_id("rollout-step").fill("7")
    page.keyboard.press("Enter")
    expect(detail).to_have_attribute("data-step", "7")


def test_keys_go_through_rollouts_and_the_address_keeps_the_view(page: Page, trained: int) -> None:
    page.goto(f"/runs/{trained}?tab=samples&step=5")
    detail = page.get_by_test_id("rollout-detail")
    expect(detail).to_have_attribute("data-index", "0")
    rows = page.get_by_test_id("rollout-list")
    rows.press("ArrowDown")
    expect(detail).to_have_attribute("data-index", "1")
    rows.press("End")
    expect(detail).to_have_attribute("data-index", "15")
    page.keyboard.press("k")
    expect(detail).to_have_attribute("data-index", "14")
    page.reload()
    expect(detail).to_have_attribute("data-index", "14")
    expect(detail).to_have_attribute("data-step", "5")

    page.get_by_test_id("rollout-newest").click()
    expect(detail).to_have_attribute("data-step", str(STEPS))
    expect(detail).to_have_attribute("data-index", "0")


def test_filters_narrow_the_list_down(page: Page, trained: int) -> None:
    page.goto(f"/runs/{trained}?tab=samples&step=1")
    count = page.get_by_test_id("rollout-count")
    expect(count).to_have_attribute("data-matching", "16")
    page.get_by_test_id("rollout-rmax").fill("0.1")
    expect(count).not_to_have_attribute("data-matching", "16")
    low = int(count.get_attribute("data-matching") or 0)
    assert 0 < low < 16
    expect(page.get_by_test_id("sample-row")).to_have_count(low)
    text = page.locator("[data-testid=rollout-text] input, input[data-testid=rollout-text]").first
    text.fill("surely nobody wrote this")
    text.press("Enter")
    expect(page.get_by_text("None of the 16 rollouts of this step matches the filter.")).to_be_visible()
    page.reload()
    expect(count).to_have_attribute("data-matching", "0")
    page.get_by_test_id("rollout-clear").click()
    expect(count).to_have_attribute("data-matching", "16")

    page.goto(f"/runs/{trained}?tab=samples&step=1&sort=reward&down=1")
    expect(page.get_by_test_id("sample-row")).to_have_count(16)
    shown = [float(one) for one in page.locator(".rollout-reward b").all_text_contents()]
    assert shown == sorted(shown, reverse=True)
    assert len(set(shown)) > 1
    expect(page.get_by_test_id("sample-group")).to_have_count(0)

    page.goto(f"/runs/{trained}?tab=samples&step=99")
    expect(page.get_by_text("no rollouts of step 99 were recorded; there are some of step 15")).to_be_visible()


def test_a_prompt_over_time_and_signs_with_their_samples(page: Page, trained: int) -> None:
    page.goto(f"/runs/{trained}?tab=samples")
    page.get_by_test_id("rollout-time").click()
    history = page.get_by_test_id("rollout-history")
    expect(history).to_be_visible()
    assert int(history.get_attribute("data-steps") or 0) >= 4
    history.get_by_role("button").last.click()
    detail = page.get_by_test_id("rollout-detail")
    expect(detail).not_to_have_attribute("data-step", str(STEPS))

    sign = page.get_by_test_id("detector-answer_without_reasoning")
    expect(sign).to_have_attribute("data-verdict", "found")
    sign.click()
    expect(page.get_by_test_id("detector-story")).to_contain_text("of the rewarded completions were a bare answer")
    sample = page.get_by_test_id("detector-sample").first
    step, index = re.findall(r"\d+", sample.inner_text())
    sample.click()
    expect(detail).to_have_attribute("data-step", step)
    expect(detail).to_have_attribute("data-index", index)
    for other in ("shrinking_diversity", "length_creep", "repetition"):
        assert page.get_by_test_id(f"detector-{other}").get_attribute("data-verdict") in ("clear", "found")


def test_a_run_without_rollouts_says_what_would_be_here(page: Page, shared: Server) -> None:
    shared.generate("sums", num_rows=20, format="sft")
    job_id = shared.submit(sft_job(steps=2))
    shared.await_state(job_id, "completed")
    page.goto(f"/runs/{job_id}?tab=samples")
    expect(page.get_by_text("No samples.", exact=False)).to_be_visible()


def test_nothing_is_wider_than_the_page(page: Page, trained: int) -> None:
    for width in (1280, 700):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"/runs/{trained}?tab=samples&time=1&sign=answer_without_reasoning")
        expect(page.get_by_test_id("rollout-history")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
