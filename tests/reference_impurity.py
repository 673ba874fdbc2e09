"""Slow independent impurity models: operators on the Fock space of impurity and bath, in NumPy.

H = x (n_↑ + n_↓) + U (n_↑ n_↓ − (n_↑ + n_↓)/2) + Σ_kσ ε_k c†_kσ c_kσ + Σ_kσ V_k (d†_σ c_kσ + h.c.); x = ε_d + U/2 − μ.
"""

import functools
import math

import numpy as np


@functools.cache
def annihilators(n_modes):
    """By Jordan and Wigner."""
    lower, sign, one = np.array([[0.0, 1.0], [0.0, 0.0]]), np.diag([1.0, -1.0]), np.eye(2)
    return [
        functools.reduce(np.kron, [sign] * mode + [lower] + [one] * (n_modes - mode - 1)) for mode in range(n_modes)
    ]


class Impurity:
    """Mode 0 and 1 + n_bath are the impurity with spin up and down."""

    def __init__(self, level, energies, couplings):
        n_bath = len(energies)
        operators = annihilators(2 * (n_bath + 1))
        self.d = operators[0], operators[1 + n_bath]
        self.n = tuple(d.T @ d for d in self.d)
        self.free = level * (self.n[0] + self.n[1])
        for spin in range(2):
            for k in range(n_bath):
                c = operators[spin * (1 + n_bath) + 1 + k]
                self.free = self.free + energies[k] * c.T @ c
                self.free = self.free + couplings[k] * (self.d[spin].T @ c + c.T @ self.d[spin])

    def log_weight(self, beta, interaction, expansion, vertices):
        """(K/2β)ⁿ/n! Tr [e^{−(β−τ_n)H_0} e^{γ s_n (n_↑ − n_↓)} ⋯ e^{−τ_1 H_0}] / Tr e^{−βH_0}, times in order."""
        gamma = math.acosh(1 + beta * interaction / (2 * expansion))
        values, vectors = np.linalg.eigh(self.free)

        def evolved(time):
            return (vectors * np.exp(-time * (values - values[0]))) @ vectors.T

        moment = np.diag(self.n[0] - self.n[1])
        product, before = np.eye(len(values)), 0.0
        for time, s in sorted(vertices):
            product = np.exp(gamma * s * moment)[:, None] * (evolved(time - before) @ product)
            before = time
        trace = np.trace(evolved(beta - before) @ product)
        n = len(vertices)
        log_z = math.log(np.sum(np.exp(-beta * (values - values[0]))))
        return math.log(trace) - log_z + n * math.log(expansion / (2 * beta)) - math.lgamma(n + 1)

    def on_slices(self, beta, interaction, n_slices):
        """Of Tr Π e^{−Δτ H_0} e^{−Δτ V} over Tr e^{−βH_0}: its logarithm and ⟨n_↑ n_↓⟩."""
        step, (up, down) = beta / n_slices, self.n
        values, vectors = np.linalg.eigh(self.free)
        potential = np.diag(interaction * (up @ down - (up + down) / 2))
        factor = (vectors * np.exp(-step * values)) @ vectors.T * np.exp(-step * potential)[None, :]
        product = np.linalg.matrix_power(factor, n_slices)
        ratio = np.trace(product) / np.sum(np.exp(-beta * values))
        return math.log(ratio), float(np.trace(product @ up @ down) / np.trace(product))

    def green_of(self, beta, interaction, expansion, vertices, later):
        """⟨d_↑(later) d_↑†(0)⟩ in the field of vertices, by traces of operators in the order of time."""
        gamma = math.acosh(1 + beta * interaction / (2 * expansion))
        values, vectors = np.linalg.eigh(self.free)
        moment = np.diag(self.n[0] - self.n[1])

        def evolved(time):
            return (vectors * np.exp(-time * (values - values[0]))) @ vectors.T

        def trace(operators):
            product, before = np.eye(len(values)), 0.0
            for time, operator in sorted(operators, key=lambda pair: pair[0]):
                product, before = operator @ evolved(time - before) @ product, time
            return np.trace(evolved(beta - before) @ product)

        kicks = [(time, np.diag(np.exp(gamma * s * moment))) for time, s in vertices]
        return trace([(0.0, self.d[0].T), *kicks, (later, self.d[0])]) / trace(kicks)

    def expectations(self, beta, interaction, times):
        """n_↑, n_↓, D, χ_zz, g(τ) = ⟨d_↑(τ) d_↑†⟩ and the Green function G(iω_0)."""
        up, down = self.n
        values, vectors = np.linalg.eigh(self.free + interaction * (up @ down - (up + down) / 2))
        values = values - values[0]
        weights = np.exp(-beta * values)
        weights = weights / weights.sum()

        def mean(operator):
            return float(np.sum(weights * np.sum(vectors * (operator @ vectors), axis=0)))

        squared = (vectors.T @ self.d[0] @ vectors) ** 2
        gaps = values[:, None] - values[None, :]
        g = np.array([float(np.sum(weights[:, None] * np.exp(time * gaps) * squared)) for time in times])
        spin = vectors.T @ ((up - down) / 2) @ vectors
        with np.errstate(all="ignore"):
            kernel = np.where(
                np.abs(gaps) < 1e-9, beta * weights[:, None], (weights[None, :] - weights[:, None]) / gaps
            )
        frequency = 1j * np.pi / beta
        green = np.sum((weights[:, None] + weights[None, :]) * squared / (frequency + gaps))
        return {
            "n_up": mean(up),
            "n_down": mean(down),
            "D": mean(up @ down),
            "chi": float(np.sum(kernel * spin**2)),
            "g": g,
            "G": complex(green),
        }


REFERENCES = {
    "R1": (2.0, 2.0, 0.0, (0.0,), (1.0,)),
    "R2": (10.0, 2.0, 0.0, (0.0,), (1.0,)),
    "R3": (10.0, 4.0, 0.0, (0.0,), (1.0,)),
    "R4": (20.0, 4.0, 0.0, (-1.0, 1.0), (0.5, 0.5)),
    "R5": (5.0, 3.0, 0.5, (-0.7, 0.4), (0.6, 0.8)),
    "R6": (10.0, 3.0, -0.4, (-1.2, 0.0, 1.2), (0.5, 0.4, 0.5)),
    "R7": (5.0, 6.0, 0.0, (-1.0, 1.0), (0.7, 0.7)),
    "R8": (5.0, 4.0, 0.0, (-1.0, 1.0), (0.5, 0.5)),
}
"""β, U, x, ε_k, V_k."""


def log_weights(energies, weights, beta, interaction, expansion, vertices):
    """log [W n!/(K/2β)ⁿ] of many configurations of n vertices, (configuration, n, 2), by determinants."""
    gamma = math.acosh(1 + beta * interaction / (2 * expansion))
    times, spins = vertices[..., 0], vertices[..., 1]
    difference = times[:, :, None] - times[:, None, :]
    inside = np.where(difference < 0, difference + beta, difference)
    g = sum(a * np.exp(-inside * e) / (1 + math.exp(-beta * e)) for e, a in zip(energies, weights, strict=True))
    g = np.where(difference < 0, -g, g)
    total = np.zeros(len(vertices))
    for sign in (1, -1):
        factors = np.exp(sign * gamma * spins)
        matrix = factors[:, None, :] * np.eye(spins.shape[1]) - g * (factors - 1)[:, None, :]
        total += np.linalg.slogdet(matrix)[1]
    return total


def draws(rng, energies, weights, beta, interaction, expansion, capacity, n):
    """Exact draws: Poisson numbers of vertices anywhere, kept with probability W/(largest W) ≤ 1.

    Every vertex multiplies the weight by e^{γ} at most.
    """
    gamma = math.acosh(1 + beta * interaction / (2 * expansion))
    kept = []
    while sum(map(len, kept)) < n:
        numbers = rng.poisson(math.exp(gamma) * expansion, 400_000)
        for order in range(min(capacity, numbers.max()) + 1):
            count = int(np.sum(numbers == order))
            proposed = np.zeros((count, capacity, 2))
            proposed[:, :order, 0] = rng.uniform(0, beta, (count, order))
            proposed[:, :order, 1] = rng.choice([-1.0, 1.0], (count, order))
            log_ratio = (
                log_weights(energies, weights, beta, interaction, expansion, proposed[:, :order]) - gamma * order
            )
            assert np.all(log_ratio < 1e-9)
            kept.append(proposed[np.log(rng.uniform(size=count)) < log_ratio])
    kept = np.concatenate(kept)
    return kept[rng.permutation(len(kept))[:n]]
