"""Distillation of embeddings: the student against what its teachers say of the same rows."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import cast, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from meddistill.balancing.balance import balance
from meddistill.balancing.build import build_weighting
from meddistill.balancing.reduce import quotient
from meddistill.balancing.selection import build_selection
from meddistill.data.draws import derive_seed
from meddistill.errors import ConfigError, TeacherError
from meddistill.features.projections.config import JointPCAConfig, LearnedHeadConfig
from meddistill.methods.base import Method, TeacherSpace
from meddistill.methods.by_teacher import ByTeacher
from meddistill.methods.config import EmbeddingConfig
from meddistill.methods.contrastive import StudentTerms
from meddistill.methods.mixing import mixed_rows
from meddistill.methods.rescale import EqualGradient, rescaled
from meddistill.methods.spaces import Spaces, has_one_dim
from meddistill.methods.step import StepLoss
from meddistill.methods.teacher_losses import queries, unmet_by_weighting
from meddistill.objectives.base import Objective, RowContext, normalized
from meddistill.objectives.needs import ObjectiveOptions
from meddistill.objectives.registry import (
    STUDENT_OBJECTIVES,
    TEACHER_OBJECTIVES,
    Layers,
    build_student_objective,
    build_teacher_objective,
)
from meddistill.records import RowLosses, StudentOutputs, TeacherOutputs

PerTeacher = Mapping[str, TeacherOutputs]


@final
class EmbeddingMethod(Method):
    """L = Σ_o λ_o · [Σ_t W_ot·L_ot / Σ_t W_ot] + Σ_own λ·L_own,

        L_ot = Σ_b w_bt·ℓ_obt / Σ_b |w_bt|·n_obt,    W_ot = Σ_b |w_bt|·[n_obt > 0].

    Selection picks the teachers of each row; each objective o sees those rows of each teacher t alone and
    returns loss ℓ and denominator n, both 0 for rows of which the teacher lacks what it needs; weighting
    gives w, as a rule with Σ_t w_bt = 1 over the teachers of which an objective counts the row;
    `balancing.reduce` is the one reduction. `min_norm` and torchjd's rules weigh teachers
    and not rows: W_ot = Σ_b |w_bt|.

    With random draw, {contrastive: 1, feature_mse: 50, interactive_contrastive: 1} and the projection
    `linear_autoencoder` this is stage 2 of MMKD-CLIP, but for normalised targets, negatives from the same
    teacher only, and λ of feature objectives rescaled as `EqualGradient` says; each is an option.

    `Spaces` says where the student meets each teacher. Without another projection it is the teacher's own
    space, and one linear head per teacher, shared by image and text, leads there from the student's.
    """

    def __init__(
        self,
        config: EmbeddingConfig,
        *,
        student_dim: int,
        teachers: Mapping[str, TeacherSpace],
        seed: int,
        groups: int = 1,
    ) -> None:
        """`groups`: of rows, where the weighting tells them apart.

        Raises ConfigError with everything that the teachers lack for `config`.
        """
        super().__init__()
        check(config, teachers)
        dims = {name: space.dims["image"] for name, space in teachers.items() if "image" in space.dims}
        self.weighting = build_weighting(
            config.weighting, teachers=tuple(teachers), groups=groups, image_dims=dims, seed=seed
        )
        teachers = {name: teachers[name] for name in config.weighted_teachers(teachers)}
        self.teachers = tuple(teachers)
        chosen = config.resolved_objectives(statistics=any(each.statistics for each in teachers.values()))
        self.weights = {name: options.weight for name, options in chosen.items()}
        self.selection = build_selection(config.selection)
        self.mixing = frozenset(name for name, options in chosen.items() if options.mixes_teachers)
        self.passes = {name: hidden for options in chosen.values() for name, hidden in options.passes.items()}
        here = partial(Spaces, student_dim=student_dim, teachers=_compared(config, teachers), seed=seed)
        self.spaces = here(config.projection)
        self.rescale = EqualGradient(rescaled(config), reference=partial(here, LearnedHeadConfig()))
        self.terms = StudentTerms(
            {
                name: build_student_objective(name, chosen[name])
                for name in chosen
                if name in STUDENT_OBJECTIVES
            }
        )
        layers = partial(Layers, student_dim=student_dim)
        self.objectives = nn.ModuleDict(
            {
                name: ByTeacher(
                    {
                        teacher: self._against(
                            teacher,
                            space,
                            name=name,
                            options=options.of_teacher(teacher),
                            layers=layers(teacher_dim=space.dim, seed=derive_seed(name, seed, teacher)),
                        )
                        for teacher, space in teachers.items()
                    }
                )
                for name, options in chosen.items()
                if name in TEACHER_OBJECTIVES
            }
        )

    def _against(
        self, teacher: str, space: TeacherSpace, *, name: str, options: ObjectiveOptions, layers: Layers
    ) -> Objective:
        """One objective against one teacher; the bank goes where the teacher's outputs go."""
        bank = None if options.needs_bank is None else space.banks[options.needs_bank]
        return build_teacher_objective(
            name,
            options,
            layers=layers,
            statistics=space.statistics,
            bank=None if bank is None else self.spaces.vectors(teacher, bank),
            space_dim=self.spaces.dims.get(teacher),
        )

    def loss(
        self,
        student: StudentOutputs,
        teachers: PerTeacher,
        *,
        positives: Bool[Tensor, "batch batch"],
        generator: torch.Generator,
    ) -> StepLoss:
        """The loss over the global batch. Raises TeacherError where a teacher's outputs are missing."""
        refuse_missing(self.teachers, teachers)
        available = torch.stack([teachers[name].available for name in self.teachers], dim=1)
        selected = self.selection.select(available, generator)
        self._measure(student, teachers, selected=selected, positives=positives)
        projected = {name: self.spaces.student(name, student) for name in self.heads}
        targets = {name: self.spaces.target(name, teachers[name]) for name in self.heads}
        losses = {
            name: self._rows(
                name,
                student=student,
                projected=projected,
                teachers=teachers,
                targets=targets,
                selected=selected,
                positives=positives,
            )
            for name in self.objectives
        }
        factors = {name: self.weights[name] * self.rescale.factor(name) for name in self.weights}
        balanced = balance(
            losses,
            factors=factors,
            rules=(self.selection, self.weighting),
            selected=selected,
            generator=generator,
            student=student,
            queries=queries([teachers[name] for name in self.teachers], selected, positives),
        )
        parts = {**balanced.parts, **self.terms(student, positives)}
        total = torch.stack([factors[name] * part for name, part in parts.items()]).sum()
        if balanced.own_loss is not None:
            parts["weighting"] = balanced.own_loss
            total = total + balanced.own_loss
        agreements = self._agreements(projected, targets)
        nothing = torch.zeros_like(balanced.teacher_losses)
        return StepLoss(
            total=total,
            parts={name: part.detach() for name, part in parts.items()},
            teacher_losses=balanced.teacher_losses,
            teacher_weights=balanced.teacher_weights,
            agreement=torch.stack(agreements) if agreements else nothing,
            agreement_rows=available.sum(dim=0).to(nothing.dtype) if agreements else nothing,
            reported=balanced.reported,
        )

    @property
    def heads(self) -> ByTeacher:
        """What leads from the student's space to each teacher's; none where no objective compares there."""
        return self.spaces.heads

    def _agreements(self, projected: Mapping[str, StudentOutputs], targets: PerTeacher) -> list[Tensor]:
        return [
            agreement(each, targets[name], objective=self.leading_objective(name))
            for name, each in projected.items()
        ]

    def leading_objective(self, teacher: str) -> Objective:
        """Of the objectives that compare in the teacher's space, the one of the largest weight."""
        name = max(_in_teachers_space(self.weights), key=self.weights.__getitem__)
        return cast("Objective", cast("ByTeacher", self.objectives[name])[teacher])

    def _measure(
        self,
        student: StudentOutputs,
        teachers: PerTeacher,
        *,
        selected: Bool[Tensor, "batch teachers"],
        positives: Bool[Tensor, "batch batch"],
    ) -> None:
        compared = cast("Mapping[str, Mapping[str, Objective]]", self.objectives)
        asked = {name: teachers[name] for name in self.teachers}
        self.rescale.measure(
            self.spaces, compared, student, teachers=asked, selected=selected, positives=positives
        )

    def _rows(
        self,
        name: str,
        *,
        student: StudentOutputs,
        projected: Mapping[str, StudentOutputs],
        teachers: PerTeacher,
        targets: PerTeacher,
        selected: Bool[Tensor, "batch teachers"],
        positives: Bool[Tensor, "batch batch"],
    ) -> dict[str, RowLosses]:
        """One objective's losses per row, by teacher.

        In the teacher's space it is given `projected` and `targets`, else both sides as they are.
        """
        objectives = cast("ByTeacher", self.objectives[name])
        compared = [cast("Objective", objectives[teacher]) for teacher in self.teachers]
        columns = selected.unbind(dim=1)
        if name in self.mixing:
            mixed = mixed_rows(
                selected,
                projected=[projected[name] for name in self.teachers],
                teachers=[targets[name] for name in self.teachers],
            )
            rows = compared[0](mixed.student, mixed.teacher, RowContext(mask=mixed.mask, positives=positives))
            return {
                name: RowLosses(total=rows.total * keep, count=rows.count * keep)
                for name, keep in zip(self.teachers, columns, strict=True)
            }
        return {
            name: objective(
                student if objective.space == "own" else projected[name],
                teachers[name] if objective.space == "own" else targets[name],
                RowContext(mask=keep, positives=positives),
            )
            for name, objective, keep in zip(self.teachers, compared, columns, strict=True)
        }


def missing_of_teachers(config: EmbeddingConfig, teachers: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for everything that the teachers, looked at without their outputs, lack for `config`.

    Nothing is asked of those of weight 0.
    """
    teachers = {name: teachers[name] for name in config.weighted_teachers(teachers)}
    mistakes = config.unmet_signals({name: space.towers for name, space in teachers.items()})
    mistakes += [
        f"teacher `{name}` must have image and text embeddings of one dim; got {space.dims['image']} and "
        f"{space.dims['text']}. Use the outputs after its projections."
        for name, space in teachers.items()
        if len(space.towers) == 2 and space.dims["image"] != space.dims["text"]
    ]
    mistakes += [
        f"teacher `{name}` must have a logit scale for {objective}; got none. "
        f"Leave the teacher out, or {options.remedy('logit_scale')}."
        for objective, options in config.chosen.items()
        if options.needs_logit_scale
        for name, space in teachers.items()
        if space.logit_scale is None and options.requires <= space.towers
    ]
    mistakes += [
        f"`objectives.{objective}.{key}` must have a value for every teacher; got none for {name}. Add it."
        for objective, options in config.chosen.items()
        for key, values in options.given_by_teacher.items()
        for name in teachers
        if name not in values
    ]
    return mistakes + _unmixable(config, teachers) + unmet_by_weighting(config.weighting, teachers)


def _unmixable(config: EmbeddingConfig, teachers: Mapping[str, TeacherSpace]) -> list[str]:
    """One line for everything that keeps the teachers of a batch's rows from standing in one softmax."""
    mixing = [name for name, options in config.chosen.items() if options.mixes_teachers]
    if not mixing or isinstance(config.projection, JointPCAConfig):
        return []
    mistakes, remedy = [], config.chosen[mixing[0]].remedy("mixed_teachers")
    if not config.draws_one:
        mistakes.append(
            f"`selection` must draw one teacher a row for {mixing[0]}, which mixes the teachers of the "
            f"rows; got {config.selection.kind}. Use random_draw, or {remedy}."
        )
    dims = {name: space.dim for name, space in teachers.items() if space.towers}
    if len(set(dims.values())) > 1 and not has_one_dim(config.projection):
        got = ", ".join(f"{name} {dim}" for name, dim in dims.items())
        mistakes.append(
            f"`teachers` must have embeddings of one dim for {mixing[0]}, which "
            f"mixes the teachers of the rows; got {got}. Choose the projection linear_autoencoder or pca, or "
            f"{remedy}."
        )
    return mistakes


def _compared(config: EmbeddingConfig, teachers: Mapping[str, TeacherSpace]) -> Mapping[str, TeacherSpace]:
    """The teachers in whose space an objective looks at the student: heads to others would not be trained."""
    return teachers if _in_teachers_space(config.chosen) else {}


def _in_teachers_space(objectives: Iterable[str]) -> list[str]:
    return [
        name
        for name in objectives
        if name in TEACHER_OBJECTIVES and TEACHER_OBJECTIVES[name].space == "teacher"
    ]


def check(config: EmbeddingConfig, teachers: Mapping[str, TeacherSpace]) -> None:
    """Raise ConfigError with everything that the teachers lack for `config`."""
    mistakes = [] if teachers else ["`teachers` must name at least one for method embedding; got none."]
    mistakes += missing_of_teachers(config, teachers)
    mistakes += [
        f"teacher `{name}` must come with its features of the bank {bank}, each of its "
        f"{teachers[name].dims.get('text')} numbers; got {'none' if given is None else list(given.shape)}. "
        "Give them as `banks` of its space."
        for name in config.weighted_teachers(teachers)
        for bank in config.banks
        if (given := teachers[name].banks.get(bank)) is None
        or given.shape[1:] != (teachers[name].dims.get("text"),)
    ]
    if mistakes:
        subject = "method embedding"
        raise ConfigError(subject, mistakes)


def refuse_missing(names: Sequence[str], teachers: PerTeacher) -> None:
    """Raise TeacherError where outputs of a teacher are missing."""
    absent = [name for name in names if name not in teachers]
    if absent:
        got = ", ".join(teachers) or "none"
        msg = f"`teachers` must have the outputs of {', '.join(absent)}; got {got}."
        raise TeacherError(msg)


@torch.no_grad()
def agreement(student: StudentOutputs, teacher: TeacherOutputs, *, objective: Objective) -> Float[Tensor, ""]:
    """Mean over the available rows of the mean cosine over the towers that the teacher has of the row.

    The cosine of what the `objective` compares, of whole images; where it measures a distance, 1 says that it
    has nothing left to teach.
    """
    pairs = objective.compared(student, teacher, teacher.available)
    cosines = [(normalized(pair.ours) * normalized(pair.target)).sum(dim=-1) * pair.mask for pair in pairs]
    towers = torch.stack([pair.mask for pair in pairs]).sum(dim=0)
    return quotient(quotient(torch.stack(cosines).sum(dim=0), towers).sum(), teacher.available.sum())
