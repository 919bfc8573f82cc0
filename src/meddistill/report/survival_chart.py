"""Kaplan-Meier curves as SVG, with the numbers at risk under the axis."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from markupsafe import Markup

from meddistill.evaluation.base.exhibits import SurvivalCurve
from meddistill.report.formatting import number
from meddistill.report.svg import Axis, drawing, element, labelled_ticks, line, polyline, text

# Colour and dash of the two groups; `report.css` draws the second one's curve dashed.
GROUP_CSS: Final[Mapping[str, str]] = MappingProxyType({"lower risk": "c-p0", "higher risk": "c-p1"})
_OTHER_CSS: Final = "c-p2"
_WIDTH, _LEFT, _RIGHT = 505.0, 92.0, 493.0
_TOP, _BOTTOM = 28.0, 232.0
_LINE = 17.0
_VALUES: Final = ("survival", "low", "high")
_SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_TICK = 3.5
_LEAST_SHARE: Final = 0.05

Points = list[tuple[float, float]]
Ticks = list[tuple[float, str]]


def kaplan_meier_chart(curves: Sequence[SurvivalCurve], *, label: str) -> Markup:
    """Curves of all groups of one model with pointwise intervals; small strokes are censored patients."""
    last = shown_until(curves)
    curves = [_cut(each, last) for each in curves]
    x = Axis(low=0.0, high=last if last > 0 else 1.0, start=_LEFT, end=_RIGHT)
    y = Axis(low=0.0, high=1.0, start=_BOTTOM, end=_TOP)
    moments = labelled_ticks(x, 6)
    parts = _axes(x, y, moments, curves[0].unit if curves else "")
    parts += [_curve(each, x, y) for each in curves]
    parts.append(text(_LEFT - 10, _BOTTOM + 52, "at risk", text_anchor="end", class_="tick strong"))
    for row, each in enumerate(curves):
        parts += _at_risk(each, x, moments, _BOTTOM + 52 + _LINE * (row + 1))
    height = _BOTTOM + 60 + _LINE * len(curves)
    return drawing(_WIDTH, height, *parts, label=label)


def shown_until(curves: Sequence[SurvivalCurve]) -> float:
    """The last event, or the last time with a twentieth of all at risk if that is later.

    Beyond that a few who were followed for very long would press all others against the axis.
    """
    everyone = sum(each.at_risk[0] for each in curves)
    moments = [0.0]
    for each in curves:
        steps = zip(each.times[1:], each.survival, each.survival[1:], strict=False)
        moments += [moment for moment, before, value in steps if value < before]
        for moment in each.times:
            if sum(_left(other, moment) for other in curves) >= _LEAST_SHARE * everyone:
                moments.append(moment)
    return max(moments)


def css(group: str) -> str:
    """The class that colours a group."""
    return GROUP_CSS.get(group, _OTHER_CSS)


def _axes(x: Axis, y: Axis, moments: Ticks, unit: str) -> list[Markup]:
    parts = [text(x.start - 34, 12, "share without event", class_="tick")]
    for share in _SHARES:
        parts.append(line((x.start, y(share)), (x.end, y(share)), class_="grid"))
        parts.append(text(x.start - 10, y(share) + 4, f"{share:g}", text_anchor="end", class_="tick"))
    for moment, words in moments:
        parts.append(line((x(moment), y.start), (x(moment), y.start + 5), class_="axis"))
        parts.append(text(x(moment), y.start + 19, words, text_anchor="middle", class_="tick"))
    parts.append(line((x.start, y.start), (x.end, y.start), class_="axis"))
    parts.append(text(x.end, y.start + 35, unit, text_anchor="end", class_="tick"))
    return parts


def _curve(curve: SurvivalCurve, x: Axis, y: Axis) -> Markup:
    upper = _steps(curve.times, curve.high, x, y)
    lower = _steps(curve.times, curve.low, x, y)
    outline = " ".join(f"{px:.1f},{py:.1f}" for px, py in (*upper, *reversed(lower)))
    band = element("polygon", points=outline, class_="band")
    drawn = polyline(_steps(curve.times, curve.survival, x, y), class_="curve")
    strokes = [
        line((x(moment), y(share) - _TICK), (x(moment), y(share) + _TICK), class_="censored")
        for moment, share in _censored(curve)
    ]
    end = f"{curve.group}: {number(curve.survival[-1], 2)} at {curve.times[-1]:.3g} {curve.unit}"
    return element("g", element("title", end), band, drawn, *strokes, class_=css(curve.group))


def _steps(times: Sequence[float], values: Sequence[float], x: Axis, y: Axis) -> Points:
    points: Points = []
    before = values[0]
    for moment, value in zip(times, values, strict=True):
        points += [(x(moment), y(before)), (x(moment), y(value))]
        before = value
    return points


def _censored(curve: SurvivalCurve) -> list[tuple[float, float]]:
    """Times at which nobody had the event, so that somebody was censored."""
    steps = zip(curve.times[1:], curve.survival, curve.survival[1:], strict=False)
    return [(moment, value) for moment, before, value in steps if value == before]


def _at_risk(curve: SurvivalCurve, x: Axis, moments: Ticks, at: float) -> list[Markup]:
    parts = [
        element(
            "g",
            element("rect", x=_LEFT - 86, y=at - 9, width=9, height=9, class_="bar"),
            class_=css(curve.group),
        ),
        text(_LEFT - 72, at, curve.group.removesuffix(" risk"), class_="tick"),
    ]
    for moment, _ in moments:
        left = str(_left(curve, moment))
        parts.append(text(x(moment), at, left, text_anchor="middle", class_="figure small"))
    return parts


def _left(curve: SurvivalCurve, moment: float) -> int:
    """How many are at risk at a time."""
    listed = zip(curve.times, curve.at_risk, strict=True)
    return next((count for time, count in listed if time >= moment), 0)


def _cut(curve: SurvivalCurve, last: float) -> SurvivalCurve:
    """The curve until `last`, drawn on to there where it goes on."""
    kept = [place for place, time in enumerate(curve.times) if time <= last]
    beyond = len(kept) < len(curve.times) and curve.times[kept[-1]] < last
    places = [*kept, kept[-1]] if beyond else kept
    times = [curve.times[place] for place in places]
    at_risk = [curve.at_risk[place] for place in places]
    if beyond:
        times[-1], at_risk[-1] = last, curve.at_risk[len(kept)]
    columns = {name: tuple(getattr(curve, name)[place] for place in places) for name in _VALUES}
    return curve.model_copy(update={**columns, "times": tuple(times), "at_risk": tuple(at_risk)})
