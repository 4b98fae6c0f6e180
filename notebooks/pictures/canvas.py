"""The canvas of the notebooks' diagrams: shapes on a card, a photograph of them, and its place in the notebooks."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
WIDTH = 480
SCALE = 4 / 3  # a picture is shown as wide as it has pixels: 640, or less where there is no room
FONTS = "NanumGothic,'Noto Sans KR','Noto Sans CJK KR','Malgun Gothic','Apple SD Gothic Neo',sans-serif"
INK, QUIET, LINE = "#1c2430", "#4c5666", "#8a94a6"
PLAIN, BLUE, ORANGE, GREEN = "#eef1f6", "#d6e2ff", "#ffe0c4", "#d3f0de"
STRONG = {PLAIN: "#8a94a6", BLUE: "#2a4bd7", ORANGE: "#b5560b", GREEN: "#1a7a45"}


class Picture:
    """An SVG that grows by shapes; x to the right, y downwards, both from the upper left corner."""

    def __init__(self, height: int) -> None:
        """Begin with the card."""
        self.height = height
        self.shapes: list[str] = []
        self.box(1, 1, WIDTH - 2, height - 2, fill="#ffffff", stroke="#cfd6e2", radius=14)

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = PLAIN,
        stroke: str = "",
        radius: int = 6,
    ):
        """Draw a rectangle, by default with the strong colour of its filling around it."""
        stroke = stroke or STRONG.get(fill, fill)
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
            f'fill="{fill}" stroke="{stroke}" stroke-width="1.3"/>'
        )

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int = 16,
        color: str = INK,
        bold: bool = False,
        at: str = "middle",
    ):
        """Write a line whose middle stands at height y; `at` is start, middle or end."""
        weight = 700 if bold else 400
        self.shapes.append(
            f'<text x="{x:g}" y="{y + size * 0.36:g}" font-size="{size}" font-weight="{weight}" fill="{color}" '
            f'text-anchor="{at}">{escape(words)}</text>'
        )

    def cell(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        words: str,
        fill: str = PLAIN,
        **style,
    ):
        """Draw a box with words in its middle."""
        self.box(x, y, width, height, fill)
        self.text(x + width / 2, y + height / 2, words, **style)

    def line(
        self,
        x: float,
        y: float,
        to_x: float,
        to_y: float,
        color: str = LINE,
        width: float = 1.5,
        arrow: bool = False,
    ):
        """Draw a straight line, with a head at its end if asked for."""
        head = ' marker-end="url(#head)"' if arrow else ""
        self.shapes.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{color}" stroke-width="{width}"{head}/>'
        )

    def arc(self, x: float, to_x: float, y: float, rise: float, color: str):
        """Draw a bow from one place on a line to another, with a head at its end."""
        self.shapes.append(
            f'<path d="M{x:g},{y:g} C{x:g},{y - rise:g} {to_x:g},{y - rise:g} {to_x:g},{y - 4:g}" fill="none" '
            f'stroke="{color}" stroke-width="2" marker-end="url(#head)"/>'
        )

    def to_svg(self, alt: str) -> str:
        """Return the file's text."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
                f'height="{self.height}" role="img" font-family="{FONTS}">',
                f"<title>{escape(alt)}</title>",
                '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" '
                f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{QUIET}"/></marker></defs>',
                *self.shapes,
                "</svg>\n",
            ]
        )


def photograph(svg: Path) -> bytes:
    """Let Chromium draw an SVG, in the font that the package koreanize-matplotlib carries; returns a PNG.

    Raises:
        FileNotFoundError: There is no Chromium, or no font.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise FileNotFoundError(
            "expected chromium or google-chrome on the PATH, found neither: apt-get install chromium"
        )
    height = re.search(r'height="(\d+)"', svg.read_text("utf-8"))
    assert height is not None
    with tempfile.TemporaryDirectory() as folder:
        page, target = Path(folder) / "page.html", Path(folder) / "picture.png"
        page.write_text(
            f"<meta charset=utf-8><style>body {{ margin: 0 }}</style>{svg.read_text('utf-8')}",
            "utf-8",
        )
        options = [
            "--headless",
            "--no-sandbox",
            "--hide-scrollbars",
            "--default-background-color=00000000",
        ]
        size = f"--window-size={WIDTH},{height[1]}"
        factor = f"--force-device-scale-factor={SCALE}"
        command = [
            browser,
            *options,
            size,
            factor,
            f"--screenshot={target}",
            page.as_uri(),
        ]
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            env=make_font_settings(Path(folder)),
        )
        return shrink(target.read_bytes())


def make_font_settings(folder: Path) -> dict[str, str]:
    """Return the environment in which a browser finds NanumGothic, which the package koreanize-matplotlib carries.

    As a font of the page Chromium refuses the file (it has an empty table); as one of the system it does not.
    """
    package = find_spec("koreanize_matplotlib")
    if package is None or package.origin is None:
        raise FileNotFoundError("expected the package koreanize-matplotlib for its font, found none: pip install it")
    folders = (Path(package.origin).parent / "fonts", "/usr/share/fonts")
    places = "".join(f"<dir>{place}</dir>" for place in folders)
    settings = folder / "fonts.conf"
    settings.write_text(f"<fontconfig>{places}<cachedir>{folder}</cachedir></fontconfig>", "utf-8")
    return {**os.environ, "FONTCONFIG_FILE": str(settings)}


def shrink(png: bytes, is_opaque: bool = False) -> bytes:
    """Return the picture in 256 colours; the corners of a card are transparent, a page is opaque."""
    content = io.BytesIO()
    image = Image.open(io.BytesIO(png))
    if is_opaque:
        image = image.convert("RGB").quantize(256, kmeans=1)
    else:
        image = image.convert("RGBA").quantize(256, method=Image.Quantize.FASTOCTREE)
    image.save(content, "PNG", optimize=True)
    return content.getvalue()


def embed(pictures: dict[str, tuple[bytes, str]], notebooks: Sequence[Path]) -> int:
    """Store pictures (PNG and alternative text) in the cells that name them; returns how many places there are."""
    places = 0
    for path in notebooks:
        notebook = json.loads(path.read_text("utf-8"))
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            for name in re.findall(r"\(attachment:([\w-]+)\.png\)", source):
                if cell["cell_type"] != "markdown" or name not in pictures:
                    continue
                png, alt = pictures[name]
                source = re.sub(
                    rf"!\[[^]]*\]\(attachment:{name}\.png\)",
                    f"![{alt}](attachment:{name}.png)",
                    source,
                )
                content = base64.b64encode(png).decode()
                cell.setdefault("attachments", {})[f"{name}.png"] = {"image/png": content}
                places += 1
            cell["source"] = source.splitlines(keepends=True)
        path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return places
