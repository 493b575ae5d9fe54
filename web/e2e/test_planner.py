"""The planner: what its page says is what the API answers, and what is made of it."""

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.platform import Server
from web.e2e.conftest import logged_in

GIB = 1024**3
DEFAULT = {"model": "Qwen/Qwen2.5-7B", "gpu": "NVIDIA A100 SXM4 80GB", "num_gpus": 8, "lora": True}
"""What the page plans at first."""
CONFIG = """{"model_type": "llama", "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8,
"num_attention_heads": 8, "vocab_size": 32000, "id2label": {"0": "x"}}"""


def ask(server: Server, **plan: Any) -> dict[str, Any]:
    answer: dict[str, Any] = server.client.post("/plan", DEFAULT | plan)
    return answer


def settled(page: Page) -> None:
    """The page shows the answer to what its form says."""
    expect(page.get_by_test_id("plan-answer")).to_have_attribute("data-state", "shown")


def shows(page: Page, answer: dict[str, Any]) -> None:
    """Peak, speed, memory of the host and the longest context are the API's."""
    settled(page)
    best = answer["best"]
    usable = answer["usable_bytes"]
    expect(page.get_by_test_id("plan-verdict")).to_contain_text(
        f"{best['peak_bytes'] / GIB:,.1f} of {usable / GIB:,.1f} GiB usable ({100 * best['share_of_device']:.1f} %)"
    )
    expect(page.get_by_test_id("fact-mfu")).to_have_text(f"{100 * best['mfu']:.1f} %")
    expect(page.get_by_test_id("fact-host")).to_have_text(f"{best['host_bytes'] / GIB:,.1f} GiB")
    expect(page.get_by_test_id("fact-disk")).to_have_text(f"{answer['disk_bytes'] / GIB:,.1f} GiB")
    expect(page.get_by_test_id("fact-longest")).to_have_text(f"{answer['longest_context']:,}")
    speed = float(page.get_by_test_id("fact-speed").inner_text().replace(",", ""))
    assert speed == pytest.approx(best["tokens_per_second"], rel=1e-3)
    for phase in best["phases"]:
        line = page.get_by_test_id(f"plan-phases-{phase['name'].replace(' ', '-')}")
        expect(line).to_contain_text(f"{phase['bytes'] / GIB:,.1f}")
    assert page.get_by_test_id("plan-curve").get_attribute("data-points") == str(len(answer["curve"]))


def choose(page: Page, field: str, text: str, option: str | None = None) -> None:
    """Search a select for a text, and take the option."""
    page.get_by_test_id(field).click()
    page.keyboard.type(text)
    page.locator(".ant-select-item-option:visible", has_text=option or text).first.click()


def fill(page: Page, field: str, value: object) -> None:
    page.locator(f"input[data-testid=plan-{field}], [data-testid=plan-{field}] input").fill(str(value))


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


@pytest.fixture
def planner(page: Page) -> Page:
    page.goto("/planner")
    settled(page)
    return page


def test_the_page_shows_what_the_api_answers(planner: Page, server: Server) -> None:
    shows(planner, ask(server))
    assert query(planner) == {}

    choose(planner, "plan-model", "qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B")
    choose(planner, "plan-gpu", "4090", "RTX 4090")
    fill(planner, "num_gpus", 4)
    fill(planner, "context", 4096)
    fill(planner, "steps", 500)
    fill(planner, "hourly", 0.5)

    planner.wait_for_url(re.compile("price=0.5"))
    changed = {"model": "Qwen/Qwen2.5-1.5B", "gpu": "RTX 4090", "num_gpus": 4, "context": 4096, "steps": 500}
    answer = ask(server, **changed, hourly=0.5)
    shows(planner, answer)
    expect(planner.get_by_test_id("fact-price")).to_have_text(f"{answer['cost']['price']:,.2f}")
    assert set(query(planner)) == {"model", "gpu", "n", "ctx", "steps", "price"}
    planner.reload()
    shows(planner, answer)
    expect(planner.get_by_label("Context, tokens", exact=True)).to_have_value("4096")


def test_a_name_that_is_not_listed_can_be_typed(planner: Page, server: Server) -> None:
    choose(planner, "plan-gpu", "M3 Max 64GB", "Use")
    fill(planner, "num_gpus", 1)
    planner.wait_for_url(re.compile("gpu=M3"))
    shows(planner, ask(server, gpu="M3 Max 64GB", num_gpus=1))


def test_a_model_by_its_size_and_by_its_config(planner: Page, server: Server) -> None:
    planner.get_by_test_id("plan-model-kind").get_by_text("Size").click()
    fill(planner, "params", 13)
    planner.wait_for_url(re.compile("b=13"))
    shows(planner, ask(server, model="", params=13))

    planner.get_by_test_id("plan-model-kind").get_by_text("Config").click()
    planner.get_by_test_id("plan-config").fill(CONFIG)
    planner.wait_for_url(re.compile("config="))
    settled(planner)
    expect(planner.get_by_test_id("plan-verdict")).to_contain_text("config: ")
    planner.get_by_test_id("plan-config").fill("{")
    expect(planner.get_by_text("This is no JSON object.")).to_be_visible()
    planner.reload()
    expect(planner.get_by_test_id("plan-config")).to_have_value(re.compile('"hidden_size": 512'))


def test_what_is_impossible_says_why_and_keeps_the_last_answer(planner: Page, server: Server) -> None:
    choose(planner, "plan-lora", "", "all weights")
    shows(planner, ask(server, lora=False))
    before = planner.get_by_test_id("fact-speed").inner_text()
    planner.get_by_test_id("plan-advanced").click()
    fill(planner, "fixed-tensor", 3)

    expect(planner.get_by_test_id("plan-error")).to_contain_text("tensor parallelism of 3 does not divide")
    expect(planner.get_by_test_id("plan-answer")).to_have_attribute("data-old", "true")
    expect(planner.get_by_test_id("fact-speed")).to_have_text(before)
    expect(planner.get_by_test_id("plan-apply")).to_be_disabled()
    fill(planner, "fixed-tensor", 2)
    expect(planner.get_by_test_id("plan-error")).to_have_count(0)
    shows(planner, ask(server, lora=False, fixed={"tensor": 2}))


def test_an_address_without_an_answer_says_why(page: Page, server: Server) -> None:
    page.goto("/planner?tp=3")
    expect(page.get_by_test_id("plan-error")).to_contain_text("tensor parallelism of 3 does not divide")
    page.get_by_test_id("plan-reset").click()
    shows(page, ask(server))


def test_what_does_not_fit_says_what_would(page: Page, server: Server) -> None:
    page.goto("/planner?model=Qwen%2FQwen2.5-72B&n=1&lora=0")
    expect(page.get_by_test_id("plan-fits")).to_have_text("Does not fit")
    expect(page.get_by_test_id("plan-apply")).to_be_disabled()
    page.get_by_test_id("plan-advice").locator("li", has_text="would fit: 8 devices").get_by_text("Try").click()
    page.wait_for_url(re.compile(r"72B&lora=0$"))  # eight devices are the default
    shows(page, ask(server, model="Qwen/Qwen2.5-72B", num_gpus=8, lora=False))


def test_what_is_trained_can_be_searched(page: Page, server: Server) -> None:
    page.goto("/planner?gpu=RTX+4090&n=1")
    choose(page, "plan-lora", "", "what fits")
    page.wait_for_url(re.compile("lora=auto"))
    shows(page, ask(server, gpu="RTX 4090", num_gpus=1, lora=None))
    expect(page.get_by_test_id("plan-way")).to_contain_text("LoRA, one device")
    expect(page.get_by_test_id("plan-warnings")).to_contain_text("training all weights does not fit; LoRA is planned")
    fill(page, "num_gpus", 8)
    page.wait_for_url(lambda url: "n=1" not in url)
    shows(page, ask(server, gpu="RTX 4090", lora=None))
    expect(page.get_by_test_id("plan-way")).not_to_contain_text("LoRA")
    page.get_by_test_id("plan-other").filter(has_text="trains update matrices alone").click()
    page.wait_for_url(lambda url: "lora=" not in url)  # the default
    settled(page)
    expect(page.get_by_test_id("plan-way")).to_contain_text("LoRA")


def test_another_way_can_be_fixed_and_let_go(planner: Page, server: Server) -> None:
    answer = ask(server)
    fsdp = next(way for way in answer["others"] if way["sharding"] == "fsdp" and way["fits"])
    planner.get_by_test_id("plan-other").filter(has_text="FSDP").first.click()

    planner.wait_for_url(re.compile("sh=fsdp"))
    settled(planner)
    expect(planner.get_by_test_id("plan-way")).to_contain_text("FSDP")
    assert query(planner)["mb"] == [str(fsdp["micro_batch"])]
    planner.get_by_test_id("plan-pinned").get_by_text("Search all").click()
    shows(planner, answer)


def test_two_plans_side_by_side(planner: Page, server: Server) -> None:
    planner.get_by_test_id("plan-compare-button").click()
    choose(planner, "plan-lora", "", "all weights")
    planner.wait_for_url(re.compile("lora=0"))
    settled(planner)

    first, second = ask(server), ask(server, lora=False)
    a, b = first["best"]["peak_bytes"], second["best"]["peak_bytes"]
    row = planner.get_by_test_id("difference-peak")
    expect(row).to_contain_text(f"{a / GIB:,.1f} GiB{b / GIB:,.1f} GiB\u00d7{b / a:.3g}")
    expect(planner.get_by_test_id("difference-input-lora")).to_contain_text("LoRAall weights")
    expect(planner.get_by_test_id("plan-phases-A-update")).to_be_visible()
    planner.reload()
    expect(row).to_contain_text(f"{a / GIB:,.1f} GiB")
    planner.get_by_test_id("plan-swap").click()
    expect(planner.get_by_test_id("difference-input-lora")).to_contain_text("all weightsLoRA")
    planner.get_by_test_id("plan-compare-close").click()
    expect(planner.get_by_test_id("plan-compare")).to_have_count(0)


def test_the_link_is_shared(browser: Browser, server: Server) -> None:
    with logged_in(browser, server, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto("/planner?ctx=8192&vs=-")
        settled(page)
        page.get_by_test_id("plan-share").click()
        expect(page.get_by_text("The link is copied.")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == f"{server.client.url}/planner?ctx=8192&vs=-"


def test_a_plan_is_exported(planner: Page, server: Server) -> None:
    planner.get_by_test_id("plan-export").click()
    planner.get_by_test_id("export-trl").click()

    files = server.client.post("/plan/export", {"plan": DEFAULT, "format": "trl"})["files"]
    name, text = next(iter(files.items()))
    shown = planner.get_by_test_id("export-text").first
    expect(shown).to_contain_text(text.strip().splitlines()[0])
    with planner.expect_download() as saved:
        planner.get_by_test_id("export-save").first.click()
    assert saved.value.suggested_filename == name
    assert saved.value.path().read_text() == text


def test_a_plan_becomes_the_job_that_is_launched(planner: Page, server: Server) -> None:
    planner.get_by_test_id("plan-apply").click()

    planner.wait_for_url(re.compile("/launch"))
    files = server.client.post("/plan/export", {"plan": DEFAULT, "format": "job"})["files"]
    first = next(line for line in next(iter(files.values())).splitlines() if line.strip())
    expect(planner.locator("[data-testid=launch-editor] .cm-content")).to_contain_text(first)
    expect(planner.locator("[data-testid=launch-editor] .cm-content")).to_contain_text("Qwen/Qwen2.5-7B")


def test_what_no_engine_runs_is_not_applied(page: Page, server: Server) -> None:
    page.goto("/planner?sh=zero3")
    settled(page)
    expect(page.get_by_test_id("plan-way")).to_contain_text("accelerate")
    expect(page.get_by_test_id("plan-apply")).to_be_disabled()
    expect(page.get_by_test_id("plan-verdict")).to_contain_text("No engine of Finery runs this way")


def test_a_calibrated_answer_says_how_far_off_it_was(page: Page, server: Server) -> None:
    band = {"num": 12, "basis": "sft with LoRA", "ratio": 1.04, "low": 0.93, "high": 1.22}
    page.route("**/api/plan", lambda route: route.fulfill(json=route.fetch().json() | {"band": band}))
    page.goto("/planner?cal=1")
    expect(page.get_by_test_id("plan-band")).to_contain_text("1.04\u00d7 what was predicted, 0.93..1.22")
    expect(page.get_by_test_id("plan-band")).to_contain_text("over 12 jobs")
    expect(page.get_by_role("switch", name="Calibrated")).to_be_checked()


def test_in_chinese_nothing_is_left_in_english(page: Page, server: Server) -> None:
    page.goto("/planner?alg=grpo&lora=0&n=4&ctx=8192&model=Qwen%2FQwen2.5-14B&sh=fsdp")
    page.get_by_test_id("language").click()
    page.locator(".ant-select-item-option", has_text="中文").click()
    settled(page)
    expect(page.locator("h1")).to_have_text("算力规划")
    terms = (
        r"Qwen\S*|NVIDIA|SXM\d?|GiB|GB|LoRA|QLoRA|DoRA|GRPO|FSDP|DDP|ZeRO|Megatron|DeepSpeed|Finery|TRL|verl|accelerate|"
        r"vLLM|KV|logits|token|MFU|AdamW|config\.json|bf16|TP|PP|CP|EP|min|ms|KL|FlashAttention|Liger|b?float\d+"
    )
    words = re.findall(r"[A-Za-z]{3,}", re.sub(terms, "", page.get_by_test_id("planner-page").inner_text()))
    assert words == []


def test_everything_is_reached_by_keyboard(planner: Page, server: Server) -> None:
    slider = planner.get_by_role("slider", name="Context, tokens, on a logarithmic scale")
    slider.focus()
    planner.keyboard.press("ArrowRight")
    planner.keyboard.press("ArrowRight")
    planner.wait_for_url(re.compile("ctx=4096"))
    shows(planner, ask(server, context=4096))
    planner.locator("body").click(position={"x": 5, "y": 5})
    planner.keyboard.press("g")
    planner.keyboard.press("l")
    planner.wait_for_url(re.compile("/launch"))
    planner.keyboard.press("Escape")
    planner.locator("h1").click()
    planner.keyboard.press("g")
    planner.keyboard.press("p")
    planner.wait_for_url(re.compile("/planner"))


def test_on_a_phone_nothing_is_cut_off(browser: Browser, server: Server) -> None:
    with logged_in(browser, server, viewport={"width": 390, "height": 844}) as page:
        page.goto("/planner?alg=ppo&lora=0&n=32&vs=-")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
