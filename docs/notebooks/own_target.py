# %% [markdown]
# # A target of your own, in a notebook
#
# The amplitude and the rate of a decay from noisy data. The log-likelihood is a plain function of NumPy; think of a
# code that takes seconds in its place.

# %%
import matplotlib.pyplot as plt
import numpy as np

import slmc
from slmc.systems import vectors

times = np.linspace(0.2, 2.0, 10)
measured = np.array([1.66, 1.41, 1.13, 0.98, 0.79, 0.63, 0.58, 0.45, 0.35, 0.33])


def log_likelihood(x):
    rate, amplitude = x
    return -np.sum((amplitude * np.exp(-rate * times) - measured) ** 2) / (2 * 0.05**2)


# %% [markdown]
# The prior names the parameters. The run thermalises with adaptive Metropolis, learns a polynomial of the
# log-likelihood, freezes it, and lets it propose. The function above decides.

# %%
problem = vectors.vector_problem(
    log_likelihood,
    prior={"rate": vectors.log_normal(0.0, 0.5), "amplitude": vectors.uniform(0.0, 5.0)},
)
settings = {
    "title": "A decay",
    "thermalisation": {"n_steps": 600},
    "learning": {"n_rounds": 2, "n_steps": 200},
    "measurement": {"n_chains": 4, "n_steps": 300, "block_size": 20, "keep_every": 1},
}
result = slmc.run(problem, settings, out="decay", go_on=True)
result

# %%
print(f"acceptance {result.summary['acceptance']:.2f}")
print(f"effective samples an evaluation {result.summary['ess_per_exact_evaluation']:.2f}")

# %% [markdown]
# Configurations were kept (`measurement.keep_every`), so that anything can be measured now: here both parameters
# themselves, in the coordinates of the chains until `parameters` brings them back.

# %%
draws = slmc.measure(result, problem.target.prior.parameters)
rate, amplitude = draws.values.reshape(-1, 2).T
rate.mean(), rate.std(), amplitude.mean(), amplitude.std()

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.2), layout="constrained")
left.plot(rate, amplitude, ".", markersize=2, alpha=0.4)
left.set(xlabel="rate", ylabel="amplitude")
right.set(xlabel="time", ylabel="signal")
fine = np.linspace(0, 2.2, 100)
curves = amplitude[::20, None] * np.exp(-rate[::20, None] * fine)
lines = right.plot(fine, curves.T, color="C1", alpha=0.1) + right.plot(times, measured, "o")

# %% [markdown]
# Executed once more, the cell with `slmc.run` goes on where the run stopped (`go_on=True`): a complete one it only
# opens. `decay/report.html` is the report. [A weight of your own](../how-to/own-target.md) says what else there is.
