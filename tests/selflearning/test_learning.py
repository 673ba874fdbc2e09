"""Fits recover what is known, learning compiles each function once, errors say what is wrong."""

import math
from collections import Counter
from dataclasses import replace
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import objects
from slmc import CumulativeUpdate, Learner, LocalSweep, fit, fit_linear, init_chains, learn
from slmc.montecarlo import Label, Target, log_weight_and_force, step_size
from slmc.selflearning import TrainingSettings, centred, expected_acceptance, measure_acceptance, residual
from slmc.selflearning.held_out import bootstrap_error, change_of_residual, uncertainty_of_residual
from slmc.selflearning.inner_chain import (
    LENGTHS,
    InnerLine,
    efficiency_of_modes,
    expected_efficiency,
    innermost,
    memory,
)
from slmc.selflearning.on_the_fly import (
    LearningSettings,
    is_finished,
    learning_round,
    self_learning_update,
    start_learning,
)
from slmc.selflearning.usable_labels import usable
from slmc.statistics.autocorrelations import autocorrelation, autocorrelation_by_chain
from slmc.systems.spins import DoubleExchange, EquivariantTransformer, HeatBathSweep, Heisenberg
from slmc.systems.spins.observables import staggered_magnetization_squared
from slmc.systems.spins.problem import guide_update, linear_part, nested_update
from slmc.systems.spins.settings import InnerSettings

TRACED_ANEW = True
"""It counts compilations."""

SHAPE = (2, 4)
SPHERE = objects.SPHERE


def labelled(target, n, seed=1, shape=SHAPE):
    spins = objects.random_spins(seed, n, *shape)
    return Label(spins, *jax.lax.map(lambda x: log_weight_and_force(target, x), spins))


@pytest.mark.parametrize("force_weight", [0.0, 1.0])
def test_least_squares_recovers_known_couplings(force_weight):
    known = objects.random_heisenberg(SHAPE)
    found = fit_linear(Heisenberg(SHAPE, temperature=0.4), labelled(known, 64), SPHERE, force_weight, ridge=1e-14)
    np.testing.assert_allclose(found.couplings, known.couplings, rtol=1e-9)
    assert float(found.constant) == pytest.approx(0, abs=1e-12)
    assert residual(found, labelled(known, 32, 2)) < 1e-9


def test_least_squares_of_the_head_of_a_transformer():
    known = objects.random_transformer(SHAPE, "dot-product", 2)
    start = objects.replaced_head(known, Heisenberg(SHAPE, temperature=0.4))
    found = fit_linear(start, labelled(known, 64), SPHERE, ridge=1e-14, where=lambda model: model.head)
    np.testing.assert_allclose(found.head.couplings, known.head.couplings, rtol=1e-8)


def test_least_squares_without_anything_to_fit():
    """A model of a constant alone stays finite."""
    found = fit_linear(Heisenberg(SHAPE, 0), labelled(objects.random_heisenberg(SHAPE), 8), SPHERE)
    assert np.isfinite(float(found.constant))


def test_centred_removes_the_mean():
    known = objects.random_heisenberg(SHAPE)
    shifted = eqx.tree_at(lambda m: m.reduced_constant, known, jnp.asarray(-3.0))
    labels = labelled(known, 16)
    found = centred(shifted, labels, lambda m: m.reduced_constant)
    assert float(found.reduced_constant) == pytest.approx(float(known.reduced_constant), rel=1e-10)


def test_training_lowers_the_residual():
    target = DoubleExchange(SHAPE, temperature=0.2)
    labels, held_out = labelled(target, 128), labelled(target, 64, 2)
    linear = fit_linear(Heisenberg(SHAPE, 1, temperature=0.2), labels, SPHERE)
    model = EquivariantTransformer(SHAPE, 1, 1, head_shells=1, temperature=0.2, key=jax.random.key(0))
    model = objects.replaced_head(model, linear)
    settings = TrainingSettings(n_steps=100, batch_size=64, evaluate_every=25, learning_rate=1e-2)
    reports = []
    result = fit(
        jax.random.key(1), model, labels, held_out, SPHERE, settings, report=lambda *line: reports.append(line)
    )
    before = residual(model, held_out)
    assert result.residual < 0.9 * before
    assert result.residual == pytest.approx(residual(result.model, held_out), rel=1e-12)
    assert result.history[0, 2] == pytest.approx(before)
    assert [line[0] for line in reports] == [25, 50, 75, 100]


def test_the_loss_is_that_of_the_formula():
    """That of the first step, by NumPy: variances within groups of 32, tangential forces for each site."""
    model, configurations, key = objects.other_ring(), objects.random_spins(3, 40, 4), jax.random.key(5)
    exact, effective = (objects.labels_of(one, configurations) for one in (objects.ring(), model))
    settings = TrainingSettings(n_steps=1, evaluate_every=1, batch_size=64, force_weight=0.7)
    history = fit(key, model, exact, exact, objects.SPHERE, settings).history
    differences = np.asarray(exact.log_weight - effective.log_weight)
    gap, spins = np.asarray(exact.force - effective.force), np.asarray(configurations)
    tangential = gap - np.sum(gap * spins, -1, keepdims=True) * spins
    squared = np.sum(tangential**2, (1, 2)) / 4
    groups = np.random.default_rng(np.asarray(jax.random.key_data(key))).integers(40, size=(2, 32))
    expected = np.mean([np.var(differences[group], ddof=1) + 0.7 * np.mean(squared[group]) for group in groups])
    assert history[1, 1] == pytest.approx(expected, rel=1e-10)


def test_fit_errors():
    labels = labelled(objects.random_heisenberg(SHAPE), 16)
    with pytest.raises(ValueError, match="fit needs at least 32 labelled configurations; got 16"):
        fit(jax.random.key(0), objects.random_heisenberg(SHAPE), labels, labels, SPHERE)
    labels = labelled(objects.random_heisenberg(SHAPE), 32)
    broken = labels._replace(log_weight=labels.log_weight * jnp.nan)
    with pytest.raises(FloatingPointError, match="training loss is not finite"):
        fit(
            jax.random.key(0),
            objects.random_heisenberg(SHAPE),
            broken,
            labels,
            SPHERE,
            TrainingSettings(n_steps=2, evaluate_every=1),
        )


def test_learning_needs_two_chains():
    learner = make_learner()
    chains = init_chains(learner.exact, objects.random_spins(1, 1, *SHAPE))
    with pytest.raises(ValueError, match="learning needs at least 2 chains"):
        start_learning(learner, Heisenberg(SHAPE), chains)


def test_expected_acceptance_of_independent_gaussian_residuals():
    """⟨min(1, e^{a − b})⟩ with a − b of the proposal and the target: erfc(s/2), by drawing."""
    rng = np.random.default_rng(1)
    for s in (0.2, 0.7, 1.0):
        # Under the target the residual is shifted by s² from what it is under the model.
        log_ratio = rng.normal(0, s, 400_000) - rng.normal(s**2, s, 400_000)
        assert np.mean(np.minimum(1, np.exp(log_ratio))) == pytest.approx(expected_acceptance(s), abs=0.003)


def test_a_perfect_model_is_always_accepted():
    target = objects.ring()
    proposal = CumulativeUpdate(HeatBathSweep(target), 3)
    found = measure_acceptance(
        jax.random.key(1),
        target,
        proposal,
        objects.random_spins(2, 8, 4),
        lambda spins: jnp.sum(spins[0] * spins[1]),
        20,
    )
    assert found.acceptance == 1.0
    assert abs(found.proposal_autocorrelation) < 0.4


@pytest.mark.parametrize("acceptance", [1.0, 0.6])
@pytest.mark.parametrize("shares", [(0.0, 1.0), (0.6, 0.4)], ids=["one mode", "two modes"])
def test_expected_efficiency_of_slow_modes(acceptance, shares):
    """A sum of AR(1) processes, of which a step that is not accepted keeps all, by its correlations when simulated."""
    rng, kept, shares = np.random.default_rng(1), np.array([0.1, 0.8]), np.array(shares)
    modes = rng.normal(size=(2000, 2))
    series = np.zeros((2000, 500))
    for step in range(500):
        proposed = kept * modes + np.sqrt(1 - kept**2) * rng.normal(size=modes.shape)
        modes = np.where(rng.random((2000, 1)) < acceptance, proposed, modes)
        series[:, step] = modes @ np.sqrt(shares)
    found = 1 / (1 + 2 * autocorrelation(series)[1:80].sum())
    assert found == pytest.approx(efficiency_of_modes(acceptance, shares @ (kept / (1 - kept))), rel=0.05)
    by_one_mode = expected_efficiency(acceptance, shares @ kept)
    if shares[0]:
        assert by_one_mode > 1.5 * found
    else:
        assert found == pytest.approx(by_one_mode, rel=0.05)


@pytest.mark.parametrize("n_updates", [1, 3, 40])
def test_memory_of_proposals(n_updates):
    rng, kept = np.random.default_rng(2), 0.8
    series = rng.normal(size=(64, 400))
    for draw in range(1, 400):
        series[:, draw] = kept * series[:, draw - 1] + np.sqrt(1 - kept**2) * series[:, draw]
    found, error = memory(autocorrelation_by_chain(series), n_updates)
    assert 0 < error < 0.3
    assert abs(found - kept**n_updates / (1 - kept**n_updates)) < 3 * error


def test_memory_of_what_never_moves():
    never, _ = memory(autocorrelation_by_chain(np.repeat(np.arange(4.0), 50).reshape(4, 50)), 1)
    assert efficiency_of_modes(1.0, never) < 0.05
    constant, _ = memory(autocorrelation_by_chain(np.ones((4, 50))), 1)
    assert constant == 0


def nested_learner(temperature=0.2, **others):
    """A network learned with a linear guide inside, among two inner chains."""
    target = DoubleExchange(SHAPE, temperature=temperature)
    training = TrainingSettings(
        batch_size=32, evaluate_every=10, optimiser="muon", learning_rate=0.02, single_precision=True
    )
    settings = LearningSettings(n_rounds=3, n_steps=(12, 6), n_updates=None, training_steps=(20, 10), training=training)
    fields = {
        "start": lambda model, labels: fit_linear(model, labels, SPHERE, where=linear_part),
        "settings": settings,
        "guide": Heisenberg(SHAPE, temperature=temperature),
        "fit_guide": lambda guide, labels: fit_linear(guide, labels, SPHERE),
        "observable": staggered_magnetization_squared,
    }
    kinds = [InnerSettings(n_steps=2, n_guide_updates=number) for number in (1, 2)]
    inner = tuple(partial(nested_update, settings=kind) for kind in kinds)
    exact = others.pop("exact", objects.hmc(target, 0.3, 2))
    return Learner(target, SPHERE, exact, others.pop("inner", inner), **fields | others)


def test_learning_a_nested_chain_and_choosing_it():
    learner = nested_learner()
    model = objects.random_network(SHAPE, temperature=0.2)
    state = start_learning(learner, model, init_chains(learner.exact, objects.random_spins(3, 4, *SHAPE)))
    for number in range(3):
        state, report = learning_round(jax.random.fold_in(jax.random.key(1), number), learner, state)
        # Labels of the first round are what the trajectories propose: they cost nothing more.
        n_steps = 12 + 6 * number
        assert report.n_labels == 3 * n_steps
        assert report.exact_evaluations == 4 * (12 * 3 + 6 * number)
        lines = [InnerLine(*line) for line in report.inner]
        assert len(lines) == 2 * len(LENGTHS)
        assert [line.samples_a_second for line in lines] == sorted((x.samples_a_second for x in lines), reverse=True)
        assert tuple(state.inner) == (lines[0].candidate, lines[0].n_updates)
        assert float(jnp.max(jnp.abs(state.guide.reduced_couplings))) > 0
    update = self_learning_update(learner, state)
    bottom = innermost(update)
    assert bottom.target.reduced_couplings is state.guide.reduced_couplings
    assert float(step_size(bottom)) == float(state.inner_step_size)
    assert update.proposal.n_updates == state.inner[1]


def test_a_held_out_chain_that_hardly_moves_does_not_make_a_linear_model_seem_good():
    settings = InnerSettings(update="heat-bath")
    learner = nested_learner(
        0.05,
        exact=objects.hmc(DoubleExchange(SHAPE, temperature=0.05), 1e-4, 1),
        inner=tuple(partial(kind, settings=settings) for kind in (nested_update, guide_update)),
        guide=Heisenberg(SHAPE, 1, temperature=0.05),
    )
    chains = init_chains(learner.exact, objects.random_spins(3, 4, *SHAPE))
    state = start_learning(learner, objects.random_network(SHAPE, temperature=0.05), chains)
    _, report = learning_round(jax.random.key(1), learner, state)
    (acceptance,) = {line.acceptance for line in (InnerLine(*line) for line in report.inner) if line.candidate == 1}
    assert acceptance < 0.5


@pytest.mark.parametrize(
    ("others", "message"),
    [({"observable": None}, "needs an observable"), ({"fit_guide": None}, "guide and fit_guide belong together")],
)
def test_learner_errors(others, message):
    with pytest.raises(ValueError, match=message):
        nested_learner(**others)


def make_learner():
    target = DoubleExchange(SHAPE, temperature=0.2)
    settings = LearningSettings(
        n_rounds=3, n_steps=12, n_updates=2, training=TrainingSettings(n_steps=20, batch_size=32, evaluate_every=10)
    )
    return Learner(
        target,
        SPHERE,
        LocalSweep(target, SPHERE, 0.5),
        lambda model: objects.hmc(model, 0.2, 2),
        settings=settings,
    )


@pytest.mark.parametrize(
    ("n_steps", "training_steps", "residuals", "finished"),
    [
        (12, None, [0.3, 0.4, 0.4], True),
        (12, None, [0.3, 0.4, 0.2], False),
        (12, None, [0.3, 0.3], False),
        (12, None, [0.5, 0.4, 0.3, 0.2, 0.1], True),
        ((6, 6, 6, 12), None, [0.3, 0.4, 0.4], False),
        ((6, 6, 6, 12), None, [0.3, 0.4, 0.4, 0.4], True),
        (12, (5, 5, 5, 20), [0.3, 0.4, 0.4], False),
    ],
)
def test_learning_ends_when_nothing_improves_but_not_before_all_listed_numbers_were_used(
    n_steps, training_steps, residuals, finished
):
    settings = LearningSettings(n_rounds=5, n_steps=n_steps, training_steps=training_steps)
    learner = replace(make_learner(), settings=settings)
    chains = init_chains(learner.exact, objects.random_spins(3, 4, *SHAPE))
    state = start_learning(learner, Heisenberg(SHAPE, temperature=0.2), chains)
    padded = np.array([*residuals, *[np.nan] * (5 - len(residuals))])
    state = state._replace(n_rounds=np.asarray(len(residuals)), residuals=padded)
    assert is_finished(learner, state) == finished


def test_three_rounds_compile_each_function_once(caplog):
    """Round 1 samples with the exact update, round 2 brings in the self-learning update; round 3 compiles nothing.

    Every round trains for its own number of steps.
    """
    learner = make_learner()
    learner = replace(learner, settings=replace(learner.settings, training_steps=(20, 10)))
    model = EquivariantTransformer(SHAPE, 1, 2, temperature=0.2, key=jax.random.key(0))
    state = start_learning(learner, model, init_chains(learner.exact, objects.random_spins(3, 4, *SHAPE)))
    compiled = []
    steps: list[int] = []
    for number in range(3):
        caplog.clear()
        with jax.log_compiles(True), caplog.at_level("WARNING", "jax"):
            state, report = learning_round(
                jax.random.fold_in(jax.random.key(1), number), learner, state, lambda step, *_: steps.append(step)
            )
        messages = [record.getMessage() for record in caplog.records]
        compiled.append(Counter(text.split()[1] for text in messages if text.startswith("Compiling ")))
        assert report.round == number + 1
        assert report.n_labels == 36 * (number + 1)
        assert np.isfinite(report.residual)
    assert compiled[0].total() > 0
    assert compiled[1]["jit(_mapped)"] == 1, compiled[1]
    assert compiled[2].total() == 0, compiled[2]
    assert steps == [10, 20, 10, 10]
    update = self_learning_update(learner, state)
    assert float(update.proposal.update.proposal.step_size) == float(state.inner_step_size)


# --- what held-out samples and labels of weight zero say ------------------------------------------------------------


def test_the_residual_has_an_error_that_covers():
    """Residuals correlated along chains: repeated measurements scatter by as much as the block bootstrap says."""
    found, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(2, 100))
        for step in range(1, 100):
            noise[:, step] = 0.6 * noise[:, step - 1] + 0.8 * noise[:, step]
        found.append(np.std(0.3 * noise))
        errors.append(bootstrap_error(0.3 * noise))
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.35)
    # The wrong twin: draws taken for independent.
    assert 0.3 / np.sqrt(2 * 200) < 0.8 * np.std(found)
    assert np.isnan(bootstrap_error(np.zeros((2, 7))))


def test_a_residual_that_rises_is_told():
    residuals = np.array([0.259, 0.299, 0.338])
    words = change_of_residual(residuals, 0.03, 0.35)
    assert "rose to 0.338 ± 0.030 from 0.259 in round 1. The new model is kept: on the samples" in words
    assert change_of_residual(residuals[::-1], 0.03, 0.3) == ""
    assert change_of_residual(np.array([0.3, 0.31]), 0.02, 0.3) == ""
    assert change_of_residual(np.array([0.009, 0.015]), 0.001, 0.015) == ""  # acceptance falls by less than 0.01
    assert "known to ± 0.100 only" in uncertainty_of_residual(0.3, 0.1)
    assert uncertainty_of_residual(0.3, 0.02) == ""
    assert "known to ± nan only" in uncertainty_of_residual(0.3, math.nan)


class Walled(Target):
    """Heisenberg spins whose magnetization along z may not exceed 0.5: log W = ``beyond`` otherwise."""

    inside: Heisenberg
    beyond: float

    def log_weight(self, spins):
        return jnp.where(jnp.abs(jnp.mean(spins[..., 2])) < 0.5, self.inside.log_weight(spins), self.beyond)


def walled_learner(beyond):
    target = Walled(objects.random_heisenberg(SHAPE, 1), beyond)
    exact = objects.hmc(target, 0.4)
    training = TrainingSettings(n_steps=0, force_weight=0.0)
    settings = LearningSettings(n_rounds=1, n_steps=60, n_updates=2, training=training)
    start = partial(fit_linear, manifold=SPHERE, force_weight=0.0)
    return Learner(target, SPHERE, exact, HeatBathSweep, start=start, settings=settings)


def test_labels_of_weight_zero_stay_out_of_the_fit():
    """Hard walls: exact HMC works, and learning aborted at once."""
    learner = walled_learner(-math.inf)
    learned = learn(jax.random.key(1), learner, Heisenberg(SHAPE, 1), objects.random_spins(3, 4, *SHAPE), 60)
    (report,) = learned.reports
    assert 0 < report.share_of_weight_zero < 0.9
    assert report.n_labels == round(3 * 60 * (1 - report.share_of_weight_zero))
    np.testing.assert_allclose(learned.model.reduced_couplings, learner.target.inside.reduced_couplings, rtol=1e-5)
    assert report.residual < 1e-6


def test_labels_that_are_not_numbers_name_the_configuration():
    with pytest.raises(FloatingPointError, match=r"log-weight of a configuration .* check the target there: \["):
        learn(jax.random.key(1), walled_learner(math.nan), Heisenberg(SHAPE, 1), objects.random_spins(3, 4, *SHAPE), 60)
    labels = labelled(objects.random_heisenberg(SHAPE), 4)
    broken = labels._replace(force=labels.force.at[2].set(jnp.nan))
    with pytest.raises(FloatingPointError, match=r"force of a configuration .* \(1 of 4 labels\)"):
        usable(broken, forces_matter=True)
    assert usable(broken, forces_matter=False).labels is broken
    walled = broken._replace(log_weight=broken.log_weight.at[2].set(-jnp.inf))
    kept, share = usable(walled, forces_matter=True)
    assert (len(kept.log_weight), share) == (3, 0.25)


def test_a_round_reports_what_its_samples_say():
    learner = make_learner()
    state = start_learning(learner, Heisenberg(SHAPE), init_chains(learner.exact, objects.random_spins(1, 4, *SHAPE)))
    state, report = learning_round(jax.random.key(1), learner, state)
    assert report.residual_error > 0
    assert report.residual_before >= report.residual - 1e-12
