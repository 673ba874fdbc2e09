"""Optimisation runs of a problem made of plain numbers: what is kept when it diverges, is continued or is another's."""

import numpy as np
import pytest

from slmc.simulation import Optimisation, Records, Reporter, run_blocks
from slmc.simulation.checkpoint import Checkpoints
from slmc.system import StepSettings, UserError


class Falling:
    """Energies 1/step; ``bad`` steps count as diverging, at ``fails`` the energy is not finite."""

    n_sites, n_parameters, exact_energy, parameters = 4, 1, 0.0, {"x": np.zeros(1)}

    def __init__(self, identity="one", bad=(), fails=None):
        self.identity, self.bad, self.fails, self.step = identity, bad, fails, 0

    @property
    def diverging(self):
        return self.step in self.bad

    def start(self):
        self.step = 0

    def describe_model(self):
        return {}

    def state(self):
        return {"step": np.asarray(self.step)}

    def restore(self, state):
        self.step = int(state["step"])

    def advance(self, n_steps):
        steps = np.arange(self.step, self.step + n_steps) + 1.0
        if self.fails is not None and self.step + n_steps >= self.fails:
            raise FloatingPointError(f"the energy is not finite at step {self.fails}")
        self.step += n_steps
        names = ("energy", "energy_error", "variance_per_site", "v_score", "acceptance")
        return dict.fromkeys(names, (("step",), 1 / steps, "", ""))

    def observe(self):
        return {}

    def measure(self, n_draws, n_sweeps):
        energies = np.random.default_rng(self.step).normal(size=(2, n_draws))
        return dict.fromkeys(("energy", "energy_imaginary"), (("chain", "draw"), energies, "", ""))


def run(directory, problem, **settings):
    chosen = StepSettings(**{"n_steps": 8, "block_size": 2, "measurement_blocks": 2, "measurement_draws": 4} | settings)
    return run_blocks(Optimisation(directory, chosen, problem, Reporter(quiet=True)))


def n_steps(directory):
    return len(Records(directory / "records.zarr", read_only=True).read("optimisation")["energy"])


def test_a_failing_run_keeps_what_was_good(tmp_path):
    with pytest.raises(FloatingPointError, match=r"at step 6; the state after step 4 is kept .* slmc resume"):
        run(tmp_path, Falling(fails=6))
    assert n_steps(tmp_path) == 4
    assert run(tmp_path, Falling())
    np.testing.assert_array_equal(
        Records(tmp_path / "records.zarr").read("optimisation")["energy"], 1 / np.arange(1, 9.0)
    )


def test_no_checkpoint_is_written_nor_a_stop_followed_while_the_energy_is_bad(tmp_path, monkeypatch):
    kept = []
    save = Checkpoints.save
    monkeypatch.setattr(
        Checkpoints, "save", lambda self, number, *rest: (kept.append(number), save(self, number, *rest))
    )
    assert not run(tmp_path, Falling(bad=(2, 4)), wall_time=1e-9)
    assert kept == [0, 3]
    assert n_steps(tmp_path) == 6


def test_a_run_that_never_was_good_keeps_nothing(tmp_path):
    with pytest.raises(FloatingPointError, match=r"no state is kept; .* and start again"):
        run(tmp_path, Falling(bad=(2,), fails=4))


def test_another_problem_does_not_continue_a_run(tmp_path):
    assert not run(tmp_path, Falling("one"), wall_time=1e-9)
    with pytest.raises(UserError, match="another model, Hamiltonian, sampler or driver; restore what it was made with"):
        run(tmp_path, Falling("other"))
    assert run(tmp_path, Falling("one"))


def test_more_steps_are_refused_with_a_word_once_the_measurement_began(tmp_path, capsys):
    while True:
        done = run(tmp_path, Falling(), wall_time=1e-9)
        records = Records(tmp_path / "records.zarr", read_only=True)
        if done or records.lengths().get("measurement/energy"):
            break
    assert not done
    settings = StepSettings(n_steps=20, block_size=2, measurement_blocks=2, measurement_draws=4)
    assert run_blocks(Optimisation(tmp_path, settings, Falling(), Reporter()))
    assert "n_steps = 20 has no effect any more: the optimisation ended after 8 steps" in capsys.readouterr().out
    assert n_steps(tmp_path) == 8


class Drawing(Falling):
    """Its measurements go on from where the last one ended."""

    drawn = 0

    def state(self):
        return super().state() | {"drawn": np.asarray(self.drawn)}

    def restore(self, state):
        super().restore(state)
        self.drawn = int(state["drawn"])

    def measure(self, n_draws, n_sweeps):
        self.drawn += n_draws
        energies = np.random.default_rng(self.drawn).normal(size=(2, n_draws))
        return dict.fromkeys(("energy", "energy_imaginary"), (("chain", "draw"), energies, "", ""))


def test_a_measurement_is_made_longer_to_the_bits_of_a_longer_one(tmp_path):
    run(tmp_path / "whole", Drawing(), measurement_blocks=5)
    for n_blocks in (2, 5):
        run(tmp_path / "longer", Drawing(), measurement_blocks=n_blocks)
    whole, longer = (Records(tmp_path / name / "records.zarr", read_only=True) for name in ("whole", "longer"))
    np.testing.assert_array_equal(whole.read("measurement")["energy"], longer.read("measurement")["energy"])
    assert whole.lengths() == longer.lengths()
