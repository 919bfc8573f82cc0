"""SVG as escaped markup: elements, linear axes, ticks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


def element(tag: str, *content: str | Markup, **attributes: object) -> Markup:
    """One element; content and attribute values are escaped, `_` in attribute names becomes `-`.

    A trailing underscore is dropped (`class_`). Numbers are written with one decimal at most.
    """
    named = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(part) for part in content)
    return Markup(f"<{tag}{named}>{inner}</{tag}>")


def drawing(width: float, height: float, *content: Markup, label: str) -> Markup:
    """A whole picture that scales with its column; `label` is what a screen reader says."""
    box = f"0 0 {_text(width)} {_text(height)}"
    return element(
        "svg", element("title", label), *content, viewBox=box, role="img", aria_label=label, class_="chart"
    )


def text(x: float, y: float, words: str, **attributes: object) -> Markup:
    """A text at a point."""
    return element("text", words, x=x, y=y, **attributes)


def line(start: tuple[float, float], end: tuple[float, float], **attributes: object) -> Markup:
    """A straight line."""
    return element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: object) -> Markup:
    """A line through points."""
    joined = " ".join(f"{_text(x)},{_text(y)}" for x, y in points)
    return element("polyline", points=joined, **attributes)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear map of values [low, high] to pixels [start, end]."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def clip(self, value: float) -> float:
        """The pixel of a value, held inside the axis."""
        return self(min(max(value, self.low), self.high))


def span(
    values: Sequence[float], *, include: Sequence[float] = (), margin: float = 0.06
) -> tuple[float, float]:
    """Ends of an axis that holds `values` with a margin, and `include`; never empty."""
    known = [value for value in (*values, *include) if math.isfinite(value)]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = (high - low) * margin or max(abs(high) * 0.1, 0.01)
    low = low if low in include else low - room
    high = high if high in include and high > low else high + room
    return low, high


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values inside [low, high], some `about` of them: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_label(value: float, step: float) -> str:
    """A tick's label with as many decimals as its step needs."""
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-4):
        return f"{value:.0e}".replace("-", "−").replace("e+0", "e").replace("e−0", "e−")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:.{decimals}f}".replace("-", "−")


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)
