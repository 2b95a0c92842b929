"""What every kind of model can do, and the validated request to load one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from frechet._internal.download import ProgressCallback
from frechet.features.extractor import LoadedExtractor
from frechet.features.spec import FeatureSpec
from frechet.networks.weights_file import WeightsFile
from frechet.preprocessing.registry import Preprocessing

BACKENDS = ("openvino", "torch", "jax")


@dataclass(frozen=True, kw_only=True)
class LoadRequest:
    """What to load: options that were validated against the table of extractors.

    Attributes:
        spec: the features to compute; `weights` and `is_official` are None until the weights are read.
        preprocessing: the preprocessing that the spec names.
        layers: layer -> d; the requested layer first, then extra layers. Empty for an extractor outside the table, whose
            layer is known after loading.
        input_size: height and width of the input in pixels; None for an extractor outside the table.
        dims: the number of features that the user requested; None if the user did not.
        weights: file or folder with weights that replaces the published ones.
        backend: a name in `BACKENDS`, or "auto".
        device: name of the device, or "auto".
        progress: called with (name, bytes done, total bytes) during a download of weights.
    """

    spec: FeatureSpec
    preprocessing: Preprocessing
    layers: Mapping[str, int] = field(default_factory=dict)
    input_size: int | None = None
    dims: int | None = None
    weights: Path | None = None
    backend: str = "auto"
    device: str = "auto"
    progress: ProgressCallback | None = None


class Model(ABC):
    """The network behind an extractor: where its weights come from, and how it is loaded.

    Attributes:
        backends: the backends that can run it.
        downloads_on_use: whether missing weights are downloaded when a score needs them, and not only by `frechet weights fetch`.
        heads: layers that need additional weights, which a file may lack: layer -> prefix of their keys.
        weights_file: the published weights file; None if the weights are not a single file with a known checksum.
        weights_source: where the weights come from: a URL, a command or a description.
    """

    backends: ClassVar[tuple[str, ...]]
    downloads_on_use: ClassVar[bool] = True
    heads: Mapping[str, str] = MappingProxyType({})
    weights_file: WeightsFile | None = None

    @property
    @abstractmethod
    def weights_source(self) -> str:
        """Where the weights come from: a URL, a command or a description."""

    @abstractmethod
    def find_weights(self) -> Path:
        """Return the path of the weights without downloading anything.

        Raises:
            WeightsError: the weights are not on this machine; the message explains how to get them.
        """

    def fetch_weights(self, progress: ProgressCallback | None = None) -> Path:  # noqa: ARG002, for those that download
        """Download the weights unless they are on this machine, and return their path.

        Args:
            progress: called with (name, bytes done, total bytes).

        Raises:
            WeightsError: the weights cannot be downloaded.
        """
        return self.find_weights()

    def check(self) -> str:
        """Check, without downloading anything, that the model can be loaded, and describe its weights.

        Raises:
            RequestError: a package or the weights are missing, or the weights are damaged; the message explains the fix.
        """
        return str(self.find_weights())

    @abstractmethod
    def load(self, request: LoadRequest) -> LoadedExtractor:
        """Load the weights and prepare the network to run.

        Raises:
            RequestError: the model does not support the requested options.
            WeightsError: the weights are missing or damaged.
        """
