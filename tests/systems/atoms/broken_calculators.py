"""Calculators that go wrong, offered by an installed package as anybody's would be."""

import os
import time

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

_SEEN = [0]


class Springs(Calculator):
    """U = (k/2) Σ |x|², for a share of whose evaluations something happens."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, stiffness=1.0, does="nothing", at=0.0, scale=1.0):
        super().__init__()
        self.stiffness, self.does, self.at, self.scale = stiffness, does, at, scale

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        print("what a calculator prints goes nowhere")
        x = self.atoms.positions
        energy = self.stiffness / 2 * np.sum(x**2)
        if x[0, 0] > self.at:
            if self.does == "raises":
                raise RuntimeError("SCF did not\nconverge")
            if self.does == "hangs":
                time.sleep(60)
            if self.does == "dies":
                os._exit(3)
            if self.does == "is nan":
                energy = np.nan
        if self.does == "remembers":
            _SEEN[0] += 1
            energy += 0.1 * _SEEN[0]
        self.results = {"energy": energy, "forces": -self.scale * self.stiffness * x}


class Cells(Calculator):
    """U = (V − V_0)²/V_0 whatever the positions; with ``stress`` one that is as many times dU/dV, else none."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, stress=None):
        super().__init__()
        self.told, self.first = stress, 3.61**3
        if stress is None:
            self.implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        volume = self.atoms.get_volume()
        self.results = {"energy": (volume - self.first) ** 2 / self.first, "forces": np.zeros((len(self.atoms), 3))}
        if self.told is not None:
            pressure = self.told * 2 * (volume - self.first) / self.first
            self.results["stress"] = np.array([pressure] * 3 + [0.0] * 3)
