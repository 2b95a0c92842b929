"""The checker of annotations in the tests: beartype, with integers accepted for floats as in PEP 484."""

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype

check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))


@pytest.fixture
def without_type_checks(monkeypatch):
    """Skip the checks in a simulation: of thousands of equal calls, they take most of the time."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
