"""Links stay on the group: manifolds, tuning where everything is accepted, and what updates say of where they move."""

import jax
import numpy as np
import pytest

from slmc.montecarlo import LocalSweep, SpecialUnitary, check_on_manifold, init_chains, manifold_of, run_chains, tune
from slmc.systems.gauge import DrivenManifold, GaugeAction, GaugeHeatBath, random_links
from slmc.systems.gauge.observables import plaquette


def test_a_driven_manifold_is_the_one_beneath():
    manifold = DrivenManifold(SpecialUnitary(), GaugeAction((2, 2), 3, 1.0), 2)
    assert float(manifold.distance(np.asarray(random_links(jax.random.key(0), (2, 2), 3)))) < 1e-12
    with pytest.raises(ValueError, match="n_steps must be at least 1"):
        DrivenManifold(SpecialUnitary(), GaugeAction((2, 2), 3, 1.0), 0)


def test_a_heat_bath_tells_where_it_moves():
    assert isinstance(manifold_of(GaugeHeatBath(GaugeAction((2, 2), 2, 1.0))), SpecialUnitary)


def test_pure_gauge_where_every_link_is_accepted():
    """SU(3) on 2×2 at β = 0.5: at 0.8 wanted the step grew until links left the group, and the plaquette was 0."""
    target = GaugeAction((2, 2), 3, 0.5)
    update = LocalSweep(target, SpecialUnitary(), 0.1)
    states = init_chains(update, random_links(jax.random.key(1), (2, 2), 3, 16))
    tuning = tune(jax.random.key(2), update, states, n_rounds=30, n_steps=10)
    assert float(tuning.update.step_size) <= SpecialUnitary().largest_step
    assert tuning.acceptance > 0.8
    _, found = run_chains(jax.random.key(3), tuning.update, tuning.states, 400, _plaquette)
    by_chain = np.asarray(found).mean(1)
    assert by_chain.mean() == pytest.approx(0.0289, abs=4 * by_chain.std() / 4)
    check_on_manifold(SpecialUnitary(), tuning.states.configuration)


def _plaquette(state, info):
    return plaquette(state.configuration)
