"""Independent exact draws from solvable targets, made with NumPy alone."""

import itertools

import numpy as np

import reference_double_exchange as reference


def unit_vectors(rng, *shape):
    vectors = rng.normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def pairs_at_cosine(rng, cosines):
    """Two unit vectors at each given cosine, otherwise uniform; shape (draw, 2, 3)."""
    first = unit_vectors(rng, len(cosines))
    helper = np.cross(first, unit_vectors(rng, len(cosines)))
    perpendicular = helper / np.linalg.norm(helper, axis=-1, keepdims=True)
    sines = np.sqrt(1 - cosines**2)
    return np.stack([first, cosines[:, None] * first + sines[:, None] * perpendicular], axis=1)


class TwoSpins:
    """log W depends on c = S_1·S_2 alone, whose density ∝ W(c) on [−1, 1] is tabulated, integrated and inverted."""

    def __init__(self, log_weight_of_cosine, n_grid=4001):
        self.grid = np.linspace(-1, 1, n_grid)
        self.log_weights = np.array([log_weight_of_cosine(c) for c in self.grid])
        weights = np.exp(self.log_weights - self.log_weights.max())
        cumulative = np.concatenate([[0], np.cumsum((weights[1:] + weights[:-1]) / 2)])
        self.cumulative = cumulative / cumulative[-1]

    def draw(self, rng, n):
        return pairs_at_cosine(rng, np.interp(rng.uniform(size=n), self.cumulative, self.grid))

    def mean(self, values_of_cosine):
        """∫ f(c) W(c) dc / ∫ W(c) dc by the trapezium rule."""
        values = np.array([values_of_cosine(c) for c in self.grid])
        weights = np.exp(self.log_weights - self.log_weights.max())
        return np.trapezoid(values * weights, self.grid) / np.trapezoid(weights, self.grid)


def at_cosine(c):
    return np.array([[0, 0, 1], [np.sqrt(max(0.0, 1 - c**2)), 0, c]])


def double_exchange_pair(hopping, coupling, mu, temperature):
    return TwoSpins(lambda c: reference.log_weight(at_cosine(c), [hopping], coupling, mu, temperature), 1001)


def heisenberg_pair(coupling):
    """On an extent of 2 both neighbours are the same site: log W = 2 J c."""
    return TwoSpins(lambda c: 2 * coupling * c)


def by_rejection(rng, log_weights, bound, shape, n):
    """Draws of W(x) on spheres: uniform configurations kept with probability W(x) e^{−bound}."""
    kept = []
    while sum(map(len, kept)) < n:
        proposed = unit_vectors(rng, 200_000, *shape)
        values = log_weights(proposed)
        assert np.all(values <= bound)
        kept.append(proposed[np.log(rng.uniform(size=len(values))) < values - bound])
    return np.concatenate(kept)[:n]


def ring_of_four(couplings):
    """log W of spins on a ring of four sites: J_1 on four bonds, J_2 twice on two (both ways round), and its bound."""
    first, second = couplings

    def log_weights(spins):
        bonds = sum(np.sum(spins[:, i] * spins[:, (i + 1) % 4], -1) for i in range(4))
        diagonals = 2 * sum(np.sum(spins[:, i] * spins[:, i + 2], -1) for i in range(2))
        return first * bonds + second * diagonals

    return log_weights, 4 * abs(first) + 4 * abs(second)


def ising_chain(rng, coupling, field, n_sites, n):
    """±1 spins on a ring, drawn from the list of all 2^n configurations."""
    everything = np.array(list(itertools.product([-1.0, 1.0], repeat=n_sites)))
    log_weights = coupling * np.sum(everything * np.roll(everything, 1, axis=1), axis=1) + field @ everything.T
    weights = np.exp(log_weights)
    return everything[rng.choice(len(everything), size=n, p=weights / weights.sum())]


def correlated_gaussian(rng, precision, n):
    return rng.multivariate_normal(np.zeros(len(precision)), np.linalg.inv(precision), size=n)


def in_a_field(rng, field, n, n_spins):
    """Independent unit vectors of density ∝ exp(h S^z): the distribution of S^z is integrated and inverted."""
    height = 1 + np.log(rng.uniform(np.exp(-2 * field), 1, (n, n_spins))) / field
    angle, length = rng.uniform(0, 2 * np.pi, (n, n_spins)), np.sqrt(1 - height**2)
    return np.stack([length * np.cos(angle), length * np.sin(angle), height], -1)
