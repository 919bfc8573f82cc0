"""The adapter to torchjd's scalarizers and weightings over Gramians."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torchjd import aggregation, scalarization
from torchjd.linalg import DualConeProjector

from meddistill.balancing.context import BalancingContext
from meddistill.balancing.teacher_weights import TeacherWeighting, on_host
from meddistill.balancing.torchjd_methods import METHODS, MethodName
from meddistill.records import to_device

Vector = Float[Tensor, " present"]
Square = Float[Tensor, "present present"]


@final
class TorchJD(TeacherWeighting):
    """One weight α_t for each teacher with selected rows, by a rule of torchjd; then Σ_t |α_t| = 1.

    Rules over gradients get G = J·Jᵀ of `BalancingContext.gramian`, scaled to a mean diagonal of 1: they do
    not depend on its scale, but have thresholds that gradients at embeddings fall below. Rules over losses
    (scalarizers S) get the teachers' mean losses ℓ̄, and α = ∂S/∂ℓ̄, so that the final gradient is that of S.

    Teachers without a selected row are left out of G and ℓ̄: as rows of zeros they would draw mgda to
    themselves. Which those are stands on the device, so each step waits for it once, for T·T numbers at most;
    the rule then runs on the host in float64. Where G or the outcome is not finite, the weights are equal,
    and what is wrong is left for the training loop to find.
    """

    def __init__(self, method: MethodName, *, options: Mapping[str, float | str] | None = None) -> None:
        """Raises ImportError where a package that the rule needs is missing."""
        super().__init__()
        self._on_gradients = METHODS[method].gradients
        defaults = {name: option.default for name, option in METHODS[method].options.items()}
        self._rule = _RULES[method]({**defaults, **(options or {})})

    def teacher_weights(
        self, context: BalancingContext, rows: Float[Tensor, "groups teachers"]
    ) -> Float[Tensor, "groups teachers"]:
        """The rule on the teachers with rows; there is one group."""
        looked_at = context.gramian() if self._on_gradients else context.mean_losses
        numbers, counts = on_host(looked_at, rows[0])
        present = counts > 0
        factors = torch.zeros_like(counts)
        if present.any():
            with _seeded(context.generator):
                factors[present] = self._factors(_of(numbers, present))
        return to_device(factors, rows.device)[None]

    def _factors(self, numbers: Tensor) -> Vector:
        """The rule on what the present teachers have; absolute values of sum 1, or zeros if it says so."""
        equal = numbers.new_full((len(numbers),), 1 / len(numbers))
        if len(numbers) == 1 or not numbers.isfinite().all():
            return equal
        if self._on_gradients:
            scale = numbers.diagonal().mean()
            if scale == 0:
                return equal
            numbers = numbers / scale
        factors = self._rule(numbers)
        return factors / factors.abs().sum().clamp_min(1e-30) if factors.isfinite().all() else equal


def _of(numbers: Tensor, present: Tensor) -> Tensor:
    """The entries of a vector, or the rows and columns of a matrix, that belong to present teachers."""
    kept = numbers[present]
    return kept[:, present] if numbers.ndim == 2 else kept


@contextmanager
def _seeded(generator: torch.Generator) -> Iterator[None]:
    """Let torchjd, which draws from the host's global generator, draw the same in every process."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def _root(gramian: Square) -> Square:
    """R with R·Rᵀ = G; rounding may have left G with eigenvalues a little below 0."""
    values, vectors = torch.linalg.eigh(gramian)
    return vectors * values.clamp_min(0).sqrt()


@final
class LeastSquaresProjector(DualConeProjector):
    """min_v vᵀGv subject to v ≥ u, for each row u of U: what upgrad and dualproj project with.

    With v = u + x and G = R·Rᵀ it is the non-negative least squares problem min_{x ≥ 0} ‖Rᵀx + Rᵀu‖²
    (Lawson and Hanson 1974), which scipy solves. torchjd's own projector needs quadprog, which is under the
    GPL, and adds to the diagonal of G, which this has no need of.
    """

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:
        """The solutions, in the shape of `U`."""
        # Slow to import, and of no use to other rules.
        from scipy.optimize import nnls

        root = _root(G).T.numpy()
        rows = U.reshape(-1, U.shape[-1]).numpy()
        above = [nnls(root, -root @ row, maxiter=100 * len(row))[0] for row in rows]
        return U + torch.from_numpy(np.stack(above)).reshape(U.shape)


def _nash(options: Mapping[str, Any]) -> "_Rule":
    def rule(gramian: Square) -> Vector:
        # Made anew for the number of teachers: what it would start from is of the same ones only.
        aggregator = aggregation.NashMTL(len(gramian), max_norm=0.0, optim_niter=int(options["optim_niter"]))
        return aggregator.weighting(_root(gramian))

    aggregation.NashMTL(1)  # so that a missing package is told of now
    return rule


def _slope(scalarizer: Callable[[int], scalarization.Scalarizer]) -> "_Rule":
    """The derivatives of a scalarizer, made for a number of teachers, by their losses."""

    def rule(losses: Vector) -> Vector:
        with torch.enable_grad():
            leaf = losses.clone().requires_grad_()
            return torch.autograd.grad(scalarizer(len(losses))(leaf), leaf)[0]

    return rule


def _preference(number: int) -> Tensor:
    return torch.full((number,), 1 / number, dtype=torch.float64)


_Rule = Callable[[Tensor], Tensor]
_RULES: Final[Mapping[MethodName, Callable[[Mapping[str, Any]], _Rule]]] = {
    "aligned_mtl": lambda options: aggregation.AlignedMTLWeighting(scale_mode=options["scale_mode"]),
    "cagrad": lambda options: aggregation.CAGradWeighting(options["c"]),
    "cosmos": lambda options: _slope(
        lambda number: scalarization.COSMOS(options["lambda"], _preference(number))
    ),
    "dualproj": lambda _: aggregation.DualProjWeighting(projector=LeastSquaresProjector()),
    "fairgrad": lambda options: aggregation.FairGradWeighting(options["alpha"]),
    "geometric_mean": lambda _: _slope(lambda _: scalarization.GeometricMean()),
    "imtl_g": lambda _: aggregation.IMTLGWeighting(),
    "mgda": lambda options: aggregation.MGDAWeighting(options["epsilon"], int(options["max_iters"])),
    "nash_mtl": _nash,
    "pbi": lambda options: _slope(lambda number: scalarization.PBI(options["theta"], _preference(number))),
    "pcgrad": lambda _: aggregation.PCGradWeighting(),
    "random": lambda _: _slope(lambda _: scalarization.Random()),
    "stch": lambda options: _slope(lambda _: scalarization.STCH(options["mu"])),
    "upgrad": lambda _: aggregation.UPGradWeighting(projector=LeastSquaresProjector()),
}
