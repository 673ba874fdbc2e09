"""The learned potential as a calculator of ASE."""

from typing import Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from slmc.systems.atoms.potential import MomentPotential, energy_and_forces
from slmc.systems.atoms.structure import structure_of


class LearnedCalculator(Calculator):
    """Energies in eV and forces in eV/Å of a ``MomentPotential``, for any atoms of the elements that it has learned.

    It knows what the run sampled, and nothing of other bonds, densities or temperatures.
    """

    def __init__(self, model: MomentPotential, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.implemented_properties = ["energy", "forces"]
        self.model = model

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Raises ``ValueError`` for elements that the model does not know."""
        super().calculate(atoms, properties, system_changes)
        known: Any = self.atoms
        cell = structure_of(known, least_distance=0.0).cell
        if cell != self.model.cell:
            self.model = self.model.on_atoms(cell, self.model.beta, None)
        energy, forces = energy_and_forces(self.model, np.array(known.positions))
        self.results = {"energy": energy, "forces": forces}
