"""What a request may say, what it is told, and what the description of the API says of it."""

import csv
import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_client import BODY, answer_sentence, call, explain_sentence, make_full_function

from nlpbook_helpers import CsvCorpus
from nlpbook_helpers.web import Server, feedback, get_web_service_app
from nlpbook_helpers.web.language import SENTENCES, WORDS

Serve = Callable[..., Server]


def compare(premise: str, hypothesis: str, *, limit: int = 3) -> dict[str, Any]:
    return {"premise": premise, "hypothesis": hypothesis, "limit": limit}


def test_answers_are_what_the_function_returns(serve_app: Serve) -> None:
    url = serve_app(make_full_function()).url
    answer = call(f"{url}/api", {"sentence": "각 e\u0301"})
    assert list(answer.json.items()) == list(answer_sentence("각 é").items()) and "긍정 0.9876" in answer.text
    assert call(f"{url}/api/explain", {"sentence": "가나"}).json == explain_sentence("가나")
    assert call(f"{url}/healthz").json == {"status": "ok"}
    pair = serve_app(compare).url
    assert call(f"{pair}/api", {"hypothesis": "나", "premise": "가"}).json == compare("가", "나")
    assert re.findall(r"<label[^>]*>(전제|가설|limit)</label>", call(pair).text) == ["전제", "가설"], (
        "a default is no field"
    )
    assert call(f"{pair}/api/explain", {"premise": "가", "hypothesis": "나"}).error["code"] == "cannot_explain"


ONE, MANY = ("/api", "/api/explain"), ("/api/batch",)
BAD_BODIES = [
    (ONE, b"{", 400, "malformed_json", None, r'JSON으로 읽을 수 없습니다.*\{"sentence": "…"\}처럼'),
    (ONE, b"\xff\xfe\xfa", 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (ONE, b'{"sentence": "a", "sentence": "b"}', 400, "malformed_json", None, "한 이름이 두 번"),
    (ONE, b"[" * 50_000, 400, "malformed_json", None, "JSON으로 읽을 수 없습니다"),
    (ONE, [["a"]], 422, "wrong_type", None, r"JSON 객체가 필요합니다 \(받은 것: \[…\]\)"),
    (ONE, {}, 422, "missing_field", "sentence", r"문장\(sentence\) 칸이 빠졌습니다"),
    (ONE, {"x": 1}, 422, "unknown_field", "x", '모르는 이름입니다: "x"'),
    (ONE, {f"x{number}": 1 for number in range(9_999)}, 422, "unknown_field", "x0", '모르는 이름입니다: "x0"'),
    (ONE, {"sentence": {"a": 1}}, 422, "wrong_type", "sentence", r"문자열이어야 합니다 \(받은 것: \{…\}\)"),
    (ONE, {"sentence": ""}, 422, "empty_text", "sentence", r"문장\(sentence\) 칸이 비어 있습니다"),
    (ONE, {"sentence": "\u200b\ufeff\u3164\u00ad \u2800\ufe0f\0"}, 422, "empty_text", "sentence", "칸이 비어 있습니다"),
    (ONE, {"sentence": "a\ud83d"}, 422, "invalid_text", "sentence", "짝 없는 서로게이트"),
    (ONE, {"sentence": "가" * 10_001}, 413, "too_long", "sentence", "10,000자까지인데 10,001자를 받았습니다"),
    (MANY, {}, 422, "missing_field", "inputs", r'inputs 칸이 빠졌습니다. \{"inputs": \[\{"sentence": "…"\}\]\}처럼'),
    (MANY, {"inputs": []}, 422, "wrong_type", "inputs", r"하나 이상 든 배열이 필요합니다 \(받은 것: \[\]\)"),
    (MANY, {"inputs": "a"}, 422, "wrong_type", "inputs", r"배열이 필요합니다 \(받은 것: \"a\"\)"),
    (MANY, {"inputs": [0] * 1_001}, 413, "too_many_inputs", "inputs", "한 번에 1,000개까지인데 1,001개를 받았습니다"),
    (ONE + MANY, b" " * (4 * 2**20 + 1), 413, "too_long", None, "너무 큽니다"),
]


@pytest.mark.parametrize("case", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_bad_input_gets_one_sentence(serve_app: Serve, case: Any) -> None:
    paths, body, status, code, field, match = case
    url = serve_app(make_full_function()).url
    for path in paths:
        answer = call(url + path, body)
        assert (answer.status, answer.error["code"], answer.error["field"]) == (status, code, field), path
        assert re.search(match, answer.error["message"])
    if status == 422 and paths == ONE:
        assert call(f"{url}/api/batch", {"inputs": [body]}).json["results"] == [answer.as_result]


def fail(sentence: str) -> dict[str, Any]:
    problems = {
        "독": ValueError("독은 \ud800 읽지 않습니다"),
        "탈": RuntimeError("weights at /srv/secret.ckpt"),
        "끝": SystemExit(3),
    }
    if sentence in problems:
        raise problems[sentence]
    return {"수": float("nan")} if sentence == "수" else {"prediction": sentence}


def test_an_error_of_the_function_is_its_inputs_own(serve_app: Serve, caplog: pytest.LogCaptureFixture) -> None:
    url = serve_app(fail).url
    expected = {"가": 200, "독": 422, "탈": 500, "끝": 500, "수": 500, "나": 200}
    singles = {text: call(f"{url}/api", {"sentence": text}) for text in expected}
    assert {text: answer.status for text, answer in singles.items()} == expected
    batch = call(f"{url}/api/batch", {"inputs": [{"sentence": text} for text in expected]})
    assert batch.json["results"] == [answer.as_result for answer in singles.values()] and "secret" not in batch.text
    assert singles["독"].error["message"] == "독은 ? 읽지 않습니다" and "secret.ckpt" in caplog.text
    assert "서버 안에서 오류가 났습니다" in singles["탈"].text and re.search("숫자가 아닌 값.NaN", singles["수"].text)


def test_paths_methods_and_types(serve_app: Serve) -> None:
    url = serve_app().url
    assert call(f"{url}/api/nothing", Accept="text/html").error["code"] == "not_found"
    assert call(f"{url}/api", Accept="text/html").error["code"] == "method_not_allowed"
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        assert call(f"{url}/api", b"{}", Content_Type=content_type).status == 415, "all that a foreign form can send"
    packed = call(f"{url}/api", gzip.compress(json.dumps(BODY).encode()), Content_Encoding="gzip", Accept_Language="en")
    assert packed.error["message"].startswith(
        "The body should be application/json, not compressed (got application/json gzip"
    )
    page = call(f"{url}/<b>nothing", Accept="text/html,*/*;q=0.8")
    assert page.status == 404 and "이 주소에는 아무것도 없습니다" in page.text and "<b>nothing" not in page.text


@pytest.mark.parametrize("function", [lambda: {}, lambda *texts: {}, lambda **texts: {}, lambda limit=3: {}])
def test_a_function_without_named_texts_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"expected an inference function with named text parameters.*got"):
        get_web_service_app(function)


def test_the_description_fits_the_function(serve_app: Serve) -> None:
    server = serve_app(get_web_service_app(compare, title="제목", max_chars=50), key="long-enough")
    document = call(f"{server.url}/openapi.json", Authorization="Bearer long-enough").json
    assert sorted(document["paths"]) == ["/api", "/api/batch"] and document["info"]["title"] == "제목"
    schema = document["components"]["schemas"]["Input"]
    assert list(schema["properties"]) == schema["required"] == ["premise", "hypothesis"]
    assert schema["properties"]["premise"]["title"] == "전제" and schema["properties"]["premise"]["maxLength"] == 50
    assert (
        document["security"] == [{"key": []}] and "remark" in document["components"]["schemas"]["Answer"]["properties"]
    )


@pytest.mark.parametrize(
    ("accepted", "match"),
    [("", "칸이 비어"), ("ko-KR,en;q=0.5", "칸이 비어"), ("en-US,ko;q=0.5", '"sentence" is empty'), ("fr", "is empty")],
)
def test_messages_follow_the_language_and_codes_do_not(serve_app: Serve, accepted: str, match: str) -> None:
    url = serve_app().url
    language = {"Accept_Language": accepted} if accepted else {}
    single = call(f"{url}/api", {"sentence": ""}, **language)
    batch = call(f"{url}/api/batch", {"inputs": [{"sentence": ""}]}, **language)
    assert single.error["code"] == "empty_text" and match in single.error["message"]
    assert batch.json["results"] == [single.as_result]


def test_every_sentence_is_there_in_both_languages() -> None:
    for name, (status, code, korean, english) in SENTENCES.items():
        assert 400 <= status < 600 and code.islower(), name
        assert set(re.findall(r"{(\w+)", korean)) - {"label", "name"} == set(re.findall(r"{(\w+)", english)) - {"name"}
    for key, (korean, english) in WORDS.items():
        assert set(re.findall(r"{(\w+)}", korean)) == set(re.findall(r"{(\w+)}", english)), key


@pytest.mark.parametrize(
    ("info", "korean", "english"),
    [
        (
            {"corpus": "nsmc", "trained_on": "145000", "accuracy": "0.8849"},
            "영화 리뷰 145,000건",
            "about 12 times in 100",
        ),
        (
            {"corpus": "a.csv", "language": "ko"},
            "a.csv에서 배운 한국어 모델",
            "A Korean model that learned from texts of a.csv",
        ),
        ({"corpus": "a.csv"}, "a.csv에서 배운 모델", "A model that learned from texts of a.csv"),
        ({"corpus": "<b>상담.csv"}, "&lt;b&gt;상담.csv에서 배운", "How often it errs is not known"),
        ({"corpus": "mine", "accuracy": "1.0"}, "100번에 1번쯤", "about 1 times in 100"),
        (
            {"corpus": "mine", "accuracy": 1.0, "tested_on": 10},
            "10건 가운데 10건을",
            "Of 10 texts it had not seen it got 10",
        ),
        ({"corpus": "mine", "accuracy": 0.0, "tested_on": 99}, "99건 가운데 0건을", "it got 0 right"),
        ({"corpus": "mine", "accuracy": 0.9, "tested_on": 100}, "100번에 10번쯤", "about 10 times in 100"),
        ({"corpus": "mine", "accuracy": 0.9, "tested_on": 0}, "알려져 있지 않습니다", "How often it errs is not known"),
        ({}, "확률로 답합니다", "answers with probabilities"),
    ],
)
def test_the_head_says_what_was_learned_and_how_often_it_errs(
    serve_app: Serve, info: dict[str, str], korean: str, english: str
) -> None:
    function: Any = lambda sentence: answer_sentence(sentence)  # noqa: E731
    function.info, function.examples = info, [["<내 글>"]] if info else []
    url = serve_app(function).url
    assert korean in call(url).text and 'lang="ko"' in call(url).text
    page = call(url, Accept_Language="en").text
    assert english in page and 'lang="en"' in page and call(f"{url}/?lang=en").text == page
    assert ("&lt;내 글&gt;</button>" in page, "눈빛만으로" in page) == (bool(info), not info)


@pytest.mark.parametrize(("longer", "korean"), [("cut", "뒤를 자릅니다"), ("windows", "창으로 나누어 평균합니다")])
def test_an_english_page_speaks_english(serve_app: Serve, longer: str, korean: str) -> None:
    function: Any = lambda sentence: answer_sentence(sentence)  # noqa: E731
    function.info = {"corpus": "a.csv", "model": "m", "max_seq_length": 32, "longer_texts": longer}
    url = serve_app(function).url
    assert f"한 번에 32토큰까지 읽고, 더 긴 글은 {korean}" in call(url).text
    page, guide = (call(f"{url}/{path}", Accept_Language="en").text for path in ("", "docs"))
    assert "Reads 32 tokens at once" in page and "<title>API guide · Text classifier</title>" in guide
    shown = page.partition('<script type="application/json"')[0]
    assert re.findall("[가-힣]+", shown) == ["한국어"], "the way to the other language"


def test_feedback_becomes_a_corpus(serve_app: Serve, tmp_path: Path) -> None:
    file = tmp_path / "feedback" / "train.csv"
    function = make_full_function()
    vars(function)["info"] = {"checkpoint": "epoch=1.ckpt"}
    app = get_web_service_app(function, feedback_file=file)
    url = f"{serve_app(app).url}/api/feedback"
    texts = ['좋다, "정말"\n좋다', "=1+1", "나쁘다"]
    labels = ["긍정 (positive)", "부정 (negative)", "부정 (negative)"]
    for count, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        assert call(url, {"input": {"sentence": text}, "label": label}).json == {"count": count}
    examples = CsvCorpus(labels=None).get_examples(str(file.parent), "train")
    assert [one.text_a.strip() for one in examples] == texts and [one.label for one in examples] == labels
    assert list(csv.DictReader(file.open(encoding="utf-8")))[1]["text"].startswith(" "), "no formula"
    assert call(url, {"input": {"sentence": "가"}, "label": "중립"}).error["code"] == "unknown_label"
    assert call(url, {"input": {"sentence": ""}, "label": labels[0]}).error["code"] == "empty_text"
    assert len(CsvCorpus(labels=None).get_examples(str(file.parent), "train")) == 3
    file.write_bytes(file.read_bytes() + b" " * feedback.MAX_BYTES)
    assert call(url, {"input": {"sentence": "가"}, "label": labels[0]}).status == 507
    (tmp_path / "marked.csv").write_text("text,label,answer,time,checkpoint\n가,1,,,\n", encoding="utf-8-sig")
    marked = get_web_service_app(function, feedback_file=tmp_path / "marked.csv")
    assert marked.extensions["nlpbook"].feedback.count == 1
    (tmp_path / "other.csv").write_text("text,label\n가,1\n")
    with pytest.raises(
        ValueError, match=r"other\.csv: expected columns \['text', 'label', 'answer', .* got \['text', 'label'\]"
    ):
        get_web_service_app(function, feedback_file=tmp_path / "other.csv")


def test_strangers_are_asked_for_feedback_only_if_the_owner_wants_it(serve_app: Serve, tmp_path: Path) -> None:
    body, key = {"input": {"sentence": "가"}, "label": "긍정 (positive)"}, {"Authorization": "Bearer long-enough"}
    for wanted in (False, True):
        app = get_web_service_app(answer_sentence, feedback_file=tmp_path / "a.csv", public_feedback=wanted)
        url = serve_app(app, key="long-enough").url
        assert call(f"{url}/api/feedback", body, **key).status == (200 if wanted else 404)
        assert f'"takes_feedback": {"true" if wanted else "false"}' in call(url, **key).text
        assert ("/api/feedback" in call(f"{url}/openapi.json", **key).json["paths"]) == wanted
    assert call(f"{serve_app().url}/api/feedback", body).error["code"] == "no_feedback"


def test_the_guide_shows_every_address_and_error(serve_app: Serve) -> None:
    url = serve_app(make_full_function()).url
    guide, document = call(f"{url}/docs", Accept_Language="en").text, call(f"{url}/openapi.json").json
    for path, methods in document["paths"].items():
        operation = methods["post"]
        assert f"POST {path}" in guide and f'id="{operation["operationId"]}"' in guide
        assert operation["requestBody"]["content"]["application/json"]["example"]
        assert operation["responses"]["200"]["content"]["application/json"]["example"]
    assert "too_many_requests" in guide and "/api/v2" in guide and "/api/v2" in document["info"]["description"]
    assert document["components"]["schemas"]["Completeness"]["properties"]["difference"]["description"]
    assert "object" in str(document["components"]["schemas"]["Answer"]["properties"]["probabilities"])


def test_the_api_keeps_to_its_description(serve_app: Serve, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="reads /openapi.json and tries it: pip install schemathesis")
    config = str(Path(__file__).with_name("schemathesis.toml"))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", "--max-examples", "12"]
    command += [f"{serve_app(make_full_function()).url}/openapi.json", "--seed", "7", "--phases", "coverage,fuzzing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Test cases" in done.stdout, done.stdout[:3_000]


def test_importing_the_room_is_light() -> None:
    code = (
        "import nlpbook_helpers.web, sys; print([m for m in ('torch', 'transformers', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
