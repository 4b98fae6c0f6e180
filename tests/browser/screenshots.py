"""Take the README's pictures from the running page: `screenshots.py [FOLDER]` (default: docs).

They show the real page with the real model: `checkpoints/doccls`, else the one that notebook 01 trained.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from chromium import CHROMIUM
from PIL import Image
from playwright.sync_api import sync_playwright

from nlpbook_helpers import CheckpointError, Classifier, get_web_service_app, serve

ROOT = Path(__file__).parents[2]
CHECKPOINTS = [ROOT / "checkpoints" / "doccls", ROOT / "notebooks" / "nlpbook" / "checkpoint-doccls"]
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


def load_classifier() -> Classifier:
    """Load the classifier of the pictures.

    Raises:
        CheckpointError: There is none yet.
    """
    for folder in CHECKPOINTS:
        if folder.is_dir():
            return Classifier.from_checkpoint(folder)
    names = " or ".join(str(folder.relative_to(ROOT)) for folder in CHECKPOINTS)
    raise CheckpointError(f"expected a checkpoint in {names}, found neither: run notebooks/01_doc_cls_train.ipynb")


def show_explanation(page: Any) -> None:
    """Ask about one review, and why."""
    page.locator("#field-sentence").fill(REVIEW)
    page.locator("#submit").click()
    page.locator(".why").click()
    page.locator(".legend").wait_for()


def show_table(page: Any) -> None:
    """Ask about several reviews at once, the most positive first."""
    page.locator("#tab-many").click()
    page.locator("#many-text").fill(REVIEWS)
    page.locator("#many-run").click()
    page.locator("#many-status", has_text="를 분석했습니다").wait_for()
    page.locator("th.probability button").first.click()


DESKTOP = {"viewport": {"width": 1180, "height": 760}, "device_scale_factor": 1.5}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
PICTURES: dict[str, tuple[Callable[[Any], None], dict[str, Any]]] = {
    "page": (show_explanation, DESKTOP),
    "page-dark": (show_explanation, DESKTOP | {"color_scheme": "dark"}),
    "page-batch": (show_table, DESKTOP),
    "page-phone": (show_explanation, PHONE),
}


def take_picture(browser: Any, url: str, show: Callable[[Any], None], options: dict[str, Any]) -> bytes:
    """Open the page, do what the picture is to show, and return it as PNG with 256 colours."""
    page = browser.new_page(**options, reduced_motion="reduce")
    page.goto(url)
    show(page)
    page.mouse.move(0, 0)  # nothing looks hovered over
    page.evaluate("document.activeElement.blur()")
    picture = page.screenshot(full_page=True)
    page.close()
    compressed = BytesIO()
    Image.open(BytesIO(picture)).convert("RGB").quantize(256, kmeans=1).save(compressed, "PNG", optimize=True)
    return compressed.getvalue()


def main(folder: Path) -> int:
    """Take all pictures; return the exit status."""
    if CHROMIUM is None:
        print("expected Chromium or Chrome on the PATH, found none: apt-get install chromium", file=sys.stderr)
        return 1
    try:
        app = get_web_service_app(load_classifier().inference_fn)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, serve(app, port=0, tunnel=None) as server:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, (show, options) in PICTURES.items():
            content = take_picture(browser, server.url, show, options)
            (folder / f"{name}.png").write_bytes(content)
            print(f"{name}.png  {len(content) / 1000:.0f} KB", flush=True)
            if len(content) > MAX_BYTES:
                print(f"expected at most {MAX_BYTES / 1000:.0f} KB: show less in it", file=sys.stderr)
                return 1
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "docs")))
