"""Axes of Matplotlib as pictures inside a page, light or dark.

What is ink or paper in the picture takes the page's colours: both are drawn in colours that nothing else has, and
replaced in the SVG. An SVG that is too large (a hundred thousand reports) becomes a PNG, whose ink is grey.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST = 1_500_000  # characters of an SVG
INK, PAPER = "#7c828b", "#fdfefc"
RAMP = ("#aab2bd", "#5b9bd5", "#1f5fa8")  # worst to best; all can be seen on light and on dark
WIDTH = 9.0  # inches


def picture(
    draw: Callable[[], Any], height: float | None = None, width: float = WIDTH, *, high_is_good: bool = True
) -> Markup:
    """What `draw` draws, as an element of HTML as wide as its place; inches say how large the text is in it.

    height: None leaves the picture as it was drawn. high_is_good: which end of a scale of values is the bluer one.
    """
    import matplotlib.pyplot as plt

    settings = {"svg.fonttype": "none", "svg.hashsalt": "sweep", "text.color": INK, "font.size": 9.5}
    with plt.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that Matplotlib's own font lacks: the browser has them
        axes = draw()
        figure = axes.figure
        try:
            if height:
                figure.set_size_inches(width, height)
            _restyle(figure, high_is_good)
            return _embedded(figure)
        finally:
            plt.close(figure)


def _embedded(figure: Figure) -> Markup:
    try:
        text = _saved(figure, "svg").decode()
    except ValueError:  # a name that looks like mathematics and is none
        from matplotlib.text import Text

        for one in figure.findobj(Text):
            one.set_parse_math(False)
        text = _saved(figure, "svg").decode()
    if len(text) > LARGEST:
        data = base64.b64encode(_saved(figure, "png")).decode()
        return Markup('<img alt="" src="data:image/png;base64,{}">').format(data)
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    return Markup(text)  # Matplotlib escapes what it writes


def _saved(figure: Figure, kind: str) -> bytes:
    out = io.BytesIO()
    nameless = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    options: dict[str, Any] = {"metadata": nameless} if kind == "svg" else {"dpi": 160}
    figure.savefig(out, format=kind, transparent=True, bbox_inches="tight", pad_inches=0.05, **options)
    return out.getvalue()


def _restyle(figure: Figure, high_is_good: bool) -> None:
    """One look for Optuna's pictures and ours; the page has the titles."""
    from matplotlib.colors import LinearSegmentedColormap, to_hex
    from matplotlib.text import Text

    # for one of several objectives Optuna does not look at the direction
    ramp = LinearSegmentedColormap.from_list("sweep", RAMP if high_is_good else RAMP[::-1])
    for axes in figure.axes:
        axes.set_title("")
        axes.set_title("", loc="left")
        axes.set_facecolor("none")
        axes.grid(visible=False)
        axes.tick_params(which="both", colors=INK)
        axes.xaxis.label.set_fontsize("medium")
        axes.yaxis.label.set_fontsize("medium")
        for name, spine in axes.spines.items():
            spine.set(color=INK, linewidth=0.8)
            # the right one is where a parallel picture has its scales
            spine.set_visible(spine.get_visible() and name != "top" and (name != "right" or len(figure.axes) > 1))
        for shades in axes.collections:
            if shades.get_array() is not None:
                shades.set_cmap(ramp)
        for patch in axes.patches:
            if to_hex(patch.get_edgecolor()) == "#ffffff":
                patch.set_edgecolor(PAPER)
        legend = axes.get_legend()
        if legend:
            legend.get_frame().set(facecolor="none", edgecolor="none")
    for text in figure.findobj(Text):
        text.set_color(INK)
