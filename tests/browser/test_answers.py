"""What hangs on an answer: why, the history of the visit, and the same call as code."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from visitor import answer_pair, ask, explain_pair
from web_client import answer_sentence

from nlpbook_helpers import Classifier
from nlpbook_helpers.web import Server

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytest_plugins = ["chromium"]
pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]
Serve = Callable[..., Server]
HTML = "<img src=x onerror=alert(1)>"
expect = sync_api.expect


def make_explainable(explain_fn: Callable[..., Any], answer: Callable[..., Any]) -> Callable[..., Any]:
    answer.explain_fn = explain_fn  # type: ignore[attr-defined]
    return answer


def read_marks(page: Any) -> list[tuple[str, str]]:
    return [(mark.get_attribute("class"), mark.inner_text()) for mark in page.locator("blockquote mark").all()]


def test_why_marks_both_texts(page: Any, serve_app: Serve) -> None:
    page.goto(
        serve_app(make_explainable(explain_pair, lambda premise, hypothesis: answer_pair(premise, hypothesis))).url
    )
    ask(page, "비가 온다", "땅이 마른다")
    page.get_by_role("button", name="왜?").click()
    expect(page.get_by_role("heading", name="왜 ‘참’일까요?")).to_be_focused()
    assert read_marks(page) == [("for", "비"), ("against", "다")]
    assert [quote.inner_text() for quote in page.locator("blockquote").all()] == ["비가 온다", "땅이 마른다"]
    supporting, opposing = page.locator("blockquote mark").all()
    assert supporting.get_attribute("title") == "+1.50, 참 쪽으로"
    assert opposing.get_attribute("title") == "−0.75, 참의 반대쪽으로"
    style = "one => { const s = getComputedStyle(one); return [s.textDecorationStyle, s.backgroundColor] }"
    (line, colour), (other_line, other_colour) = supporting.evaluate(style), opposing.evaluate(style)
    assert line == "solid" and other_line == "wavy" and colour != other_colour
    assert "비 +1.50" in page.locator(".strongest").inner_text(), "the numbers are text too, for those without a mouse"
    assert "합 +0.75" in page.locator("#why").inner_text() and "차이 +0.76" in page.locator("#why").inner_text()


def test_why_counts_characters_as_python_does_and_shows_html_as_text(page: Any, serve_app: Serve) -> None:
    text = f"😀😀 {HTML} 좋다"
    start = text.index("좋다")
    tokens = [
        {"field": "sentence", "text": "좋다", "start": start, "end": start + 2, "score": 2.0},
        {"field": "sentence", "text": HTML, "start": 3, "end": 3 + len(HTML), "score": -1.0},
        {"field": "sentence", "text": "faint", "start": 0, "end": 1, "score": 0.01},
    ]
    explanation = {"prediction": f"{HTML} (x)", "tokens": tokens, "completeness": {"sum": 1, "difference": 1}}
    page.goto(serve_app(make_explainable(lambda sentence: explanation, lambda sentence: answer_sentence(sentence))).url)
    ask(page, text)
    page.get_by_role("button", name="왜?").click()
    page.wait_for_selector(".legend")
    assert read_marks(page) == [("against", HTML), ("for", "좋다")], "what hardly counts is not marked"
    assert page.locator("blockquote").inner_text() == text
    assert page.locator("main img").count() == 0


def test_why_says_which_part_of_a_long_text_was_read(page: Any, serve_app: Serve) -> None:
    text = "좋은 " * 500

    def explain(sentence: str) -> dict[str, Any]:
        places = range(900, 1200, 3) if len(sentence) > 100 else range(0, len(sentence), 3)
        tokens = [{"field": "sentence", "text": "좋은", "start": at, "end": at + 2, "score": 1.0} for at in places]
        return {"prediction": "긍정 (positive)", "tokens": tokens}

    page.goto(serve_app(make_explainable(explain, lambda sentence: answer_sentence(sentence))).url)
    ask(page, text)
    page.get_by_role("button", name="왜?").click()
    expect(page.get_by_text("글이 길어 1,500자 가운데 901~1,199번째 글자만 살펴봤습니다.")).to_be_visible()
    ask(page, "좋은 좋은 ")
    page.get_by_role("button", name="왜?").click()
    expect(page.get_by_role("heading", name="왜")).to_be_visible()
    expect(page.get_by_text("글이 길어")).to_have_count(0)


def test_why_is_offered_only_where_there_is_an_explanation_and_says_when_it_fails(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    ask(page, "글")
    assert page.get_by_role("button", name="왜?").count() == 0

    def refuse(sentence: str) -> Any:
        raise ValueError("이 글은 설명할 수 없습니다.")

    page.goto(serve_app(make_explainable(refuse, lambda sentence: answer_sentence(sentence))).url)
    ask(page, "글")
    page.get_by_role("button", name="왜?").click()
    expect(page.locator("#why [role=status]")).to_have_text("이 글은 설명할 수 없습니다.")
    expect(page.get_by_role("button", name="왜?")).to_be_enabled()


def test_a_real_classifier_answers_explains_and_reads_many(
    page: Any, serve_app: Serve, make_model: Any, tokenizer: Any
) -> None:
    classifier = Classifier(make_model(), tokenizer, ["부정 (negative)", "긍정 (positive)"], ["sentence"], 32)
    expected = classifier.inference_fn("정말 재미있는 영화")
    page.goto(serve_app(classifier.inference_fn).url)
    ask(page, "정말 재미있는 영화")
    label = expected["prediction"].split()[0]
    assert page.locator(".prediction").inner_text().startswith(label)
    page.get_by_role("button", name="왜?").click()
    page.wait_for_selector(".legend")
    tokens = classifier.explain("정말 재미있는 영화")["tokens"]
    assert {text for _, text in read_marks(page)} <= {token["text"] for token in tokens}
    assert read_marks(page)
    page.get_by_role("tab", name="여러 문장").click()
    page.get_by_role("button", name="예문으로 해 보기").click()
    page.locator("#many-status", has_text="4개를 분석했습니다").wait_for()
    assert page.locator("tbody tr").count() == 4 and page.locator(".row-error").count() == 0


def test_the_history_asks_again_outlives_a_reload_and_is_cleared(page: Any, serve_app: Serve) -> None:
    url = serve_app(lambda sentence: {**answer_sentence(sentence), "prediction": sentence[:2]}).url
    page.goto(url)
    history = page.locator("#history")
    expect(history).to_be_hidden()
    for text in ("하나", HTML, "하나"):
        ask(page, text)
    history.locator("summary").click()
    entries = history.locator(".entry")
    assert [one.inner_text().split("\n")[0] for one in entries.all()] == ["하나", HTML], "asked again, it moves up"
    page.reload()
    page.locator("#history summary").click()
    page.locator("#history .entry").nth(1).click()
    page.wait_for_selector("[data-state=done]")
    assert page.get_by_label("문장", exact=True).input_value() == HTML == page.locator("blockquote").inner_text()
    page.get_by_role("button", name="모두 지우기").click()
    expect(page.locator("#history")).to_be_hidden()
    page.reload()
    expect(page.locator("#history")).to_be_hidden()
    assert page.evaluate("sessionStorage['nlpbook.history']") == "[]"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH: apt-get install curl")
def test_the_copied_calls_run_whatever_the_text(page: Any, serve_app: Serve) -> None:
    server = serve_app(answer_pair)
    page.goto(server.url)
    premise = "It's \"so\" $HOME `id` \\n 좋다 😀\n둘째 줄 %s !! '''"
    page.get_by_label("전제").fill(premise)
    page.get_by_label("가설").fill("' OR 1=1 -- <접속 열쇠>")
    page.locator("#calls summary").click()
    curl, python = page.locator("#call-curl").inner_text(), page.locator("#call-python").inner_text()
    assert "Authorization" not in curl + python
    for command in (["sh", "-c", curl], [sys.executable, "-c", python]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, encoding="utf-8")
        answer = json.loads(done.stdout) if command[0] == "sh" else eval(done.stdout)
        assert (answer["premise"], answer["hypothesis"]) == (premise, "' OR 1=1 -- <접속 열쇠>")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="curl 코드 복사").click()
    assert page.evaluate("navigator.clipboard.readText()") == curl


def test_with_a_key_the_calls_say_where_it_belongs_and_work_with_it(page: Any, serve_app: Serve) -> None:
    server = serve_app(answer_sentence, key="a-long-enough-key")
    page.goto(f"{server.url}/?key=a-long-enough-key")
    page.get_by_label("문장", exact=True).fill("글")
    page.locator("#calls summary").click()
    python = page.locator("#call-python").inner_text()
    assert f'"{server.url}/api"' in python and "a-long-enough-key" not in page.content()
    assert "Authorization: Bearer <접속 열쇠>" in page.locator("#call-curl").inner_text()
    code = python.replace("<접속 열쇠>", "a-long-enough-key")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "positive" in done.stdout


def test_the_footer_says_what_is_known_of_the_model(page: Any, serve_app: Serve) -> None:
    answer: Any = lambda sentence: answer_sentence(sentence)  # noqa: E731
    answer.info = {"model": "작은 모델", "score": "정확도 <b>88.4 %</b>"}
    page.goto(serve_app(answer).url)
    assert [one.inner_text() for one in page.locator("footer dt").all()] == ["모델", "성적"]
    assert page.locator("footer dd").nth(1).inner_text() == "정확도 <b>88.4 %</b>"
    page.locator("footer a").click()
    assert '"/api/batch"' in page.content()
