"""The page for everybody: screen readers, keyboards, phones, dark rooms."""

from collections.abc import Callable
from typing import Any

import pytest
from visitor import analyse_many, answer_pair, ask, explain_pair
from web_client import make_full_function

from nlpbook_helpers.web import Server

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytest_plugins = ["chromium"]
pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]
Serve = Callable[..., Server]
TOUCHABLE = "button:visible, summary:visible, select:visible, textarea:visible"


def find_violations(page: Any) -> list[str]:
    """Let axe-core look at the page as it is; return what is serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(reduced_motion="reduce")  # a colour that is just fading in is no finding
    before = len(page.complaints)
    violations = Axe().run(page).response["violations"]
    page.wait_for_timeout(100)
    del page.complaints[before:]  # axe itself tries inline styles, which the policy stops
    return [
        f"{found['id']}: {[node['html'][:120] for node in found['nodes']]}"
        for found in violations
        if found["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, serve_app: Serve, scheme: str) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    server = serve_app(make_full_function())
    page.goto(server.url)
    assert find_violations(page) == [], "empty"
    ask(page, "배우들이 정말 좋았다")
    page.get_by_role("button", name="왜?").click()
    page.wait_for_selector(".legend")
    for drawer in page.locator("summary").all():
        drawer.click()
    assert find_violations(page) == [], "with a result, why, history and code"
    page.get_by_label("문장", exact=True).fill("")
    page.get_by_role("button", name="분석하기", exact=True).click()
    page.wait_for_selector(".field-error:visible")
    assert find_violations(page) == [], "with a refused field"
    analyse_many(page, server.url, file={"name": "a.csv", "mimeType": "text/csv", "buffer": b"text,label\na,1\n,0\n"})
    assert find_violations(page) == [], "with a table"
    page.goto(f"{server.url}/nothing")
    assert find_violations(page) == [], "the error page"


def test_everything_works_from_the_keyboard(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(make_full_function()).url)

    def press_until(key: str, condition: str) -> None:
        for _ in range(40):
            page.keyboard.press(key)
            if page.evaluate(f"(() => {{ const at = document.activeElement; return {condition} }})()"):
                style = "getComputedStyle(document.activeElement)"
                outline = page.evaluate(f"{style}.outlineStyle + {style}.boxShadow")
                assert outline != "nonenone", f"no visible focus where {condition}"
                return
        raise AssertionError(f"never reached: {condition}")

    press_until("Tab", "at.id === 'tab-one'")
    press_until("Tab", "at.id === 'field-sentence'")
    page.keyboard.type("정말 좋았다")
    press_until("Tab", "at.id === 'submit'")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=done]")
    press_until("Tab", "at.textContent === '왜?'")
    page.keyboard.press("Space")
    page.wait_for_selector(".legend")
    press_until("Tab", "at.tagName === 'SUMMARY'")
    page.keyboard.press("Enter")
    press_until("Tab", "at.className === 'entry'")
    page.keyboard.press("Enter")
    page.wait_for_selector(".why")
    press_until("Shift+Tab", "at.id === 'tab-one'")
    press_until("ArrowRight", "at.id === 'tab-many'")
    press_until("Tab", "at.id === 'many-text'")
    page.keyboard.type("하나")
    press_until("Tab", "at.id === 'many-run'")
    page.keyboard.press("Enter")
    page.locator("#many-status", has_text="1개를 분석했습니다").wait_for()
    press_until("Tab", "at.closest('th')?.innerText.startsWith('답')")
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="답").get_attribute("aria-sort") == "ascending"


def test_a_phone_never_scrolls_sideways_and_every_target_is_large(page: Any, serve_app: Serve) -> None:
    answer: Any = lambda premise, hypothesis: answer_pair(premise, hypothesis)  # noqa: E731
    answer.explain_fn = explain_pair
    server = serve_app(answer)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(server.url)

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        boxes = [(one.inner_text(), one.bounding_box()) for one in page.locator(TOUCHABLE).all()]
        assert [text for text, box in boxes if box["height"] < 44] == []

    ask(page, "띄어쓰기없이" * 200, "짧게")
    page.get_by_role("button", name="왜?").click()
    page.wait_for_selector(".legend")
    for drawer in page.locator("summary").all():
        drawer.click()
    check()
    bar = page.locator(".bar").first.bounding_box()
    assert bar["x"] >= 0 and bar["x"] + bar["width"] <= 390
    long = "긴글" * 300
    analyse_many(page, server.url, "\n".join(f"{long}\t{number}" for number in range(60)))
    check()


def test_the_page_follows_the_systems_wishes(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(make_full_function()).url)
    brightness = "getComputedStyle(document.querySelector('.card')).backgroundColor.match(/\\d+/g).map(Number)[0]"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(brightness) > 200
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    assert page.evaluate(brightness) < 60
    ask(page, "글")
    assert page.evaluate("document.getAnimations().length") == 0


def test_answers_are_announced(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(make_full_function()).url)
    result = page.locator("#result")
    assert result.get_attribute("role") == "status"
    page.route("**/api", lambda route: (page.wait_for_timeout(200), route.continue_()))
    page.get_by_label("문장", exact=True).fill("글")
    page.get_by_role("button", name="분석하기", exact=True).click()
    sync_api.expect(result).to_have_attribute("aria-busy", "true")
    sync_api.expect(result).to_have_attribute("aria-busy", "false")
    assert "긍정이에요" in result.inner_text()
