# %% [markdown]
# # A phase diagram, in a notebook
#
# The plaquette Ising model, H = −J Σ s s − K Σ s s s s on the square lattice, over temperature and plaquette
# coupling. At every point a model with pairs alone is learned, whose Wolff clusters propose.

# %%
import matplotlib.pyplot as plt

import slmc

scan = slmc.scan(
    "plaquette_ising",
    {"target.plaquette_coupling": [0.0, 0.4], "target.temperature": [2.0, 2.5, 3.0, 3.5]},
    {
        "target.shape": [8, 8],
        "inner.n_updates": 10,
        "thermalisation.n_steps": 200,
        "learning.n_rounds": 1,
        "learning.n_steps": 100,
        "measurement": {"n_chains": 8, "n_steps": 200, "block_size": 100, "n_thermalise": 50},
        "baseline.n_steps": 0,
    },
    out="phases",
)
table = scan.table.to_dataframe().set_index(["plaquette_coupling", "temperature"])
table[["magnetization", "magnetization_error", "acceptance"]]

# %% [markdown]
# Magnetization against temperature, a line for each coupling, and the same as a map.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for coupling, line in table.groupby(level=0):
    line = line.droplevel(0)
    left.errorbar(line.index, line.magnetization, line.magnetization_error, marker="o", label=f"K = {coupling:.1f} J")
left.set(xlabel="temperature T/J", ylabel="magnetization |m|")
left.legend()
values = table.magnetization.unstack()
drawn = right.pcolormesh(values.columns, values.index, values, shading="nearest", vmin=0, vmax=1)
right.set(xlabel="temperature T/J", ylabel="plaquette coupling K/J")
bar = figure.colorbar(drawn, label="|m|")

# %% [markdown]
# `phases/report.html` is the report of all points, and `slmc table phases` prints the table on the command line.
# [Scan over fields](../how-to/scans.md) has more: several processes, clusters, models that go from point to point.
