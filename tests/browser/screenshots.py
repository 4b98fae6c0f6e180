"""Take the README's pictures from the running page: `screenshots.py [FOLDER]` (default: docs).

They show the real page with the real model, `checkpoints/doccls`. Needs Chromium: apt-get install chromium.
"""

import shutil
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from nlpbook_helpers import Classifier, get_web_service_app, serve

ROOT = Path(__file__).parents[2]
MAX_BYTES = 150_000
REVIEW = (
    "초반은 조금 느리지만 배우들 연기가 정말 좋아서 끝까지 눈을 뗄 수 없었다. 음악이 아쉬운 점만 빼면 올해 최고의 영화!"
)
# Written for this project, as all sample texts are.
REVIEWS = """배우들 눈빛만으로 두 시간이 훌쩍 지나갔다.
예고편이 전부였다. 중간에 나오고 싶었다.
기대 없이 봤는데 집에 오는 내내 웃었다.
음악은 좋은데 이야기가 자꾸 길을 잃는다.
아이가 벌써 세 번째 보자고 조른다. 나도 좋다.
반전이라고 하기에는 포스터만 봐도 알겠다.
마지막 장면에서 극장 안 모두가 숨을 죽였다.
돈보다 시간이 더 아깝다."""
DESKTOP = {"viewport": {"width": 1180, "height": 760}, "device_scale_factor": 1.5}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
PICTURES = {
    "page": DESKTOP,
    "page-dark": DESKTOP | {"color_scheme": "dark"},
    "page-batch": DESKTOP,
    "page-phone": PHONE,
}


def take_picture(browser: Any, url: str, is_table: bool, options: dict[str, Any]) -> bytes:
    """Show one review and why, or several reviews with the most positive first; return a PNG with 256 colours."""
    page = browser.new_page(**options, reduced_motion="reduce", locale="ko-KR")
    page.goto(url)
    if is_table:
        page.locator("#tab-many").click()
        page.locator("#many-text").fill(REVIEWS)
        page.locator("#many-run").click()
        page.locator("#many-status", has_text="를 분석했습니다").wait_for()
        page.locator("th.probability button").first.click()
    else:
        page.locator("#field-sentence").fill(REVIEW)
        page.locator("#submit").click()
        page.locator(".why").click()
        page.locator(".legend").wait_for()
    page.mouse.move(0, 0)  # nothing looks hovered over
    page.evaluate("document.activeElement.blur()")
    picture, compressed = Image.open(BytesIO(page.screenshot(full_page=True))), BytesIO()
    page.close()
    picture.convert("RGB").quantize(256, kmeans=1).save(compressed, "PNG", optimize=True)
    return compressed.getvalue()


def main(folder: Path) -> None:
    """Take all pictures."""
    app = get_web_service_app(Classifier.from_checkpoint(ROOT / "checkpoints" / "doccls").inference_fn)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, serve(app, port=0, tunnel=None) as server:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, options in PICTURES.items():
            content = take_picture(browser, server.url, name == "page-batch", options)
            if len(content) > MAX_BYTES:
                sys.exit(f"{name}.png: expected at most {MAX_BYTES:,} bytes, got {len(content):,}: show less in it")
            (folder / f"{name}.png").write_bytes(content)
            print(f"{name}.png  {len(content):,} bytes", flush=True)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs"))
