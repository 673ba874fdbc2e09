"""Wave functions run on one device, in plain JAX: NetKet is not written for strict promotion."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def plain_jax():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
