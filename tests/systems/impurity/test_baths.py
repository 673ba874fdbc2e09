"""Baths: poles of levels, tables of hybridization functions, the lattice of dynamical mean-field theory."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slmc import runs
from slmc.system import UserError
from slmc.systems.impurity import Poles, fitted, of_levels, semicircle
from slmc.systems.impurity.moments import at_frequencies, matsubara
from slmc.systems.impurity.positive_poles import energy_grid, read_hybridization
from slmc.systems.impurity.problem import impurity
from slmc.systems.impurity.self_consistency import bare_poles, bethe_lattice

Slmc = Callable[..., tuple[int, str, str]]
BETA = 8.0
BATH = Poles(np.array([-0.9, 0.2, 0.7]), np.array([0.3, 0.2, 0.4]))
"""Of Δ, not of g: the weights are V²."""


def exact_g():
    return of_levels(0.1, BATH.energies, np.sqrt(BATH.weights))


def write_times(path: Path, values=None, times=None):
    times = np.linspace(0, BETA, 201) if times is None else times
    np.savetxt(path, np.column_stack([times, BATH.at_times(BETA, times) if values is None else values]))
    return path


def write_frequencies(path: Path, change=1.0, n=200):
    frequencies = matsubara(BETA, n)
    values = change * BATH.at_frequencies(frequencies)
    np.savetxt(path, np.column_stack([frequencies, values.real, values.imag]))
    return path


@pytest.mark.parametrize("write", [write_times, write_frequencies])
def test_a_table_gives_the_propagator_of_its_bath(tmp_path: Path, write) -> None:
    levels = read_hybridization(write(tmp_path / "bath.txt"), BETA)
    times = np.linspace(0, BETA, 301)
    expected = exact_g().at_times(BETA, times)
    np.testing.assert_allclose(of_levels(0.1, *levels).at_times(BETA, times), expected, atol=2e-4)


def test_noise_that_no_density_has_is_left_out(tmp_path: Path) -> None:
    times = np.linspace(0, BETA, 201)
    noisy = BATH.at_times(BETA, times) + np.random.default_rng(0).normal(0, 1e-3, 201)
    levels = read_hybridization(write_times(tmp_path / "bath.txt", noisy), BETA)
    expected = exact_g().at_times(BETA, times)
    np.testing.assert_allclose(of_levels(0.1, *levels).at_times(BETA, times), expected, atol=5e-3)


def test_tables_that_are_none_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "bath.txt"
    times = np.linspace(0, BETA, 201)
    cases = {
        "belongs to no positive spectral density": lambda: write_times(path, 1 + np.sin(3 * times) / 2),
        "must be positive everywhere": lambda: write_times(path, -BATH.at_times(BETA, times)),
        r"its τ must go from 0 to β = 8; they go from 0 to 4": lambda: write_times(path, times=times / 2),
        "first column must increase": lambda: write_times(path, times=times[::-1]),
        "its Im Δ": lambda: write_frequencies(path, change=-1.0),
        "two columns, τ Δ": lambda: path.write_text("a b\n" * 20),
        "at least 8 lines": lambda: path.write_text("1 2\n"),
        "Matsubara frequencies": lambda: np.savetxt(path, np.column_stack([np.arange(1, 21), *[-np.ones(20)] * 2])),
    }
    for words, write in cases.items():
        write()
        settings = runs.settings_of(
            {"system": "impurity", "target": {"beta": BETA, "bath": "file", "file": "bath.txt"}}
        )
        with pytest.raises(UserError, match=words) as found:
            impurity(settings, tmp_path)
        assert str(found.value).startswith("target.file = bath.txt")
        assert "\n" not in str(found.value)
    path.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        impurity(settings, tmp_path)


def test_a_semicircle_is_its_own_hybridization() -> None:
    """g0 of the Bethe lattice without interaction has the density of states of the bath."""
    beta, half_bandwidth = 20.0, 2.0
    poles = of_levels(0.0, *semicircle(half_bandwidth, half_bandwidth / 2, beta))
    frequencies = matsubara(beta, 20)
    closed = 2j / half_bandwidth**2 * (frequencies - np.sqrt(frequencies**2 + half_bandwidth**2))
    np.testing.assert_allclose(poles.at_frequencies(frequencies), closed, atol=1e-10)
    assert poles.symmetric
    assert not of_levels(0.3, *semicircle(2.0, 1.0, beta)).symmetric


def test_few_levels_come_near_and_more_come_nearer() -> None:
    poles, times = of_levels(0.0, *semicircle(2.0, 1.0, 10.0)), np.linspace(0, 10, 200)

    def error(n_levels: int) -> float:
        few = fitted(lambda t: poles.at_times(10.0, t), 10.0, n_levels, symmetric=True)
        assert math.isclose(few.weights.sum(), 1)
        return float(np.max(np.abs(few.at_times(10.0, times) - poles.at_times(10.0, times))))

    assert error(4) < error(3) / 3 < error(2) / 9
    shifted = of_levels(0.5, *semicircle(2.0, 1.0, 10.0))
    few = fitted(lambda t: shifted.at_times(10.0, t), 10.0, 3, symmetric=False)
    np.testing.assert_allclose(few.at_times(10.0, times), shifted.at_times(10.0, times), atol=1e-2)


def test_the_bath_of_the_bethe_lattice_is_its_green_function() -> None:
    """1/G_loc + Σ = iω − x − (D/2)² G_loc for any Σ."""
    lattice, frequencies = bethe_lattice(3.0, 0.4), matsubara(BETA, 30)
    sigma = 1.7 / (1j * frequencies - 0.2)
    local = lattice.local_green_function(frequencies, sigma)
    np.testing.assert_allclose(1 / local + sigma, 1j * frequencies - 0.4 - 2.25 * local, rtol=1e-10)


def test_without_interaction_the_bath_stays() -> None:
    lattice, energies = bethe_lattice(2.0), energy_grid(BETA, 6.0)
    start = bare_poles(lattice, energies, BETA, None, None, 1.0)
    after = bare_poles(lattice, energies, BETA, start, np.zeros(25), 1.0)
    times = np.linspace(0, BETA, 100)
    exact = of_levels(0.0, *semicircle(2.0, 1.0, BETA)).at_times(BETA, times)
    for poles in (start, after):
        np.testing.assert_allclose(poles.at_times(BETA, times), exact, atol=1e-6)
        assert np.all(poles.weights >= 0)


def test_an_iteration_makes_the_bath_of_a_known_self_energy() -> None:
    """Σ − U/2 = 1/4iω of an atom with U = 1, by the moments that it has: 1/G0 = iω − (D/2)² G_loc then."""
    lattice, energies = bethe_lattice(2.0), energy_grid(BETA, 6.0)
    start = bare_poles(lattice, energies, BETA, None, None, 1.0)
    many = matsubara(BETA, 20_000)
    sigma = 0.25 / (1j * many)
    t = -sigma / (1 - sigma * start.at_frequencies(many))
    nodes, weights = np.polynomial.legendre.leggauss(100)
    times = BETA * (nodes + 1) / 2
    # What falls as 1/iω is summed by hand.
    values = 2 / BETA * np.real(np.exp(-1j * np.outer(times, many)) @ (t + sigma)) + 0.25 / 2
    moments = np.concatenate([[0.0], (weights * BETA / 2 * values) @ np.polynomial.legendre.legvander(nodes, 29)])
    np.testing.assert_allclose(at_frequencies(moments, 8), t[:8], atol=1e-6)
    after = bare_poles(lattice, energies, BETA, start, moments, 1.0)
    local = lattice.local_green_function(many[:8], sigma[:8])
    np.testing.assert_allclose(1 / after.at_frequencies(many[:8]), 1j * many[:8] - local, rtol=2e-3)


def test_a_run_finds_the_bath_of_the_lattice(slmc: Slmc, tmp_path: Path) -> None:
    """Second order in U: Σ is small, and the bath is nearly that without interaction."""
    small = {
        "target.beta": 3.0,
        "target.interaction": 0.8,
        "thermalisation.n_steps": 160,
        "model.n_levels": 2,
        "inner.n_updates": 2,
        "learning.n_rounds": 1,
        "learning.n_steps": 20,
        "measurement.n_chains": 4,
        "measurement.n_steps": 40,
        "measurement.n_thermalise": 0,
        "measurement.block_size": 20,
    }
    fields = [f"--set={name}={value}" for name, value in small.items()]
    code, _, errors = slmc("run", "impurity_dmft", "--out", tmp_path / "run", "-q", *fields)
    assert code == 0, errors
    found = json.loads(slmc("info", tmp_path / "run", "--json")[1])["found"]
    bare = bethe_lattice(2.0).local_green_function(matsubara(3.0, 1), np.zeros(1, complex))[0]
    assert found["bare_green_im"] == pytest.approx(bare.imag, rel=0.1)
    assert found["bare_green_re"] == pytest.approx(0, abs=1e-12)


def test_iterations_need_blocks() -> None:
    settings = {"system": "impurity", "target": {"bath": "bethe"}, "thermalisation": {"n_steps": 100}}
    with pytest.raises(UserError, match="at least 4 times"):
        runs.settings_of(settings)
