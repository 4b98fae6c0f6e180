"""What a visitor does on the page and reads off it, and functions to serve."""

from typing import Any

from web_client import answer_sentence


def answer_pair(premise: str, hypothesis: str) -> dict[str, str]:
    """Answer as the book's pair classifier does."""
    widths = {"entailment": "87.0%", "contradiction": "4.0%", "neutral": "9.0%"}
    data = {"entailment": "참 0.87", "contradiction": "거짓 0.04", "neutral": "중립 0.09"}
    answer = {"premise": premise, "hypothesis": hypothesis, "prediction": "참 (entailment)"}
    answer |= {f"{name}_data": value for name, value in data.items()}
    return answer | {f"{name}_width": value for name, value in widths.items()}


def explain_pair(premise: str, hypothesis: str) -> dict[str, Any]:
    """Explain: the first character of the premise speaks for the answer, the hypothesis's last one against it."""
    last = len(hypothesis) - 1
    tokens = [
        {"field": "premise", "text": premise[0], "start": 0, "end": 1, "score": 1.5},
        {"field": "hypothesis", "text": hypothesis[last], "start": last, "end": last + 1, "score": -0.75},
    ]
    return {"prediction": "참 (entailment)", "tokens": tokens, "completeness": {"sum": 0.75, "difference": 0.76}}


def refuse_errors(sentence: str) -> dict[str, str]:
    """Answer, but refuse what has "오류" in it; "나쁜" texts are negative."""
    if "오류" in sentence:
        raise ValueError("이 문장은 다룰 수 없습니다.")
    if "나쁜" not in sentence:
        return answer_sentence(sentence)
    return {
        **{"sentence": sentence, "prediction": "부정 (negative)"},
        **{"positive_data": "긍정 0.25", "negative_data": "부정 0.75"},
        **{"positive_width": "25.0%", "negative_width": "75.0%"},
    }


def ask(page: Any, *texts: str) -> None:
    """Type the texts, press the button and wait for the answer."""
    for field, text in zip(page.locator(".field textarea").all(), texts, strict=True):
        field.fill(text)
    page.get_by_role("button", name="분석하기", exact=True).click()
    page.wait_for_selector("[data-state=done]")


def read_bars(page: Any) -> list[tuple[str, float]]:
    """Read each bar's words, and how much of its track it fills once it has stopped moving."""
    page.wait_for_selector("[data-state=done] .bar")
    page.wait_for_timeout(100)  # the movement starts two frames later
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished)).then(() => true)")
    bars = page.locator("#result .bar").all()
    width = lambda bar, what: bar.locator(what).evaluate("one => one.getBoundingClientRect().width")  # noqa: E731
    return [
        (bar.locator("p").inner_text().replace("\n", " "), width(bar, ".fill") / width(bar, ".track")) for bar in bars
    ]


def paste(field: Any, text: str) -> None:
    """Put a text into an empty field as from the clipboard; what the page leaves to the browser is filled in."""
    was_taken = field.evaluate(
        """(field, text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text/plain", text);
          return !field.dispatchEvent(new ClipboardEvent("paste", { clipboardData, cancelable: true }));
        }""",
        text,
    )
    if not was_taken:
        field.fill(text)


def analyse_many(page: Any, url: str, text: str = "", file: Any = None) -> None:
    """Open the second tab, give it lines or a file, and wait until all is answered."""
    page.goto(url)
    page.get_by_role("tab").nth(1).click()
    if file:
        page.locator("#many-picker").set_input_files(file)
        page.wait_for_selector("#many-table:visible")
    else:
        paste(page.locator("#many-text"), text)
    page.get_by_role("button", name="모두 분석하기").click()
    page.locator("#many-status", has_text="를 분석했습니다").wait_for()


def read_table(page: Any) -> list[list[str]]:
    """Read the cells of the table of many answers."""
    return page.evaluate("[...document.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText))")
