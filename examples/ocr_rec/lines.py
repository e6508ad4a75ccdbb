"""Lines of Chinese text as a camera might see them: drawn from words, then bent, blurred and made noisy.

The fonts are Noto Sans SC and Noto Serif SC (SIL Open Font License), from the package pylopdf-fonts-zh-cn.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from pylopdf_fonts_zh_cn import sans_path, serif_path

import sweep

HEIGHT, WIDTH = 32, 112  # pixels of a line
LONGEST = 5  # characters of a line
SIGNS = """
    北京 南京 上海 海南 广东 山东 山西 江西 江南 西安 天津 中国 中心 国家 人民 大学 大厦 学校 医院
    银行 行人 车站 机场 广场 公园 花园 门口 入口 出口 前门 后门 东门 西门 南门 北门 东路 西路 南路
    北路 中山路 人民路 停车 停车场 安全 小心 地铁 地铁站 地面 电话 电车 火车 火车站 飞机场 商店 书店 酒店 饭店
    花店 药店 水果 水果店 牛奶 牛肉 鸡肉 鸡蛋 米饭 面条 红茶 花茶 茶水 开水 热水 开门 关门 今日 今天
    明天 日期 时间 金额 单价 合计 数量 发票
"""
WORDS = SIGNS.split()
ALPHABET = sorted({character for word in WORDS for character in word} | set("0123456789"))
BLANK = 0  # in the labels a character is its place in ALPHABET and 1: CTC wants a class for "nothing"


@sweep.cache
def prepare(count: int, seed: int, version: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (count, HEIGHT, WIDTH) of 0..255, labels (count, LONGEST) filled up with BLANK, lengths (count,).

    version: goes up with whatever changes the lines, because the cache looks at this function only.
    """
    rng = np.random.default_rng(seed)
    images = np.empty((count, HEIGHT, WIDTH), np.uint8)
    labels = np.full((count, LONGEST), BLANK, np.int32)
    lengths = np.empty(count, np.int64)
    for index in range(count):
        text = write(rng)
        images[index] = draw(text, rng)
        labels[index, : len(text)] = [ALPHABET.index(character) + 1 for character in text]
        lengths[index] = len(text)
    return images, labels, lengths


def write(rng: np.random.Generator) -> str:
    """One to three words, or two and a number."""
    text = ""
    for _ in range(rng.integers(1, 4)):
        text += str(rng.integers(1, 100)) if text and rng.random() < 0.2 else rng.choice(WORDS)
    return text[:LONGEST]


def draw(text: str, rng: np.random.Generator) -> np.ndarray:
    margin = 8  # so that bending does not bring in what is beyond the paper
    paper, ink = rng.uniform(150, 230), rng.uniform(0, 80)
    canvas = Image.new("L", (WIDTH + 2 * margin, HEIGHT + 2 * margin), int(paper))
    face = font(rng.choice(["sans", "serif"]), int(rng.integers(18, 22)))
    left = margin + rng.uniform(2, max(3, WIDTH - face.getlength(text) - 2))
    ImageDraw.Draw(canvas).text((left, canvas.height / 2), text, int(ink), face, anchor="lm")

    corners = np.array([(0, 0), (0, HEIGHT), (WIDTH, HEIGHT), (WIDTH, 0)]) + margin + rng.uniform(-3, 3, (4, 2))
    bent = canvas.transform(
        (WIDTH, HEIGHT), Image.Transform.QUAD, corners.ravel().tolist(), Image.Resampling.BILINEAR
    )
    blurred = np.asarray(bent.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1))), float)
    light = np.linspace(rng.uniform(-25, 25), rng.uniform(-25, 25), WIDTH)
    noise = rng.normal(0, rng.uniform(2, 15), blurred.shape)
    return np.clip(blurred + light + noise, 0, 255).astype(np.uint8)


@functools.cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(sans_path() if name == "sans" else serif_path(), size)
