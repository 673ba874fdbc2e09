"""A small inverse problem of the kind that is expensive in earnest: the coefficient of an elliptic equation.

    −(k(s) u'(s))' = 1 on 0 < s < 1, u(0) = u(1) = 0,   log k(s) = Σ_{j=1}^d c_j x_j cos(jπ s),   c_j = σ √2/(π j)

The parameters x_j are standard normal, u is measured at some points with Gaussian noise. The equation is solved by
finite volumes and a banded Cholesky factorisation, its derivative by one more solution with the same matrix (adjoint).
"""

from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_solve_banded, cholesky_banded

Parameters = Float[np.ndarray, " parameter"]

_LARGEST = 15.0
"""Of |log k|."""


class Elliptic:
    """log L of the coefficients x, and its gradient, for data made with ``seed``.

    ``n_cells`` of the grid, ``n_points`` where u is measured, with standard deviation ``noise``; ``variation`` is σ.
    ``n_solves`` counts solutions of the equation, those for gradients too.
    """

    def __init__(
        self,
        dimension: int = 6,
        n_cells: int = 256,
        n_points: int = 15,
        noise: float = 2e-3,
        variation: float = 1.5,
        seed: int = 0,
    ) -> None:
        self.dimension, self.n_cells, self.noise, self.variation = dimension, n_cells, noise, variation
        self.n_points, self.seed, self.n_solves = n_points, seed, 0

    @cached_property
    def modes(self) -> Float[np.ndarray, "cell parameter"]:
        """c_j cos(jπ s) in the middle of every cell."""
        number = np.arange(1, self.dimension + 1)
        middle = (np.arange(self.n_cells) + 0.5) / self.n_cells
        return self.variation * np.sqrt(2) / (np.pi * number) * np.cos(np.pi * np.outer(middle, number))

    @cached_property
    def places(self) -> np.ndarray:
        """Nodes nearest to where u is measured, among the inner ones."""
        return np.rint(np.arange(1, self.n_points + 1) / (self.n_points + 1) * self.n_cells).astype(int) - 1

    @cached_property
    def truth(self) -> Parameters:
        """The parameters with which the data were made."""
        return np.random.default_rng(self.seed).standard_normal(self.dimension)

    @cached_property
    def data(self) -> Float[np.ndarray, " point"]:
        """What was measured: u on a grid four times as fine, and noise. The same for every grid."""
        fine = Elliptic(self.dimension, 1024, self.n_points, self.noise, self.variation, self.seed)
        noise = np.random.default_rng(self.seed + 1).standard_normal(self.n_points)
        return fine.solution(self.truth)[fine.places] + self.noise * noise

    def solution(self, x: Parameters) -> Float[np.ndarray, " node"]:
        """u at the inner nodes."""
        return self._solved(x)[0]

    def __call__(self, x: Parameters) -> float:
        """log L: one solution."""
        if not self._is_possible(x):
            return -np.inf
        return float(-np.sum(self._misfit(self.solution(x)) ** 2) / 2)

    def value_and_gradient(self, x: Parameters) -> tuple[float, Parameters]:
        """log L and its gradient: two solutions."""
        if not self._is_possible(x):
            return -np.inf, np.zeros(self.dimension)
        u, k, factor = self._solved(x)
        misfit = self._misfit(u)
        source = np.zeros(self.n_cells - 1)
        source[self.places] = -misfit / self.noise
        adjoint = cho_solve_banded((factor, True), source)
        self.n_solves += 1
        # ∂ log L/∂k_c = −λ·(∂A/∂k_c) u, and A is a sum over cells of k_c times squares of differences.
        slopes = np.diff(u, prepend=0.0, append=0.0) * np.diff(adjoint, prepend=0.0, append=0.0) * self.n_cells
        return float(-np.sum(misfit**2) / 2), -(slopes * k) @ self.modes

    def _is_possible(self, x: Parameters) -> bool:
        """Whether k is not so extreme anywhere that the equation cannot be solved in double precision."""
        return bool(np.max(np.abs(self.modes @ x)) < _LARGEST)

    def _solved(self, x: Parameters) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """u, k, and the factor of the matrix."""
        self.n_solves += 1
        k = np.exp(self.modes @ x)
        bands = np.zeros((2, self.n_cells - 1))
        bands[0] = (k[1:] + k[:-1]) * self.n_cells
        bands[1, :-1] = -k[1:-1] * self.n_cells
        factor = cholesky_banded(bands, lower=True)
        return cho_solve_banded((factor, True), np.full(self.n_cells - 1, 1 / self.n_cells)), k, factor

    def _misfit(self, u: np.ndarray) -> np.ndarray:
        return (u[self.places] - self.data) / self.noise
