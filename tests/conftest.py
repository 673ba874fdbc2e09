"""Every test runs with shapes checked, strict promotion of ranks and types, two CPU devices, warnings as errors."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

# Shapes and types in the signatures of the package are checked at run time from here on.
install_import_hook("slmc", "runtime_checks.check")

import slmc  # noqa: E402, F401
