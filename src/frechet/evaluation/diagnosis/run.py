"""Find out which preprocessing, crop, rounding, order and number of images give a reported value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from frechet._internal.fields import takes_fields_of
from frechet.errors import RequestError
from frechet.evaluation.diagnosis.axes import Combination, Variant
from frechet.evaluation.diagnosis.extract import VariantFeatures, extract_variants
from frechet.evaluation.diagnosis.grid import Grid, select_matching
from frechet.evaluation.diagnosis.prepare import load_networks
from frechet.evaluation.diagnosis.quick import can_match, select_subset
from frechet.evaluation.diagnosis.request import DiagnoseRequest
from frechet.evaluation.diagnosis.result import Diagnosis, explain_difference, rank_combinations
from frechet.evaluation.diagnosis.task import Task, open_task
from frechet.evaluation.inputs import require_compatible
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec
from frechet.images.fast_decoders import describe_decoders
from frechet.images.image import ImageSource
from frechet.metrics import make_label
from frechet.statistics.feature_statistics import FeatureStatistics
from frechet.version import __version__

Networks = Mapping[str, LoadedExtractor]


@takes_fields_of(DiagnoseRequest)
def diagnose(request: DiagnoseRequest) -> Diagnosis:
    """Find the settings that give a reported value: which preprocessing, crop, rounding, order and number of images.

    Every combination that applies to the inputs is computed. Each image is decoded once, and the network runs once per distinct
    input: crops that do not change an image, and roundings that agree on it, cost nothing.

    Args:
        generated: images as in `frechet.score`, or floating-point images (n, h, w, 3): an array or an .npy file.
        reference: images or statistics; None if the metric uses no reference.
        claimed: the reported value. A combination gives it if its value rounds to it; pass text ("2.070") to keep trailing zeros.
        metric: name of the metric, optionally with "@" and a preset; by default the Fréchet distance.
        counts: numbers of generated images to try in addition to all of them; by default those that papers use.
        quick: whether combinations that cannot give the value are dropped after a pass over a seeded subset.
        value_range: the values (black, white) of floating-point images.
        preprocessing, crop: the baseline, relative to which effects are computed; by default that of `frechet.score`.
        size: height and width of the crops in pixels; by default those of the generated images, if they are square.
        progress: called with (stage, done, total).
        extractor, dims, weights, ...: see `frechet.execution.settings.Settings`.

    Returns:
        The combinations that give the value, those that come close, and the settings that explain the difference.

    Raises:
        RequestError: the generated images are statistics, the value is missing or NaN, or another argument is invalid.
        RunError: an image could not be decoded, or the network returned NaN or infinity.

    Examples:
        >>> import numpy as np, frechet
        >>> x = np.random.default_rng(0).integers(0, 256, (2, 20, 32, 32, 3)).astype("uint8")
        >>> diagnosis = frechet.diagnose(*x, claimed=2.07, extractor="efficientnet-lite0")
        >>> diagnosis.verdict
        'none'
    """
    task = open_task(request)
    networks = load_networks(task.settings, task.axes.preprocessings, task.extra_layers, request.progress)
    reference = _forget_preprocessing(task.reference, next(iter(networks.values())))
    run = _Run(task=task, networks=networks, reference=reference, request=request)
    combinations = list(task.axes)
    estimates, kept = run.drop_impossible(combinations) if request.quick else ({}, combinations)
    grid = run.extract(kept)
    values, failed = grid.compute(kept, request.progress)
    if task.baseline not in values:
        raise RequestError(next(iter(failed.values())))
    return run.conclude(grid, values, failed, estimates, len(combinations) - len(kept))


def _forget_preprocessing(reference: Any, extractor: LoadedExtractor) -> Any:
    """Return the reference; its preprocessing, if it is statistics, may differ from that of the generated images.

    Raises:
        MismatchError: it is statistics of other features.
    """
    if not isinstance(reference, FeatureStatistics):
        return reference
    reference = replace(reference, spec=replace(reference.spec, preprocessing=None))
    if reference.spec.layer in (None, extractor.spec.layer):
        require_compatible(reference, "reference", extractor)
    return reference


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The steps of a diagnosis.

    Attributes:
        task: what is varied.
        networks: the network of each preprocessing.
        reference: as in `task`, without the preprocessing of statistics.
        request: what was asked for.
    """

    task: Task
    networks: Networks
    reference: ImageSource | FeatureStatistics | None
    request: DiagnoseRequest

    def extract(self, combinations: Sequence[Combination], *, is_quick: bool = False) -> Grid:
        """Compute the features of the variants that these combinations need; of a subset of the images in a quick run."""
        extractor = next(iter(self.networks.values()))
        generated = list(dict.fromkeys(each.generated for each in combinations))
        reference = list(dict.fromkeys(each.reference for each in combinations))
        return Grid(
            metric=self.task.metric,
            generated=self._extract_one(self.task.generated, generated, "generated", is_quick=is_quick),
            reference=self._extract_one(self.reference, reference, "reference", is_quick=is_quick)
            if isinstance(self.reference, ImageSource)
            else self.reference,
            spec=self._spec,
            seed=self.task.settings.seed,
            device=extractor.device,
        )

    def _extract_one(
        self, source: ImageSource, variants: Sequence[Variant], name: str, *, is_quick: bool
    ) -> VariantFeatures:
        used = {each.preprocessing for each in variants}
        return extract_variants(
            source,
            select_subset(len(source), self.task.settings.seed) if is_quick else range(len(source)),
            variants,
            {name: loaded for name, loaded in self.networks.items() if name in used},
            self.task.settings,
            layer=self.task.metric.metric.layer,
            progress=self.request.progress,
            stage=f"{name}, subset" if is_quick else name,
        )

    @property
    def _spec(self) -> FeatureSpec:
        """What identifies the features of all variants."""
        layer = self.task.metric.metric.layer
        extractor = next(iter(self.networks.values()))
        spec = extractor.extra_layers[layer].spec if layer in extractor.extra_layers else extractor.spec
        return replace(spec, preprocessing=None)

    def drop_impossible(
        self, combinations: Sequence[Combination]
    ) -> tuple[dict[Combination, float], list[Combination]]:
        """Return the scores of a subset of the images, and the combinations that may give the claimed value.

        The baseline is always kept, and so are numbers of images below that of the subset, whose scores may be larger.
        """
        grid = self.extract(combinations, is_quick=True)
        whole = [each for each in combinations if each.num_images is None]
        estimates, _ = grid.compute(whole, self.request.progress)
        n, d = grid.generated.rows[0].shape
        possible = select_matching(grid, whole, estimates, partial(can_match, self.request.claim, n / d))
        pairs = {(each.generated, each.reference) for each in possible}
        kept = [
            each
            for each in combinations
            if each == self.task.baseline
            or (each.generated, each.reference) in pairs
            or (each.num_images or grid.generated.n) < grid.generated.n
        ]
        return estimates, kept

    def conclude(
        self,
        grid: Grid,
        values: Mapping[Combination, float],
        failed: Mapping[str, str],
        estimates: Mapping[Combination, float],
        n_dropped: int,
    ) -> Diagnosis:
        """Rank the combinations, and explain how the first of them differs from the baseline."""
        task, claim = self.task, self.request.claim
        ranked = rank_combinations(values, {each: grid.classify(each) for each in values}, task.baseline, claim)
        effects, interaction = explain_difference(ranked[0][0], task.baseline, values, estimates)
        sides = [each for each in (grid.generated, grid.reference) if isinstance(each, VariantFeatures)]
        return Diagnosis(
            metric=task.metric.key,
            label=make_label(task.metric.key, self._spec, grid.generated.rows[0].shape[1]),
            claimed=claim.value,
            tolerance=claim.tolerance,
            baseline=next(score for combination, score in ranked if combination == task.baseline),
            combinations=tuple(score for _, score in ranked),
            effects=effects,
            interaction=interaction,
            n_combinations=len(list(task.axes)),
            n_dropped=n_dropped,
            n_images=sum(each.n for each in sides),
            n_inputs=sum(each.n_inputs for each in sides),
            not_varied=(*task.not_varied, *(f"{count} images: {reason}" for count, reason in failed.items())),
            skipped_images=tuple(label for each in sides for label in each.skipped_images),
            provenance=self._describe(),
        )

    def _describe(self) -> dict[str, Any]:
        """Return what is needed to repeat the diagnosis, as plain JSON values."""
        extractor = next(iter(self.networks.values()))
        return {
            "frechet": __version__,
            **asdict(self._spec),
            "backend": extractor.backend,
            "device": extractor.device,
            "decoders": describe_decoders(),
            "seed": self.task.settings.seed,
            "generated": self.task.generated.label,
            "reference": None if self.task.reference is None else self.task.reference.label,
        }
