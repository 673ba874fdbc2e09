"""Observables of given links against closed values: constant Abelian fields, free fermions."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import reference_files as writers
import reference_gauge as reference
from slmc.systems.gauge import (
    LinkMeasurement,
    Staggered,
    Wilson,
    measured_links,
    random_links,
    read_links,
    unit_links,
    wilson_loops,
)
from slmc.systems.gauge.measurement import DESCRIPTIONS
from slmc.systems.gauge.observables import static_loop


def abelian(phases, n):
    """SU(N) links exp(iφ), exp(−iφ), 1, … on the diagonal, gauge-rotated at random."""
    u = np.zeros((*phases.shape, n, n), complex)
    u[..., range(n), range(n)] = 1
    u[..., 0, 0], u[..., 1, 1] = np.exp(1j * phases), np.exp(-1j * phases)
    g = reference.random_group(np.random.default_rng(4), *phases.shape[1:], n)
    for mu in range(len(u)):
        u[mu] = g @ u[mu] @ np.conj(np.swapaxes(np.roll(g, -1, mu), -1, -2))
    return jnp.asarray(reference.stored(u))


def constant_flux(shape, flux):
    """Phases whose plaquette in the plane (0, t) is 2π flux/(L_0 L_t) everywhere, and that angle."""
    phases, coordinates = np.zeros((len(shape), *shape)), np.indices(shape)
    field = 2 * np.pi * flux / (shape[0] * shape[-1])
    phases[-1] = field * coordinates[0]
    phases[0] = -np.where(coordinates[0] == shape[0] - 1, field * shape[0] * coordinates[-1], 0.0)
    return phases, field


@pytest.mark.parametrize("n", [2, 3])
def test_a_field_of_constant_flux(n):
    """Plaquettes by their angle θ, R×T loops by RTθ; the field solves the equations of motion, so that E stays.

    t²E = 0.3 at t_0 = √(0.3/E), and t d(t²E)/dt = 2t²E = 0.3 at w_0² = √(0.15/E).
    """
    shape = (4, 2, 4)
    phases, angle = constant_flux(shape, 1)
    found = measured_links(abelian(phases, n), LinkMeasurement((2, 3), flow_time=2.0, flow_step=0.01))
    share, rest = 2 / n, 1 - 2 / n

    def flat(area):
        return rest + share * np.cos(area * angle)

    assert found["plaquette"] == pytest.approx((flat(1) + 2) / 3, rel=1e-12)
    assert found["rectangle"] == pytest.approx((flat(2) + 2) / 3, rel=1e-12)
    loops = [[(flat(r * t) + 1) / 2 for t in (1, 2, 3)] for r in (1, 2)]
    np.testing.assert_allclose(found["wilson_loops"], loops, rtol=1e-12)
    lines = rest + share * np.mean(np.cos(shape[-1] * angle * np.arange(shape[0])))
    assert found["polyakov_loop"] == pytest.approx(lines, abs=1e-12)
    energy = 2 * np.sin(angle) ** 2
    np.testing.assert_allclose(found["flow_energy"], energy * found["flow_time"] ** 2, rtol=1e-9)
    assert found["t_0"] == pytest.approx(np.sqrt(0.3 / energy), rel=1e-3)
    assert found["w_0"] == pytest.approx((0.15 / energy) ** 0.25, rel=1e-3)
    assert np.isnan(found["topological_charge"])
    assert set(found) <= set(DESCRIPTIONS)


def momenta(shape):
    """Momenta of fields that are periodic in space and antiperiodic in time."""
    axes = [2 * np.pi * (np.arange(extent) + 0.5 * (k == len(shape) - 1)) / extent for k, extent in enumerate(shape)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def test_free_staggered_fermions():
    """tr M⁻¹/V = N ⟨m/(m² + Σ sin²p)⟩; C(t) = N Σ_x (m² G(x)² + ¼ Σ_μ |G(x + μ) − G(x − μ)|²)."""
    shape, n, mass = (2, 4, 6), 2, 0.5
    operator = Staggered(shape, n, mass)
    found = measured_links(unit_links(shape, n), LinkMeasurement(operator=operator, n_sources=200), jax.random.key(1))
    p = momenta(shape)
    expected = n * np.mean(mass / (mass**2 + np.sum(np.sin(p) ** 2, axis=0)))
    assert found["condensate"] == pytest.approx(expected, rel=0.05)
    # M⁻¹ = (m − D)/(m² − D²), and D² is the sum of shifts by two: G is diagonal in momenta.
    propagator = np.fft.ifftn(1 / (mass**2 + np.sum(np.sin(p) ** 2, axis=0))) * boundary(shape)
    squares = abs(mass * propagator) ** 2
    for mu in range(len(shape)):
        squares = squares + abs((moved(propagator, mu, 1) - moved(propagator, mu, -1)) / 2) ** 2
    np.testing.assert_allclose(found["pion_correlator"], n * squares.sum(axis=(0, 1)), rtol=1e-9, atol=1e-14)


def boundary(shape):
    """exp(iπt/T), which turns a Fourier sum over integers into one over antiperiodic momenta."""
    return np.exp(1j * np.pi * np.arange(shape[-1]) / shape[-1])


def moved(field, mu, by):
    """The field at x + by·μ, antiperiodic in the last direction."""
    rolled = np.roll(field, -by, mu)
    if mu == field.ndim - 1:
        rolled[..., -1 if by == 1 else 0] *= -1
    return rolled


def test_free_wilson_pion():
    """C(t) = N Σ_x tr|S(x, t)|² of S(p)⁻¹ = 1 − 2κ Σ cos p + 2iκ γ·sin p: tr|S|² by the parts of 1 and γ_μ."""
    shape, n, kappa = (2, 4), 3, 0.15
    operator = Wilson(shape, n, kappa)
    found = measured_links(unit_links(shape, n), LinkMeasurement(operator=operator, n_sources=200), jax.random.key(2))
    p = momenta(shape)
    scalar, vector = 1 - 2 * kappa * np.cos(p).sum(0), 2 * kappa * np.sin(p)
    denominator = scalar**2 + np.sum(vector**2, axis=0)
    parts = [np.fft.ifftn(part / denominator) for part in (scalar, *(-1j * v for v in vector))]
    expected = 2 * n * sum(np.sum(abs(part) ** 2, axis=0) for part in parts)
    np.testing.assert_allclose(found["pion_correlator"], expected, rtol=1e-9)
    assert found["condensate"] == pytest.approx(2 * n * np.mean(scalar / denominator), rel=0.05)


def test_loops_are_those_of_one_at_a_time():
    links = random_links(jax.random.key(3), (3, 2, 3), 3)
    found = np.asarray(wilson_loops(links, 2, 3))
    for r, t in itertools.product((1, 2), (1, 2, 3)):
        assert found[r - 1, t - 1] == pytest.approx(float(static_loop(links, r, t)), rel=1e-12)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (LinkMeasurement((3, 1)), "do not fit"),
        (LinkMeasurement((1, 3)), "do not fit"),
        (LinkMeasurement(flow_time=0.01), "no steps"),
        (LinkMeasurement(flow_time=-1.0), "no steps"),
        (LinkMeasurement(operator=Staggered((2, 2), 2, 0.5)), "key"),
    ],
)
def test_what_cannot_be_measured_is_refused(what, words):
    with pytest.raises(ValueError, match=words):
        measured_links(unit_links((2, 2), 2), what)


def test_a_file_is_measured(tmp_path):
    u = reference.random_group(np.random.default_rng(5), 4, 2, 1, 2, 1, 2)
    (tmp_path / "links").write_bytes(writers.nersc(u, "IEEE64", "<d"))
    found = measured_links(read_links(tmp_path / "links").links)
    assert found["plaquette"] == pytest.approx(writers.averages(u)[0], rel=1e-12)
