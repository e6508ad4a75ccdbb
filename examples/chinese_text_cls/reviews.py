"""Reviews in Chinese that praise or complain, made of clauses. Which words are in one does not settle which it is.

虽然屏幕很清晰，但是电池一点也不耐用。        complains: what comes after 但是 counts
本来以为早餐很油腻，没想到味道非常可口。      praises: what was expected does not count
客服不算冷淡，包装很结实，大厅特别吵闹。      praises: two clauses of three
"""

from __future__ import annotations

from typing import Any

import numpy as np

LONGEST = 32  # characters of a review
THINGS = {  # what is reviewed: words of praise, words of complaint
    **dict.fromkeys(["屏幕", "画面", "镜头", "照片"], ("清晰 细腻 明亮 漂亮", "模糊 暗淡 粗糙 难看")),
    **dict.fromkeys(["电池", "外壳", "做工", "包装"], ("耐用 结实 精致 可靠", "脆弱 马虎 松动 劣质")),
    **dict.fromkeys(["客服", "店家", "快递", "前台"], ("热情 耐心 周到 及时", "冷淡 敷衍 拖拉 粗鲁")),
    **dict.fromkeys(["味道", "早餐", "饮料", "菜品"], ("可口 新鲜 地道 香甜", "难吃 油腻 寡淡 变质")),
    **dict.fromkeys(["房间", "位置", "环境", "大厅"], ("干净 安静 方便 舒适", "肮脏 吵闹 偏僻 拥挤")),
}
PLAIN = ["很", "非常", "真的", "特别", "相当", "确实"]
NEGATED = ["并不", "不算", "一点也不", "谈不上", "没有那么"]
BUT = [("虽然", "但是"), ("尽管", "可是"), ("", "不过"), ("", "然而")]
EXPECTED = [("本来以为", "没想到"), ("听说", "结果"), ("别人都说", "我却觉得")]
_ALL = [*THINGS, *sum(THINGS.values(), ()), *PLAIN, *NEGATED, *sum(BUT + EXPECTED, ()), "，。"]
CHARACTERS = sorted(set("".join(_ALL)) - {" "})


def reviews(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts (count, LONGEST), places in CHARACTERS and 1, filled up with 0; labels (count, 1), 1 is praise."""
    rng = np.random.default_rng(seed)
    texts = np.zeros((count, LONGEST), np.int64)
    labels = np.empty((count, 1), np.int64)
    for index in range(count):
        text, labels[index] = review(rng)
        texts[index, : len(text)] = [CHARACTERS.index(character) + 1 for character in text]
    return texts, labels


def review(rng: np.random.Generator) -> tuple[str, bool]:
    kind = rng.integers(3)
    if kind == 0:
        clauses = [clause(rng) for _ in range(3)]
        return "，".join(text for text, _ in clauses) + "。", sum(praise for _, praise in clauses) >= 2
    before, after = pick(rng, BUT if kind == 1 else EXPECTED)
    (first, _), (second, praise) = clause(rng), clause(rng)
    return f"{before}{first}，{after}{second}。", praise


def clause(rng: np.random.Generator) -> tuple[str, bool]:
    thing, praise, negated = pick(rng, list(THINGS)), rng.random() < 0.5, rng.random() < 0.4
    word = pick(rng, THINGS[thing][0 if praise != negated else 1].split())
    return thing + pick(rng, NEGATED if negated else PLAIN) + word, praise


def pick(rng: np.random.Generator, among: list) -> Any:
    return among[rng.integers(len(among))]
