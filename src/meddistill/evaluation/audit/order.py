"""Which teacher the others would miss least.

The ensemble's similarities are, in every part, the mean over its available teachers of their similarities,
each standardised to mean 0 and standard deviation 1 over the part. Its quality is the mean over families
(retrieval, zero-shot, modality) of the mean over modalities of the part's main metric.
loss(t) = quality(all) - quality(all but t), on the same resamples.

The teacher to drop is the most redundant of those whose loss is within one standard error of the smallest
(the one-standard-error rule of Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3,
with the standard error of the paired difference). It then goes, and the rest are compared anew: of two copies
each is worthless beside the other, but only one is to be dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from meddistill.arrays import Flags, Floats32
from meddistill.evaluation.audit.checks import AuditCheck, main_of
from meddistill.evaluation.audit.likeness import Mixtures
from meddistill.evaluation.audit.record import Family, LeaveOut, Redundancy
from meddistill.evaluation.audit.spaces import Space
from meddistill.evaluation.base.bootstrap import Replicates, Weights, estimate, mean_replicates
from meddistill.progress import Advance
from meddistill.signals import Tower

_SMALL = 1e-12


@dataclass(frozen=True)
class Joint:
    """One part with every teacher's standardised similarities (0 where it is not available) and where."""

    part: AuditCheck
    similarities: Mapping[str, Floats32]
    there: Mapping[str, Flags]

    def ensemble(self, members: Sequence[str]) -> Floats32:
        """Mean over the available members; 0 where there is none."""
        total = np.sum([self.similarities[name] for name in members], axis=0, dtype=np.float32)
        count = np.sum([self.there[name] for name in members], axis=0, dtype=np.float32)
        return (total / np.maximum(count, 1)).astype(np.float32)


class Ensembles:
    """Quality of any set of the dual teachers, for the sample and every resample."""

    def __init__(self, spaces: Sequence[Space], parts: Sequence[AuditCheck], weights: Weights) -> None:
        self._weights = weights
        self._dual = [space for space in spaces if space.is_dual]
        self.members = tuple(space.name for space in self._dual)
        self._joints = [joint(part, self._dual) for part in _scored_parts(parts)]
        self._known: dict[frozenset[str], Replicates | None] = {}

    def similarities(self, part: AuditCheck) -> Floats32:
        """Those of all members together in one part."""
        return joint(part, self._dual).ensemble(self.members)

    def quality(self, members: Sequence[str]) -> Replicates | None:
        """Quality [1 + resamples]; None without parts, without members, or with one that is not dual."""
        key = frozenset(members)
        if key not in self._known:
            measurable = bool(members) and bool(self._joints) and key <= set(self.members)
            self._known[key] = self._measured(members) if measurable else None
        return self._known[key]

    @property
    def whole(self) -> float | None:
        """Quality of all members together."""
        quality = self.quality(self.members)
        return None if quality is None else float(quality[0])

    def _measured(self, members: Sequence[str]) -> Replicates:
        families: dict[Family, list[Replicates]] = {}
        for joint in self._joints:
            replicates = main_of(joint.part.replicates(joint.ensemble(members), self._weights))
            families.setdefault(joint.part.family, []).append(replicates)
        return mean_replicates([mean_replicates(own) for own in families.values()])


def _scored_parts(parts: Sequence[AuditCheck]) -> list[AuditCheck]:
    """Of each family the parts of single modalities; where it has none, the one of all images."""
    single = {part.family for part in parts if part.modality}
    return [part for part in parts if bool(part.modality) == (part.family in single)]


def joint(part: AuditCheck, spaces: Sequence[Space]) -> Joint:
    """The similarities of all `spaces` in one part, standardised."""
    similarities, there = {}, {}
    for space in spaces:
        values, known = part.similarities(space)
        inside = values[known]
        spread = float(inside.std()) if len(inside) else 0.0
        standard = (values - inside.mean()) / spread if spread > _SMALL else np.zeros_like(values)
        similarities[space.name] = np.where(known, standard, 0).astype(np.float32)
        there[space.name] = known
    return Joint(part, similarities, there)


class Referee:
    """Decides who is missed least."""

    def __init__(
        self, ensembles: Ensembles, mixtures: Mapping[Tower, Mixtures], names: Sequence[str], *, level: float
    ) -> None:
        self._ensembles = ensembles
        self._mixtures = mixtures
        self._level = level
        members = ensembles.members if ensembles.quality(ensembles.members) is not None else ()
        self.names = tuple(name for name in names if name in members) if len(members) > 1 else tuple(names)

    def round(self, staying: Sequence[str]) -> list[LeaveOut]:
        """Every one of `staying` left out in turn."""
        losses = {name: self._loss(name, staying) for name in staying}
        tied = _tied(losses)
        return [self._left_out(name, staying, losses[name], tied=name in tied) for name in staying]

    def order(self, *, advance: Advance) -> list[LeaveOut]:
        """The teachers in the order in which to drop them; the last one is the one to keep."""
        staying, gone = list(self.names), []
        while staying:
            rows = self.round(staying)
            candidates = [row for row in rows if row.tied] or rows
            # Of equals the later one goes, so that the first of two copies stays.
            chosen = max(enumerate(candidates), key=lambda each: (each[1].redundancy or 0.0, each[0]))[1]
            gone.append(chosen)
            staying.remove(chosen.teacher)
            advance(1)
        return gone

    def _loss(self, name: str, staying: Sequence[str]) -> Replicates | None:
        whole = self._ensembles.quality(staying)
        rest = self._ensembles.quality([each for each in staying if each != name])
        return None if whole is None or rest is None else whole - rest

    def _left_out(
        self, name: str, staying: Sequence[str], loss: Replicates | None, *, tied: bool
    ) -> LeaveOut:
        redundancies = [mixture.redundancy(name, staying) for mixture in self._mixtures.values()]
        known = [each for each in redundancies if each is not None]
        interval = None if loss is None else estimate(loss, patients=2, level=self._level)
        return LeaveOut(
            teacher=name,
            of=len(staying),
            loss=interval.value if interval else None,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            redundancy=float(np.mean([each.explained for each in known])) if known else None,
            nearest=_nearest(known),
            tied=tied,
        )


def _nearest(known: Sequence[Redundancy]) -> str | None:
    return max(known, key=lambda each: each.cka).nearest if known else None


def _tied(losses: Mapping[str, Replicates | None]) -> set[str]:
    """Teachers whose loss is within one standard error of the smallest; all where none is known."""
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if not known:
        return set(losses)
    least = min(known.values(), key=lambda loss: loss[0])
    gaps = {name: loss - least for name, loss in known.items()}
    return {name for name, gap in gaps.items() if gap[0] <= np.nanstd(gap[1:]) + _SMALL}
