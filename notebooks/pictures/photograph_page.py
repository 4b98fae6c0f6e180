"""Photograph the web pages of notebooks 02 and 04 and put the pictures into them: `photograph_page.py`.

The pictures show the real page with the classifiers of `checkpoints/`; take them again when either changes.
"""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from canvas import HERE, SCALE, WIDTH, embed, make_font_settings, shrink
from nlpbook_helpers import Classifier, get_web_service_app, serve

ROOT = HERE.parent.parent
PAGES = {
    "page-review": (
        "doccls",
        "영화 리뷰 감성 분석",
        {"sentence": "초반은 조금 느리지만 배우들 연기가 정말 좋아서 끝까지 눈을 뗄 수 없었다."},
        "리뷰를 적는 칸 아래에 모델의 답과 긍정, 부정의 확률 막대, 답의 근거가 된 낱말이 색으로 칠해진 웹 페이지",
    ),
    "page-pair": (
        "paircls",
        "두 문장의 관계 맞히기",
        {
            "premise": "동생은 도서관에서 세 시간 동안 책을 읽었다.",
            "hypothesis": "동생은 책을 읽었다.",
        },
        "전제와 가설을 적는 칸 둘 아래에 모델의 답과 참, 거짓, 중립의 확률 막대 셋이 있는 웹 페이지",
    ),
}


def photograph_page(browser: Any, url: str, fields: Mapping[str, str]) -> bytes:
    """Fill in the fields, ask, and return the page as PNG."""
    page = browser.new_page(
        viewport={"width": WIDTH, "height": 600},
        device_scale_factor=SCALE,
        reduced_motion="reduce",
        locale="ko-KR",
    )
    page.goto(url)
    for name, text in fields.items():
        page.locator(f"#field-{name}").fill(text)
    page.locator("#submit").click()
    page.locator(".why").click()
    page.locator(".legend").wait_for()
    page.evaluate("document.activeElement.blur()")
    page.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    end = page.locator(".legend").bounding_box()
    height = end["y"] + end["height"] + 8  # the answer and why: what is below repeats
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": height}
    picture = page.screenshot(full_page=True, clip=clip)
    page.close()
    return shrink(picture, is_opaque=True)


def main() -> int:
    """Photograph and embed both pages; return the exit status."""
    pictures = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium" if Path("/usr/bin/chromium").is_file() else None,
            args=["--no-sandbox"],
            env={**make_font_settings(Path(folder))},
        )
        for name, (checkpoint, title, fields, alt) in PAGES.items():
            classifier = Classifier.from_checkpoint(ROOT / "checkpoints" / checkpoint)
            with serve(
                get_web_service_app(classifier.inference_fn, title=title),
                port=0,
                tunnel=None,
            ) as server:
                pictures[name] = (photograph_page(browser, server.url, fields), alt)
            print(f"{name}: {len(pictures[name][0]) / 1000:.0f} KB", flush=True)
        browser.close()
    print(f"embedded in {embed(pictures, sorted(HERE.parent.glob('0*.ipynb')))} places")
    return 0


if __name__ == "__main__":
    sys.exit(main())
