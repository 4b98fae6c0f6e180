"""The page in a real browser: what a visitor types, reads and sees when things go wrong."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from visitor import answer_pair, ask, read_bars, refuse_errors
from web_client import answer_sentence

from nlpbook_helpers import web
from nlpbook_helpers.web import Server, get_web_service_app

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytest_plugins = ["chromium"]
# Playwright speaks to its driver and to Chromium; the page to loopback only.
pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]
Serve = Callable[..., Server]
HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>"
expect = sync_api.expect


def test_a_review_typed_becomes_a_headline_and_bars(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    ask(page, "배우들이 정말 좋았다")
    bars = read_bars(page)
    assert [words for words, _ in bars] == ["긍정 98.76%", "부정 1.24%"]
    assert [filled for _, filled in bars] == pytest.approx([0.9876, 0.0124], abs=0.005)
    assert page.locator(".prediction").inner_text() == "긍정이에요 98.8%"
    assert "positive" in page.locator("#result .label").inner_text()
    assert page.locator("blockquote").inner_text() == "배우들이 정말 좋았다"
    assert page.locator("#result").get_attribute("aria-live") == "polite"


def test_the_enter_key_asks_and_shift_enter_breaks_the_line(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    page.get_by_label("문장", exact=True).focus()
    page.keyboard.type("첫 줄")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("둘째 줄")
    assert page.get_by_label("문장", exact=True).input_value() == "첫 줄\n둘째 줄"
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=done]")
    assert page.locator("blockquote").inner_text() == "첫 줄\n둘째 줄"


def test_two_fields_and_an_example(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_pair).url)
    ask(page, "비가 온다", "땅이 젖는다")
    assert [words for words, _ in read_bars(page)] == ["참 87%", "거짓 4%", "중립 9%"]
    page.locator(".chip").nth(1).click()
    expect(page.locator("blockquote").first).to_have_text("기차는 아침 일곱 시에 부산을 떠났다.")
    assert page.get_by_label("가설").input_value() == "기차는 저녁에 출발했다."


def test_the_headline_is_korean(page: Any, serve_app: Serve) -> None:
    def describe(prediction: str, percent: float) -> str:
        name = prediction.split(" ")[0] or "긍정"
        answer = {"prediction": prediction, "x_data": f"{name} {percent / 100}", "x_width": f"{percent}%"}
        make = "answer => import('/static/answer.js').then(m => m.makeAnswer(answer)[1].textContent)"
        return page.evaluate(make, answer)

    page.goto(serve_app(answer_sentence).url)
    assert describe("긍정 (positive)", 98.76) == "긍정이에요 98.8%"
    assert describe("경제", 91.0) == "경제예요 91%"
    assert describe("긍정 (positive)", 52.3) == "긍정에 가까워요 52.3%"
    assert describe("sports", 99.996) == "sports 99.9%", "not the 100% that it is not"
    assert describe("", 80.0) == "긍정이에요 80%", "without a prediction, the longest bar"


def test_any_function_has_a_page(page: Any, serve_app: Serve) -> None:
    def rate(title: str, body: str, author: str) -> dict[str, str]:
        topics = {f"topic{number}": f"주제{number} {number / 66}" for number in range(12)}
        widths = {f"{name}_width": f"{100 * number / 66}%" for number, name in enumerate(topics)}
        return {"stars_data": "별점 4.2", "stars_width": "84%"} | {f"{k}_data": v for k, v in topics.items()} | widths

    page.goto(serve_app(rate).url)
    assert page.locator(".chip").count() == 0
    ask(page, "제목", "글", "나")
    bars = read_bars(page)
    assert len(bars) == 13 and bars[0][0] == "별점 4.2" and bars[12][0] == "주제11 16.67%"
    assert page.locator(".prediction").inner_text() == "별점이에요"
    page.goto(serve_app(lambda text: {"anything": [1, 2]}).url)
    ask(page, "글")
    assert '"anything"' in page.locator("#result").inner_text()


def test_html_typed_is_text(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(lambda sentence: {"prediction": HTML, "a_data": f"{HTML} 1", "a_width": "9%"}).url)
    ask(page, HTML)
    page.wait_for_timeout(300)
    assert page.locator(".prediction").inner_text() == HTML
    assert page.locator("blockquote").inner_text() == HTML
    assert page.locator("main img, main script").count() == 0


def test_no_script_can_make_html_or_names_another_host() -> None:
    scripts = list((Path(web.__file__).parent / "static").glob("*.js"))
    assert len(scripts) > 5
    for script in scripts:
        found = re.findall(r"(?:inner|outer|Adjacent)HTML|document\.write|eval\(|https?://", script.read_text("utf-8"))
        assert not found, script.name


def test_the_policy_stops_what_is_inline(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = true\">')")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in complaint for complaint in page.complaints)
    page.complaints.clear()


def test_a_refusal_is_shown_at_its_field(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_pair).url)
    page.get_by_label("전제").fill("비가 온다")
    page.get_by_role("button", name="분석하기", exact=True).click()
    field = page.get_by_label("가설")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    message = page.locator("#error-hypothesis")
    assert "가설(hypothesis) 칸이 비어 있습니다" in message.inner_text()
    assert "error-hypothesis" in field.get_attribute("aria-describedby")
    field.fill("땅이 젖는다")
    assert field.get_attribute("aria-invalid") is None and message.is_hidden()


@pytest.mark.parametrize(
    ("text", "match"),
    [("이건 오류", "이 문장은 다룰 수 없습니다"), ("가" * 10_001, "10,000자까지인데 10,001자를 받았습니다")],
    ids=["refused", "too-long"],
)
def test_errors_are_sentences(page: Any, serve_app: Serve, text: str, match: str) -> None:
    page.goto(serve_app(refuse_errors).url)
    page.get_by_label("문장", exact=True).fill(text)
    page.get_by_role("button", name="분석하기", exact=True).click()
    expect(page.locator("#panel-one")).to_contain_text(match)


def test_a_server_that_is_gone_is_said_and_the_text_stays(page: Any, serve_app: Serve) -> None:
    server = serve_app(answer_sentence)
    page.goto(server.url)
    page.get_by_label("문장", exact=True).fill("아직 계신가요")
    server.close()
    page.get_by_role("button", name="분석하기", exact=True).click()
    page.wait_for_selector("[data-state=error]")
    assert "서버에 닿지 못했습니다" in page.locator("#result").inner_text()
    assert page.get_by_label("문장", exact=True).input_value() == "아직 계신가요"
    assert page.get_by_role("button", name="분석하기", exact=True).is_enabled()


def test_no_network_is_said(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    page.context.set_offline(True)
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=error]")
    assert "인터넷 연결이 끊겼습니다" in page.locator("#result").inner_text()


def test_an_answer_that_is_no_json_is_said(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    page.route("**/api", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=error]")
    assert "알 수 없는 답을 보냈습니다 (502)" in page.locator("#result").inner_text()


def test_an_overloaded_server_is_said(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    page.route("**/api", lambda route: route.fulfill(status=503, headers={"Retry-After": "40"}, body="{}"))
    page.locator(".chip").first.click()
    expect(page.locator("#result")).to_contain_text("지금 요청이 몰려 있습니다. 40초 뒤에 다시 보낼 수 있습니다.")
    expect(page.locator("#submit")).to_be_disabled()


def test_a_server_that_asks_for_patience_gets_it(page: Any, serve_app: Serve) -> None:
    app = get_web_service_app(answer_sentence, requests_per_minute=60)
    server = serve_app(app, key="a-long-enough-key")
    page.goto(f"{server.url}/?key=a-long-enough-key")
    # The page's own cookies: this visitor's credits are used up, and one comes back each second.
    inputs = [{"sentence": "글"}] * 605
    assert page.request.post(f"{server.url}/api/batch", data={"inputs": inputs}).status == 200
    page.get_by_label("문장", exact=True).fill("글")
    button = page.locator("#submit")
    button.click()
    expect(page.locator("#result")).to_contain_text("요청이 너무 잦습니다")
    expect(button).to_contain_text("초 뒤에 다시")
    expect(button).to_be_disabled()
    expect(button).to_be_focused()
    expect(button).to_be_enabled()
    button.click()
    page.wait_for_selector("[data-state=done]")


def test_the_link_with_a_key_opens_and_without_the_cookie_is_said(page: Any, serve_app: Serve) -> None:
    server = serve_app(answer_sentence, key="a-long-enough-key")
    page.goto(server.url)
    assert "접속 열쇠가 없거나 맞지 않습니다" in page.locator("h1").inner_text()
    page.goto(f"{server.url}/?key=a-long-enough-key")
    assert page.url == f"{server.url}/", "the key leaves the address bar"
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=done]")
    page.context.clear_cookies()
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=error]")
    assert "받은 링크를 끝까지 복사해" in page.locator("#result").inner_text()
