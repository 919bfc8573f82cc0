"""SVG as escaped markup: elements, linear axes, ticks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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
    """A whole picture that scales with its column; `label` is what a screen reader reads out."""
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


def axis_over(values: Sequence[float], *, start: float, end: float, include: Sequence[float] = ()) -> "Axis":
    """An axis that holds `values` with a margin, and `include`."""
    low, high = span(values, include=include)
    return Axis(low=low, high=high, start=start, end=end)


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
    step = _step(low, high, about)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _step(low: float, high: float, about: int) -> float:
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(each * power for each in (1, 2, 5, 10) if each * power >= raw * 0.999)


def to_ticks(axis: Axis, about: int) -> Axis:
    """The axis with both ends moved outwards to round values, so that its lowest and highest have a label."""
    step = _step(axis.low, axis.high, about)
    low, high = math.floor(axis.low / step + 1e-9) * step, math.ceil(axis.high / step - 1e-9) * step
    return replace(axis, low=low, high=high)


def tick_label(value: float, step: float) -> str:
    """A tick's label with as many decimals as its step needs."""
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-4):
        return f"{value:.0e}".replace("-", "−").replace("e+0", "e").replace("e−0", "e−")
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    return f"{value:.{decimals}f}".replace("-", "−")


def labelled_ticks(axis: Axis, about: int) -> list[tuple[float, str]]:
    """Round values of an axis with their labels."""
    values = ticks(axis.low, axis.high, about)
    step = values[1] - values[0] if len(values) > 1 else max(map(abs, values), default=1.0)
    return [(value, tick_label(value, step)) for value in values]


def level_grid(x: Axis, y: Axis) -> list[Markup]:
    """Lines from side to side at round values of `y`, labelled at the left."""
    parts = []
    for value, label in labelled_ticks(y, 4):
        parts.append(line((x.start, y(value)), (x.end, y(value)), class_="grid"))
        parts.append(text(x.start - 8, y(value) + 4, label, text_anchor="end", class_="tick"))
    return parts


def upright_grid(
    axis: Axis, top: float, bottom: float, *, about: int, is_signed: bool = False
) -> list[Markup]:
    """Lines from `top` to `bottom` at round values of an axis, labelled below."""
    parts = []
    for value, label in labelled_ticks(axis, about):
        words = f"+{label}" if is_signed and value > 0 else label
        parts.append(line((axis(value), top), (axis(value), bottom), class_="grid"))
        parts.append(text(axis(value), bottom + 18, words, text_anchor="middle", class_="tick"))
    return parts


def short(words: str, most: int) -> str:
    """Words cut to `most` letters."""
    return words if len(words) <= most else words[: most - 1] + "…"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return str(value)
