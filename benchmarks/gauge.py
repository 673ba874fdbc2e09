"""Lattice gauge theory: exact averages, pseudofermions against determinants, SLMC and SLHMC, cost.

    python benchmarks/gauge.py [torus strong quenched pseudofermions slmc slhmc cost]

Writes ``benchmarks/results/gauge.json`` and, from it, ``docs/results/gauge.md`` and ``gauge_slhmc.svg``. Interrupted,
it continues; parts can be run one by one. For the times on one core run
``taskset -c 0 python benchmarks/gauge.py cost``.
"""

import functools
import itertools
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from command import main
from gauge_page import page
from result_file import ROOT, ResultFile
from timing import least_seconds

from slmc.montecarlo import (
    OMELYAN,
    HamiltonianTrajectory,
    Label,
    Manifold,
    MetropolisHastings,
    Sequence,
    SpecialUnitary,
    State,
    Target,
    Update,
    decision_of,
    init_chains,
    run_chains,
)
from slmc.montecarlo.special_unitary import as_matrices
from slmc.selflearning import Learner, LearningSettings, TrainingSettings, fit, fit_linear, learn
from slmc.statistics import estimate
from slmc.systems.gauge import (
    ActionChange,
    DrivenManifold,
    Dynamical,
    EffectiveAction,
    FermionDeterminant,
    GaugeAction,
    GaugeHeatBath,
    PseudofermionAction,
    PseudofermionTrajectory,
    RefreshPseudofermions,
    Solver,
    Staggered,
    StoutSmearing,
    TrajectoryEnds,
    Wilson,
    random_links,
)
from slmc.systems.gauge.fermion_operator import gaussian_field
from slmc.systems.gauge.observables import plaquette, polyakov_loop, staggered_condensate

MANIFOLD = SpecialUnitary()


KINDS = {
    "plaquette": {},
    "plaquette, rectangle": {"rectangles": True},
    "plaquette, rectangle, Polyakov": {"rectangles": True, "polyakov_loops": True},
}


class Settings(NamedTuple):
    """Lattices; chains; steps of all chains, thermalisation before them counted apart, by method where there are
    several; guides by mass, each with the steps of its trajectories (shorter for the heavier), labels and learning
    rate (the heaviest gain so little that their gradient is noise with fewer labels and larger steps)."""

    torus_shape: tuple[int, ...] = (8, 8)
    torus_steps: int = 200
    small_shape: tuple[int, ...] = (4, 4, 4, 4)
    quenched_shape: tuple[int, ...] = (8, 8, 8, 8)
    strong_steps: int = 600
    quenched_steps: int = 240
    fermion_shapes: tuple[tuple[int, ...], ...] = ((2, 2, 2, 4), (4, 4, 4, 4))
    fermion_steps: tuple[int, ...] = (3000, 900)
    betas: tuple[float, ...] = (2.3, 2.7)
    n_chains: int = 4
    mass: float = 0.5
    slmc_beta: float = 2.3
    slmc_labels: tuple[int, ...] = (16, 24, 24)
    slmc_thermalise: int = 240
    hmc_steps: tuple[int, ...] = (1200, 6000)
    slmc_steps: tuple[int, ...] = (480, 480, 2400)
    n_updates: int = 20
    slhmc_guides: tuple[tuple[float, int, int, float], ...] = (
        (0.4, 6, 256, 1e-2),
        (0.5, 6, 256, 1e-2),
        (0.75, 3, 256, 1e-2),
        (1.0, 2, 1024, 1e-3),
    )
    slhmc_steps: int = 400
    training_steps: int = 300
    cost_shapes: tuple[tuple[int, ...], ...] = ((4, 4, 4, 4), (6, 6, 6, 6), (8, 8, 8, 8))
    groups: tuple[int, ...] = (2, 3)
    n_flavours: tuple[float, ...] = (4.0, 2.0)
    effective_actions: tuple[str, ...] = tuple(KINDS)
    pure_chains: tuple[int, ...] = (64, 8, 2)


# Pure gauge theory has one number of chains, lattice and length of blocks, so that its programs are compiled once.
# So has what makes labels: 236 of four chains are 60 steps, as many as come before them.
QUICK = Settings((2, 2), 20, (2, 2), (2, 2), 5, 5, ((2, 2),), (8,), (2.3,), 4, 0.5, 2.3, (16, 16), 2, (8, 8), (8,),
                 2, ((0.75, 2, 236, 1e-2),), 8, 4, ((2, 2),), (2,), (4.0,), tuple(KINDS)[-1:], (4, 4, 4))  # fmt: skip


class Measured(NamedTuple):
    """Series by name, shape (chain, step), mean acceptance, seconds of the measured steps, the last states."""

    series: dict[str, np.ndarray]
    acceptance: float
    seconds: float
    states: Any


def measured(
    update: Update, start: Any, n_thermalise: int, n_steps: int, observables: Callable[[State], Any], seed: int
) -> Measured:
    """Thermalises for at least ``n_thermalise`` steps, then runs and times about ``n_steps`` of every chain.

    Both in blocks of one length, so that the program is compiled before the clock starts.
    """
    decision = decision_of(update)

    def observe(state: State, info: Any) -> dict[str, jax.Array]:
        return observables(state) | {"accepted": decision(info).accepted}

    key = jax.random.key(seed)
    states, seen = init_chains(update, start), []
    n_blocks = max(1, n_steps // max(1, n_thermalise))
    block = n_steps // n_blocks
    for number in range(-(-n_thermalise // block)):
        states, _ = jax.block_until_ready(run_chains(jax.random.fold_in(key, number), update, states, block, observe))
    started = time.perf_counter()
    for number in range(n_blocks):
        states, one = run_chains(jax.random.fold_in(key, 1000 + number), update, states, block, observe)
        seen.append(jax.device_get(one))
    seconds = time.perf_counter() - started
    series = {name: np.concatenate([one[name] for one in seen], axis=1) for name in seen[0]}
    return Measured(series, float(np.mean(series.pop("accepted"))), seconds, states)


def row_of(found: Measured, **more: Any) -> dict[str, Any]:
    """Estimates of all series, how many draws they have, acceptance, seconds."""
    estimates = {name: estimate(one)._asdict() for name, one in found.series.items()}
    n_draws = next(iter(found.series.values())).size
    measured = {"n_draws": n_draws, "acceptance": found.acceptance, "seconds": found.seconds}
    return {"estimates": estimates, **measured, **more}


def observe_plaquette(state: State) -> dict[str, jax.Array]:
    return {"plaquette": plaquette(state.configuration)}


def observer(exact: FermionDeterminant) -> Callable[[State], Any]:
    """Plaquette, Polyakov loop and its powers, condensate (from the determinant also with pseudofermions)."""

    def observe(state: State) -> dict[str, jax.Array]:
        links, known = state.configuration, state.observables
        if isinstance(links, Dynamical):
            links = links.links
            known = exact.log_weight_and_observables(links)[1]
        loop = polyakov_loop(links).real
        return {
            "plaquette": plaquette(links),
            "Polyakov loop": loop,
            "Polyakov loop²": loop**2,
            "Polyakov loop⁴": loop**4,
            "condensate": staggered_condensate(exact.operator, known["trace_inverse"]),
        }

    return observe


def hmc(
    target: Target, step_size: float, n_steps: int, guide: Target | None = None, manifold: Manifold = MANIFOLD
) -> Update:
    guide = target if guide is None else guide
    return MetropolisHastings(target, HamiltonianTrajectory(guide, manifold, step_size, n_steps, OMELYAN))


def heat_bath(target: Target) -> Update:
    reflect = GaugeHeatBath(target, over_relaxation=True)
    return Sequence((reflect, GaugeHeatBath(target), reflect))


def pseudofermion_hmc(target: PseudofermionAction, step_size: float, n_steps: int, guide: Any = None) -> Update:
    trajectory = PseudofermionTrajectory(target if guide is None else guide, step_size, n_steps, OMELYAN, 2)
    return Sequence((RefreshPseudofermions(target), MetropolisHastings(target, trajectory)))


def with_pseudofermions(target: PseudofermionAction, links: jax.Array) -> Dynamical:
    return Dynamical(links, jnp.zeros((len(links), *target.pseudofermion_shape), jnp.complex128))


# --- pure gauge ------------------------------------------------------------------------------------------------------


def pure_gauge(
    n: int, beta: float, shape: tuple[int, ...], method: str, n_chains: int, n_thermalise: int, n_steps: int
) -> dict[str, Any]:
    """⟨plaquette⟩ by heat bath with over-relaxation or by HMC."""
    target = GaugeAction(shape, n, beta)
    step_size, length = {2: (0.13, 6), 3: (0.1, 8)}[n] if len(shape) == 4 else (0.3, 4)
    update = heat_bath(target) if method == "heat bath" else hmc(target, step_size, length)
    start = jnp.broadcast_to(random_links(jax.random.key(1), shape, n, n_chains), (n_chains, *_links_shape(shape, n)))
    found = measured(update, start, n_thermalise, n_steps, observe_plaquette, 2)
    return row_of(found)


def _links_shape(shape: tuple[int, ...], n: int) -> tuple[int, ...]:
    return (len(shape), *shape, 2, n, n)


def torus_rows(results: ResultFile, settings: Settings) -> None:
    """Two dimensions against the character expansion, computed by the independent code of the tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    from reference_gauge import torus_plaquette

    shape, n_steps = settings.torus_shape, settings.torus_steps
    for n in settings.groups:
        beta = {2: 2.2, 3: 5.0}[n]
        exact = torus_plaquette(n, beta, int(np.prod(shape)))
        for method in ("heat bath", "HMC"):
            name = f"torus SU({n}) {method}"
            if name not in results.rows:
                row = pure_gauge(n, beta, shape, method, settings.pure_chains[0], n_steps // 4, n_steps)
                results.add(name, row | {"beta": beta, "exact": exact})


def strong_rows(results: ResultFile, settings: Settings) -> None:
    """Four dimensions at strong coupling: one plaquette alone, and its first correction 4 u⁵ by cubes."""
    sys.path.insert(0, str(ROOT / "tests"))
    from reference_gauge import torus_plaquette

    for n in settings.groups:
        beta, leading = {2: (0.8, 0.8 / 4), 3: (2.5, 2.5 / 18)}[n]
        name = f"strong SU({n})"
        if name not in results.rows:
            n_chains = settings.pure_chains[1]
            row = pure_gauge(n, beta, settings.small_shape, "heat bath", n_chains, 20, settings.strong_steps)
            results.add(
                name, row | {"beta": beta, "leading": leading, "one_plaquette": torus_plaquette(n, beta, 10_000)}
            )


def quenched_rows(results: ResultFile, settings: Settings) -> None:
    """SU(3) at β = 6.0 and SU(2) at β = 2.3, by heat bath and by HMC."""
    for n in settings.groups:
        beta, expected = {2: (2.3, 0.6034), 3: (6.0, 0.5937)}[n]
        for method in ("heat bath", "HMC"):
            name = f"quenched SU({n}) {method}"
            if name not in results.rows:
                n_steps = settings.quenched_steps
                row = pure_gauge(n, beta, settings.quenched_shape, method, settings.pure_chains[2], n_steps, n_steps)
                results.add(name, row | {"beta": beta, "expected": expected})


# --- fermions --------------------------------------------------------------------------------------------------------


def fermion_targets(shape: tuple[int, ...], beta: float, mass: float, n_flavours: float) -> tuple[Any, Any]:
    """The target with its exact determinant, and with pseudofermions."""
    gauge, operator = GaugeAction(shape, 2, beta), Staggered(shape, 2, mass)
    exact = FermionDeterminant(gauge, operator, n_flavours)
    return exact, PseudofermionAction(gauge, operator, n_flavours, solver=Solver(1e-9))


def pseudofermion_rows(results: ResultFile, settings: Settings) -> None:
    """Exact determinant, pseudofermions (four flavours) and RHMC (two) on the same lattices."""
    for place, shape in enumerate(settings.fermion_shapes):
        for beta in settings.betas:
            for n_flavours, method in itertools.product(settings.n_flavours, ("determinant", "pseudofermions")):
                method = "RHMC" if method == "pseudofermions" and n_flavours != 4 else method
                name = f"fermions {shape} {beta} {method} {n_flavours:g}"
                if name in results.rows:
                    continue
                exact, action = fermion_targets(shape, beta, settings.mass, n_flavours)
                # From disordered links long trajectories are not accepted.
                start = quenched_links(exact.gauge, settings.n_chains, 50, (3, 20))
                # Long trajectories, for they are what moves Polyakov loops. Fluctuating pseudofermions exert larger
                # forces than the determinant that they average to, and want shorter steps.
                if method == "determinant":
                    update = multiscale_hmc(exact, 0.6, 3, 3)
                else:
                    guide = PseudofermionAction(
                        exact.gauge, exact.operator, n_flavours, solver=Solver(1e-5), rational_tolerance=1e-5
                    )
                    update, start = pseudofermion_hmc(action, 0.3, 6, guide), with_pseudofermions(action, start)
                n_steps = settings.fermion_steps[place]
                found = measured(update, start, n_steps // 6, n_steps, observer(exact), 4)
                results.add(name, row_of(found, rational_error=action.rational_error))


def quenched_links(gauge: GaugeAction, n_chains: int, n_sweeps: int, seeds: tuple[int, int]) -> jax.Array:
    """Links thermalised without fermions; the seeds are those of the disordered start and of the sweeps."""
    start, sweeps = map(jax.random.key, seeds)
    update = heat_bath(gauge)
    states = init_chains(update, random_links(start, gauge.shape, gauge.n_colours, n_chains))
    return run_chains(sweeps, update, states, n_sweeps, _log_weight)[0].configuration


def multiscale_hmc(target: FermionDeterminant, step_size: float, n_steps: int, n_gauge_steps: int) -> Update:
    """HMC with the gauge action on finer steps than the determinant."""
    fermions = eqx.tree_at(lambda one: one.gauge.beta, target, jnp.zeros(()))
    return hmc(target, step_size, n_steps, fermions, DrivenManifold(MANIFOLD, target.gauge, n_gauge_steps, OMELYAN))


def solved(model: Target, labels: Label) -> Target:
    return fit_linear(model, labels, MANIFOLD)


def slmc_rows(results: ResultFile, settings: Settings) -> None:
    """Learning each effective action on the fly; HMC of the same target, both ways, in the same run."""
    shape, beta = settings.small_shape, settings.slmc_beta
    exact, action = fermion_targets(shape, beta, settings.mass, 4.0)
    observe = observer(exact)
    links = random_links(jax.random.key(5), shape, 2, settings.n_chains)
    for method, n_steps in zip(("HMC, determinant", "HMC, pseudofermions"), settings.hmc_steps, strict=True):
        if f"slmc {method}" not in results.rows:
            length = settings.slmc_thermalise, n_steps
            if method == "HMC, determinant":
                found = measured(hmc(exact, 0.18, 4), links, *length, observe, 6)
            else:
                update, start = pseudofermion_hmc(action, 0.18, 4), with_pseudofermions(action, links)
                found = measured(update, start, *length, observe, 6)
            results.add(f"slmc {method}", row_of(found))
    for kind, n_steps in zip(settings.effective_actions, settings.slmc_steps, strict=True):
        if f"slmc {kind}" in results.rows:
            continue
        inner = heat_bath if kind == "plaquette" else partial(hmc, step_size=0.15, n_steps=5)
        learning = LearningSettings(
            n_rounds=len(settings.slmc_labels),
            n_steps=settings.slmc_labels,
            n_updates=settings.n_updates,
            training=TrainingSettings(n_steps=0),
        )
        learner = Learner(exact, MANIFOLD, hmc(exact, 0.18, 4), inner, start=solved, settings=learning)
        learned = learn(jax.random.key(7), learner, EffectiveAction(shape, 2, beta, **KINDS[kind]), links, 15)
        found = measured(learned.update, learned.chains.configuration, n_steps // 8, n_steps, observe, 8)
        report, model = learned.reports[-1], learned.model
        coefficients = [
            np.asarray(one).tolist() for one in (model.plaquette, model.rectangle, model.polyakov) if one is not None
        ]
        more = {"residual": report.residual, "coefficients": coefficients, "evaluations": report.exact_evaluations}
        results.add(f"slmc {kind}", row_of(found, **more))


def slhmc_rows(results: ResultFile, settings: Settings) -> None:
    """A heavier, smeared fermion as the guide: its smearing trained, acceptance before and after."""
    shape, beta, mass = settings.small_shape, 2.7, 0.3
    exact, action = fermion_targets(shape, beta, mass, 4.0)
    observe = observer(exact)
    links = random_links(jax.random.key(9), shape, 2, settings.n_chains)
    update = pseudofermion_hmc(action, 0.12, 6)
    if "slhmc HMC" not in results.rows:
        found = measured(update, with_pseudofermions(action, links), 30, settings.slhmc_steps, observe, 10)
        results.add("slhmc HMC", row_of(found, length=0.12 * 6))
    labelled = functools.cache(
        lambda length, n_labels: labelled_changes(
            pseudofermion_hmc(action, 0.12, length), action, links, n_labels // settings.n_chains
        )
    )
    for heavier, length, n_labels, learning_rate in settings.slhmc_guides:
        name = f"slhmc {heavier}"
        if name in results.rows:
            continue
        start, labels, held_out = labelled(length, n_labels)
        loops = ("plaquette", "spatial Polyakov", "temporal Polyakov")
        smearing = StoutSmearing(2, loops, 1e-4)
        guide = PseudofermionAction(action.gauge, Staggered(shape, 2, heavier), smearing=smearing, solver=Solver(1e-9))
        training = TrainingSettings(
            settings.training_steps,
            32,
            learning_rate,
            0.0,
            0.0,
            evaluate_every=max(2, settings.training_steps // 20),
            patience=99,
        )
        trained = fit(jax.random.key(11), ActionChange(guide), labels, held_out, MANIFOLD, training)
        weights = trained.model.action.smearing.weights
        row: dict[str, Any] = {
            "length": 0.12 * length,
            "history": trained.history.tolist(),
            "weights": weights.tolist(),
        }
        for kind, model in (("untrained", guide), ("trained", trained.model.action)):
            slhmc = pseudofermion_hmc(action, 0.12, length, model)
            row[kind] = row_of(measured(slhmc, start, 8, settings.slhmc_steps, observe, 12))
        results.add(name, row)


def labelled_changes(
    update: Update, action: PseudofermionAction, links: jax.Array, n_steps: int
) -> tuple[Any, Label, Label]:
    """Trajectories of HMC with their change of log W: states to start from, training and held-out data."""

    def observe(state: Any, info: Any) -> Any:
        return state.configuration

    states = init_chains(update, with_pseudofermions(action, links))
    states, _ = run_chains(jax.random.key(13), update, states, 60, observe)
    states, seen = run_chains(jax.random.key(14), update, states, n_steps + 1, observe)
    parts = []
    for chains in (slice(1, None), slice(0, 1)):
        several = jax.tree.map(lambda leaf, chosen=chains: leaf[chosen], seen)
        ends = TrajectoryEnds(several.links[:, :-1], several.links[:, 1:], several.pseudofermion[:, 1:])
        ends = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ends)
        changes = jax.lax.map(ActionChange(action).log_weight, ends)
        parts.append(Label(*jax.device_get((ends, changes, ends.start))))
    return states.configuration, parts[0], parts[1]


# --- cost ------------------------------------------------------------------------------------------------------------


def trajectory_seconds(update: Update, start: Any, n_chains: int) -> float:
    """Seconds of one trajectory of one chain, all chains together."""
    states = init_chains(update, start)
    states, _ = run_chains(jax.random.key(0), update, states, 2, _log_weight)
    return least_seconds(lambda: run_chains(jax.random.key(1), update, states, 2, _log_weight), 5) / (2 * n_chains)


def _log_weight(state: State, info: Any) -> jax.Array:
    return state.log_weight


def quenched_seconds(shape: tuple[int, ...], n_chains: int) -> float:
    """Seconds of one trajectory of quenched SU(3) HMC, leapfrog of 20 steps, of one chain among ``n_chains``."""
    gauge = GaugeAction(shape, 3, 5.7)
    update = MetropolisHastings(gauge, HamiltonianTrajectory(gauge, MANIFOLD, 0.05 / 2**0.5, 20))
    return trajectory_seconds(update, random_links(jax.random.key(15), shape, 3, n_chains), n_chains)


def normal_operator_seconds(operator: Any, n_hops: int) -> tuple[float, float]:
    """Seconds of A = M†M on a field, and the bytes it has to move.

    A reads the links of both parities once for each hop over half the lattice, and the fields.
    """
    u = as_matrices(random_links(jax.random.key(18), operator.shape, 3))
    hopping = operator.prepare(u)
    field = gaussian_field(jax.random.key(19), operator.field_shape)
    program = eqx.filter_jit(lambda operator, hopping, field: operator.normal(hopping, field))
    seconds = least_seconds(lambda: program(operator, hopping, field), 20)
    return seconds, n_hops * (u.nbytes + 2 * field.nbytes)


def wilson_seconds(shape: tuple[int, ...]) -> float:
    """Seconds of one trajectory with two Wilson flavours, from quenched links of β = 5.7."""
    action = PseudofermionAction(GaugeAction(shape, 3, 5.5), Wilson(shape, 3, 0.141139), solver=Solver(1e-10))
    thermal = quenched_links(GaugeAction(shape, 3, 5.7), 1, 20, (16, 17))
    trajectory = PseudofermionTrajectory(action, 0.05 / 2**0.5, 20)
    update = Sequence((RefreshPseudofermions(action), MetropolisHastings(action, trajectory)))
    return trajectory_seconds(update, with_pseudofermions(action, thermal), 1)


def cost_rows(results: ResultFile, settings: Settings) -> None:
    """Trajectories of SU(3), A = M†M against volume, and the memory bandwidth that bounds it."""
    first = settings.cost_shapes[0]
    for n_chains in (1, 8):
        if f"cost HMC {n_chains}" not in results.rows:
            results.add(f"cost HMC {n_chains}", {"seconds": quenched_seconds(first, n_chains)})
    if "cost Wilson" not in results.rows:
        results.add("cost Wilson", {"seconds": wilson_seconds(first), "residual": 1e-10})
    for shape in settings.cost_shapes:
        name = f"cost Dslash {shape}"
        if name in results.rows:
            continue
        row = {"n_sites": int(np.prod(shape)), "trajectory": quenched_seconds(shape, 1)}
        for kind, operator, n_hops in (
            ("staggered", Staggered(shape, 3, 0.1), 2),
            ("Wilson", Wilson(shape, 3, 0.12), 4),
        ):
            row[kind], row[f"{kind} bytes"] = normal_operator_seconds(operator, n_hops)
        results.add(name, row)
    if "cost bandwidth" not in results.rows:
        there, here = np.ones(16 * 2**20), np.ones(16 * 2**20)
        seconds = least_seconds(lambda: np.copyto(there, here), 10)
        results.add("cost bandwidth", {"bytes_per_second": 2 * here.nbytes / seconds})


PARTS = {
    "torus": torus_rows,
    "strong": strong_rows,
    "quenched": quenched_rows,
    "pseudofermions": pseudofermion_rows,
    "slmc": slmc_rows,
    "slhmc": slhmc_rows,
    "cost": cost_rows,
}


if __name__ == "__main__":
    words = f"parts to run, of: {' '.join(PARTS)} (all by default)"
    main(__file__, __doc__, (Settings(), QUICK), PARTS, page, choose=words, on_one_device=["cost"])
