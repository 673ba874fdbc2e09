"""Constructors refuse what configuration files refuse: numbers that are none, not whole, not finite, not positive."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc import numbers
from slmc.lattice import check_shape
from slmc.montecarlo import Flat, HamiltonianTrajectory, LocalSweep, MetropolisHastings
from slmc.selflearning import Learner, LearningSettings, TrainingSettings, fit_linear, learn_ladder
from slmc.statistics import jackknife
from slmc.systems.spins import (
    DoubleExchange,
    EquivariantNetwork,
    EquivariantTransformer,
    Heisenberg,
    Ising,
    PlaquetteIsing,
    SwendsenWangProposal,
    SwendsenWangUpdate,
    WolffProposal,
    WolffUpdate,
    diluted,
)

pytestmark = pytest.mark.usefixtures("as_users_call")

KEY = jax.random.key(0)
ISING = Ising((4, 4), couplings=[0.3])

REFUSED = {
    "shape of halves": (lambda: DoubleExchange((4.5, 4)), "positive whole extents"),
    "shape of words": (lambda: Heisenberg("44"), "positive whole extents"),
    "shape that is a number": (lambda: check_shape(4), "positive whole extents"),
    "shape of truths": (lambda: check_shape((True, 4)), "positive whole extents"),
    "coupling": (lambda: DoubleExchange((4, 4), coupling=math.nan), "coupling must be finite; got nan"),
    "coupling in words": (lambda: DoubleExchange((4, 4), coupling="1"), "coupling must be a real number; got '1'"),
    "complex hopping": (lambda: DoubleExchange((4, 4), hopping=1j), "hopping must be a real number"),
    "no hopping": (lambda: DoubleExchange((4, 4), hopping=[]), "hopping must list at least one value"),
    "infinite hopping": (lambda: DoubleExchange((4, 4), hopping=[1.0, math.inf]), "hopping must be finite"),
    "chemical potential": (lambda: DoubleExchange((4, 4), chemical_potential=-math.inf), "chemical_potential must be"),
    "infinite temperature": (lambda: DoubleExchange((4, 4), temperature=math.inf), "temperature must be finite"),
    "temperature zero": (lambda: Heisenberg((4, 4), temperature=0), "temperature must be positive; got 0"),
    "couplings": (lambda: Heisenberg((4, 4), couplings=[math.nan]), "couplings must be finite"),
    "constant": (lambda: Heisenberg((4, 4), constant=math.nan), "constant must be finite"),
    "shells": (lambda: Heisenberg((4, 4), 1.5), "n_shells must be a whole number; got 1.5"),
    "Ising couplings": (lambda: Ising((4, 4), couplings=[math.inf]), "couplings must be finite"),
    "Ising constant": (lambda: Ising((4, 4), constant=math.nan), "constant must be finite"),
    "plaquettes": (lambda: PlaquetteIsing((4, 4), 1.0, math.nan), "plaquette_coupling must be finite"),
    "plaquettes, J": (lambda: PlaquetteIsing((4, 4), math.nan), "coupling must be finite"),
    "cluster without bonds": (lambda: WolffUpdate(Ising((4, 4), couplings=[])), "give the model at least one"),
    "clusters without bonds": (lambda: SwendsenWangUpdate(Ising((4, 4), couplings=[])), "give the model at least one"),
    "radius": (lambda: WolffUpdate(ISING, -1.0), "radius must not be negative"),
    "radius of a proposal": (lambda: WolffProposal(jnp.asarray(0.3), math.nan), "radius must be finite"),
    "bonds": (lambda: SwendsenWangProposal(jnp.asarray(math.nan)), "reduced_coupling must be finite"),
    "samples": (lambda: diluted(KEY, objects.random_spins(1, 4, 2, 2), 0.5, 1.5), "n_samples must be a whole number"),
    "layers": (lambda: EquivariantTransformer((2, 2), 1.5, key=KEY), "n_layers must be a whole number"),
    "heads": (lambda: EquivariantTransformer((2, 2), 1, 0, key=KEY), "n_heads must be at least 1"),
    "initial scale": (lambda: EquivariantTransformer((2, 2), initial_scale=math.nan, key=KEY), "initial_scale must be"),
    "channels": (lambda: EquivariantNetwork((2, 2), n_channels=2.5, key=KEY), "n_channels must be a whole number"),
    "reach": (lambda: EquivariantNetwork((2, 2), reach=-1, key=KEY), "reach must be at least 0"),
    "network temperature": (lambda: EquivariantNetwork((2, 2), temperature=math.nan, key=KEY), "temperature must be"),
    "step size": (lambda: LocalSweep(objects.gaussian(), Flat(), 0.0), "step_size must be positive"),
    "step of a trajectory": (lambda: HamiltonianTrajectory(objects.gaussian(), Flat(), math.nan), "step_size must be"),
    "no steps": (lambda: HamiltonianTrajectory(objects.gaussian(), Flat(), 0.1, 0), "n_steps must be at least 1"),
    "rounds": (lambda: LearningSettings(n_rounds=0), "n_rounds must be at least 1"),
    "steps of rounds": (lambda: LearningSettings(n_steps=(10, 2.5)), "n_steps must be a whole number"),
    "no steps of rounds": (lambda: LearningSettings(n_steps=()), "must list at least one number"),
    "inner updates": (lambda: LearningSettings(n_updates=0), "n_updates must be at least 1"),
    "inner acceptance": (lambda: LearningSettings(inner_acceptance=1.0), "inner_acceptance must lie between 0 and 1"),
    "held out": (lambda: LearningSettings(held_out_share=math.nan), "held_out_share must be finite"),
    "learning rate": (lambda: TrainingSettings(learning_rate=0.0), "learning_rate must be positive"),
    "batch": (lambda: TrainingSettings(batch_size=1), "batch_size must be at least 2"),
    "evaluations": (lambda: TrainingSettings(evaluate_every=0), "evaluate_every must be at least 1"),
    "optimiser": (lambda: TrainingSettings(optimiser="sgd"), "optimiser must be 'adamw' or 'muon'"),
    "rounds of a ladder": (lambda: learn_ladder(KEY, None, None, [1.0, 2.0], None, 0), "n_rounds must be at least 1"),
    "blocks": (lambda: jackknife(np.mean, {"x": np.zeros((2, 9))}, 0), "n_blocks must be at least 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_sentence(name):
    make, words = REFUSED[name]
    with pytest.raises(ValueError, match="^[^\n]*" + words.replace("(", r"\(").replace(")", r"\)")):
        make()


def test_labels_and_weights_of_a_fit():
    labels = objects.labels_of(objects.ring(), objects.random_spins(1, 0, 4))
    with pytest.raises(ValueError, match="needs at least one labelled configuration"):
        fit_linear(objects.ring(), labels, objects.SPHERE)
    with pytest.raises(ValueError, match="force_weight must not be negative"):
        fit_linear(objects.ring(), labels, objects.SPHERE, -1.0)


def test_a_learner_has_one_target():
    exact = objects.hmc(objects.ring(), 0.3)
    with pytest.raises(ValueError, match="must have the Learner's target"):
        Learner(objects.other_ring(), objects.SPHERE, exact, lambda model: objects.hmc(model, 0.3))
    assert isinstance(Learner(objects.ring(), objects.SPHERE, exact, lambda model: exact).exact, MetropolisHastings)


def test_what_is_traced_passes_and_long_values_are_cut():
    def make(x):
        return DoubleExchange((2, 2), coupling=x).coupling

    assert float(jax.jit(make)(jnp.asarray(2.0))) == 2
    assert np.isnan(jax.jit(make)(jnp.asarray(math.nan)))
    with pytest.raises(ValueError, match="…") as error:
        numbers.finite([math.nan] * 100, "x")
    assert len(str(error.value)) < 100
    assert numbers.count(np.int64(3), "n") == 3
