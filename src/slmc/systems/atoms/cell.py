"""Atoms without their positions: elements, periodic cell, which images are within reach, who is too near to whom."""

import itertools

import numpy as np
from jaxtyping import Bool, Float

LEAST_DISTANCE = 0.5
"""Two atoms nearer than this times the sum of their covalent radii have weight zero."""

SMALLEST_SCALE = 0.85
"""Of the edges of a cell that changes its volume, down to which all images within reach are there."""

_LEAST_SCALE = 0.5
"""Of the edges of a cell that changes its volume: in a smaller one atoms are too near whatever their distances."""


class Cell:
    """Elements, and the cell in which they repeat if there is one. Compared by value: it is static where compiled.

    ``numbers`` are atomic numbers, ``vectors`` the rows of the cell in Å (``None``: not periodic), ``radii`` covalent
    radii in Å, by which ``are_apart`` judges distances.
    """

    def __init__(
        self,
        numbers: tuple[int, ...],
        vectors: Float[np.ndarray, "3 3"] | None,
        radii: tuple[float, ...],
        least_distance: float = LEAST_DISTANCE,
    ) -> None:
        self.numbers, self.radii, self.least_distance = (
            tuple(map(int, numbers)),
            tuple(map(float, radii)),
            least_distance,
        )
        self._rows = None if vectors is None else tuple(tuple(map(float, row)) for row in vectors)

    @property
    def _identity(self) -> tuple[object, ...]:
        return self.numbers, self._rows, self.radii, self.least_distance

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        return f"Cell{self._identity}"

    @property
    def n_atoms(self) -> int:
        return len(self.numbers)

    @property
    def is_periodic(self) -> bool:
        return self._rows is not None

    @property
    def vectors(self) -> Float[np.ndarray, "3 3"]:
        """The rows of the cell. Raises ``ValueError`` where there is none."""
        if self._rows is None:
            raise ValueError("these atoms are not periodic and have no cell.")
        return np.array(self._rows)

    @property
    def volume(self) -> float:
        """In Å³."""
        return float(abs(np.linalg.det(self.vectors)))

    def images(self, reach: float) -> Float[np.ndarray, "image 3"]:
        """Translations, as whole multiples of the cell's rows, by which differences can come within ``reach``.

        Differences are first brought to −½ … ½ in units of the rows. Planes of the cell that are h apart then leave
        |n| h − h/2 ≤ reach. The first image is no translation.
        """
        if not self.is_periodic:
            return np.zeros((1, 3))
        heights = 1 / np.linalg.norm(np.linalg.inv(self.vectors), axis=0)
        most = np.floor(reach / heights + 0.5).astype(int)
        steps = [range(-n, n + 1) for n in most]
        return np.array(sorted(itertools.product(*steps), key=lambda n: sum(map(abs, n))), dtype=float)

    def displacements(
        self, positions: Float[np.ndarray, "*batch atom 3"], reach: float
    ) -> Float[np.ndarray, "*batch atom atom image 3"]:
        """From the first atom to every image of the second within reach, and some beyond."""
        difference = positions[..., None, :, :] - positions[..., :, None, :]
        if not self.is_periodic:
            return difference[..., None, :]
        fractional = difference @ np.linalg.inv(self.vectors)
        fractional = fractional - np.round(fractional)
        return (fractional[..., None, :] + self.images(reach)) @ self.vectors

    def are_apart(
        self,
        positions: Float[np.ndarray, "configuration atom 3"],
        scales: Float[np.ndarray, " configuration"] | None = None,
    ) -> Bool[np.ndarray, " configuration"]:
        """Whether all atoms keep the least distance; positions that are no finite numbers do not.

        With ``scales`` positions and cell are to be taken as many times as large, of which less than half is too near.
        """
        scales = np.ones(len(positions)) if scales is None else scales
        finite = np.all(np.isfinite(positions), axis=(1, 2)) & np.isfinite(scales) & (scales >= _LEAST_SCALE)
        scales = np.where(finite, scales, 1.0)
        radii = np.array(self.radii)
        least = self.least_distance * (radii[:, None] + radii[None, :])
        reach = float(np.max(least) / np.min(scales, initial=np.inf)) if len(scales) else 0.0
        with np.errstate(invalid="ignore"):
            shifts = self.displacements(np.where(finite[:, None, None], positions, 0.0), reach)
        distances = np.sqrt(np.sum(shifts**2, axis=-1)) * scales[:, None, None, None]
        # An atom is no neighbour of itself; its images are as far away as the cell has them.
        own = np.eye(self.n_atoms, dtype=bool)[:, :, None] & (np.arange(distances.shape[-1]) == 0)
        near = (distances < least[:, :, None]) & ~own
        return finite & ~np.any(near, axis=(1, 2, 3))
