"""What a sample that grows until a question is answered does not support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from frechet._internal.fields import name_option
from frechet.errors import RequestError
from frechet.evaluation.addresses import Input
from frechet.evaluation.plan import has_frechet_interval
from frechet.evaluation.request import ScoreRequest
from frechet.evaluation.sampling import have_equal_names, uses_pairs
from frechet.execution.growing_sample import GrowingFeatures, GrowingImages, GrowingSample
from frechet.images.sources.generator import GeneratorSource
from frechet.statistics.feature_statistics import FeatureStatistics


def require_supported_options(request: ScoreRequest) -> None:
    """Reject what has no interval that holds at every look, or needs a number of images that is known beforehand.

    Raises:
        RequestError: names the first option that is not supported.
    """
    _require_one_distance(request.metric_names)
    given = {
        "num_images": request.num_images is not None,
        "protocol": request.protocol is not None,
        "interval": request.interval == "none",
        "explain": request.explain > 0,
        "per_class": request.per_class,
        "repeat": request.repeat != 1,
        "strata": request.strata is not None,
        "design": uses_pairs(request),
    }
    for name in (name for name, is_given in given.items() if is_given):
        value = getattr(request, name)
        shown = f" {value!r}" if isinstance(value, (str, int)) else ""  # not the entries of an array
        raise RequestError(
            f"a sample that grows until a question is answered does not support {name_option(name)}{shown}; leave it out"
            + (" and pass --max-images" if name == "num_images" else "")
        )
    if request.reference is None:
        raise RequestError(
            "sampling until a question is answered needs the distance to a reference, and none is given; pass reference images "
            "or statistics"
        )


def _require_one_distance(names: Sequence[str] | None) -> None:
    """Require one metric, whose interval is that of a Fréchet distance; None is the default, which is one."""
    if names is None or (len(names) == 1 and has_frechet_interval(names[0])):
        return
    raise RequestError(
        f"{name_option('metrics')} is {', '.join(names)}; expected one Fréchet distance, such as fid or fd, whose interval holds at every look. Leave "
        "it out for the default."
    )


def require_supported_designs(request: ScoreRequest, models: Sequence[Input], reference: Input) -> None:
    """Reject sampling designs for which the interval of a part of a sample would not hold.

    Args:
        request: its `reference_is` and `design`.
        models: the samples that grow.
        reference: what they are compared with.

    Raises:
        RequestError: a model is stratified, so that a random part of it is not, or consists of pairs with the images of a sampled
            reference, whose errors are not independent.
    """
    for each in models:
        if isinstance(each, FeatureStatistics) and each.grouped_by == "stratum":
            raise RequestError(
                f"{each.label} contains statistics of stratified images, and a random part of these is not stratified; expected "
                "independent images or clusters. Pass the images or features themselves, or collect them without --strata (strata=)."
            )
        if request.reference_is == "sample" and _are_pairs(each, reference, request.design):
            raise RequestError(
                f"{each.label} and the reference {reference.label} consist of pairs, and {name_option('reference_is')} is 'sample'; expected inputs "
                "that are independent of each other. Pass 'fixed' or, if the images are independent, "
                "statistics of the reference that were collected without --design paired (design=)."
            )


def _are_pairs(model: Input, reference: Input, design: str) -> bool:
    """Return whether both inputs were collected as pairs, or consist of images whose equal names show pairs."""
    if isinstance(model, FeatureStatistics) and isinstance(reference, FeatureStatistics):
        return model.grouped_by == reference.grouped_by == "pair"
    if isinstance(model, FeatureStatistics) or isinstance(reference, FeatureStatistics):
        return False
    return design == "auto" and have_equal_names({"generated": model, "reference": reference})


def require_paired_samples(samples: Mapping[str, GrowingSample], sizes: Mapping[str, int]) -> None:
    """Require that image i of each model can have been generated from the same latent.

    Args:
        samples: by name of the model.
        sizes: number of images that each model has.

    Raises:
        RequestError: the models have different numbers of images, or their images are not taken in the same order.
    """
    found = ""
    if len(set(map(_is_generated, samples.values()))) > 1:
        kinds = (f"{name}: {'a function' if _is_generated(each) else 'images'}" for name, each in samples.items())
        found = f"{', '.join(kinds)}, which are taken in different orders"
    elif len(set(sizes.values())) > 1:
        found = ", ".join(f"{name}: {size:,}" for name, size in sizes.items())
    elif incomplete := next((name for name, each in samples.items() if _skips_images(each)), None):
        found = f"{incomplete} with --on-bad-image skip (on_bad_image=), which leaves out images"
    if found:
        raise RequestError(
            f"{name_option('paired_runs')} needs as many images of each model, of which image i belong together; got {found}. Leave it "
            "out, or pass the same number of images of each model, all in files or all from functions."
        )


def _is_generated(sample: GrowingSample) -> bool:
    if isinstance(sample, GrowingFeatures):
        return sample.function is not None
    return isinstance(sample, GrowingImages) and isinstance(sample.source, GeneratorSource)


def _skips_images(sample: GrowingSample) -> bool:
    """Return whether images may be skipped, which would shift the positions of later images."""
    if isinstance(sample, GrowingImages):
        return sample.settings.on_bad_image == "skip"
    return isinstance(sample, GrowingFeatures) and bool(sample.data.skipped_images)
