"""Every weight of the tables: the force is its derivative, it is symmetric, trajectories along it are reversible."""

import equinox as eqx
import jax
import pytest

import objects
from slmc.montecarlo import OMELYAN
from slmc.testing import check_force, check_reversible_trajectory, check_symmetry


@pytest.mark.parametrize("name", objects.WEIGHTS)
def test_force_symmetries_and_reversibility(name):
    target, manifold, configuration, symmetries = objects.WEIGHTS[name]()
    check_force(jax.random.key(5), target, manifold, configuration, n_directions=2)
    for transformation in symmetries:
        assert not eqx.tree_equal(transformation(configuration), configuration)
        check_symmetry(target, configuration, transformation)
    check_reversible_trajectory(jax.random.key(6), OMELYAN, target, manifold, configuration, 0.1, 4)
