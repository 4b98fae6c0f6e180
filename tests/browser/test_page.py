"""The page in a real browser: a visitor's way through both tabs, what goes wrong on it, and who else can use it."""

import csv
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from flask import Flask
from web_client import KEY, answer_sentence, explain_sentence

from nlpbook_helpers import web
from nlpbook_helpers.web import Server, get_web_service_app, join_apps, serve
from nlpbook_helpers.web.language import WORDS

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
# Playwright speaks to its driver and to Chromium; the page to loopback only.
pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]
Serve = Callable[..., Server]
Visit = Callable[..., None]
HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>"
REMARK = "글의 대부분을 모델이 모릅니다."
ANALYSE = "분석하기"
expect = sync_api.expect
expect.set_options(timeout=30_000)  # for machines that do much else


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium or Chrome on the PATH: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that may not log an error, open a dialog or ask any other host, whatever the test does."""
    tab = browser.new_page(viewport={"width": 1200, "height": 800}, reduced_motion="reduce", locale="ko-KR")
    complaints: list[str] = []
    # Chromium logs each refused request itself; a test that provokes one looks at what the page says of it.
    is_error = lambda message: message.type == "error" and "Failed to load resource" not in message.text  # noqa: E731
    tab.on("console", lambda message: is_error(message) and complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    is_local = lambda url: url.startswith(("http://127.0.0.1:", "data:", "blob:"))  # noqa: E731
    tab.on("request", lambda request: is_local(request.url) or complaints.append(f"asked {request.url}"))
    tab.complaints = complaints
    yield tab
    tab.close()
    assert not complaints


@pytest.fixture(scope="module")
def served() -> Iterator[dict[Any, Server]]:
    """The servers that tests share, by what they serve."""
    servers: dict[Any, Server] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def visit(page: Any, served: dict[Any, Server]) -> Visit:
    """Open the page of a function or app, at an address below it; all tests that visit the same share its server."""

    def open_page(what: Any, address: str = "") -> None:
        if what not in served:
            app = what if isinstance(what, Flask) else get_web_service_app(what)
            served[what] = serve(app, port=0, tunnel=None)
        page.goto(f"{served[what].url}/{address}")

    return open_page


def answer(sentence: str) -> dict[str, Any]:
    """Answer as the classifier does; "나쁜" texts are negative, "오류" is refused, "ㅋㅋ" gets a remark."""
    if "오류" in sentence:
        raise ValueError("이 문장은 다룰 수 없습니다.")
    if "나쁜" in sentence:
        shown = {"positive_data": "긍정 0.25", "positive_width": "25.0%", "negative_data": "부정 0.75"}
        numbers = {"probabilities": {"부정 (negative)": 0.75, "긍정 (positive)": 0.25}}
        return {"sentence": sentence, "prediction": "부정 (negative)", "negative_width": "75.0%", **shown, **numbers}
    return answer_sentence(sentence) | ({"remark": REMARK} if "ㅋㅋ" in sentence else {})


answer.explain_fn = explain_sentence  # type: ignore[attr-defined]


def compare(premise: str, hypothesis: str) -> dict[str, str]:
    shown = {"entailment_data": "참 0.87", "contradiction_data": "거짓 0.04", "neutral_data": "중립 0.09"}
    widths = {"entailment_width": "87.0%", "contradiction_width": "4.0%", "neutral_width": "9.0%"}
    return {"premise": premise, "hypothesis": hypothesis, "prediction": "참 (entailment)", **shown, **widths}


def answer_harshly(text: str) -> dict[str, Any]:
    if "오류" in text:
        raise ValueError("저는 못 읽습니다.")
    return answer(f"나쁜 {text}")


def make_slow(seconds: float) -> Callable[..., dict[str, Any]]:
    function: Any = lambda sentence: time.sleep(seconds) or answer(sentence)  # noqa: E731
    function.explain_fn = explain_sentence
    return function


@cache
def join_three() -> Any:
    functions = {"reviews": answer, "harsh": answer_harshly, "pairs": compare}
    return join_apps({name: get_web_service_app(function) for name, function in functions.items()})


def press(place: Any, name: str) -> None:
    place.get_by_role("button", name=name, exact=True).click()


def ask(page: Any, *texts: str) -> None:
    """Type the texts, press the button and wait for the answer."""
    for field, text in zip(page.locator(".field textarea").all(), texts, strict=True):
        field.fill(text)
    press(page, ANALYSE)
    page.wait_for_selector("[data-state=done]")


def explain(page: Any) -> None:
    press(page, "왜?")
    page.wait_for_selector(".legend")


def read_bars(page: Any, place: str = "#result") -> list[str]:
    return [one.replace("\n", " ") for one in page.locator(f"{place} .bar p").all_inner_texts()]


def copy_link(page: Any) -> str:
    press(page, "결과 링크 복사")
    page.get_by_role("button", name="복사했습니다").wait_for()
    return page.url


def read_file(page: Any, content: str | bytes, name: str = "a.csv") -> tuple[list[str], bool]:
    """Choose a file in the second tab, and say which columns are read, and whether its first row is taken for names."""
    content = content if isinstance(content, bytes) else content.encode()
    page.locator("#tab-many").check()
    if page.locator("#many-remove").is_visible():
        page.locator("#many-remove").click()
    page.locator("#many-picker").set_input_files({"name": name, "mimeType": "text/csv", "buffer": content})
    page.wait_for_selector("#many-table:visible, #many-error:visible")
    chosen = page.evaluate("[...document.querySelectorAll('#many-table option:checked')].map(o => o.text)")
    return chosen[:-1], page.locator(".check input").is_checked()


def analyse_many(page: Any, text: str = "", file: str | bytes = "") -> list[list[str]]:
    """Give the second tab lines or a file, wait until all is answered, and read the table."""
    begin_many(page, text, file)
    return read_table(page)


def begin_many(page: Any, text: str = "", file: str | bytes = "") -> None:
    """Give the second tab lines or a file, and have them answered."""
    page.locator("#tab-many").check()
    if file:
        read_file(page, file)
    else:
        page.locator("#many-text").fill(text)
    page.locator("#many-run").click()


def read_table(page: Any) -> list[list[str]]:
    page.locator("#many-status", has_text=re.compile("를 분석했습니다|Analysed")).wait_for()
    return page.evaluate(
        "[...document.querySelectorAll('#many-rows tbody tr')].map(r => [...r.cells].map(c => c.innerText))"
    )


def save_table(page: Any, folder: Path) -> list[list[str]]:
    """Press the button that saves the table, and read the file."""
    with page.expect_download() as download:
        page.locator("#many-save").click()
    download.value.save_as(folder / "saved.csv")
    with (folder / "saved.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def run_call(page: Any, place: str, key: str = "ACCESS_KEY") -> str:
    """Run a call that the page shows, with a key if there is one; return what it says."""
    command = ["sh", "-c"] if place.endswith("curl") else [sys.executable, "-c"]
    code = page.locator(f"#{place}").text_content().replace("ACCESS_KEY", key)
    done = subprocess.run([*command, code], capture_output=True, text=True, timeout=120, encoding="utf-8")
    return done.stdout + done.stderr


def test_a_review_is_answered_explained_and_remembered(page: Any, visit: Visit) -> None:
    visit(answer)
    field, result = page.get_by_label("문장", exact=True), page.locator("#result")
    expect(field).to_be_focused()  # one can write at once
    page.keyboard.type("첫 줄")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("ㅋㅋ")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-state=done]")
    assert page.locator(".prediction").inner_text() == "긍정이에요 98.8%"
    assert read_bars(page) == ["긍정 98.76%", "부정 1.24%"] and REMARK in result.inner_text()
    assert result.get_attribute("role") == "status" and page.locator("blockquote").inner_text() == "첫 줄\nㅋㅋ"
    explain(page)
    expect(page.get_by_role("heading", name="왜 ‘긍정’일까요?")).to_be_focused()
    marks = page.locator("blockquote mark").all()
    assert [(one.get_attribute("class"), one.inner_text()) for one in marks] == [("for", "첫"), ("against", "ㅋ")]
    ask(page, "나쁜 글")
    page.locator("#history summary").click()
    page.locator("#history .entry").nth(1).click()
    expect(page.locator("blockquote")).to_have_text("첫 줄\nㅋㅋ")
    assert field.input_value() == "첫 줄\nㅋㅋ"


def test_nothing_typed_is_lost(page: Any, serve_app: Serve) -> None:
    server = serve_app(answer)
    page.goto(server.url)
    field, history = page.get_by_label("문장", exact=True), page.locator("#history")
    long = "가" * 10_001
    for text, words in (("이건 오류", "다룰 수 없습니다"), (" ", "비어 있습니다"), (long, "10,000자까지인데")):
        field.fill(text)
        press(page, ANALYSE)
        expect(page.locator("#panel-one")).to_contain_text(words)
        assert field.input_value() == text
    page.locator(".chip").first.click()
    page.wait_for_selector("[data-state=done]")
    history.locator("summary").click()
    history.locator(".entry", has_text="답을 받지 못한 글").click()
    expect(field).to_have_value(long)
    server.close()
    field.fill("아직 계신가요")
    press(page, ANALYSE)
    expect(page.locator("#result")).to_contain_text("서버에 닿지 못했습니다")
    assert field.input_value() == "아직 계신가요"


def test_what_was_typed_outlives_a_reload_and_stays_in_its_tab(page: Any, visit: Visit, browser: Any) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.url} {request.post_data}"))
    visit(compare)
    premise, hypothesis = (page.get_by_label(name, exact=True) for name in ("전제", "가설"))
    premise.fill("쓰다 만\n글")
    page.locator("#tab-many").check()
    page.locator("#many-text").fill("하나, 둘")
    asked.clear()
    page.reload()
    assert (premise.input_value(), hypothesis.input_value()) == ("쓰다 만\n글", "")
    assert "6 / 10,000" in page.locator("#count-premise").inner_text()
    assert page.locator("#many-text").input_value() == "하나, 둘"
    assert page.locator("#result").get_attribute("data-state") == "empty"
    assert not any("쓰다" in unquote(one) for one in asked), "the server never gets it"
    premise.fill("")
    page.reload()
    assert premise.input_value() == "", "what was deleted stays deleted"
    premise.fill("쓰다 만 글")
    page.goto(page.url + "#premise=링크&hypothesis=글")
    page.reload()
    page.wait_for_selector("[data-state=done]")
    assert premise.input_value() == "링크", "a link's texts come first"
    other = browser.new_page()
    other.goto(page.url.partition("#")[0])
    assert other.locator("#field-premise").input_value() == ""
    other.close()


def test_a_pair_and_its_calls_as_code(page: Any, visit: Visit) -> None:
    visit(compare)
    hypothesis = page.get_by_label("가설", exact=True)
    ask(page, "It's \"so\" $HOME `id` \\n 좋다 😀\n둘째 줄 '''", "땅이 젖는다")
    assert read_bars(page) == ["참 87%", "거짓 4%", "중립 9%"]
    for place in ("call-curl", "call-python"):
        said = run_call(page, place)
        assert "둘째 줄" in said and "참 (entailment)" in said
    page.locator(".chip").nth(1).click()
    expect(hypothesis).to_have_value("숙소에 주차장이 있다.")
    hypothesis.fill("")
    press(page, ANALYSE)
    expect(hypothesis).to_be_focused()
    assert "가설(hypothesis) 칸이 비어 있습니다" in page.locator("#error-hypothesis").inner_text()


def test_a_link_holds_the_text_behind_the_number_sign_and_never_an_older_one(page: Any, visit: Visit) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    visit(make_slow(0.3))
    ask(page, f"나쁜 & {HTML}")
    link = copy_link(page)
    assert "/#sentence=" in link
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector("[data-state=done]")
    assert page.locator("blockquote").inner_text() == f"나쁜 & {HTML}"
    assert not any("sentence=" in one.partition("#")[0] for one in asked)
    page.locator("#field-sentence").fill("둘")
    page.reload()
    assert "#" not in page.url and page.locator("#result").get_attribute("data-state") == "empty"
    page.locator("#field-sentence").fill("둘")
    page.locator("#field-sentence").press("Enter")
    page.evaluate("location.hash = 'sentence=셋'")  # while the answer is waited for
    assert page.locator("#result").get_attribute("data-state") == "loading"
    expect(page.locator("blockquote")).to_have_text("셋")


def test_right_and_wrong_are_kept(page: Any, serve_app: Serve, tmp_path: Path) -> None:
    page.goto(serve_app(get_web_service_app(answer, feedback_file=tmp_path / "feedback.csv")).url)
    ask(page, "좋은 글")
    assert "이 서버의 파일에 남아" in page.locator(".feedback").inner_text()
    press(page, "맞아요")
    expect(page.locator(".feedback")).to_contain_text("의견이 1건")
    ask(page, "다른 글")
    press(page, "틀렸어요")
    expect(page.locator(".feedback")).to_contain_text("의견이 2건")
    with (tmp_path / "feedback.csv").open(encoding="utf-8", newline="") as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["긍정 (positive)", "부정 (negative)"]


def test_two_classifiers_answer_the_same_text_beside_each_other(page: Any, visit: Visit) -> None:
    visit(join_three())
    ask(page, "좋은 글")
    choice, beside = page.get_by_label("함께 볼 분류기"), page.locator("#beside-answer")
    assert choice.locator("option").all_inner_texts() == ["없음", "harsh"], "one of pairs cannot read this text"
    choice.select_option("harsh")
    expect(beside.locator(".prediction")).to_have_text("부정이에요 75%")
    assert page.locator("#result .prediction").inner_text() == "긍정이에요 98.8%"
    left, right = page.locator("#result").bounding_box(), beside.bounding_box()
    assert left["x"] + left["width"] < right["x"] and abs(left["y"] - right["y"]) < 100
    ask(page, "다른 글")
    beside.get_by_role("link", name="harsh 페이지에서 보기").click()
    page.wait_for_selector("[data-state=done]")
    assert "/models/harsh/#text=" in page.url and page.locator("blockquote").inner_text() == "다른 글"
    choice.select_option("reviews")
    expect(beside.locator(".prediction")).to_have_text("긍정이에요 98.8%")
    page.locator("#field-text").fill("오류")
    press(page, ANALYSE)
    expect(beside).to_contain_text("이 문장은 다룰 수 없습니다.")
    expect(page.locator("#result")).to_contain_text("저는 못 읽습니다.")


def test_the_other_language_the_picker_and_the_way_back_lose_nothing(page: Any, visit: Visit) -> None:
    visit(join_three())
    ask(page, "나쁜 글 & 비")
    analyse_many(page, file="댓글,label\n나쁜 글,0\n이건 오류,1\n")
    page.get_by_role("link", name="English").click()
    expect(page.locator("#many-status")).to_contain_text("Analysed 2. 1 of them got no answer.")
    assert "negative 75%" in page.locator("#many-result").inner_text() and page.locator(".accuracy").count()
    page.locator("#tab-one").check()
    expect(page.locator(".prediction")).to_have_text("negative 75%")
    assert read_bars(page) == ["negative 75%", "positive 25%"] and page.locator("html").get_attribute("lang") == "en"
    assert "나쁜 글" in page.locator("#history .entry").text_content()
    page.locator("#tab-many").check()
    press(page, "Remove")
    page.locator("#many-text").fill("하나\n둘")
    for link, arrived in (("API guide", "#errors"), ("pairs", "#field-premise")):
        page.get_by_role("link", name=link).first.click()
        page.wait_for_selector(arrived)
        if link == "pairs":
            expect(page.get_by_label("Premise", exact=True)).to_have_value("나쁜 글 & 비")
            assert page.locator("#result[data-state=empty]").count() == 1 and page.locator("#beside").count() == 0
        page.go_back()
        expect(page.get_by_role("radio", name="Many texts")).to_be_checked()
        assert page.locator("#many-text").input_value() == "하나\n둘" and page.locator("#many-table").is_hidden()
    page.locator("#tab-one").check()
    page.get_by_label("Text", exact=True).fill(" ")
    press(page, "Analyse")
    expect(page.locator("#error-sentence")).to_contain_text('"sentence" is empty')
    page.get_by_role("link", name="한국어").click()
    expect(page.get_by_role("button", name=ANALYSE, exact=True)).to_be_visible()


def test_pieces_are_added_up_to_words_and_each_word_stands_once(page: Any, visit: Visit) -> None:
    def explain_pieces(sentence: str) -> dict[str, Any]:
        places = [(0, 2, 1.0), (2, 4, 0.5), (5, 7, 1.0), (7, 8, -3.0), (10, 12, 0.25), (12, 14, 0.25)]
        words = [dict(field="sentence", text=sentence[i:j], start=i, end=j, score=score) for i, j, score in places]
        return {"prediction": "긍정 (positive)", "tokens": words}

    function: Any = lambda sentence: answer(sentence)  # noqa: E731
    function.explain_fn = explain_pieces
    visit(function)
    ask(page, "재미있게 연기를, 재미있게 שלום")
    explain(page)
    assert page.locator("blockquote mark").all_inner_texts() == ["재미있게", "연기를", "재미있게"]
    listed = page.locator(".strongest dd")
    assert listed.all_inner_texts() == ["재미있게 +2.00", "연기를 −2.00"] and listed.locator("bdi").count() == 2
    assert "19자 가운데 1~14번째" in page.locator("#why").inner_text(), "the last word was not read"


def test_the_guide_has_calls_that_work(page: Any, serve_app: Serve, tmp_path: Path) -> None:
    page.goto(f"{serve_app(get_web_service_app(answer, feedback_file=tmp_path / 'feedback.csv')).url}/docs")
    for place in ("predict-curl", "predictMany-curl", "explain-curl", "predictMany-python"):
        assert "긍정 (positive)" in run_call(page, place)
    expect(page.locator("#giveFeedback-curl")).to_contain_text("긍정 (positive)")
    assert '"count":1' in run_call(page, "giveFeedback-curl") and "'count': 2" in run_call(page, "giveFeedback-python")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.evaluate("getSelection().selectAllChildren(document.querySelector('#errors td'))")
        lines = page.evaluate("getSelection().getRangeAt(0).getClientRects().length")
        assert lines == 1, "a status is not broken"
    press(page, "curl /api 코드 복사")
    expect(page.get_by_role("button", name="curl /api 코드 복사", exact=True)).to_have_text("복사했습니다")


def test_a_page_with_a_key_says_where_it_belongs(page: Any, browser: Any, serve_app: Serve) -> None:
    url = serve_app(answer, key=KEY).url
    page.goto(f"{url}/?key={KEY}")
    ask(page, "글")
    for place in ("call-curl", "call-python"):
        assert "401" in run_call(page, place).replace("unauthorized", "401") and "긍정" in run_call(page, place, KEY)
    expect(page.locator("#calls")).to_contain_text("ACCESS_KEY 자리에 접속 열쇠를 넣으세요")
    assert KEY not in page.content(), "no script can read it"
    link = copy_link(page)
    assert "받는 사람도 접속 열쇠가 있어야" in page.locator("#after").inner_text()
    friend = browser.new_page(locale="ko-KR")
    friend.goto(link)
    assert "key=가 든 링크" in friend.locator("h1").inner_text()
    friend.goto(f"{url}/?key={KEY}")
    friend.goto(link)
    expect(friend.locator("blockquote")).to_have_text("글")
    friend.close()


def test_a_weak_model_says_so_everywhere_and_pages_have_headings_of_their_own(page: Any, visit: Visit) -> None:
    functions: dict[str, Any] = {name: (lambda text: answer(text)) for name in ("weak", "other")}
    functions["weak"].info = {"corpus": "nsmc", "accuracy": 0.73, "limits": "128토큰까지 읽습니다."}
    apps = {name: get_web_service_app(function, title="내 분류기") for name, function in functions.items()}
    visit(join_apps(apps), "?lang=en")
    assert page.locator("footer [lang=ko]").all_inner_texts() == ["128토큰까지 읽습니다."]
    analyse_many(page, "나쁜 글")
    expect(page.locator("#many-result")).to_contain_text("wrong 27 times in 100")
    assert page.locator("h1").inner_text() == "내 분류기 · weak"
    page.get_by_role("link", name="other").click()
    expect(page.locator("h1")).to_have_text("내 분류기 · other")
    assert page.title() == "내 분류기 · other"


def test_every_class_of_any_function_is_shown(page: Any, visit: Visit) -> None:
    shown = {"a_data": "긍정 0.1", "a_width": "10%", "b_data": "긍정 0.7", "b_width": "70%", "c_data": "별점 4.2"}
    visit(lambda text: {"prediction": "긍정 (movie)", **shown, "c_width": "20%"})
    ask(page, "글")
    assert page.locator(".prediction").inner_text() == "긍정 (movie) 70%"
    assert read_bars(page) == ["긍정 10%", "긍정 70%", "별점 4.2"], "words shared, a rating that is no share"
    assert analyse_many(page, "하나\n둘")[0][2:] == ["긍정 (movie) 70%", "10%", "70%", "4.2"]
    visit(lambda text: {"anything": [1, 2]})
    ask(page, "글")
    assert '"anything"' in page.locator("#result").inner_text()


def test_many_texts_become_a_table_and_a_file(page: Any, visit: Visit, tmp_path: Path) -> None:
    visit(answer)
    rows = analyse_many(page, f"좋은 글, 쉼표도 있는\n\n나쁜 글\n이건 오류\n{HTML}\n")
    assert [row[1] for row in rows] == ["좋은 글, 쉼표도 있는", "나쁜 글", "이건 오류", HTML]
    assert rows[1][2:] == ["부정 75%", "25%", "75%"] and rows[2][2] == "이 문장은 다룰 수 없습니다."
    press(page, "긍정")
    assert page.get_by_role("columnheader", name="긍정").get_attribute("aria-sort") == "descending"
    assert len(analyse_many(page, "\n".join(f"글 {number}" for number in range(130)))) == 100
    press(page, "30줄 더 있습니다")
    assert page.locator("tbody tr").count() == 130
    content = '번호,리뷰\r\n1,"쉼표, 따옴표 ""와""\r\n줄바꿈"\r\n2,=1+1 나쁜\r\n'.encode("cp949")
    press(page, "번호")
    assert [row[1:3] for row in analyse_many(page, file=content)][1] == ["=1+1 나쁜", "부정 75%"]
    header, first, second = save_table(page, tmp_path)
    assert header == ["번호", "리뷰", "prediction", "긍정", "부정", "error"], "the columns of the file are kept"
    assert first[:2] == ["1", '쉼표, 따옴표 "와"\r\n줄바꿈'] and second[1] == "'=1+1 나쁜", "no formula"


def test_a_saved_table_keeps_the_columns_as_they_were(page: Any, visit: Visit, tmp_path: Path) -> None:
    remark = next(words for words in WORDS if words.startswith("글의 대부분"))
    visit(lambda text: answer(text) | {"remark": remark}, "?lang=en")
    rows = [["-5", "글", "-0.5"], ["", "", ""], ["+1e3", "-글", "@x"]]
    analyse_many(page, file="\n".join(map(",".join, [["a", "text", "b"], *rows])))
    _, *saved = save_table(page, tmp_path)
    assert [row[:3] for row in saved] == [*rows[:2], ["+1e3", "'-글", "'@x"]]
    assert "does not know most" in saved[0][-2] and "is empty" in saved[1][-1]


def test_a_stray_quote_swallows_no_rows(page: Any, visit: Visit) -> None:
    visit(answer)
    rows = ['1\t"좋다\t1', "2\t나쁜 글\t0", "3\t그저\t1", '4\t"왕" 최고\t1', '5\t끝"\t1']
    analyse_many(page, file="\n".join(["id\tdocument\tlabel", *rows]))
    assert page.locator("td.text").all_inner_texts() == ['"좋다', "나쁜 글", "그저", '"왕" 최고', '끝"']
    assert len(analyse_many(page, file='text\n"안 닫힘\n둘\n셋\n')) == 3
    read_file(page, '번호,리뷰\n1,"좋다\n2,그저\n3,왕"\n4,글\n')
    table = page.locator("#many-table")
    expect(table).to_contain_text("그중 1줄은 따옴표 안에서 줄이 바뀝니다")
    for content, is_warned in (
        ('번호,리뷰\n1,"좋다\n2,그저\n3,왕"\n4,글\n', True),
        ('리뷰,답\n글,긍정\n둘,부정\n"좋다,긍정\n그저,부정\n왕",긍정\n', True),
        ('번호,리뷰,답\n1,"좋다,0\n2,왕",1\n', True),
        ('리뷰,답\n글,긍정\n"좋다, 정말\n그저, 그래요",부정\n', False),  # commas and a line break of a text
        ('번호,리뷰\n1,"첫 줄\n둘째 줄"\n', False),
        ('리뷰\n"첫 줄\n둘째 줄"\n', False),
    ):
        read_file(page, content)
        expect(table).to_contain_text("따옴표 안에서 줄이 바뀝니다")
        assert ("여러 줄로 보입니다" in table.inner_text()) == is_warned, content


def test_columns_are_known_by_the_names_that_predict_knows(page: Any, visit: Visit) -> None:
    apart = unicodedata.normalize("NFD", "댓글")
    visit(answer)
    for content, columns, has_header in (
        ("번호,comment\n1,글\n", ["comment"], True),
        ("번호,제목\n1,글\n", ["제목"], True),
        (f"번호,{apart}\n1,글\n", [apart], True),
        ("번호,내용물,등급\n1,좋은 글,3\n2,글,4\n", ["내용물"], True),  # a word above numbers, the longest texts
        ("번호,문장,글\n가,글,좋은 글\n", ["문장"], True),  # one known name makes a header
        ("좋은 글,쉼표\n글,\n", ["1열: 좋은 글"], False),
    ):
        assert read_file(page, content) == (columns, has_header)
    visit(compare)
    for names in (["sentence1", "sentence2"], ["text_a", "text_b"], ["전제", "가설"]):
        content = "\t".join(["gold_label", *reversed(names)]) + "\nentailment\t둘\t하나\n"
        assert read_file(page, content) == (names, True)


def test_what_is_read_from_a_table_can_be_corrected(page: Any, visit: Visit) -> None:
    visit(answer)
    read_file(page, "좋은 글,나쁜 글,긍정\n글,하나,부정\n")
    page.get_by_label("문장 열").select_option(label="2열: 나쁜 글")
    page.get_by_label("정답 열").select_option(label="3열: 긍정")
    page.locator("#many-run").click()
    assert [row[1] for row in read_table(page)] == ["나쁜 글", "하나"]
    expect(page.locator(".accuracy")).to_contain_text("2개 가운데 0개")
    page.get_by_label("첫 줄은 열 이름입니다").check()
    assert page.get_by_label("문장 열").locator("option:checked").inner_text() == "나쁜 글"
    page.locator("#many-run").click()
    assert [row[1] for row in read_table(page)] == ["하나"]


def test_files_that_cannot_be_read_are_named(page: Any, visit: Visit) -> None:
    visit(answer)
    content = "리뷰\n" + "좋은 글\n" * 50
    assert read_file(page, content.encode()[:-2]) == (["리뷰"], True), "cut inside its last syllable"
    expect(page.locator("#many-error")).to_contain_text("51번째 줄에 깨진 글자")
    read_file(page, b"PK\x03\x04\x14\x00\x06\x00\x08\x00" + bytes(range(256)), "표.xlsx")
    expect(page.locator("#many-error")).to_contain_text("표.xlsx: CSV·TSV 파일이 아닙니다")
    assert page.locator("#many-table").is_hidden()


def test_a_row_opens_for_why(page: Any, visit: Visit) -> None:
    visit(answer)
    analyse_many(page, unicodedata.normalize("NFD", "좋은 글\n이건 오류"))
    row = page.locator(".open-row")
    assert row.count() == 1, "what got no answer has no reasons"
    row.click()
    page.wait_for_selector(".legend")
    assert page.locator("tbody blockquote mark").all_inner_texts() == ["좋", "글"]
    assert "살펴봤습니다" not in page.locator(".row-why").inner_text(), "letters in pieces are whole"
    assert row.get_attribute("aria-expanded") == "true"
    row.click()
    assert page.locator("tbody tr").count() == 2
    visit(compare)
    page.locator("#tab-many").check()
    press(page, "예문으로 해 보기")
    assert len(read_table(page)) == 3 and page.locator(".open-row").count() == 0, "nor has what cannot be explained"


def test_an_opened_row_stays_open_while_more_comes_in_and_when_sorted(page: Any, visit: Visit) -> None:
    visit(make_slow(0.02))
    begin_many(page, "\n".join(f"글 {number}" for number in range(150)))
    press(page, "글 25")
    heading = page.locator(".row-why h2")
    expect(heading).to_be_focused()
    scroll = "document.querySelector('#many-rows').scrollTop"
    place = page.evaluate(scroll)
    assert place > 0 and page.locator("#many-status", has_text="를 분석하고 있습니다").count()
    read_table(page)
    expect(heading).to_be_focused()
    assert page.evaluate(scroll) == place
    press(page, "번호")
    expect(page.get_by_role("button", name="번호")).to_be_focused()
    assert heading.count() == 0, "row 26 of 150 is not among the last 100"
    press(page, "50줄 더 있습니다")
    expect(page.get_by_role("region", name="결과 표")).to_be_focused()
    assert page.locator("tr:has(.row-why)").evaluate("one => one.previousSibling.cells[0].innerText") == "26"


def test_what_was_stopped_goes_on(page: Any, visit: Visit) -> None:
    visit(make_slow(0.02))
    begin_many(page, "\n".join(f"글 {number}" for number in range(70)))
    press(page, "그만두기")
    page.get_by_role("button", name="이어서 분석하기").click()
    assert "아직" not in str(read_table(page)) and "70개를 분석했습니다" in page.locator("#many-status").inner_text()


def test_a_column_of_labels_gives_accuracy(page: Any, visit: Visit) -> None:
    visit(answer)
    analyse_many(page, "좋은 글")
    assert page.locator(".accuracy").count() == 0
    assert read_bars(page, "#many-result") == ["긍정 1개 · 100%", "부정 0개 · 0%"], "what nothing got is counted too"
    rows = ["1,좋은 글,1", "2,나쁜 글,긍정 (positive)", "3,다른 글,positive", "4,글,", "5,글,무엇"]
    analyse_many(page, file="\n".join(["번호,document,label", *rows]))
    expect(page.locator(".accuracy")).to_have_text("정답 열 ‘label’과 견주면 3개 가운데 2개(66.7%)가 맞았습니다.")
    assert page.locator(".confusion tbody").inner_text().split() == ["부정", "0", "0", "긍정", "1", "2"]


def test_html_is_text_and_the_policy_stops_what_is_inline(page: Any, visit: Visit) -> None:
    injected = {"prediction": HTML, "a_data": f"{HTML} 1", "a_width": "9%", "remark": HTML}
    visit(get_web_service_app(lambda sentence: injected, title=HTML))
    ask(page, HTML)
    assert page.locator(".prediction").inner_text() == page.locator("blockquote").inner_text() == HTML
    assert page.locator("main img, main script").count() == 0 and not page.complaints
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = true\">')")
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None and "Content Security Policy" in page.complaints.pop()
    for script in (Path(web.__file__).parent / "static").glob("*.js"):
        assert not any(word in script.read_text("utf-8") for word in ("HTML(", "innerHTML =", "eval(", "https://"))


def test_a_busy_server_is_waited_for(page: Any, serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer, requests_per_minute=60), key=KEY)
    page.goto(f"{server.url}/?key={KEY}")
    # The page's own cookies: this visitor's credits are used up, and one comes back each second.
    burned = {"inputs": [{"sentence": "글"}] * 605}
    assert page.request.post(f"{server.url}/api/batch", data=burned).status == 200
    page.locator("#field-sentence").fill("글")
    page.locator("#submit").click()
    expect(page.locator("#submit")).to_contain_text("초 뒤에 다시")
    assert len(analyse_many(page, "하나\n둘")) == 2


def check(page: Any, axe: Any, state: str) -> None:
    """Let axe look at the page in light and dark; nothing is wider than the screen, or too small to be touched."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")  # axe is in the page already
    found += page.evaluate("axe.run(document, { runOnly: ['color-contrast'] }).then((said) => said.violations)")
    assert not [one for one in found if one["impact"] in ("serious", "critical")], state
    page.complaints.clear()  # axe itself tries inline styles, which the policy stops
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), state
    touched = page.locator(":is(button, summary, select, .tabs label):visible")
    assert min(touched.evaluate_all("all => all.map(one => one.offsetHeight)")) >= 44, state


def test_axe_finds_nothing_serious_and_a_phone_has_room(
    page: Any, visit: Visit, serve_app: Serve, tmp_path: Any
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python").Axe()
    page.set_viewport_size({"width": 390, "height": 844})

    labels = {f"{number} {'길고긴이름표' * 12}": 0.5 for number in (1, 2)}
    shown = {"a_data": f"{list(labels)[0]} 0.5", "a_width": "50%", "b_data": f"{list(labels)[1]} 0.5", "b_width": "50%"}
    visit(lambda sentence: {"prediction": list(labels)[0], **shown, "probabilities": labels})
    ask(page, "글")
    check(page, axe, "with long labels")
    analyse_many(page, "하나\n둘")
    check(page, axe, "with long labels in the table")
    visit(answer, "docs?lang=en")
    check(page, axe, "guide in English")
    page.goto(serve_app(get_web_service_app(answer, feedback_file=tmp_path / "a.csv")).url)
    check(page, axe, "empty")
    ask(page, "띄어쓰기없이ㅋㅋ" * 100)
    explain(page)
    for drawer in page.locator("summary").all():
        drawer.click()
    check(page, axe, "with a result, why, history and code")
    analyse_many(page, file="text,label\na,1\n,0\n")
    check(page, axe, "with a table")
    visit(join_three())
    ask(page, "글")
    page.locator("#beside").select_option("harsh")
    page.wait_for_selector("#beside-answer .prediction")
    check(page, axe, "two beside each other")
    page.set_viewport_size({"width": 320, "height": 640})
    page.get_by_role("link", name="pairs").click()
    expect(page.get_by_label("전제", exact=True)).to_have_value("글")
    page.locator("#tab-many").check()
    press(page, "예문으로 해 보기")
    read_table(page)
    check(page, axe, "many pairs on a small phone")
