"""Many chains: random numbers of their own, and the same bits on any number of devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc.montecarlo import LocalSweep, init_chains, over_chains, run, run_chains
from slmc.montecarlo.chains import _group_size, _n_devices

SCRIPT = """
import hashlib, sys
import jax
import jax.numpy as jnp, numpy as np
import slmc
jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
from slmc.montecarlo import Label, log_weight_and_force
from slmc.selflearning import TrainingSettings
from slmc.systems.spins import DoubleExchange, EquivariantTransformer
assert len(jax.devices()) == int(sys.argv[1])
target, sphere = DoubleExchange((2, 2), temperature=0.2), slmc.Sphere()
model = EquivariantTransformer((2, 2), 1, 2, temperature=0.2, key=jax.random.key(0))
configurations = sphere.random(jax.random.key(1), (64, 2, 2, 3))
labels = Label(configurations, *jax.vmap(lambda x: log_weight_and_force(target, x))(configurations))
settings = TrainingSettings(n_steps=4, evaluate_every=2, batch_size=128)
found = slmc.fit(jax.random.key(2), model, labels, labels, sphere, settings)
inner = slmc.MetropolisHastings(found.model, slmc.HamiltonianTrajectory(found.model, sphere, 0.3, 2))
update = slmc.MetropolisHastings(target, slmc.CumulativeUpdate(inner, 2))
states, _ = slmc.run_chains(jax.random.key(3), update, slmc.init_chains(update, configurations[:16]), 5)
for part in ((found.model, found.residual), states):
    print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(part))).hexdigest())
"""


@pytest.fixture(scope="module")
def digests():
    """Digests of (training, sampling) by number of devices, in processes of their own."""
    left_out = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_DISABLE_MOST_OPTIMIZATIONS")
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    environment["PJRT_NPROC"] = "16"
    found = {}
    for n_devices in (1, 2, 4):
        command = [sys.executable, "-W", "error", "-c", SCRIPT, str(n_devices)]
        finished = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert finished.returncode == 0, finished.stderr[-2000:]
        found[n_devices] = finished.stdout.split()
    return found


def test_training_gives_the_same_bits_on_any_number_of_devices(digests):
    assert len({training for training, _ in digests.values()}) == 1


def test_sampling_gives_the_same_bits_on_two_and_four_devices(digests):
    assert digests[2][1] == digests[4][1]


def test_batched_diagonalisations_do_not_wait_for_each_other_on_more_devices_than_threads():
    script = """
import jax, jax.numpy as jnp, slmc

class Levels(slmc.Target):
    def log_weight(self, x):
        return jnp.sum(jnp.abs(jnp.linalg.eigvalsh(jnp.diag(jnp.arange(60.0)) + jnp.sum(x))))

def nothing(state, info):
    return None

update = slmc.LocalSweep(Levels(), slmc.montecarlo.Flat(), 0.1)
states = slmc.init_chains(update, jax.random.normal(jax.random.key(0), (32, 2), jnp.float64))
jax.block_until_ready(slmc.run_chains(jax.random.key(1), update, states, 100, nothing))
"""
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "8", "PJRT_NPROC": "4"},
    )


@pytest.mark.parametrize(
    ("n_chains", "at_most", "size"), [(8, 4, 4), (4, 4, 2), (12, 4, 3), (2, 4, 1), (7, 4, 1), (64, 32, 32)]
)
def test_groups_come_out_even_whatever_the_devices(n_chains, at_most, size):
    """XLA rounds programs for one device differently, so a number of groups is either always shared or never."""
    assert _group_size(n_chains, at_most) == size
    n_groups = n_chains // size
    assert (_n_devices(n_groups) > 1) == (n_groups % 2 == 0)


def test_a_chain_does_not_depend_on_the_others_beside_it():
    """Chain c of 8 is chain c run alone with the key folded with c."""
    update = LocalSweep(objects.ring(), objects.SPHERE, 0.7)
    start, key = objects.random_spins(1, 8, 4), jax.random.key(5)
    states, infos = run_chains(key, update, init_chains(update, start), 6)
    assert infos.accepted.shape == (8, 6)
    alone, _ = run(jax.random.fold_in(key, 3), update, update.init(start[3]), 6)
    np.testing.assert_allclose(states.configuration[3], alone.configuration, atol=1e-12)
    assert len(np.unique(np.asarray(states.log_weight))) == 8


def test_telling_progress_changes_no_bit():
    """The last portion is shorter than the others."""
    update, told = LocalSweep(objects.ring(), objects.SPHERE, 0.7), []
    states = init_chains(update, objects.random_spins(1, 4, 4))
    whole = run_chains(jax.random.key(1), update, states, 43, observe)
    portions = run_chains(jax.random.key(1), update, states, 43, observe, lambda *numbers: told.append(numbers))
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(portions), strict=True):
        np.testing.assert_array_equal(one, other)
    assert told == [(min(done + 2, 43), 43) for done in range(0, 43, 2)]


def observe(state, info):
    return state.configuration, info.accepted


@pytest.mark.parametrize("n_chains", [1, 3, 7, 8])
def test_any_number_of_chains(n_chains):
    values = jnp.arange(n_chains, dtype=jnp.float64)
    found = over_chains(lambda shared, one: shared * one, values, jnp.asarray(2.0))
    np.testing.assert_array_equal(found, 2 * np.arange(n_chains))


def test_a_mesh_that_another_library_has_set_does_not_matter():
    values = jnp.arange(8, dtype=jnp.float64)
    with jax.set_mesh(jax.make_mesh((len(jax.devices()),), ("other",))):
        found = over_chains(lambda shared, one: shared * one, values, jnp.asarray(2.0))
    np.testing.assert_array_equal(found, 2 * np.arange(8))
