"""The Fréchet distance of a large population of generated images as a loss of small batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from frechet._internal.fields import list_keywords, validate_keywords
from frechet.errors import RequestError
from frechet.features.registry import DEFAULT_EXTRACTOR
from frechet.losses.population_settings import PopulationSettings
from frechet.losses.torch_features import ImageFeatures
from frechet.losses.torch_loss import FeatureLoss
from frechet.losses.torch_memory import make_memory
from frechet.losses.torch_population import PopulationDistance
from frechet.losses.torch_reference import (
    Reference,
    collect_reference_statistics,
    fit_torch_gaussian,
    load_torch_reference,
)
from frechet.losses.validation import validate_weight

_SMALLEST_DIVISOR = 1e-6  # of the variance of the reference


class FDLoss(FeatureLoss):
    """Fréchet distance between a population of generated images and a reference, as a function of the present batch.

    A distance of 1,024 images to a reference is dominated by the bias of few images. Here, the features of earlier batches stay
    in the population. They carry no gradient; the gradient with respect to the batch is exact for the distance of the
    population in which the batch has replaced the oldest part. In training mode each call adds its batch to the
    population; in evaluation mode nothing changes.

    Args:
        reference: the path or URL of a statistics file, ref:NAME, `frechet.Statistics`, or images (m, 3, h, w) as in `FIDLoss`; for several
            extractors, images or a sequence with one reference per extractor. Unless they are passed, the extractor, the layer
            and the preprocessing are those of the statistics.
        extractors: the name of an extractor, a function or torch.nn.Module, an `ImageFeatures`, or a sequence of them.
        population: number of images of the population, at least one batch.
        memory: "queue" for the last `population` images, or "ema" for an exponential moving average of their moments, which
            needs no rows.
        decay: factor of the weights of earlier batches in the moving average; None for 1 - n / population.
        normalise: divide the distance of each extractor by its value, which is treated as a constant, so that extractors
            with features of any scale contribute equally. The value of the loss is then the sum of the weights; see
            `distances`.
        refresh: number k of batches after which the transport map, which needs a decomposition, is computed again. With 1 the
            gradient is exact. With k, the map is that of up to k - 1 batches ago (see `staleness`). It is computed earlier if
            a quarter of the population is replaced, as while the population fills, or if the distance falls by half.
        weight: weight of each extractor in the loss, at least 0, or one number for all.
        gather: under `torch.distributed`, compute the loss of the images of all ranks together.
        batch_size: number of reference images per forward pass.
        **options: arguments of `ImageFeatures`.

    Raises:
        RequestError: a name is unknown, an argument is invalid, or the reference cannot be read.
        MismatchError: the reference has another extractor, layer, preprocessing, precision or other weights.
        WeightsError: the weights are missing or damaged.

    Attributes:
        distances: the squared distance of each extractor in the last call, tensors; to first order, from below, if the map is that
            of earlier batches.

    Examples:
        >>> loss = FDLoss(torch.rand(8, 3, 32, 32), extractors="efficientnet-lite0", population=12)
        >>> images = torch.rand(4, 3, 32, 32, requires_grad=True)
        >>> loss(images).backward()
        >>> images.grad.shape
        torch.Size([4, 3, 32, 32])
    """

    @torch.inference_mode(False)  # inference tensors could not take part in autograd later
    def __init__(
        self,
        reference: Reference | Sequence[Reference],
        *,
        extractors: Any = DEFAULT_EXTRACTOR,
        population: int = 50_000,
        memory: str = "queue",
        decay: float | None = None,
        normalise: bool = True,
        refresh: int = 1,
        weight: float | Sequence[float] = 1.0,
        gather: bool = True,
        batch_size: int = 32,
        **options: Any,
    ) -> None:
        known = [name for name in [*list_keywords(FDLoss), *list_keywords(ImageFeatures)] if name != "extractor"]
        validate_keywords(type(self).__name__, options, known, {"extractor": "extractors"})
        super().__init__()
        settings = PopulationSettings(size=population, memory=memory, decay=decay, refresh=refresh)
        self.gather, self.normalise = gather, normalise
        given = list(extractors) if isinstance(extractors, (list, tuple)) else [extractors]
        if not given:
            raise RequestError("extractors is empty; expected the name of an extractor, or several")
        references = _repeat(reference, len(given), "reference")
        weights = _repeat(weight, len(given), "weight")
        for each in weights:
            validate_weight("weight", each, 0)
        self.weight = tuple(map(float, weights))
        self.extractors = torch.nn.ModuleList()
        self.populations = torch.nn.ModuleList()
        for extractor, own_reference in zip(given, references, strict=True):
            network, gaussian = _load(extractor, own_reference, gather=gather, batch_size=batch_size, **options)
            self.extractors.append(network)
            self.populations.append(PopulationDistance(gaussian, make_memory(settings, network.dims), network.spec))
        self.distances: tuple[torch.Tensor, ...] = ()

    @property
    def device(self) -> torch.device:
        """Device of the networks' weights."""
        return self._networks[0].device

    @property
    def dims(self) -> int:
        """Number of features of all extractors together."""
        return sum(network.dims for network in self._networks)

    @property
    def staleness(self) -> tuple[float, ...]:
        """What the age of the map changed in the gradient, for each extractor.

        It is 1 - the cosine between the gradients of a batch with the map of earlier batches and with a new one, measured
        whenever the map is computed again: 0 if nothing changed, and NaN before it is computed for the second time.
        """
        return tuple(population.staleness for population in self._populations)

    def training_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features (n, d) of all extractors, next to each other."""
        return torch.cat([network.training_features(images) for network in self._networks], dim=1)

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """Compute the loss from the features (n, d) of all extractors, and add them to the population in training mode."""
        distances = [population(own) for population, own in zip(self._populations, self._split(features), strict=True)]
        self.distances = tuple(distance.detach() for distance in distances)
        if self.normalise:
            distances = [
                distance / distance.detach().clamp(min=_SMALLEST_DIVISOR * population.reference.trace)
                for population, distance in zip(self._populations, distances, strict=True)
            ]
        return torch.stack([weight * each for weight, each in zip(self.weight, distances, strict=True)]).sum()

    @torch.no_grad()
    def observe(self, images: torch.Tensor) -> None:
        """Add images to the population without computing a distance, e.g. to fill it before the first step.

        Args:
            images: (n, 3, h, w), as `forward` takes them; under `torch.distributed`, those of this rank.
        """
        features = self._gather_valid_features(self._compute_own_features(images))
        for population, own in zip(self._populations, self._split(features), strict=True):
            population.observe(own)

    def _split(self, features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return features.split([network.dims for network in self._networks], dim=1)

    @property
    def _networks(self) -> list[ImageFeatures]:
        return list(self.extractors)  # type: ignore[arg-type]

    @property
    def _populations(self) -> list[PopulationDistance]:
        return list(self.populations)  # type: ignore[arg-type]


def _load(extractor: Any, reference: Any, *, gather: bool, batch_size: int, **options: Any) -> Any:
    """Return the network and the Gaussian of the reference, which is validated before weights are loaded."""
    if not isinstance(extractor, ImageFeatures):
        reference, options = load_torch_reference(reference, extractor=extractor, batch_size=batch_size, **options)
        extractor = ImageFeatures(**options)
    elif options:
        raise RequestError(
            f"{', '.join(options)} was passed with an extractor that is an ImageFeatures; pass it to the ImageFeatures instead"
        )
    else:
        reference, _ = load_torch_reference(reference, **extractor.reference_options, batch_size=batch_size)
    statistics = collect_reference_statistics(extractor, reference, batch_size, gather=gather)
    return extractor, fit_torch_gaussian(statistics)


def _repeat(value: Any, count: int, name: str) -> list[Any]:
    """Return one value per extractor."""
    values = list(value) if isinstance(value, (list, tuple)) else count * [value]
    if len(values) != count:
        raise RequestError(
            f"{name} has {len(values)} entries for {count} extractors; pass one for each, or one for all"
        )
    return values
