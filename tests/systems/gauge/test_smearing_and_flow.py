"""Stout smearing, gradient flow, topological charge."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import reference_gauge as reference
from slmc.montecarlo import SpecialUnitary
from slmc.systems.gauge import StoutSmearing, flow_scales, gradient_flow, random_links, transformed
from slmc.systems.gauge.observables import energy_density, plaquette, topological_charge

SHAPE = (2, 3, 2)


@eqx.filter_jit
def smeared(smearing, links):
    return smearing.smeared(links)


def stout_by_paths(u, rho):
    """Morningstar, Peardon, eqs. (1)–(3), link by link."""
    dimension, shape, n = len(u), u.shape[1:-2], u.shape[-1]
    smeared = np.empty_like(u)
    for mu in range(dimension):
        for site in np.ndindex(*shape):
            staples = sum(
                reference.path(u, site, [sign * (nu + 1), mu + 1, -sign * (nu + 1)])
                for nu in range(dimension)
                if nu != mu
                for sign in (1, -1)
            )
            omega = rho * staples @ u[(mu, *site)].conj().T
            part = omega.conj().T - omega
            q = 0.5j * part - 0.5j * np.trace(part) / n * np.eye(n)
            smeared[(mu, *site)] = scipy.linalg.expm(1j * q) @ u[(mu, *site)]
    return smeared


@pytest.mark.parametrize("n", [2, 3])
def test_plaquette_smearing_is_the_published_one(n):
    links = random_links(jax.random.key(1), SHAPE, n)
    expected = stout_by_paths(stout_by_paths(reference.complex_links(links), 0.12), 0.05)
    found = smeared(StoutSmearing(2, ("plaquette",), [[0.12], [0.05]]), links)
    np.testing.assert_allclose(reference.complex_links(found), expected, atol=1e-13)


def test_smearing_is_covariant_and_nothing_without_weights():
    links = random_links(jax.random.key(2), SHAPE, 3)
    g = SpecialUnitary().random(jax.random.key(3), (*SHAPE, 2, 3, 3))
    loops = ("plaquette", "rectangle", "spatial Polyakov", "temporal Polyakov")
    smearing = StoutSmearing(1, loops, [[0.1, 0.02, -0.03, 0.2]])
    found = smeared(smearing, transformed(links, g))
    np.testing.assert_allclose(found, transformed(smeared(smearing, links), g), atol=1e-13)
    assert float(jnp.max(jnp.abs(found - transformed(links, g)))) > 1e-2
    np.testing.assert_allclose(smeared(StoutSmearing(1, loops), links), links, atol=1e-14)


def test_flow_lowers_the_action_and_is_the_continuum_flow():
    """Third order in the step; plaquette rises; t²E starts at zero."""
    links = random_links(jax.random.key(4), (3, 4), 3)
    flows = {h: gradient_flow(links, h, round(0.4 / h)) for h in (0.1, 0.05, 0.025)}
    ends = [np.asarray(flows[h].links) for h in (0.1, 0.05, 0.025)]
    errors = [np.max(abs(coarse - fine)) for coarse, fine in itertools.pairwise(ends)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(3, abs=0.4)
    assert float(plaquette(flows[0.05].links)) > float(plaquette(links))
    assert float(flows[0.05].energy[0]) == 0
    assert float(flows[0.05].times[-1]) == pytest.approx(0.4)


def test_scales_are_where_the_level_is_reached():
    times = np.linspace(0, 4, 401)
    t_0, w_0 = flow_scales(times, 0.1 * times)
    assert t_0 == pytest.approx(3)
    assert w_0 == pytest.approx(np.sqrt(3), rel=1e-6)
    assert np.isnan(flow_scales(times, 0.01 * times)[0])


@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, -2)])
def test_charge_and_energy_of_a_constant_field(first, second):
    """Abelian fluxes n_1 and n_2 through two planes of SU(2): Q = 2 n_1 n_2 in the continuum, known on the lattice."""
    sizes = (6, 6, 6, 6)
    phases = np.zeros((4, *sizes))
    coordinates = np.indices(sizes)
    for (mu, nu), flux in (((0, 1), first), ((2, 3), second)):
        field = 2 * np.pi * flux / (sizes[mu] * sizes[nu])
        phases[nu] += field * coordinates[mu]
        phases[mu] -= np.where(coordinates[mu] == sizes[mu] - 1, field * sizes[mu] * coordinates[nu], 0.0)
    diagonal = np.exp(1j * phases)
    u = np.zeros((*phases.shape, 2, 2), complex)
    u[..., 0, 0], u[..., 1, 1] = diagonal, diagonal.conj()
    links = jnp.asarray(reference.stored(u))
    sines = [np.sin(2 * np.pi * flux / 36) for flux in (first, second)]
    expected = 6**4 * 2 * sines[0] * sines[1] / (4 * np.pi**2)
    assert float(topological_charge(links)) == pytest.approx(expected, rel=1e-10)
    assert expected == pytest.approx(2 * first * second, rel=0.05)
    assert float(energy_density(links)) == pytest.approx(2 * sum(s**2 for s in sines), rel=1e-10)
    g = SpecialUnitary().random(jax.random.key(5), (*sizes, 2, 2, 2))
    assert float(topological_charge(transformed(links, g))) == pytest.approx(expected, rel=1e-9)


def test_charge_needs_four_dimensions():
    with pytest.raises(ValueError, match="4 dimensions"):
        topological_charge(random_links(jax.random.key(6), (2, 2), 2))


@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (0, 3)])
def test_the_charge_changes_its_sign_when_two_axes_are_exchanged(axes):
    """As a volume does, for links of any kind: every pair of planes has its own sign."""
    links = random_links(jax.random.key(7), (2, 2, 2, 2), 2)
    directions = np.arange(4)
    directions[list(axes)] = axes[::-1]
    exchanged = jnp.swapaxes(links[directions], 1 + axes[0], 1 + axes[1])
    charge = float(topological_charge(links))
    assert abs(charge) > 1e-3
    assert float(topological_charge(exchanged)) == pytest.approx(-charge, rel=1e-10)
