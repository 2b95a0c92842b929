"""The checker of annotations in the tests: beartype, with integers accepted for floats as in PEP 484."""

from beartype import BeartypeConf, beartype

check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
