"""How alike the teachers' spaces are, and how much of each the others hold."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from meddistill.arrays import Flags, Floats, Floats32, Places
from meddistill.evaluation.audit.record import Likeness, Redundancy
from meddistill.evaluation.audit.sample import AuditSample
from meddistill.evaluation.audit.spaces import Space
from meddistill.evaluation.engine.agreement import LEAST, centred_gram, common_neighbours, cosine, neighbours
from meddistill.progress import Advance
from meddistill.signals import TOWERS, Tower

Result = TypeVar("Result", bound=np.generic)
Given = TypeVar("Given", bound=np.generic, covariant=True)

MOST = 1000  # rows of one comparison; its cost grows with their square


def tower_groups(sample: AuditSample, tower: Tower) -> dict[str, Places]:
    """Positions of a tower's rows: all (""), and those of each modality with enough of them."""
    images = sample.image_groups
    if tower == "image" or not len(sample.pairs):
        whole = {"": np.arange(len(sample.text_rows))} if tower == "text" else images
    else:
        whole = {"": np.arange(len(sample.text_rows))}
        whole |= {name: sample.texts_of(rows) for name, rows in images.items() if name}
    return {name: rows for name, rows in whole.items() if len(rows) >= LEAST}


def likenesses(spaces: Sequence[Space], sample: AuditSample, *, advance: Advance) -> Iterator[Likeness]:
    """CKA and common neighbours of every two teachers, on the rows that both are available for.

    Of more than 1,000 such rows so many are taken, spread evenly.
    """
    for tower in TOWERS:
        members = [space for space in spaces if tower in space.vectors]
        for modality, rows in tower_groups(sample, tower).items():
            grams, near = _kept(centred_gram), _kept(neighbours)
            for first, second in combinations(members, 2):
                common = thinned(rows[first.there[tower][rows] & second.there[tower][rows]])
                if len(common) < LEAST:
                    continue
                yield Likeness(
                    first=first.name,
                    second=second.name,
                    tower=tower,
                    modality=modality,
                    cka=cosine(grams(first, tower, common), grams(second, tower, common)),
                    neighbours=common_neighbours(near(first, tower, common), near(second, tower, common)),
                    n=len(common),
                )
        advance(1)


def thinned(rows: Places) -> Places:
    """At most MOST of these rows, spread evenly over them."""
    return rows if len(rows) <= MOST else rows[np.linspace(0, len(rows) - 1, MOST).round().astype(np.intp)]


class Kept(Protocol[Given]):
    """Some work on rows of a tower of a space."""

    def __call__(self, space: Space, tower: Tower, rows: Places) -> NDArray[Given]:
        """The result for these rows."""
        ...


def _kept(work: Callable[[Floats32], NDArray[Result]]) -> Kept[Result]:
    """`work` on some rows of a space; the last result of each space is kept, for pairs of equal rows."""
    results: dict[str, tuple[bytes, NDArray[Result]]] = {}

    def of(space: Space, tower: Tower, rows: Places) -> NDArray[Result]:
        key = rows.tobytes()
        if space.name not in results or results[space.name][0] != key:
            results[space.name] = (key, work(space.vectors[tower][rows]))
        return results[space.name][1]

    return of


class Mixtures:
    """How well each teacher's similarities are told by those of others: [teachers] by tower.

    With K_t the U-centred Gram matrix of teacher t on its rows, scaled to length 1, and K_i that of another
    on the rows of t for which it is available too (zero elsewhere),
    explained(t) = max over w >= 0 of cos(K_t, Σ_i w_i K_i), found by non-negative least squares:
    cos² = 1 - min ‖K_t - Σ w_i K_i‖².
    It is at least the largest single CKA where all rows are common.
    """

    def __init__(self, spaces: Sequence[Space], tower: Tower) -> None:
        self._members = [space for space in spaces if tower in space.vectors]
        self._tower = tower
        self._products: dict[str, tuple[Floats, int]] = {}
        grams, known = _kept(centred_gram), dict[bytes, Floats]()
        for target in self._members:
            rows = thinned(np.flatnonzero(target.there[tower]))
            if len(rows) >= LEAST:
                key = rows.tobytes()
                known[key] = known[key] if key in known else self._among(rows, grams)
                self._products[target.name] = (known[key], len(rows))

    @property
    def names(self) -> tuple[str, ...]:
        """The teachers with this tower."""
        return tuple(space.name for space in self._members)

    def redundancy(self, teacher: str, others: Sequence[str]) -> Redundancy | None:
        """Of one teacher among `others`; None without enough rows or without another teacher."""
        if teacher not in self._products:
            return None
        products, n = self._products[teacher]
        place = {name: index for index, name in enumerate(self.names)}
        mine = place[teacher]
        theirs = [place[name] for name in others if name in place and name != teacher]
        if not theirs:
            return None
        single = products[mine, theirs]
        best = int(np.argmax(single))
        return Redundancy(
            teacher=teacher,
            tower=self._tower,
            nearest=self.names[theirs[best]],
            cka=float(single[best]),
            explained=explained(products, mine, theirs),
            n=n,
        )

    def _among(self, rows: Places, grams: Kept[np.float64]) -> Floats:
        """Products of all members' matrices on `rows`, [members, members]."""
        whole = [self._padded(space, rows, grams) for space in self._members]
        products = np.eye(len(whole))
        for i, j in combinations(range(len(whole)), 2):
            products[i, j] = products[j, i] = cosine(whole[i], whole[j])
        return products

    def _padded(self, space: Space, rows: Places, grams: Kept[np.float64]) -> Floats:
        there: Flags = space.there[self._tower][rows]
        if there.all():
            return grams(space, self._tower, rows)
        padded = np.zeros((len(rows), len(rows)))
        if there.sum() >= LEAST:
            padded[np.ix_(there, there)] = grams(space, self._tower, rows[there])
        return padded


def explained(products: Floats, target: int, others: Sequence[int]) -> float:
    """Cosine of unit vector `target` with the cone of the unit vectors `others`, from their products [m, m].

    In [0, 1]; 0 where all of the others point away.
    """
    from sklearn.linear_model import LinearRegression

    values, directions = np.linalg.eigh(products)
    points = directions * np.sqrt(np.clip(values, 0, None))
    fit = LinearRegression(positive=True, fit_intercept=False).fit(points[list(others)].T, points[target])
    residual = points[target] - fit.coef_ @ points[list(others)]
    return float(np.sqrt(np.clip(1 - residual @ residual, 0, 1)))


def redundancies(spaces: Sequence[Space]) -> tuple[dict[Tower, Mixtures], tuple[Redundancy, ...]]:
    """The mixtures of each tower, and every teacher's redundancy among all."""
    towers: Mapping[Tower, Mixtures] = {tower: Mixtures(spaces, tower) for tower in TOWERS}
    found = [
        mixtures.redundancy(name, mixtures.names) for mixtures in towers.values() for name in mixtures.names
    ]
    return dict(towers), tuple(each for each in found if each is not None)
