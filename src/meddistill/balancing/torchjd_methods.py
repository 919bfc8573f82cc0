"""Which of torchjd's rules a recipe may name, and what each takes. Loads no torch.

Left out, and why. `Mean`, `Sum`, `Constant` are our `uniform` and `fixed`; `UW` is our `uncertainty`, and
`IMTL-L` is the same but for a sign. `DWA` must be told of the ends of epochs, and `FAMO` wants the losses a
second time after the update. `GradVac`, `ExcessMTL`, `PCD`, `MoDo`, `SDMGrad` and `CR-MOGM` keep a state for
a fixed list of objectives, which batches with other teachers would scramble and checkpoints not hold. `Krum`
refuses batches of few teachers. `ConFIG`, `GradDrop` and `TrimmedMean` give a vector that is no weighted sum.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Final, Literal

MethodName = Literal[
    "aligned_mtl",
    "cagrad",
    "cosmos",
    "dualproj",
    "fairgrad",
    "geometric_mean",
    "imtl_g",
    "mgda",
    "nash_mtl",
    "pbi",
    "pcgrad",
    "random",
    "stch",
    "upgrad",
]


@dataclass(frozen=True, kw_only=True)
class Option:
    """A value that an option takes by default, and the rule that others must keep."""

    default: float | str
    rule: str
    kept: Callable[[float | str], bool]


def _number(default: float, *, strictly: bool = False) -> Option:
    """From 0, or strictly above it."""

    def kept(value: float | str) -> bool:
        return not isinstance(value, str) and (value > 0 if strictly else value >= 0)

    return Option(default=default, rule=f"be a number {'above' if strictly else 'from'} 0", kept=kept)


def _count(default: int) -> Option:
    def kept(value: float | str) -> bool:
        return not isinstance(value, str) and value >= 1 and float(value).is_integer()

    return Option(default=default, rule="be a whole number from 1", kept=kept)


def _word(default: str, *others: str) -> Option:
    known = (default, *others)
    return Option(default=default, rule=f"be one of {', '.join(known)}", kept=lambda value: value in known)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a rule looks at (gradients, or losses alone), its options, the packages that it needs."""

    gradients: bool = True
    options: Mapping[str, Option] = field(default_factory=dict)
    packages: tuple[str, ...] = ()


METHODS: Final[Mapping[MethodName, Method]] = {
    "aligned_mtl": Method(options={"scale_mode": _word("min", "median", "rmse")}),
    "cagrad": Method(options={"c": _number(0.5)}, packages=("cvxpy", "clarabel")),
    "cosmos": Method(gradients=False, options={"lambda": _number(1.0)}),
    "dualproj": Method(),
    "fairgrad": Method(options={"alpha": _number(2.0)}),
    "geometric_mean": Method(gradients=False),
    "imtl_g": Method(),
    "mgda": Method(options={"epsilon": _number(1e-3, strictly=True), "max_iters": _count(100)}),
    "nash_mtl": Method(options={"optim_niter": _count(20)}, packages=("cvxpy", "ecos")),
    "pbi": Method(gradients=False, options={"theta": _number(5.0)}),
    "pcgrad": Method(),
    "random": Method(gradients=False),
    "stch": Method(gradients=False, options={"mu": _number(0.1, strictly=True)}),
    "upgrad": Method(),
}


def option_mistakes(method: MethodName, options: Mapping[str, float | str]) -> list[str]:
    """One line for everything that is wrong with the options that a recipe gives to a rule."""
    known = METHODS[method].options
    names = ", ".join(known) or "none"
    lines = []
    for name, value in options.items():
        if name not in known:
            lines.append(f"`{name}` must be an option of {method}, which are {names}")
        elif not known[name].kept(value):
            lines.append(f"`{name}` must {known[name].rule}; got {value}")
    return lines


def missing_packages(method: MethodName) -> list[str]:
    """The packages that the rule needs and that are not installed."""
    return [package for package in METHODS[method].packages if find_spec(package) is None]
