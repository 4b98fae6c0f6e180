"""The page in a real browser: what a visitor types, reads and sees when things go wrong."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nlpbook_helpers.web import Server, get_web_service_app, serve

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.enable_socket,  # Playwright speaks to its driver and to Chromium; the page to loopback only
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the PATH: apt-get install chromium"),
]
Serve = Callable[[Callable[..., Any]], Server]
HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def answer_sentence(sentence: str) -> dict[str, str]:
    if "오류" in sentence:
        raise ValueError("이 문장은 다룰 수 없습니다.")
    return {
        "sentence": sentence,
        "prediction": "긍정 (positive)",
        "positive_data": "긍정 0.9876",
        "negative_data": "부정 0.0124",
        "positive_width": "98.76%",
        "negative_width": "1.24%",
    }


def answer_pair(premise: str, hypothesis: str) -> dict[str, str]:
    widths = {"entailment": "87.0%", "contradiction": "4.0%", "neutral": "9.0%"}
    data = {"entailment": "참 0.87", "contradiction": "거짓 0.04", "neutral": "중립 0.09"}
    answer = {"premise": premise, "hypothesis": hypothesis, "prediction": "참 (entailment)"}
    answer |= {f"{name}_data": value for name, value in data.items()}
    return answer | {f"{name}_width": value for name, value in widths.items()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may not log an error, open a dialog or ask any other host, whatever the test does."""
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.complaints = []
    tab.on("console", lambda message: message.type == "error" and tab.complaints.append(message.text))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (tab.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    is_local = lambda url: url.startswith(("http://127.0.0.1:", "data:"))  # noqa: E731
    tab.on("request", lambda request: is_local(request.url) or tab.complaints.append(f"asked {request.url}"))
    tab.set_default_timeout(10_000)
    yield tab
    tab.close()


@pytest.fixture
def serve_page() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(inference_fn: Callable[..., Any], **arguments: Any) -> Server:
        servers.append(serve(get_web_service_app(inference_fn), port=0, tunnel=None, **arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def read_bars(page: Any) -> list[tuple[str, float]]:
    """Read each bar's words, and how much of its track it fills once it has stopped moving."""
    page.wait_for_selector("[data-state=done] .bar")
    page.wait_for_timeout(100)  # the movement starts two frames later
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished)).then(() => true)")
    bars = page.locator(".bar").all()
    width = lambda bar, what: bar.locator(what).evaluate("one => one.getBoundingClientRect().width")  # noqa: E731
    return [
        (bar.locator("p").inner_text().replace("\n", " "), width(bar, ".fill") / width(bar, ".track")) for bar in bars
    ]


def test_a_review_typed_becomes_bars(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_sentence).url)
    page.get_by_label("문장").fill("배우들이 정말 좋았다")
    page.get_by_role("button", name="분석하기").click()
    bars = read_bars(page)
    assert [words for words, _ in bars] == ["긍정 0.9876", "부정 0.0124"]
    assert [filled for _, filled in bars] == pytest.approx([0.9876, 0.0124], abs=0.005)
    assert page.locator(".prediction").inner_text() == "긍정 (positive)"
    assert page.locator("blockquote").inner_text() == "배우들이 정말 좋았다"
    assert page.locator("#result").get_attribute("aria-live") == "polite"
    assert not page.complaints


def test_the_enter_key_asks_and_shift_enter_breaks_the_line(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_sentence).url)
    page.keyboard.press("Tab")
    page.keyboard.type("첫 줄")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("둘째 줄")
    assert page.get_by_label("문장").input_value() == "첫 줄\n둘째 줄"
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=done]")
    assert page.locator("blockquote").inner_text() == "첫 줄\n둘째 줄"


def test_two_fields_and_an_example(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_pair).url)
    page.get_by_label("전제").fill("비가 온다")
    page.get_by_label("가설").fill("땅이 젖는다")
    page.get_by_role("button", name="분석하기").click()
    assert [words for words, _ in read_bars(page)] == ["참 0.87", "거짓 0.04", "중립 0.09"]
    page.locator(".chip").nth(1).click()
    sync_api.expect(page.locator("blockquote").first).to_have_text("기차는 아침 일곱 시에 부산을 떠났다.")
    assert page.get_by_label("가설").input_value() == "기차는 저녁에 출발했다."
    assert not page.complaints


def test_html_typed_is_text(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(lambda sentence: {"prediction": HTML, "a_data": f"{HTML} 1", "a_width": "9%"}).url)
    page.get_by_label("문장").fill(HTML)
    page.get_by_role("button", name="분석하기").click()
    page.wait_for_selector("[data-state=done]")
    page.wait_for_timeout(300)
    assert page.locator(".prediction").inner_text() == HTML
    assert page.locator("#result img, #result script").count() == 0
    assert not page.complaints


def test_the_policy_stops_what_is_inline(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_sentence).url)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = true\">')")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in complaint for complaint in page.complaints)


def test_a_refusal_is_shown_at_its_field(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_pair).url)
    page.get_by_label("전제").fill("비가 온다")
    page.get_by_role("button", name="분석하기").click()
    page.wait_for_selector("[data-state=error]")
    assert "가설(hypothesis) 칸이 비어 있습니다" in page.locator("#result").inner_text()
    assert page.get_by_label("가설").get_attribute("aria-invalid") == "true"
    assert page.evaluate("document.activeElement.name") == "hypothesis"
    page.get_by_label("가설").fill("땅이 젖는다")
    assert page.get_by_label("가설").get_attribute("aria-invalid") is None


@pytest.mark.parametrize(
    ("text", "match"),
    [("이건 오류", "이 문장은 다룰 수 없습니다"), ("가" * 10_001, "10,000자까지인데 10,001자를 받았습니다")],
    ids=["refused", "too-long"],
)
def test_errors_are_sentences(page: Any, serve_page: Serve, text: str, match: str) -> None:
    page.goto(serve_page(answer_sentence).url)
    page.get_by_label("문장").fill(text)
    page.get_by_role("button", name="분석하기").click()
    page.wait_for_selector("[data-state=error]")
    assert match in page.locator("#result").inner_text()


def test_a_server_that_is_gone_is_said_and_the_text_stays(page: Any, serve_page: Serve) -> None:
    server = serve_page(answer_sentence)
    page.goto(server.url)
    page.get_by_label("문장").fill("아직 계신가요")
    server.close()
    page.get_by_role("button", name="분석하기").click()
    page.wait_for_selector("[data-state=error]")
    assert "서버에 닿지 못했습니다" in page.locator("#result").inner_text()
    assert page.get_by_label("문장").input_value() == "아직 계신가요"
    assert page.get_by_role("button", name="분석하기").is_enabled()


def test_no_network_is_said(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_sentence).url)
    page.context.set_offline(True)
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=error]")
    assert "인터넷 연결이 끊겼습니다" in page.locator("#result").inner_text()


def test_an_answer_that_is_no_json_is_said(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_sentence).url)
    page.route("**/api", lambda route: route.fulfill(status=502, body="<h1>Bad gateway</h1>"))
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=error]")
    assert "알 수 없는 답을 보냈습니다 (502)" in page.locator("#result").inner_text()


def test_the_link_with_a_key_opens_and_without_the_cookie_is_said(page: Any, serve_page: Any) -> None:
    server = serve_page(answer_sentence, key="a-long-enough-key")
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


@pytest.mark.parametrize("function", [answer_sentence, answer_pair])
def test_a_phone_never_scrolls_sideways(page: Any, serve_page: Serve, function: Callable[..., Any]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(serve_page(function).url)
    for field in page.locator("textarea").all():
        field.fill("띄어쓰기없이" * 200)
    page.get_by_role("button", name="분석하기").click()
    page.wait_for_selector("[data-state=done]")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    bar = page.locator(".bar").first.bounding_box()
    assert bar and bar["x"] >= 0 and bar["x"] + bar["width"] <= 390


def test_the_page_follows_the_systems_dark_mode(page: Any, serve_page: Serve) -> None:
    page.goto(serve_page(answer_sentence).url)
    brightness = "getComputedStyle(document.querySelector('.card')).backgroundColor.match(/\\d+/g).map(Number)[0]"
    page.emulate_media(color_scheme="light")
    assert page.evaluate(brightness) > 200
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(brightness) < 60
