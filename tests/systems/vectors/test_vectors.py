"""Expensive weights of vectors: updates leave them invariant, models are what they say, functions may fail."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import equinox as eqx
import functions_for_processes
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats

import slmc
from slmc import testing
from slmc.montecarlo import HamiltonianTrajectory, Label, MetropolisHastings, Proposal, log_weight_and_force
from slmc.system import UserError, load_model, save_model
from slmc.systems import vectors
from slmc.systems.vectors import CrankNicolson, Elliptic, Evaluations, Network, Polynomial, Prior, RandomWalk, Shaped
from slmc.systems.vectors.models import build_like
from slmc.systems.vectors.posterior import JaxFunction, Posterior, factor_of
from slmc.systems.vectors.umbridge import UMBridgeModel
from slmc.workers import HUNG

PRECISION = np.array([[4.0, 1.5], [1.5, 2.0]])
SHIFT = np.array([1.0, -0.5])
FACTOR = jnp.asarray([[0.6, 0.0], [-0.5, 0.9]])


def gaussian(x: Any) -> Any:
    """log L of a Gaussian; with the standard normal prior the posterior is known."""
    away = x - SHIFT
    return -away @ PRECISION @ away / 2


TARGET = Posterior(Prior.standard(2), JaxFunction(gaussian), FACTOR)
COVARIANCE = np.linalg.inv(PRECISION + np.eye(2))
MEAN = COVARIANCE @ PRECISION @ SHIFT


def exact_draws(n: int) -> Any:
    return jnp.asarray(np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, n))


STATISTICS = {
    "first": lambda z: z[0],
    "second": lambda z: z[1],
    "difference": lambda z: z[0] - z[1],
    "size": lambda z: jnp.sum(z**2),
}


# ------------------------------------------------------------------------------------------------------ updates


class Unweighted(Proposal):
    """The wrong twin: the proposal without its ratio."""

    proposal: CrankNicolson

    def propose(self, key, configuration):
        return self.proposal.propose(key, configuration)[0], jnp.zeros(())


class Lopsided(Shaped):
    """The wrong twin of a mass matrix: forces act as if momenta were velocities, and volume is not what is kept."""

    def move(self, position, momentum, time):
        return position + time * (self.factor @ momentum) * (1 + 0.3 * jnp.tanh(position)), momentum


UPDATES = {
    "adaptive Metropolis": RandomWalk(Shaped(FACTOR), 1.5),
    "preconditioned Crank-Nicolson": CrankNicolson(0.9),
    "HMC with a mass matrix": HamiltonianTrajectory(TARGET, Shaped(FACTOR), jnp.asarray(0.5), 3),
}
WRONG = {
    "without its ratio": Unweighted(CrankNicolson(0.9)),
    "not reversible": HamiltonianTrajectory(TARGET, Lopsided(FACTOR), jnp.asarray(0.5), 3),
}


@pytest.mark.parametrize("name", UPDATES)
def test_updates_leave_the_posterior_invariant(name: str) -> None:
    """From 4,000 exact draws, three steps."""
    update = MetropolisHastings(TARGET, UPDATES[name])
    testing.check_invariance(jax.random.key(2), update, exact_draws(8000), STATISTICS, n_steps=3)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_twins_are_caught(name: str) -> None:
    update = MetropolisHastings(TARGET, WRONG[name])
    with pytest.raises(AssertionError, match="does not leave its target invariant"):
        testing.check_invariance(jax.random.key(2), update, exact_draws(8000), STATISTICS, n_steps=3)


def test_the_shape_of_steps_is_the_covariance_of_what_was_seen() -> None:
    draws = np.asarray(exact_draws(20000))
    factor = np.asarray(factor_of(draws))
    np.testing.assert_allclose(factor @ factor.T, np.cov(draws.T), atol=1e-3)
    blended = np.asarray(factor_of(draws, np.eye(2), 0.25))
    np.testing.assert_allclose(blended @ blended.T, 0.25 * factor @ factor.T + 0.75 * np.eye(2), atol=1e-12)
    assert np.all(np.isfinite(factor_of(np.zeros((3, 4)))))  # chains that have not moved


# -------------------------------------------------------------------------------------------------------- prior

PARAMETERS = {
    "n": (vectors.normal(1.0, 2.0), stats.norm(1.0, 2.0)),
    "u": (vectors.uniform(-1.0, 3.0), stats.uniform(-1.0, 4.0)),
    "l": (vectors.log_normal(0.5, 0.7), stats.lognorm(0.7, scale=np.exp(0.5))),
    "f": (vectors.flat(2.0, 0.5), None),
    "p": (vectors.positive(3.0), None),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_density_of_coordinates_is_that_of_parameters_and_its_jacobian(name: str) -> None:
    """Against the densities of SciPy and a derivative by differences; flat ones have the density one in x."""
    parameter, known = PARAMETERS[name]
    prior = Prior.of({name: parameter})
    z = np.array([-1.1, 0.0, 0.8])
    x = np.array([float(prior.parameters(jnp.array([one]))[0]) for one in z])
    slopes = [
        float(prior.parameters(jnp.array([one + 1e-5]))[0] - prior.parameters(jnp.array([one - 1e-5]))[0]) / 2e-5
        for one in z
    ]
    expected = np.log(slopes) + (0 if known is None else known.logpdf(x))
    found = np.array([float(prior.log_density(jnp.array([one]))) for one in z])
    np.testing.assert_allclose(found - found[1], expected - expected[1], atol=1e-8)
    np.testing.assert_allclose([float(prior.coordinates([one])[0]) for one in x], z, atol=1e-9)


def test_correlated_parameters_have_their_covariance() -> None:
    covariance = np.array([[2.0, 0.6], [0.6, 0.5]])
    prior = Prior.gaussian([1.0, -1.0], covariance, ("a", "b"))
    matrix = np.stack([np.asarray(prior.parameters(jnp.asarray(unit)) - prior.first) for unit in np.eye(2)], axis=1)
    np.testing.assert_allclose(matrix @ matrix.T, covariance, atol=1e-12)
    np.testing.assert_allclose(prior.coordinates(prior.parameters(jnp.array([0.3, -2.0]))), [0.3, -2.0], atol=1e-12)
    with pytest.raises(ValueError, match="positive definite"):
        Prior.gaussian([0.0, 0.0], [[1.0, 2.0], [2.0, 1.0]])
    for wrong in (lambda: vectors.uniform(1.0, 1.0), lambda: vectors.normal(0.0, -1.0), lambda: Prior.of({})):
        with pytest.raises(ValueError, match=r"needs|must be positive"):
            wrong()


# ------------------------------------------------------------------------------------------------------- models


def labels_of(target: Any, z: Any) -> Label:
    return Label(z, *_log_weights_and_forces(target, z))


@eqx.filter_jit
def _log_weights_and_forces(target: Any, z: Any) -> Any:
    return jax.vmap(lambda one: log_weight_and_force(target, one))(z)


@eqx.filter_jit
def _log_weights(model: Any, z: Any) -> Any:
    return jax.vmap(model.log_weight)(z)


def log_weights(model: Any, z: Any) -> np.ndarray:
    return np.asarray(_log_weights(model, z))


def assert_same(one: Any, other: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for first, second in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(first, second)


def cubic(x: Any) -> Any:
    return gaussian(x) + 0.05 * x[0] ** 2 * x[1]


def test_a_polynomial_is_exact_where_the_posterior_is_one(tmp_path: Path) -> None:
    """A cubic log-likelihood from 40 labels with forces, and from values alone; and as it comes back from a file."""
    target = Posterior(Prior.standard(2), JaxFunction(cubic), jnp.eye(2))
    for of, degree, force_weight, least in ((TARGET, 2, 3.0, 1e-5), (target, 3, 0.0, 0.02), (target, 3, 3.0, 0.02)):
        labels = labels_of(of, exact_draws(60))
        model = Polynomial(of.prior.kinds, degree).solved(jax.tree.map(lambda leaf: leaf[:40], labels), force_weight)
        differences = log_weights(model, labels.configuration) - np.asarray(labels.log_weight)
        assert np.std(differences) < least  # of degree 3 it follows not quite to the ends, by design
    save_model(tmp_path / "model.eqx", model, model.describe())
    assert_same(load_model(tmp_path / "model.eqx", build_like), model)
    far = jnp.array([[40.0, 0.0], [0.0, -40.0], [300.0, 300.0]])
    assert np.all(log_weights(model, far) < -500)  # the prior holds it, whatever was fitted


def test_a_network_starts_as_the_polynomial(tmp_path: Path) -> None:
    kinds = ("normal", "flat")
    network = Network(kinds, n_hidden=8, n_layers=2, key=jax.random.key(0))
    labels = labels_of(TARGET, exact_draws(40))
    solved, z = network.solved(labels, 1.0), exact_draws(3)
    np.testing.assert_allclose(log_weights(solved, z), log_weights(solved.polynomial, z), rtol=1e-12)
    moved = eqx.tree_at(lambda model: model.readout, solved, jnp.ones(8))
    assert np.all(log_weights(moved, z) != log_weights(solved, z))
    save_model(tmp_path / "model.eqx", moved, moved.describe())
    assert_same(load_model(tmp_path / "model.eqx", build_like), moved)
    with pytest.raises(ValueError, match="take a lower degree"):
        Polynomial(("normal",) * 30, 4)


# -------------------------------------------------------------------------------------------------- evaluations


def test_functions_that_fail_have_likelihood_zero_and_too_many_end_the_run() -> None:
    evaluations = Evaluations(functions_for_processes.value, functions_for_processes.parabola, max_failures=0.02)
    values, gradients = evaluations.values_and_gradients(np.array([[1.0, 0.5], [3.0, 0.0]]))
    np.testing.assert_array_equal(values, [-0.625, -np.inf])
    np.testing.assert_array_equal(gradients, [[-1.0, -0.5], [0.0, 0.0]])
    assert "1 of 2 evaluations of the log-likelihood failed" in evaluations.remark
    assert "ArithmeticError: beyond two" in evaluations.remark
    with pytest.raises(UserError, match=r"failed in 3 of 4 evaluations, more than max_failures = 0.02"):
        evaluations.values(np.array([[3.0, 0.0], [3.0, 0.0]]))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: "many", "must return a number for a vector"),
        (lambda x: np.zeros(3), "must return a number for a vector"),
    ],
)
def test_what_is_no_number_is_told(function: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Evaluations(function).values(np.zeros((2, 2)))


def test_a_gradient_of_another_shape_is_told() -> None:
    both = Evaluations(gaussian, lambda x: (0.0, np.zeros(3)))
    with pytest.raises(UserError, match=r"must have the shape \(2,\)"):
        both.values_and_gradients(np.zeros((2, 2)))


def test_functions_of_a_batch_and_threads_give_the_same() -> None:
    x = np.random.default_rng(0).normal(size=(5, 2)) / 2
    expected = Evaluations(functions_for_processes.value).values(x)
    batched = Evaluations(lambda batch: -(batch**2).sum(1) / 2, batched=True)
    np.testing.assert_allclose(batched.values(x), expected, rtol=1e-15)
    threads = Evaluations(functions_for_processes.value, workers=2, workers_are="threads")
    np.testing.assert_array_equal(threads.values(x), expected)
    with pytest.raises(UserError, match="of a batch of 5 returned 1 values"):
        Evaluations(lambda batch: np.zeros(1), batched=True).values(x)
    with pytest.raises(ValueError, match="leave workers out"):
        Evaluations(functions_for_processes.value, batched=True, workers=2)


def test_processes_give_the_same_and_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that raises goes on; one that ends, or takes too long, is followed by another."""
    monkeypatch.setattr("slmc.workers._START", 60.0)
    evaluations = Evaluations(functions_for_processes.value, workers=2, timeout=1.0, max_failures=1.0)
    try:
        np.testing.assert_array_equal(
            evaluations.values(np.array([[1.0], [3.0], [0.5], [-3.0], [0.0], [1.5]])),
            [-0.5, -np.inf, -0.125, -np.inf, 0.0, -1.125],
        )
        assert evaluations.n_failures == 2
        np.testing.assert_array_equal(evaluations.values(np.array([[-5.0], [-5.0], [1.0]])), [-np.inf, -np.inf, -0.5])
        assert HUNG in evaluations.remark or evaluations.n_failures == 4
    finally:
        evaluations.close()


# ---------------------------------------------------------------------------------------------------- UM-Bridge


class Server(BaseHTTPRequestHandler):
    """A server of the UM-Bridge protocol, version 1.0, with two models: G(x, y) = (x², x + y), and its sum."""

    def do_GET(self) -> None:
        self._answer({"protocolVersion": 1.0, "models": ["forward", "posterior"]})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        weights = [1.0, 1.0] if asked["name"] == "posterior" else None
        if self.path == "/InputSizes":
            self._answer({"inputSizes": [1, 1]})
        elif self.path == "/OutputSizes":
            self._answer({"outputSizes": [1 if weights else 2]})
        elif self.path == "/ModelInfo":
            self._answer({"support": {"Evaluate": True, "Gradient": True}})
        else:
            (x,), (y,) = asked["input"]
            if x > 9:
                self._answer({"error": {"type": "ModelError", "message": "no solution"}}, 500)
            outputs = [x * x * asked["config"].get("scale", 1.0), x + y]
            if self.path == "/Evaluate":
                self._answer({"output": [[sum(outputs)] if weights else outputs]})
            else:
                sens = weights or asked["sens"]
                of = [2 * x * sens[0] + sens[1], sens[1]]
                self._answer({"output": [of[asked["inWrt"]]]})

    def _answer(self, content: Any, code: int = 200) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_models_of_a_server_are_log_likelihoods(url: str) -> None:
    plain = UMBridgeModel(url, "posterior", {"scale": 2.0}).check()
    assert plain.dimension == 2
    assert plain.has_gradient
    assert plain.value(np.array([3.0, 1.0])) == 22.0
    data = UMBridgeModel(url, "forward", observed=[4.0, 0.0], noise=2.0).check()
    x = np.array([1.5, -0.5])
    value, gradient = data.value_and_gradient(x)
    assert value == -((1.5**2 - 4) ** 2 + 1.0) / 8
    numbers = [(data.value(x + step) - data.value(x - step)) / 2e-6 for step in 1e-6 * np.eye(2)]
    np.testing.assert_allclose(gradient, numbers, rtol=1e-6)


def test_servers_and_models_that_are_not_there_are_told(url: str) -> None:
    with pytest.raises(UserError, match="has no model 'other'"):
        UMBridgeModel(url, "other").check()
    with pytest.raises(UserError, match="has 2 outputs: a log-likelihood has one"):
        UMBridgeModel(url, "forward").check()
    with pytest.raises(UserError, match=r"says: 500, .*no solution"):
        UMBridgeModel(url, "posterior").value([10.0, 0.0])
    with pytest.raises(UserError, match="there is no UM-Bridge server"):
        UMBridgeModel("http://127.0.0.1:9", "posterior").check()


# ------------------------------------------------------------------------------------------------------ elliptic


def test_the_elliptic_equation_is_solved_and_differentiated() -> None:
    """Constant k: u = s(1 − s)/(2k). The gradient against differences."""
    problem = Elliptic(dimension=4, n_cells=64)
    nodes = np.arange(1, 64) / 64
    np.testing.assert_allclose(problem.solution(np.zeros(4)), nodes * (1 - nodes) / 2, atol=1e-12)
    x = np.array([0.5, -0.3, 0.2, 0.9])
    value, gradient = problem.value_and_gradient(x)
    numbers = [(problem(x + step) - problem(x - step)) / 2e-5 for step in 1e-5 * np.eye(4)]
    np.testing.assert_allclose(gradient, numbers, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())
    assert value == problem(x)
    assert problem(np.full(4, 100.0)) == -np.inf


# ---------------------------------------------------------------------------------------------------------- runs


SMALL = {
    "exact.tuning_steps": 60,
    "thermalisation.n_steps": 60,
    "learning.n_rounds": 2,
    "learning.n_steps": 15,
    "inner.n_updates": 4,
    "measurement": {"n_chains": 4, "n_steps": 100, "n_thermalise": 10, "block_size": 25, "keep_every": 5},
}


def value_alone(x: Any) -> float:
    return float(gaussian(np.asarray(x)))


def test_a_function_of_numpy_is_learned_sampled_and_resumed(tmp_path: Path) -> None:
    """From values alone: the Gaussian posterior is found, a shorter run made longer has the same bits, and what is
    measured of configurations that were kept is what was recorded."""
    quantities = {"size": lambda x: jnp.sum(x**2)}
    problem = vectors.vector_problem(value_alone, {"a": vectors.normal(), "b": vectors.normal()}, quantities=quantities)
    events: list[dict[str, Any]] = []
    whole = slmc.run(problem, SMALL, out=tmp_path / "whole", quiet=True, log=events.append)
    assert whole.summary["acceptance"] > 0.9
    for name, mean, variance in zip("ab", MEAN, np.diag(COVARIANCE), strict=True):
        found = whole.observables[name]
        assert abs(found.value - mean) < 5 * found.error
        deviation = whole.observables[f"deviation of {name}"]
        assert abs(deviation.value - variance**0.5) < 5 * deviation.error
    short = slmc.run(problem, SMALL | {"measurement.n_steps": 50}, out=tmp_path / "short", quiet=True)
    assert short.configurations["configuration"].shape == (4, 10, 2)
    longer = slmc.run(problem, SMALL, out=tmp_path / "short", quiet=True, go_on=True)
    assert longer.records["measurement"].to_dataset().identical(whole.records["measurement"].to_dataset())
    assert longer.configurations.identical(whole.configurations)
    for name in ("a", "size", "log_likelihood", "log_weight"):
        anew = slmc.measure(whole, name)
        np.testing.assert_array_equal(anew, whole.records["measurement"][name].values[:, anew["draw"].values])
    np.testing.assert_array_equal(slmc.measure(whole, lambda z: z[1] * 2), 2 * slmc.measure(whole, "b"))
    assert_told(events)
    assert_fit_for_notebooks(whole)


def assert_told(events: list[dict[str, Any]]) -> None:
    """Loggers are told of phases and figures, as JSON has them."""
    assert [event["phase"] for event in events if event["event"] == "phase"] == ["thermalise", "learn", "measure"]
    measured = [event for event in events if event["event"] == "progress" and event["phase"] == "measure"]
    assert (measured[-1]["done"], measured[-1]["total"]) == (5, 5)
    assert 0 < measured[-1]["acceptance"] <= 1
    assert json.loads(json.dumps(events)) == events


def assert_fit_for_notebooks(result: Any) -> None:
    """The tree is what ArviZ takes; figures are drawn on axes that are given, and on new ones."""
    tree = result.to_datatree()
    assert set(tree["posterior"].data_vars) == {"a", "b", "size", "log_likelihood"}
    assert tree["posterior"]["a"].dims == ("chain", "draw")
    assert set(tree["sample_stats"].data_vars) == {"lp", "accepted", "log_ratio"}
    assert json.loads(tree.attrs["settings"])["measurement"]["n_chains"] == 4
    given = Figure().subplots(1, 2)
    used = result.plot("acceptance", given)
    assert list(used) == list(given)
    assert all(axes.get_title() and axes.has_data() for axes in given)
    assert len(result.plot("learning")) >= 1
    with pytest.raises(UserError, match="there is no figure 'portrait'; there are comparison"):
        result.plot("portrait")
    with pytest.raises(UserError, match="nothing to draw for 'ladder'"):
        result.plot("ladder")
    for name in ("what is sampled", "log <i>L</i>", "seed", "please cite", "parameters of the model"):
        assert name in result.report.read_text()


def test_an_entry_point_makes_a_posterior_a_configuration_file(slmc: Any, tmp_path: Path) -> None:
    """The ready-made inverse problem, small: gradients, a mass matrix, a cubic model."""
    sizes = {"thermalisation.n_steps": 50, "learning.n_rounds": 1, "learning.n_steps": 20, "measurement.n_steps": 50}
    sizes |= {"target.options": "{dimension = 2, n_cells = 32}", "exact.tuning_steps": 60}
    options = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    code, out, err = slmc("run", "elliptic", "--out", tmp_path / "e", *options)
    assert code == 0, err
    assert "deviation of x0" in out
    assert slmc("run", "elliptic", "--set", "target.log_likelihood=nothing")[2].startswith(
        "error: target.log_likelihood = 'nothing' is unknown; installed packages offer elliptic"
    )
