"""Every metric, once: its name in records, the group it stands in, its heading, unit and direction. No torch.

Tables, figures and the page lay columns out in this order; suites ask for groups or single columns by these names; the
scorer finds what computes a column by `evaluator`. A metric of your own is one line here, its `Metric` class and the
function that the class calls (see CONTRIBUTING).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from featvis.errors import UserError, nearest

CLASSES = 1000
"""Of ImageNet, which judges know where the definition of their column says no other number."""


@dataclass(frozen=True)
class Column:
    """One metric.

    Attributes:
        name: in records; `{network}` or `{layer}` stands for what one column a network or layer has there.
        group: the columns it stands with.
        heading: without the arrow; `{network}` as in `name`.
        higher_is_better: the direction.
        unit: in words.
        percent: records keep a fraction, and people read percent.
        share: it counts images, so that one image more or less is what rounding can do to it.
        evaluator: the module of `benchmark.scoring.evaluators` that computes it in a suite; empty: only the study that
            it is of does.
        metric: for the evaluator `metric`: the import path of a class like those of `featvis.metrics`, made without
            arguments.
        reads: for the evaluator `metric`: what its `update` is given, in order (`benchmark.scoring.evaluators.metric`).
    """

    name: str
    group: str
    heading: str
    higher_is_better: bool
    unit: str
    percent: bool = False
    share: bool = False
    evaluator: str = ""
    metric: str = ""
    reads: tuple[str, ...] = field(default=())

    def fits(self, name: str) -> bool:
        """Whether a measurement of this name is of this column."""
        pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(self.name))
        return re.fullmatch(pattern, name) is not None


_ACTIVATIONS = "distance between activations of the target network, no unit"
_SETS = "squared distance between feature distributions, no unit"
_IMAGES = "% of the images"
THE_TARGET, SAME_FAMILY = ", the target", ", same family"
"""Ends of a heading: the column is the target's own, or of a network of its family, which is no neutral judge."""


def unmarked(label: str) -> str:
    """A heading for several tables, of which one's target judges in another.

    Example:
        >>> from benchmark.records.columns import unmarked
        >>> unmarked("Top-1, resnet18, the target")
        'Top-1, resnet18'
    """
    return label.removesuffix(THE_TARGET).removesuffix(SAME_FAMILY)


COLUMNS: tuple[Column, ...] = (
    Column("plausibility", "plausibility", "Plausibility", False, "1 - cosine, 0 to 2", evaluator="plausibility"),
    Column(
        "plausibility_flat", "plausibility", "Plausibility, raw flat", False, _ACTIVATIONS, evaluator="plausibility"
    ),
    Column(
        "plausibility_pooled", "plausibility", "Plausibility, raw pooled", False, _ACTIVATIONS,
        evaluator="plausibility",
    ),
    Column(
        "plausibility_deep_knn", "plausibility", "Plausibility, Deep-KNN", False, _ACTIVATIONS, evaluator="plausibility"
    ),
    Column("fid", "fid", "FID", False, _SETS, evaluator="frechet"),
    Column("kid", "fid", "KID", False, _SETS, evaluator="frechet"),
    Column("fd_dinov2", "dinov2", "FD, DINOv2", False, _SETS, evaluator="dinov2"),
    Column("kd_dinov2", "dinov2", "KD, DINOv2", False, _SETS, evaluator="dinov2"),
    Column("cmmd", "cmmd", "CMMD", False, f"1000 times a {_SETS}", evaluator="clip"),
    Column("frechet_{network}", "frechet", "Fréchet, {network}", False, _SETS, evaluator="frechet"),
    Column("kernel_{network}", "frechet", "Kernel, {network}", False, _SETS, evaluator="frechet"),
    Column(
        "sphere_{network}", "sphere", "Kernel on the sphere, {network}", False,
        "squared distance between distributions of directions, no unit", evaluator="sphere",
    ),
    Column(
        "top1_{network}", "transferability", "Top-1, {network}", True, _IMAGES, percent=True, share=True,
        evaluator="transferability",
    ),
    Column("clip_top1", "clip", "Top-1, CLIP", True, _IMAGES, percent=True, share=True, evaluator="clip"),
    Column("clip_top5", "clip", "Top-5, CLIP", True, _IMAGES, percent=True, share=True, evaluator="clip"),
    Column("logit", "logit", "Logit", True, "pre-softmax score", evaluator="logit"),
    Column(
        "spectrum_deviation", "spectrum", "Spectrum deviation", False, "difference of natural logarithms of magnitude",
        evaluator="spectrum",
    ),
    Column(
        "identification_{network}", "identification", "Identification, {network}", True, "AUC, chance is .5",
        evaluator="units",
    ),
    Column("afc_easy_{network}", "afc", "2AFC, easy, {network}", True, "AUC, chance is .5", evaluator="units"),
    Column("afc_hard_{network}", "afc", "2AFC, hard, {network}", True, "AUC, chance is .5", evaluator="units"),
    Column(
        "afc_graded_{network}", "afc", "2AFC, graded, {network}", True, "probability of the right choice",
        evaluator="units",
    ),
    Column(
        "excess_activation", "excess", "Excess activation", True, "1 is the strongest photograph, 0 the median",
        evaluator="units",
    ),
    Column("dead_share", "excess", "Dead", False, "fraction of the units", evaluator="units"),
    Column(
        "transfer_percentile_{network}", "percentile", "Percentile, {network}", True,
        "fraction of the real images of the class", evaluator="units",
    ),
    Column("diversity_{network}", "diversity", "Diversity, {network}", True, "cosine distance", evaluator="units"),
    # Of the studies: probe, invert, attack, concepts.
    Column("high_share", "spectrum", "Energy > Nyquist / 4", False, "fraction of the energy"),
    Column("pixel_correlation", "spectrum", "r with am_pixel", True, "correlation, -1 to 1"),
    Column("activation_{layer}", "activation", "{layer}", True, "activation of the layer"),
    Column("cosine_{layer}", "inversion", "cosine {layer}", True, "cosine, -1 to 1"),
    Column("success", "attack", "Success", True, _IMAGES, percent=True, share=True),
    Column("probability", "attack", "p(target)", True, _IMAGES, percent=True, share=True),
    Column("fooled", "attack", "Fooled", True, _IMAGES, percent=True, share=True),
    Column("clean_top1", "attack", "Top-1, clean", True, _IMAGES, percent=True, share=True),
    Column("success_{network}", "transfer", "Success, {network}", True, _IMAGES, share=True),
    Column("fooled_{network}", "transfer", "Fooled, {network}", True, _IMAGES, share=True),
    Column("linf", "perturbation", "L∞", False, "1, from black to white"),
    Column("tv", "perturbation", "TV", False, "1, from black to white"),
    Column("ssim", "perturbation", "SSIM", True, "none; 1 is the same"),
    Column("grid", "grid", "Grid, 16 px", False, "% of the variance", percent=True),
    Column("importance_{concept}", "concepts", "importance, concept {concept}", True, "share of the logit's variance"),
    Column("effect_{concept}", "concepts", "effect, concept {concept}", True, "logit"),
    Column("error", "concepts", "error", False, "fraction of the norm"),
    Column("explained", "concepts", "explained", True, "fraction of the variance"),
    Column("logit_rebuilt", "concepts", "logit, rebuilt", True, "pre-softmax score"),
)  # fmt: skip


def column_of(name: str) -> Column | None:
    """The column of a measurement's name; None for one that is not here (a record of another version).

    Example:
        >>> column_of("top1_vgg16.tv_in1k").heading
        'Top-1, {network}'
    """
    exact = next((c for c in COLUMNS if c.name == name), None)
    return exact or next((c for c in COLUMNS if c.fits(name)), None)


def groups() -> list[str]:
    """The groups in the order of the columns."""
    return list(dict.fromkeys(c.group for c in COLUMNS))


def percent_groups() -> frozenset[str]:
    """Groups that records keep as fractions and people read in percent."""
    return frozenset(c.group for c in COLUMNS if c.percent)


def share_groups() -> frozenset[str]:
    """Groups that count images."""
    return frozenset(c.group for c in COLUMNS if c.share)


def scored_groups() -> list[str]:
    """The groups that a suite may ask for; `frechet` includes FID and KID."""
    return list(dict.fromkeys(c.evaluator if c.evaluator != "metric" else c.group for c in COLUMNS if c.evaluator))


def wanted(names: Iterable[str]) -> list[Column]:
    """The columns of groups and single metrics that a suite asks for; nothing: all that suites have."""
    asked = set(names)
    scored = [c for c in COLUMNS if c.evaluator]
    return [c for c in scored if not asked or asked & {c.name, c.group, c.evaluator}]


def scores_units(names: Iterable[str] | None) -> bool:
    """Whether scores of units are among what a suite asks for: then natural images that excite them are a row."""
    return any(c.evaluator == "units" for c in wanted(names or ()))


def check(names: Iterable[str], where: str) -> None:
    """Raise a UserError for a name that is no group and no column, with the nearest ones.

    Args:
        names: as a suite or `--metrics` has them.
        where: the option or the file and key, for the message.
    """
    known = [*scored_groups(), *(c.name for c in COLUMNS if c.evaluator and "{" not in c.name)]
    for name in names:
        if name not in known:
            raise UserError(f"{where} {name}: there is no such metric; {nearest(name, known)}")
