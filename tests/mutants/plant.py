"""Plants mistakes in the package, one at a time, and reports which of them the tests catch.

    python tests/mutants/plant.py            all of them
    python tests/mutants/plant.py 3 17       those numbers
    python tests/mutants/plant.py --list     what they are

Each mistake is an exact replacement of a text that its file contains once, made in a copy of the repository; then the
tests named beside it run until the first that fails. A mistake that no test notices is a test that is missing.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("src", "tests", "benchmarks", "docs", "examples", "pyproject.toml", "README.md")


class Mistake(NamedTuple):
    """A mistake in words, the file of the package, what stands there and what instead, and the tests to notice it."""

    words: str
    file: str
    right: str
    wrong: str
    tests: str


MISTAKES = (
    # --- montecarlo
    Mistake(
        "the proposal's ratio is forgotten in the decision",
        "montecarlo/update.py",
        "proposed.log_weight - state.log_weight + log_proposal_ratio",
        "proposed.log_weight - state.log_weight + 0 * log_proposal_ratio",
        "tests/montecarlo/test_invariance.py -k Gaussian",
    ),
    Mistake(
        "an accepted step keeps the old log-weight (a stale cache)",
        "montecarlo/update.py",
        "    return following, accepted, log_ratio",
        "    return following._replace(log_weight=state.log_weight), accepted, log_ratio",
        "tests/montecarlo/test_invariance.py -k Gaussian",
    ),
    Mistake(
        "wrong sign of the kinetic energy of a trajectory",
        "montecarlo/hamiltonian.py",
        "self.integrator, self.guide, self.manifold, configuration, momentum, self.step_size, self.n_steps\n"
        "        )\n        return position, (squared_norm(momentum) - squared_norm(arrived)) / 2",
        "self.integrator, self.guide, self.manifold, configuration, momentum, self.step_size, self.n_steps\n"
        "        )\n        return position, (squared_norm(arrived) - squared_norm(momentum)) / 2",
        "tests/montecarlo/test_invariance.py -k Gaussian",
    ),
    Mistake(
        "the last drift of a trajectory is as long as those between",
        "montecarlo/integrators.py",
        ".at[-1].set(last)",
        ".at[-1].set(last + first)",
        "tests/montecarlo/test_integrators.py",
    ),
    Mistake(
        "all chains draw the same random numbers",
        "montecarlo/chains.py",
        "(key, np.arange(n_chains))",
        "(key, np.zeros(n_chains, int))",
        "tests/montecarlo/test_chains.py -k beside_it",
    ),
    Mistake(
        "a sweep visits the sites in one fixed order",
        "montecarlo/local.py",
        "jnp.where(jax.random.bernoulli(key), ascending, ascending[::-1])",
        "ascending",
        "tests/montecarlo/test_wrong_twins.py -k detailed_balance",
    ),
    Mistake(
        "replica exchange subtracts the gain of the upper replica",
        "montecarlo/tempering.py",
        "log_ratio = gain[:-1] + gain[1:]",
        "log_ratio = gain[:-1] - gain[1:]",
        "tests/montecarlo/test_tempering.py",
    ),
    # --- selflearning
    Mistake(
        "the ratio of self-learning Monte Carlo upside down",
        "selflearning/cumulative.py",
        "start.log_weight - end.log_weight",
        "end.log_weight - start.log_weight",
        "tests/montecarlo/test_invariance.py -k SLMC",
    ),
    Mistake(
        "features of a linear fit are not centred",
        "selflearning/linear.py",
        "centred = features.log_weight - features.log_weight.mean(0)",
        "centred = features.log_weight",
        "tests/selflearning/test_learning.py",
    ),
    Mistake(
        "the force's share of the loss is not one of sites",
        "selflearning/training.py",
        "force_weight * squared / n_sites",
        "force_weight * squared",
        "tests/selflearning/test_learning.py -k formula",
    ),
    Mistake(
        "every round trains as the first does",
        "selflearning/on_the_fly.py",
        "learner.settings.training_in(round_)",
        "learner.settings.training_in(0)",
        "tests/selflearning/test_learning.py -k three_rounds",
    ),
    # --- statistics
    Mistake(
        "the jackknife's error has the factor of the bootstrap",
        "statistics/jackknife.py",
        "(len(values) - 1) / len(values) * float(",
        "1 / len(values) * float(",
        "tests/statistics",
    ),
    Mistake(
        "noise of an average over disorder falls like the root of the root",
        "statistics/disorder.py",
        "for sample in samples)) / n",
        "for sample in samples)) / n**0.5",
        "tests/statistics",
    ),
    Mistake(
        "the autocorrelation is divided by the number of all draws",
        "statistics/autocorrelations.py",
        "np.arange(n_draws, 0, -1)",
        "n_draws",
        "tests/statistics/test_estimates.py",
    ),
    # --- lattice, system
    Mistake(
        "a site reached across two borders counts three times, not four",
        "lattice.py",
        "2 ** wraps.sum(-1)",
        "1 + wraps.sum(-1)",
        "tests/test_lattice.py",
    ),
    Mistake(
        "a range of a scan does not reach its end",
        "system/scan_settings.py",
        "* self.start + k * self.stop) / steps",
        "* self.start + k * self.stop) / self.n",
        "tests/test_scan.py -k both_ends",
    ),
    # --- simulation
    Mistake(
        "a measurement that is made longer goes on one block too early",
        "simulation/sampling.py",
        'self._n_recorded("measurement") + 1)',
        'self._n_recorded("measurement"))',
        "tests/test_continue.py -k made_longer",
    ),
    Mistake(
        "every block of a phase draws the same random numbers",
        "simulation/sampling.py",
        "jax.random.fold_in(jax.random.fold_in(self._key, phase.number), block)",
        "jax.random.fold_in(jax.random.fold_in(self._key, phase.number), 0 * block)",
        "tests/test_continue.py -k numbers_of_its_own",
    ),
    Mistake(
        "exact evaluations are counted of one chain",
        "simulation/sampling.py",
        "n_steps * self.settings.measurement.n_chains * evaluations_per_step",
        "n_steps * evaluations_per_step",
        "tests/test_cli.py",
    ),
    Mistake(
        "records are not cut back to the checkpoint",
        "simulation/records.py",
        "shape[axis] = lengths.get(path, 0)",
        "shape[axis] = lengths.get(path, shape[axis])",
        "tests/simulation/test_records.py tests/test_continue.py",
    ),
    # --- report, cli
    Mistake(
        "errors against bin length are standard deviations",
        "report/stored.py",
        "errors.append(means.std(ddof=1) / np.sqrt(means.size))",
        "errors.append(means.std(ddof=1))",
        "tests/report -k binned",
    ),
    Mistake(
        "a run that was stopped exits as one that is done",
        "cli.py",
        "raise typer.Exit(STOPPED)",
        "raise typer.Exit(0)",
        "tests/test_continue.py -k one_call",
    ),
    # --- spins
    Mistake(
        "β in place of β² in the specific heat",
        "systems/spins/observables.py",
        "/ temperature**2 / n_sites",
        "/ temperature / n_sites",
        "tests/systems/spins/test_observables.py tests/systems/spins/test_double_exchange.py",
    ),
    Mistake(
        "the bond across a border leads to the site before the right one",
        "systems/spins/native.py",
        "-stride * (extent - 1) if row",
        "-stride * (extent - 2) if row",
        "tests/systems/spins/test_ising.py",
    ),
    Mistake(
        "the surface of a restricted cluster enters once, not twice",
        "systems/spins/clusters.py",
        "log_ratio - 2 * self.reduced_coupling * crossing",
        "log_ratio - self.reduced_coupling * crossing",
        "tests/montecarlo/test_invariance.py -k Ising",
    ),
    Mistake(
        "wrong sign of the force through eliminated sites",
        "systems/spins/pole_kernel.py",
        "-squared, through_others",
        "squared, through_others",
        "tests/systems/spins/test_poles.py",
    ),
    # --- gauge
    Mistake(
        "c_0 = 1 − 4 c_1",
        "systems/gauge/gauge_action.py",
        "(1 - 8 * c1) * plaquette_deficit(u)",
        "(1 - 4 * c1) * plaquette_deficit(u)",
        "tests/systems/gauge/test_actions.py -k loops_over_sites",
    ),
    Mistake(
        "an axis swapped: one pair of planes has the sign of the others in the topological charge",
        "systems/gauge/observables.py",
        "((0, 2), (1, 3), -1)",
        "((0, 2), (1, 3), 1)",
        "tests/systems/gauge/test_smearing_and_flow.py -k exchanged",
    ),
    Mistake(
        "a guide is fitted to the change of log W the other way round",
        "systems/gauge/guide_learner.py",
        "proposed.log_weight - state.log_weight, jnp.zeros(())",
        "state.log_weight - proposed.log_weight, jnp.zeros(())",
        "tests/systems/gauge/test_pseudofermion_runs.py -k guide_that_is_learned",
    ),
    Mistake(
        "configurations are written under the names of the steps before",
        "simulation/configuration_files.py",
        "path = folder / _name(files, chain, n_steps)",
        "path = folder / _name(files, chain, n_steps - files.every)",
        "tests/systems/gauge/test_configuration_files.py -k recorded",
    ),
    # --- vectors, configurations that are kept
    Mistake(
        "the ratio of the Crank-Nicolson proposal has the wrong sign",
        "systems/vectors/proposals.py",
        "return proposed, (jnp.sum(proposed**2) - jnp.sum(configuration**2)) / 2",
        "return proposed, (jnp.sum(configuration**2) - jnp.sum(proposed**2)) / 2",
        "tests/systems/vectors/test_vectors.py -k invariant",
    ),
    Mistake(
        "forces act on momenta of a mass matrix as on velocities",
        "systems/vectors/posterior.py",
        "return vector @ self.factor",
        "return vector",
        "tests/systems/vectors/test_vectors.py -k invariant",
    ),
    Mistake(
        "the density of a positive parameter forgets its Jacobian",
        "systems/vectors/prior.py",
        "+ jnp.sum(are_positive * z)",
        "+ 0 * jnp.sum(are_positive * z)",
        "tests/systems/vectors/test_vectors.py -k jacobian",
    ),
    Mistake(
        "configurations are kept a step before the draw that is told",
        "simulation/sampling.py",
        "chosen = jax.tree.map(lambda leaf: leaf[:, kept], on_the_way)",
        "chosen = jax.tree.map(lambda leaf: leaf[:, np.maximum(kept - 1, 0)], on_the_way)",
        "tests/simulation/test_kept.py -k measured",
    ),
    # --- random keys
    Mistake(
        "a counter of the random numbers is not moved on",
        "montecarlo/random_keys.py",
        "np.uint32(group + 1)",
        "np.uint32(group)",
        "tests/montecarlo/test_random_keys.py",
    ),
    Mistake(
        "short random words are half of what is made",
        "montecarlo/random_keys.py",
        "return (high ^ low).astype(",
        "return low.astype(",
        "tests/montecarlo/test_random_keys.py",
    ),
    # --- files of gauge fields
    Mistake(
        "the third row of a link is restored without its complex conjugate",
        "systems/gauge/nersc.py",
        "third = np.conj(np.cross(matrices[..., 0, :], matrices[..., 1, :]))",
        "third = np.cross(matrices[..., 0, :], matrices[..., 1, :])",
        "tests/systems/gauge/test_files.py -k two_rows",
    ),
    Mistake(
        "both sums of an ILDG file are rotated alike",
        "systems/gauge/ildg.py",
        "b ^= _rotated(crc, site % 31)",
        "b ^= _rotated(crc, site % 29)",
        "tests/systems/gauge/test_files.py -k independent_writer",
    ),
    Mistake(
        "links are written with t fastest, not x",
        "systems/gauge/stored_links.py",
        "1j * array[..., 1, :, :], (4, 3, 2, 1, 0, 5, 6))",
        "1j * array[..., 1, :, :], (1, 2, 3, 4, 0, 5, 6))",
        "tests/systems/gauge/test_files.py -k order_of_numbers",
    ),
    # --- domain walls and guides
    Mistake(
        "the mass couples the walls with the wrong sign",
        "systems/gauge/domain_wall.py",
        ".at[-1, 0].set(-self.mass)",
        ".at[-1, 0].set(self.mass)",
        "tests/systems/gauge/test_domain_wall.py -k dense_matrix",
    ),
    Mistake(
        "the Pauli-Villars fields of a run are as light as its quarks",
        "systems/gauge/settings.py",
        "        denominator = operator.with_mass(1.0) if",
        "        denominator = operator if",
        "tests/systems/gauge/test_domain_wall_runs.py -k same_walls",
    ),
    Mistake(
        "the source of a quark on the walls lacks what c adds",
        "systems/gauge/domain_wall.py",
        "five - self.c.astype(five.dtype) * self._wilson(hopping, five)",
        "five",
        "tests/systems/gauge/test_domain_wall.py -k condensate_and_pion",
    ),
    Mistake(
        "pseudofermions of a scaled guide are drawn too narrow",
        "systems/gauge/guide.py",
        "jnp.sqrt(self.scale).astype(jnp.complex128)",
        "self.scale.astype(jnp.complex128)",
        "tests/systems/gauge/test_cask.py -k sum_of_its_parts",
    ),
    Mistake(
        "loops of a guide are those of two colours",
        "systems/gauge/guide.py",
        "jnp.sum(self.couplings * sums) / len(u)",
        "jnp.sum(self.couplings * sums) / 2",
        "tests/systems/gauge/test_cask.py -k number_of_colours",
    ),
    # --- impurities
    Mistake(
        "a vertex is inserted without the place that it takes among the others",
        "systems/impurity/determinant_kernel.py",
        "ratio * expansion / (n + 1)",
        "ratio * expansion / (n + 2)",
        "tests/montecarlo/test_invariance.py -k 'impurity and rank'",
    ),
    Mistake(
        "moments are transformed with the phase of the degree before",
        "systems/impurity/moments.py",
        "1j ** (degree + 1)",
        "1j**degree",
        "tests/systems/impurity/test_anderson.py -k moments_become",
    ),
    Mistake(
        "the bath of the lattice has the self-energy taken off, not added",
        "systems/impurity/self_consistency.py",
        "lattice.local_green_function(frequencies, sigma) + sigma)",
        "lattice.local_green_function(frequencies, sigma) - sigma)",
        "tests/systems/impurity/test_baths.py -k known_self_energy",
    ),
    # --- vectors
    Mistake(
        "an evaluation that failed has likelihood one",
        "systems/vectors/evaluation.py",
        "else (-np.inf, nothing) for answer in checked",
        "else (0.0, nothing) for answer in checked",
        "tests/systems/vectors/test_vectors.py -k functions_that_fail",
    ),
    Mistake(
        "a uniform parameter begins at zero",
        "systems/vectors/prior.py",
        "self.first + (self.second - self.first) * ndtr(z)",
        "self.second * ndtr(z)",
        "tests/systems/vectors/test_vectors.py -k jacobian",
    ),
    # --- atoms
    Mistake(
        "springs between beads do not stiffen with their number",
        "systems/atoms/path_integral.py",
        "4 * n_beads * sines",
        "4 * sines",
        "tests/systems/atoms/test_path_integral.py -k modes",
    ),
    Mistake(
        "the centroid virial counts twice",
        "systems/atoms/path_integral.py",
        "+ virial / 2",
        "+ virial",
        "tests/systems/atoms/test_path_integral.py -k comes_with",
    ),
    Mistake(
        "the spread of a particle is summed over its beads",
        "systems/atoms/path_integral.py",
        "/ (n_beads * n_atoms)",
        "/ n_atoms",
        "tests/systems/atoms/test_path_integral.py -k comes_with",
    ),
    Mistake(
        "the square of the reduced Planck constant is a tenth off",
        "systems/atoms/path_integral.py",
        "4.180159276e-3",
        "4.580159276e-3",
        "tests/systems/atoms/test_path_integral.py -k hbar",
    ),
    Mistake(
        "the volume has one power more where the centre of mass is held",
        "systems/atoms/pressure.py",
        "(0 if self.holds_centre else 1)",
        "1",
        "tests/systems/atoms/test_pressure.py -k derivatives",
    ),
    Mistake(
        "a pressure in gigapascal acts as ten times as much",
        "systems/atoms/pressure.py",
        "6.241509074460763e-3",
        "6.241509074460763e-2",
        "tests/systems/atoms/test_pressure.py -k gigapascal",
    ),
    Mistake(
        "positions scale with the volume, not with its cube root",
        "systems/atoms/pressure.py",
        "jnp.exp(log_volume / 3)",
        "jnp.exp(log_volume)",
        "tests/systems/atoms/test_pressure.py -k known",
    ),
    # --- scans
    Mistake(
        "a frozen point takes the model of the point that is farthest away",
        "system/scan_settings.py",
        "return min(self.learning_points",
        "return max(self.learning_points",
        "tests/test_learn_at.py -k nearest",
    ),
    Mistake(
        "a frozen chain keeps the step size that it began with",
        "selflearning/on_the_fly.py",
        "return (state if size is None else state._replace(inner_step_size=np.asarray(size))), words",
        "return state, words",
        "tests/test_learn_at.py -k adopted",
    ),
    Mistake(
        "a summary counts whenever files were written",
        "kept_summary.py",
        "\\0{about.st_size}\\0{about.st_mtime_ns}",
        "",
        "tests/test_kept_summary.py -k changed",
    ),
    # --- wavefunctions
    Mistake(
        "local energies have the inverse ratio of amplitudes",
        "systems/wavefunctions/local_energies.py",
        "jnp.where(moves, there - here[:, None], 0)",
        "jnp.where(moves, here[:, None] - there, 0)",
        "tests/systems/wavefunctions/test_reconfiguration.py -k local_energies",
    ),
    Mistake(
        "importance weights of the amplitude, not of its missing power",
        "systems/wavefunctions/stochastic_reconfiguration.py",
        "jax.nn.softmax(excess * log_amplitudes",
        "jax.nn.softmax(log_amplitudes",
        "tests/systems/wavefunctions/test_reconfiguration.py -k energies_of_every_power",
    ),
)


def planted(mistake: Mistake, tree: Path) -> None:
    """Makes the mistake in a copy. Raises ``ValueError`` unless the text is there exactly once."""
    path = tree / "src" / "slmc" / mistake.file
    text = path.read_text(encoding="utf-8")
    if text.count(mistake.right) != 1:
        raise ValueError(f"{mistake.file} has {text.count(mistake.right)} times: {mistake.right!r}")
    path.write_text(text.replace(mistake.right, mistake.wrong), encoding="utf-8")


def copied(tree: Path) -> None:
    """A copy of what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, tree / name)


def failing_test(mistake: Mistake, tree: Path) -> str | None:
    """The first test that fails with the mistake; ``None`` if all pass."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=no", "-rfE"]
    command += shlex.split(mistake.tests)
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    finished = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if finished.returncode == 0:
        return None
    if finished.returncode != 1:
        raise RuntimeError(f"pytest itself failed: {finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    lines = [line.split(" - ")[0].split(" ", 1)[1] for line in finished.stdout.splitlines() if line[:6] in _FAILED]
    return lines[0]


_FAILED = ("FAILED", "ERROR ")


def main() -> int:
    """Whether any mistake was missed, as an exit code."""
    numbers = [int(word) for word in sys.argv[1:] if word.isdecimal()] or range(1, len(MISTAKES) + 1)
    n_missed = 0
    for number in numbers:
        mistake = MISTAKES[number - 1]
        if "--list" in sys.argv:
            print(f"{number:2}  {mistake.file:48}  {mistake.words}")
            continue
        with tempfile.TemporaryDirectory(prefix="slmc-mistake-") as folder:
            tree, started = Path(folder), time.monotonic()
            copied(tree)
            planted(mistake, tree)
            caught_by = failing_test(mistake, tree)
        n_missed += caught_by is None
        verdict = f"caught by {caught_by}" if caught_by else "MISSED"
        print(f"{number:2}  {mistake.words}: {verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    return min(n_missed, 1)


if __name__ == "__main__":
    sys.exit(main())
