"""Many texts at once: what is read from lines and files, the table, its file, and a server that makes one wait."""

import csv
import io
import time
from collections.abc import Callable
from typing import Any

import pytest
from visitor import analyse_many, answer_pair, read_table, refuse_errors
from web_client import answer_sentence

from nlpbook_helpers.web import Server, get_web_service_app

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")
pytest_plugins = ["chromium"]
pytestmark = [pytest.mark.browser, pytest.mark.enable_socket]
Serve = Callable[..., Server]
HTML = "<img src=x onerror=alert(1)>"
expect = sync_api.expect


def as_file(content: bytes, name: str = "texts.csv") -> dict[str, Any]:
    return {"name": name, "mimeType": "text/csv", "buffer": content}


def parse(page: Any, text: str) -> list[list[str]]:
    return page.evaluate("text => import('/static/csv.js').then(m => m.parseTable(text))", text)


def test_tables_are_read_as_spreadsheets_write_them(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_sentence).url)
    assert parse(page, "\ufeffa,b\r\n1,2\r\n") == [["a", "b"], ["1", "2"]]
    assert parse(page, 'a,"b, ""c""\r\nd"\n,x') == [["a", 'b, "c"\r\nd'], ["", "x"]]
    assert parse(page, 'a\tb,c\n"x\ty"\tz') == [["a", "b,c"], ["x\ty", "z"]]
    assert parse(page, '그는 "왜"라고, 했다\r\r끝') == [['그는 "왜"라고', " 했다"], ["끝"]], (
        "a quote inside is a character"
    )
    assert parse(page, '""\n"열린 채로, 끝\n남') == [["열린 채로, 끝\n남"]]
    assert parse(page, "") == parse(page, "\n \r\n,\n") == []
    texts = ['쉼표, 따옴표 "와"', "두\n줄", "=1+1", "끝\r", "\t탭", "", "-", "＝SUM(A1)"]
    written = page.evaluate("rows => import('/static/csv.js').then(m => m.formatCsv(rows))", [texts])
    assert written.startswith("\ufeff") and written.endswith("\r\n")
    expected = [texts[0], texts[1], "'=1+1", "끝\r", "'\t탭", "", "'-", "'＝SUM(A1)"]
    assert list(csv.reader(io.StringIO(written[1:], newline=""))) == [expected]
    assert parse(page, written) == [expected]


def test_lines_become_a_table_that_sorts(page: Any, serve_app: Serve) -> None:
    analyse_many(page, serve_app(refuse_errors).url, f"좋은 글, 쉼표도 있는\n\n나쁜 글\n이건 오류\n{HTML}\n")
    rows = read_table(page)
    assert [row[1] for row in rows] == ["좋은 글, 쉼표도 있는", "나쁜 글", "이건 오류", HTML]
    assert rows[1][2:] == ["부정 75%", "25%", "75%"]
    assert rows[2][2] == "이 문장은 다룰 수 없습니다.", "one bad input does not fail its neighbours"
    assert "4개를 분석했습니다. 그중 1개는" in page.locator("#many-status").inner_text()
    assert page.locator("main table img").count() == 0
    page.get_by_role("button", name="긍정", exact=True).click()
    header = page.get_by_role("columnheader", name="긍정")
    assert header.get_attribute("aria-sort") == "descending"
    assert [row[0] for row in read_table(page)] == ["1", "4", "2", "3"], "what has no answer comes last"
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending", "the focus stayed on the column"
    assert [row[0] for row in read_table(page)] == ["2", "1", "4", "3"]


def test_the_file_taken_away_is_safe_in_a_spreadsheet(page: Any, serve_app: Serve, tmp_path: Any) -> None:
    texts = ["=HYPERLINK(1)", "+82", "-1", "@home", '나쁜, "글"', "이건 오류"]
    file = as_file("\n".join(["document", *(f'"{text.replace(chr(34), chr(34) * 2)}"' for text in texts)]).encode())
    analyse_many(page, serve_app(refuse_errors).url, file=file)
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV로 저장").click()
    assert download.value.suggested_filename == "texts-predictions.csv"
    download.value.save_as(tmp_path / "saved.csv")
    content = (tmp_path / "saved.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf") and b"\r\n" in content
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
    assert [row["sentence"] for row in rows] == [*(f"'{text}" for text in texts[:4]), *texts[4:]]
    assert rows[4] | {} == {
        **{"sentence": texts[4], "prediction": "부정 (negative)", "긍정": "0.25", "부정": "0.75", "error": ""},
    }
    assert rows[5]["prediction"] == "" and rows[5]["error"] == "이 문장은 다룰 수 없습니다."


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949", "utf-16"])
def test_a_file_of_any_korean_spreadsheet(page: Any, serve_app: Serve, encoding: str) -> None:
    content = "id\tdocument\tlabel\r\n17\t뷁 같은 글\t0\r\n18\t나쁜 글\t1\r\n".encode(encoding)
    analyse_many(page, serve_app(refuse_errors).url, file=as_file(content, "nsmc.tsv"))
    assert [row[1] for row in read_table(page)] == ["뷁 같은 글", "나쁜 글"], "the column is found by its name"


def test_columns_can_be_chosen(page: Any, serve_app: Serve) -> None:
    page.goto(serve_app(answer_pair).url)
    page.get_by_role("tab", name="여러 쌍").click()
    page.locator("#many-text").fill("번호\t가설\t앞\n1\t땅이 젖는다\t비가 온다")
    expect(page.get_by_label("가설 열")).to_have_value("1")
    page.get_by_label("전제 열").select_option("앞")
    page.get_by_role("button", name="모두 분석하기").click()
    page.locator("#many-status", has_text="1개를 분석했습니다").wait_for()
    assert read_table(page)[0][1:4] == ["비가 온다", "땅이 젖는다", "참 87%"]
    page.get_by_label("첫 줄은 열 이름입니다").uncheck()
    page.get_by_role("button", name="모두 분석하기").click()
    page.locator("#many-status", has_text="2개를 분석했습니다").wait_for()
    page.get_by_role("button", name="빼기").click()
    expect(page.locator("#many-text")).to_be_focused()
    page.get_by_role("button", name="모두 분석하기").click()
    expect(page.locator("#many-error")).to_contain_text("분석할 글이 없습니다")


def test_thousands_are_paged_and_stay_quick(page: Any, serve_app: Serve) -> None:
    analyse_many(page, serve_app(refuse_errors).url, "\n".join(f"{n}번째 {'나쁜' * (n % 2)} 글" for n in range(3000)))
    assert page.locator("tbody tr").count() == 50
    assert "1,500개 · 50%" in page.locator("#many-result .bars").inner_text()
    page.get_by_role("button", name="다음").click()
    assert read_table(page)[0][0] == "51"
    sort = "() => { const t = performance.now(); document.querySelector('th:last-child button').click();"
    milliseconds = page.evaluate(sort + " document.body.offsetHeight; return performance.now() - t }")
    assert read_table(page)[0][0] == "2", "most negative first, from the first page"
    assert milliseconds < 2000


def test_it_can_be_stopped_and_gone_on_with(page: Any, serve_app: Serve) -> None:
    asked: list[str] = []

    def answer_slowly(sentence: str) -> dict[str, str]:
        asked.append(sentence)
        time.sleep(0.02)
        return answer_sentence(sentence)

    page.goto(serve_app(answer_slowly).url)
    page.get_by_role("tab", name="여러 문장").click()
    page.locator("#many-text").fill("\n".join(f"{number}" for number in range(300)))
    page.get_by_role("button", name="모두 분석하기").click()
    page.wait_for_selector("tbody tr")
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="그만두기").click()
    rest = page.get_by_role("button", name="이어서 분석하기")
    rest.wait_for()
    assert page.locator("td.verdict", has_text="긍정").count() > 0
    rest.click()
    page.locator("#many-status", has_text="300개를 분석했습니다").wait_for()
    assert set(asked) == {f"{number}" for number in range(300)}


def test_a_busy_server_is_waited_for(page: Any, serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(answer_sentence, requests_per_minute=60), key="a-long-enough-key")
    page.goto(f"{server.url}/?key=a-long-enough-key")
    burned = {"inputs": [{"sentence": "글"}] * 605}
    assert page.request.post(f"{server.url}/api/batch", data=burned).status == 200
    page.get_by_role("tab", name="여러 문장").click()
    page.locator("#many-text").fill("하나\n둘")
    page.get_by_role("button", name="모두 분석하기").click()
    expect(page.locator("#many-progress")).to_contain_text("초 뒤에 이어 갑니다")
    page.locator("#many-status", has_text="2개를 분석했습니다").wait_for()


def test_a_server_that_goes_leaves_what_is_there(page: Any, serve_app: Serve) -> None:
    server = serve_app(answer_sentence)
    analyse_many(page, server.url, "하나\n둘")
    server.close()
    page.get_by_role("button", name="모두 분석하기").click()
    expect(page.locator("#many-error")).to_contain_text("서버에 닿지 못했습니다")
    expect(page.get_by_role("button", name="남은 2개 이어서 분석하기")).to_be_visible()
