"""Draw the notebooks' diagrams and put them into the notebooks: `draw.py`.

Each picture is written as `NAME.svg` beside this file, photographed by Chromium and stored in every notebook whose
prose says `![…](attachment:NAME.png)`. The notebooks hold PNG because JupyterLab refuses SVG attachments ("Cannot
render unknown image mime type"), and the light card behind each picture keeps it legible on a dark page. All is
drawn 480 units wide with letters of 15 and more, so that a telephone's 360 pixels leave them at 11.
"""

import sys
from math import exp

from canvas import (
    BLUE,
    GREEN,
    HERE,
    INK,
    LINE,
    ORANGE,
    PLAIN,
    QUIET,
    STRONG,
    Picture,
    embed,
    photograph,
)


def draw_review_to_answer() -> Picture:
    """리뷰 한 줄이 답이 되는 여덟 단계: 리뷰, 토큰, 번호, 벡터, 모두가 서로를 살피는
    어텐션, (CLS) 벡터와 그것을 다듬는 pooler, 분류 층이 낸 점수, 소프트맥스를 거친 확률.
    """
    picture = Picture(806)
    left, step = 112, 59
    middles = [left + step * column + step / 2 - 2 for column in range(6)]
    rows = {
        "① 리뷰": 40,
        "② 토큰": 112,
        "③ 번호": 184,
        "④ 벡터": 268,
        "⑤ 어텐션": 376,
        "⑥ [CLS]": 494,
        "⑦ 점수": 650,
        "⑧ 확률": 738,
    }
    for name, y in rows.items():
        picture.text(16, y, name, bold=True, at="start")
    picture.cell(left, 20, 352, 40, "연기가 정말 좋다", fill=BLUE, size=18)
    tokens, ids = (
        ("[CLS]", "연기", "##가", "정말", "좋다", "[SEP]"),
        ("2", "812", "14", "377", "1504", "3"),
    )
    for x, word, number in zip(middles, tokens, ids, strict=True):
        fill = ORANGE if word == "[CLS]" else BLUE
        picture.line(x, 62, x, 90, arrow=True)
        picture.cell(x - 27, 94, 54, 36, word, fill=fill, size=15)
        picture.line(x, 132, x, 162, arrow=True)
        picture.cell(x - 27, 166, 54, 36, number, size=15)
        picture.line(x, 204, x, 226, arrow=True)
        _draw_vector(picture, x, 230, fill)
        _draw_vector(picture, x, 456, fill if fill == ORANGE else PLAIN)
    for start in middles:
        for end in middles:
            to_cls = end == middles[0]
            picture.line(
                start,
                312,
                end,
                450,
                STRONG[ORANGE] if to_cls else "#c3cad6",
                2 if to_cls else 1,
            )
    picture.box(left + 12, 362, 328, 30, "#ffffff", STRONG[PLAIN])
    picture.text(left + 176, 377, "모두가 서로를 살핌 · 여러 층 되풀이", size=16)
    picture.line(middles[0], 534, middles[0], 554, STRONG[ORANGE], 2, arrow=True)
    picture.cell(left, 558, 78, 34, "pooler", fill=ORANGE, size=15)
    picture.text(left + 90, 575, "한 번 더 다듬는 작은 층", size=15, color=QUIET, at="start")
    for x in (left + 86, left + 266):
        picture.line(middles[0], 592, x, 628, STRONG[ORANGE], 2, arrow=True)
    picture.text(left + 250, 606, "분류 층", color=QUIET, at="start")
    for x, name, score, share, fill in (
        (left, "부정", "−1.2", 0.03, PLAIN),
        (left + 180, "긍정", "2.3", 0.97, GREEN),
    ):
        picture.cell(x, 632, 172, 36, f"{name} {score}", fill=fill)
        picture.line(x + 86, 670, x + 86, 712, arrow=True)
        picture.box(x, 718, 172, 40, "#ffffff")
        bar = STRONG[PLAIN] if fill == PLAIN else fill
        picture.box(x, 718, 172 * share, 40, bar, bar)
        picture.box(x, 718, 172, 40, "none", STRONG[fill])
        picture.text(x + 86, 738, f"{name} {share:.0%}", bold=True)
    picture.text(left + 176, 690, "소프트맥스", color=QUIET)
    note = "토큰과 숫자는 설명을 위한 보기입니다."
    picture.text(left, 782, note, size=15, color=QUIET, at="start")
    return picture


def _draw_vector(picture: Picture, x: float, y: float, fill: str) -> None:
    for row in range(4):
        picture.box(x - 14, y + 19 * row, 28, 19, fill, radius=2)


def draw_attention_step() -> Picture:
    """어텐션 한 번: 토큰 하나의 query를 네 토큰의 key와 곱해 점수 넷을 얻고, 소프트맥스로 합이
    1인 무게로 바꾸어, 그 무게대로 네 토큰의 value를 섞어 새 벡터를 만드는 그림.
    """
    picture = Picture(700)
    scores = {"[CLS]": 1.0, "연기": 2.2, "##가": 0.4, "좋다": -0.2}
    powers = [exp(score) for score in scores.values()]
    weights = [power / sum(powers) for power in powers]
    middles = [162 + 88 * column for column in range(4)]
    asking = middles[2]
    names = {"토큰": 70, "query": 142, "key": 238, "점수": 334, "무게": 422, "value": 512, "새 벡터": 632}
    picture.text(16, 24, "머리 하나가 토큰 하나(##가)를 고쳐 쓰는 길", bold=True, at="start")
    for name, y in names.items():
        picture.text(16, y, name, bold=True, at="start")
    for name, y in (("찾는 것", 164), ("가진 것", 260), ("건네줄 것", 534)):
        picture.text(16, y, name, size=15, color=QUIET, at="start")
    picture.line(asking, 92, asking, 120, STRONG[ORANGE], 2, arrow=True)
    _draw_row(picture, asking, 124, ORANGE)
    for x, (token, score), weight in zip(middles, scores.items(), weights, strict=True):
        fill = ORANGE if x == asking else BLUE
        picture.cell(x - 38, 50, 76, 40, token, fill=fill)
        picture.line(asking, 160, x, 216, STRONG[ORANGE], 2, arrow=True)
        _draw_row(picture, x, 220, BLUE)
        picture.line(x, 258, x, 310, arrow=True)
        picture.cell(x - 38, 314, 76, 40, f"{score:.1f}".replace("-", "−"))
        picture.line(x, 356, x, 398, arrow=True)
        picture.box(x - 38, 402, 76, 40, "#ffffff", STRONG[PLAIN])
        picture.box(x - 38, 402, 76 * weight, 40, ORANGE, ORANGE)
        picture.box(x - 38, 402, 76, 40, "none", STRONG[ORANGE])
        picture.text(x, 422, f"{weight:.2f}", bold=True)
        _draw_row(picture, x, 494, GREEN)
        picture.line(x, 534, asking, 606, STRONG[GREEN], 1 + 9 * weight)
    picture.box(184, 270, 220, 24, "#ffffff", "#ffffff")
    picture.box(214, 364, 160, 24, "#ffffff", "#ffffff")
    picture.text(294, 282, "query와 곱하고 √길이로 나눔", size=15, color=QUIET)
    picture.text(294, 376, "소프트맥스: 합이 1", size=15, color=QUIET)
    picture.text(294, 468, "무게만큼 value를 섞음", size=15, color=QUIET)
    _draw_row(picture, asking, 612, ORANGE)
    picture.text(124, 676, "숫자는 설명을 위한 보기입니다.", size=15, color=QUIET, at="start")
    return picture


def _draw_row(picture: Picture, x: float, y: float, fill: str) -> None:
    for column in range(4):
        picture.box(x - 38 + 19 * column, y, 19, 36, fill, radius=2)


def draw_padding_and_mask() -> Picture:
    """길이가 다른 리뷰 셋을 (PAD)로 채운 표와, 진짜 토큰은 1이고 채운 칸은 0인
    attention_mask 표.
    """
    picture = Picture(436)
    reviews = (
        ("[CLS]", "두", "번", "봐도", "또", "운다", "[SEP]"),
        ("[CLS]", "지루", "##하다", "[SEP]"),
        ("[CLS]", "배우", "##가", "살렸다", "[SEP]"),
    )
    width, left = 57, 70
    for top, title, shows_mask in (
        (24, "토큰: 가장 긴 리뷰에 맞춰 [PAD]로 채움", False),
        (224, "attention_mask: 1은 보고, 0은 보지 않음", True),
    ):
        picture.text(16, top, title, bold=True, at="start")
        for row, review in enumerate(reviews):
            y = top + 24 + 50 * row
            picture.text(16, y + 21, f"리뷰{row + 1}", at="start")
            for column in range(7):
                is_real = column < len(review)
                words = str(int(is_real)) if shows_mask else review[column] if is_real else "[PAD]"
                fill = BLUE if is_real else PLAIN
                color = INK if is_real else QUIET
                picture.cell(
                    left + width * column,
                    y,
                    width - 4,
                    42,
                    words,
                    fill=fill,
                    size=15,
                    color=color,
                )
    picture.text(16, 413, "두 표의 칸은 하나씩 짝을 이룹니다.", size=15, color=QUIET, at="start")
    return picture


def draw_three_splits() -> Picture:
    """학습용은 매개변수를 고칠 때만, 검증용은 체크포인트를 고를 때만, 시험용은
    마지막 점수를 낼 때만 본다는 표.
    """
    picture = Picture(436)
    columns = (
        ("학습", "train", BLUE),
        ("검증", "validation", ORANGE),
        ("시험", "test", GREEN),
    )
    picture.cell(16, 18, 292, 40, "학습 파일", size=17)
    picture.cell(332, 18, 132, 40, "시험 파일", size=17)
    for x, (name, english, fill) in zip((16, 212, 332), columns, strict=True):
        width = 188 if name == "학습" else 96 if name == "검증" else 132
        picture.line(x + width / 2, 60, x + width / 2, 84, arrow=True)
        picture.box(x, 88, width, 62, fill)
        picture.text(x + width / 2, 108, name, size=18, bold=True)
        picture.text(x + width / 2, 132, english, size=16)
    uses = ("매개변수를 고칠 때", "체크포인트를 고를 때", "마지막 점수를 낼 때")
    for x, (name, _, _) in zip((236, 326, 416), columns, strict=True):
        picture.text(x, 184, name, bold=True)
    for row, use in enumerate(uses):
        y = 226 + 52 * row
        picture.text(16, y, use, at="start")
        for column, x in enumerate((236, 326, 416)):
            if column == row:
                picture.cell(x - 38, y - 20, 76, 40, "본다", fill=columns[column][2], bold=True)
            else:
                picture.cell(x - 38, y - 20, 76, 40, "안 본다", fill="#ffffff", color=QUIET)
    picture.text(16, 384, "시험은 모든 것을 고른 뒤에 엽니다. 그 점수로는", color=QUIET, at="start")
    picture.text(16, 408, "아무것도 고르지 않습니다.", color=QUIET, at="start")
    return picture


def draw_pair_segments() -> Picture:
    """(CLS) 전제 (SEP) 가설 (SEP)로 이은 한 줄: 토큰 벡터에 0번 또는 1번 유형의 벡터를
    더한 벡터를 모델에 넣고, 가설의 토큰은 전제의 토큰을 직접 본다.
    """
    picture = Picture(382)
    tokens = ("[CLS]", "동생은", "책을", "읽었다", "[SEP]", "책을", "읽었다", "[SEP]")
    width, left = 49, 78
    middles = [left + width * column + width / 2 - 2 for column in range(len(tokens))]
    for y, name in ((142, "토큰"), (226, "유형"), (310, "더한")):
        picture.text(44, y - 9, name, size=14, color=QUIET)
        picture.text(44, y + 9, "벡터", size=14, color=QUIET)
    picture.text(18, 26, "가설의 토큰이 전제의 토큰을 직접 봅니다", bold=True, at="start")
    for start, end, rise in ((5, 2, 62), (6, 3, 46)):
        picture.arc(middles[start], middles[end], 118, rise, STRONG[ORANGE])
    for column, (x, token) in enumerate(zip(middles, tokens, strict=True)):
        kind = int(column > 4)
        fill = ORANGE if kind else BLUE
        picture.cell(x - 23, 122, 46, 40, token, fill=fill, size=13)
        picture.text(x, 184, "+", size=20, color=QUIET)
        picture.cell(x - 23, 206, 46, 40, f"{kind}번", fill=fill, bold=True)
        picture.text(x, 268, "=", size=20, color=QUIET)
        picture.cell(x - 23, 290, 46, 40, "", fill=fill)
        for row in range(3):
            picture.line(
                x - 16,
                300 + 10 * row,
                x + 16 - 5 * ((row + column) % 3),
                300 + 10 * row,
                STRONG[fill],
                3,
            )
    picture.text(left + width * 2.5, 356, "전제 (유형 0)", bold=True, color=STRONG[BLUE])
    picture.text(left + width * 6.5, 356, "가설 (유형 1)", bold=True, color=STRONG[ORANGE])
    return picture


def draw_windows() -> Picture:
    """토큰 열 개짜리 글을 네 칸짜리 창 넷으로 두 칸씩 겹쳐 읽고, 창마다 낸 긍정 확률을
    평균하는 그림.
    """
    picture = Picture(404)
    width, left = 44, 18
    picture.text(18, 26, "긴 글: 한 번에 다 읽지 못합니다", bold=True, at="start")
    for column in range(10):
        picture.cell(left + width * column, 46, width - 4, 38, str(column), size=16)
    for row, share in enumerate(("0.62", "0.31", "0.18", "0.09")):
        y = 110 + 52 * row
        for column in range(2 * row, 2 * row + 4):
            overlaps = (row > 0 and column < 2 * row + 2) or (row < 3 and column >= 2 * row + 2)
            picture.cell(
                left + width * column,
                y,
                width - 4,
                38,
                str(column),
                fill=ORANGE if overlaps else BLUE,
            )
        side = left + width * (2 * row + 4) + 4
        if row < 2:
            picture.text(side, y + 19, f"→ 창 {row + 1}: 긍정 {share}", at="start")
        else:
            picture.text(
                left + width * 2 * row - 10,
                y + 19,
                f"창 {row + 1}: 긍정 {share} ←",
                at="end",
            )
    picture.text(18, 340, "주황 칸은 이웃한 창이 함께 읽는 토큰입니다.", color=QUIET, at="start")
    picture.text(18, 374, "글 전체의 답 = 네 확률의 평균 = 긍정 0.30", bold=True, at="start")
    return picture


def draw_series() -> Picture:
    """노트북 일곱 권의 지도: 01과 02는 영화 리뷰, 03과 04는 문장 쌍을 학습하고 띄우며,
    05와 06은 같은 일을 다른 도구로, 07은 출발점인 인코더가 만들어진 이야기이다.
    """
    picture = Picture(470)
    boxes = (
        (16, 52, BLUE, "01 영화 리뷰", "분류기 학습"),
        (254, 52, BLUE, "02 그 분류기를", "웹에 띄우기"),
        (16, 162, ORANGE, "03 문장 쌍", "분류기 학습"),
        (254, 162, ORANGE, "04 그 분류기를", "웹에 띄우기"),
        (16, 290, GREEN, "05 Trainer로", "문장 분류"),
        (254, 290, GREEN, "06 PyTorch로", "처음부터 쓰기"),
    )
    picture.text(16, 28, "책의 순서: 학습하고 띄운다", bold=True, at="start")
    picture.text(16, 268, "같은 일을 다른 도구로", bold=True, at="start")
    for x, y, fill, first, second in boxes:
        picture.box(x, y, 210, 76, fill)
        picture.text(x + 105, y + 25, first, size=18, bold=True)
        picture.text(x + 105, y + 52, second, size=17)
    for y in (90, 200):
        picture.line(228, y, 250, y, QUIET, 2, arrow=True)
    picture.line(121, 130, 121, 158, QUIET, 2, arrow=True)
    picture.cell(16, 394, 448, 58, "07 출발점인 작은 인코더가 만들어진 이야기", size=18, bold=True)
    return picture


def draw_shrinking() -> Picture:
    """큰 인코더가 작아지는 네 걸음: 449 MiB에서 어휘를 줄여 94, 층을 반으로 줄이고 증류해
    54, 숫자를 8비트로 적어 13 MiB. 처음의 대부분은 조각의 벡터였다.
    """
    picture = Picture(430)
    floor, scale, width = 318, 2.25, 92  # a million numbers are 2.25 high; 32 bits are 92 wide
    columns = (
        (16, 96.0, 21.5, 1.0, "449 MiB", "큰 인코더", "25만 조각, 12층"),
        (132, 2.9, 21.5, 1.0, "94 MiB", "① 어휘", "한국어 조각만"),
        (248, 3.3, 10.8, 1.0, "54 MiB", "② 층 ③ 증류", "12층 → 6층"),
        (364, 3.3, 10.8, 0.25, "13 MiB", "④ 8비트", "한 숫자 1바이트"),
    )
    for x, words, layers, bits, size, name, detail in columns:
        height = (words + layers) * scale
        picture.box(x, floor - height, width * bits, words * scale, BLUE, radius=2)
        picture.box(x, floor - layers * scale, width * bits, layers * scale, ORANGE, radius=2)
        picture.text(x, floor - height - 18, size, size=18, bold=True, at="start")
        picture.text(x, floor + 26, name, size=17, bold=True, at="start")
        picture.text(x, floor + 52, detail, size=15, color=QUIET, at="start")
    for y, fill, words in ((62, BLUE, "조각마다 하나씩인 벡터"), (96, ORANGE, "층 (트랜스포머)")):
        picture.box(236, y - 11, 22, 22, fill)
        picture.text(268, y, words, at="start")
    picture.text(236, 136, "넓이 = 디스크에서 차지하는 크기", size=15, color=QUIET, at="start")
    picture.text(16, 406, "증류: 층을 줄인 다음, 큰 인코더를 보고 다시 배우기", color=QUIET, at="start")
    return picture


def draw_three_relations() -> Picture:
    """전제가 참인 장면들의 모임이 가설이 참인 장면들의 모임 안에 통째로 들면 참, 따로
    떨어지면 거짓, 걸쳐 있으면 중립이고, 거꾸로 가설의 모임이 전제의 모임 안에 들어도 중립이라는 그림 넷.
    """
    picture = Picture(640)
    rows = (
        (24, GREEN, "참", "전제가 참이면", "가설도 늘 참", 34),
        (172, ORANGE, "거짓", "둘이 함께 참일", "수는 없음", -112),
        (320, BLUE, "중립", "참일 수도", "거짓일 수도", -36),
    )
    for y, fill, name, first, second, shift in rows:
        hypothesis = 182 if shift < -100 else 112
        picture.box(hypothesis, y, 160, 112, "none", stroke=STRONG[fill], radius=40)
        picture.text(hypothesis + 80, y + 96, "가설", color=STRONG[fill], bold=True)
        premise = 56 if shift < -100 else 112 + shift
        picture.box(premise, y + 18, 92, 58, fill, radius=28)
        picture.text(premise + 46, y + 47, "전제", bold=True)
        _say_relation(picture, y, name, first, second)
    picture.box(112, 468, 160, 112, BLUE, radius=40)
    picture.text(192, 564, "전제", bold=True)
    picture.box(146, 486, 92, 58, "none", stroke=STRONG[BLUE], radius=28)
    picture.text(192, 515, "가설", color=STRONG[BLUE], bold=True)
    _say_relation(picture, 468, "이것도 중립", "참일 수도", "거짓일 수도")
    picture.text(16, 616, "테두리 안: 그 문장이 참인 장면을 모두 모은 것", color=QUIET, at="start")
    return picture


def _say_relation(picture: Picture, y: float, name: str, first: str, second: str) -> None:
    picture.text(356, y + 26, name, size=20, bold=True, at="start")
    picture.text(356, y + 58, first, at="start")
    picture.text(356, y + 84, second, at="start")


def draw_two_questions() -> Picture:
    """두 물음의 나무와 혼동 행렬의 아홉 칸. 먼저 정해지는지를 물어 아니면 중립이고, 정해지면 맞는지를 물어
    참과 거짓으로 간다. 첫째 물음은 아홉 칸을 모두 쓰고, 둘째 물음은 참과 거짓의 줄과 칸이 만나는 네 칸만 쓴다.
    """
    picture = Picture(580)
    picture.line(240, 66, 120, 110, QUIET, 2, arrow=True)
    picture.line(240, 66, 368, 110, QUIET, 2, arrow=True)
    picture.line(120, 158, 66, 202, QUIET, 2, arrow=True)
    picture.line(120, 158, 174, 202, QUIET, 2, arrow=True)
    picture.cell(128, 20, 224, 46, "1. 정해지는가?", fill=ORANGE, size=18, bold=True)
    picture.cell(32, 114, 176, 44, "2. 맞는가?", fill=BLUE, size=18, bold=True)
    picture.cell(316, 114, 104, 44, "중립", size=18, bold=True)
    picture.cell(20, 206, 92, 42, "참", size=18, bold=True)
    picture.cell(128, 206, 92, 42, "거짓", size=18, bold=True)
    for x, y, word in ((150, 84, "예"), (326, 84, "아니요"), (70, 178, "예"), (180, 178, "아니요")):
        picture.text(x, y, word, size=15, color=QUIET)
    names = ("참", "거짓", "중립")
    left, top = 116, 320
    picture.text(left + 166, top - 46, "모델의 답", bold=True)
    picture.text(36, top + 78, "정답", bold=True)
    for row, truth in enumerate(names):
        picture.text(left + 112 * row + 54, top - 18, truth)
        picture.text(left - 26, top + 54 * row + 25, truth)
        for column in range(3):
            x, y, is_first = left + 112 * column, top + 54 * row, 2 in (row, column)
            words = "둘째: 맞음" if row == column else "둘째: 틀림"
            if is_first:
                words = "첫째: 맞음" if row == column else "첫째: 틀림"
            picture.cell(x, y, 108, 50, words, fill=ORANGE if is_first else BLUE, bold=row == column)
    picture.text(16, 512, "주황: 첫째 물음에서 끝난 칸", color=STRONG[ORANGE], at="start")
    picture.text(16, 538, "파랑: 첫째 물음은 맞고, 둘째 물음까지 온 칸", color=STRONG[BLUE], at="start")
    return picture


def draw_request_path() -> Picture:
    """브라우저에 적은 글이 서버에 가서 검사를 받고, 추론 함수 안에서 토큰, 점수, 확률이
    되어, JSON으로 돌아와 막대가 되는 길. 열쇠가 없거나 글이 비었으면 모델까지 가지 못한다.
    """
    return _draw_path("글을 적고 분석하기를 누릅니다", bars=1)


REFUSALS = ("401 열쇠 없음", "413 너무 김", "422 칸이 빔")


def draw_pair_request_path() -> Picture:
    """브라우저에 적은 전제와 가설이 서버에 가서 검사를 받고, 추론 함수 안에서 토큰, 점수, 세 확률이
    되어, JSON으로 돌아와 막대 셋이 되는 길. 열쇠가 없으면 401, 글이 너무 길면 413, 칸이 비었으면 422로
    돌려보내 모델까지 가지 못한다. 함수 안에서는 토크나이저가 번호를, 모델이 점수를, 소프트맥스가 확률을 낸다.
    """
    picture = _draw_path("전제와 가설을 적고 분석하기를 누릅니다", bars=3, codes=REFUSALS)
    picture.text(164, 248, "premise, hypothesis", size=15, color=QUIET, at="start")
    return picture


STEPS, RESULTS = ("토크나이저", "모델", "소프트맥스"), ("번호", "점수", "확률")


def _draw_path(asked: str, bars: int, codes: tuple[str, ...] = ()) -> Picture:
    picture = Picture(560)
    picture.box(16, 20, 448, 72, BLUE, radius=12)
    picture.text(32, 42, "브라우저", size=18, bold=True, at="start")
    picture.text(32, 70, asked, at="start")
    picture.line(150, 96, 150, 138, QUIET, 2, arrow=True)
    picture.text(164, 116, "POST /api, 글은 JSON", size=15, color=QUIET, at="start")
    picture.box(16, 142, 448, 296, "#ffffff", stroke=LINE, radius=12)
    picture.text(32, 166, "서버", size=18, bold=True, at="start")
    picture.text(82, 166, "serve(app)", size=15, color=QUIET, at="start")
    picture.cell(32, 188, 236, 44, "열쇠와 글을 검사", fill=ORANGE, bold=True)
    picture.line(272, 210, 300, 210, STRONG[ORANGE], 2, arrow=True)
    refused = codes or ("아니면 401, 413,", "422로 돌려보냄")
    for row, words in enumerate(refused):
        y = 210 + 22 * (row - (len(refused) - 1) / 2)
        picture.text(308, y, words, size=15, color=STRONG[ORANGE], at="start")
    picture.line(150, 236, 150, 262, QUIET, 2, arrow=True)
    picture.box(32, 266, 416, 156, GREEN, radius=10)
    picture.text(48, 290, "inference_fn", size=18, bold=True, at="start")
    (_draw_line_of_steps if codes else _draw_steps)(picture)
    picture.line(150, 442, 150, 480, QUIET, 2, arrow=True)
    picture.text(164, 460, "답도 JSON", size=15, color=QUIET, at="start")
    picture.box(16, 484, 448, 60, BLUE, radius=12)
    picture.text(32, 514, "브라우저", size=18, bold=True, at="start")
    height = 16 if bars == 1 else 12
    for row, width in enumerate((190, 40, 20)[:bars]):
        y = 506 if bars == 1 else 492 + 16 * row
        picture.box(150, y, 250, height, "#ffffff", stroke=LINE)
        picture.box(150, y, width, height, STRONG[GREEN])
    return picture


def _draw_steps(picture: Picture) -> None:
    for column, (step, result) in enumerate(zip(STEPS, RESULTS, strict=True)):
        x = 48 + 134 * column
        picture.cell(x, 310, 112, 40, step, fill="#ffffff")
        picture.line(x + 56, 354, x + 56, 376, QUIET, 2, arrow=True)
        picture.text(x + 56, 396, result, bold=True)
        if column < 2:
            picture.line(x + 82, 390, x + 140, 354, QUIET, 2, arrow=True)


def _draw_line_of_steps(picture: Picture) -> None:
    x = 42
    for column, (step, result, width) in enumerate(zip(STEPS, RESULTS, (80, 46, 82), strict=True)):
        picture.cell(x, 326, width, 48, step, fill="#ffffff", size=15)
        picture.line(x + width + 2, 350, x + width + 14, 350, QUIET, 2, arrow=True)
        picture.text(x + width + 34, 350, result, bold=True)
        x += width + 54
        if column < 2:
            picture.line(x, 350, x + 11, 350, QUIET, 2, arrow=True)
            x += 16


# A drawing's docstring is its alternative text: who cannot see the picture hears it.
PICTURES = {
    "review-to-answer": draw_review_to_answer,
    "attention-step": draw_attention_step,
    "padding-and-mask": draw_padding_and_mask,
    "three-splits": draw_three_splits,
    "three-relations": draw_three_relations,
    "two-questions": draw_two_questions,
    "pair-segments": draw_pair_segments,
    "request-path": draw_request_path,
    "pair-request-path": draw_pair_request_path,
    "windows": draw_windows,
    "series": draw_series,
    "shrinking": draw_shrinking,
}


def main() -> int:
    """Draw, photograph and embed all pictures; return the exit status."""
    pictures = {}
    for name, draw in PICTURES.items():
        svg, alt = HERE / f"{name}.svg", " ".join(str(draw.__doc__).split())
        svg.write_text(draw().to_svg(alt), encoding="utf-8")
        pictures[name] = (photograph(svg), alt)
        print(f"{name}: {len(pictures[name][0]) / 1000:.0f} KB", flush=True)
    print(f"embedded in {embed(pictures, sorted(HERE.parent.glob('0*.ipynb')))} places")
    return 0


if __name__ == "__main__":
    sys.exit(main())
