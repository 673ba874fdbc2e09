# %% [markdown]
# # First run, in a notebook
#
# The double-exchange model on 6×6 sites: classical spins coupled to electrons. The exact weight of a configuration
# needs the electrons' levels. A linear model of it is learned while the chains run, and then proposes.
# This is the main job of the command line, `slmc run double_exchange`, made shorter.

# %%
import slmc

result = slmc.run(
    "double_exchange",
    {
        "learning.n_steps": [200, 400],
        "inner.n_updates": 12,
        "measurement.n_steps": 2000,
        "measurement.block_size": 200,
        "baseline.n_steps": 200,
    },
    out="first",
)
result

# %% [markdown]
# The acceptance to expect from the residual s, the standard deviation of log W − log W_eff on chains that were not
# trained on, is erfc(s/2). It is close to what was measured if the model proposes nearly independent configurations.

# %%
summary = result.summary
print(f"residual s {summary['residual']:.2f}")
print(f"acceptance {summary['acceptance']:.2f}, expected {summary['expected_acceptance']:.2f}")

# %% [markdown]
# Figures of the report can be drawn here.

# %%
axes = result.plot("parity")

# %% [markdown]
# Everything that was recorded is an xarray `DataTree`, with units and descriptions.

# %%
result.records["measurement"]["energy"]

# %% [markdown]
# The exact chain, which does without a model, has to give the same.

# %%
axes = result.plot("comparison")
