"""The type checker that the import hook in conftest.py applies to the package."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As for static checkers (PEP 484), an int may stand where a float is asked for."""
