"""How images were sampled: the part of a request that scores and stored statistics have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frechet._internal.choices import validate_choice
from frechet._internal.fields import name_option, option
from frechet._internal.home import expand_home
from frechet.errors import RequestError
from frechet.execution.settings import Settings

DESIGNS = ("auto", "independent", "paired")


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplingRequest(Settings):
    """How images become features, and how the images depend on each other.

    Attributes:
        design: how the images depend on each other: "independent"; "paired" if image i of both inputs belong together; "auto"
            for pairs if both inputs have equal names in the same order, otherwise for independent images of which exact
            duplicates form clusters.
        cluster_by: dependent images by their names: "folder", "stem" (the file name up to the last _ or -), or a CSV file with
            the columns name and cluster. It applies to both inputs. Images in one folder, or a reference without
            names, are treated as independent next to an input that has clusters.
        clusters: the cluster of each generated image, or a mapping with those of the "generated" and "reference" images.
        strata: for samples with a fixed number of images of each stratum, such as 50 of each class: "class" (see `per_class`;
            of each input that has classes), the stratum of each image, or a mapping like `clusters`.
    """

    design: str = option(
        "auto",
        "Dependence between images: auto, independent, or paired (image i of one input belongs to image i of the other).",
        metavar="NAME",
    )
    cluster_by: str | Path | None = option(
        None,
        "Group dependent images into clusters: by folder, by stem (file name up to the last _ or -), or by a CSV file with the "
        "columns name,cluster.",
        metavar="folder|stem|FILE",
    )
    clusters: Sequence[Any] | Mapping[str, Sequence[Any]] | None = None
    strata: str | Sequence[Any] | Mapping[str, Sequence[Any]] | None = option(
        None,
        "Stratified sampling: pass class if a fixed number of images was generated for each class.",
        metavar="class",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        validate_choice(self.design, DESIGNS, name_option("design"))
        if self.cluster_by is not None and self.clusters is not None:
            raise RequestError(
                f"{name_option('cluster_by')} and clusters= are both given, and each defines the clusters; pass only one of them"
            )
        if self.design == "paired" and (self.cluster_by is not None or self.clusters is not None):
            raise RequestError(
                f"{name_option('design')} is 'paired', but clusters are given; leave it out to use the clusters, or --cluster-by (cluster_by=, "
                "clusters=) to use the pairs"
            )
        self._require_valid_strata()

    def _require_valid_strata(self) -> None:
        if self.strata is None:
            return
        if isinstance(self.strata, str) and self.strata != "class":
            raise RequestError(
                f"{name_option('strata')} is {self.strata!r}; expected 'class', or in Python the stratum of each image"
            )
        for name in ("cluster_by", "clusters", "num_images"):
            if getattr(self, name) is not None:
                shown = "clusters=" if name == "clusters" else name_option(name)
                raise RequestError(
                    f"{name_option('strata')} and {shown} are both given, which is not supported; leave out one of them"
                )
        if self.design == "paired":
            raise RequestError(
                f"{name_option('design')} is 'paired', but strata are given; leave it out to use the strata, or --strata (strata=) to use the "
                "pairs"
            )

    def _resolve_names(self) -> None:
        super()._resolve_names()
        object.__setattr__(self, "cluster_by", expand_home(self.cluster_by))
