"""The weights of whole networks, which most tests only use: each test process reads and folds them once."""

from functools import lru_cache

import pytest

from frechet.errors import WeightsError
from frechet.features import ops_model
from frechet.networks.weights_file import find_weights

LARGE = 2**20  # bytes; toy networks would only displace the others


@pytest.fixture(scope="session", autouse=True)
def weights_read_once():
    """Keep the weights of the large files that were loaded last; a file that changed is read again."""
    load_weights = ops_model.load_weights

    @lru_cache(maxsize=4)
    def load(file, conv_layers, path, head, *_identity):
        return load_weights(file, conv_layers, path, head=head)

    def load_once(file, conv_layers, override_path=None, *, head=None, progress=None):
        try:
            path = find_weights(file, override_path)
            status = path.stat()
        except (WeightsError, OSError):
            status = None
        if status is None or status.st_size < LARGE:
            return load_weights(file, conv_layers, override_path, head=head, progress=progress)
        return load(file, conv_layers, path, head, path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops_model, "load_weights", load_once)
        yield
