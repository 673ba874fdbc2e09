"""How much memory and time a run takes at least, before it begins.

Counted is what every run has: the states of all chains, what a block records, the training data, the largest array in
an evaluation of the exact weight, and the evaluations between two checkpoints. All of it follows from shapes, by
tracing; nothing is computed or allocated. A run that passes may still be too large; one that does not pass is.
"""

import contextlib
import math
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from slmc.montecarlo import evaluations_per_step
from slmc.selflearning.on_the_fly import n_held_out
from slmc.simulation.kept import kept_bytes
from slmc.simulation.stored_arrays import LARGEST_CHUNK
from slmc.system import Problem, RunSettings, UserError

_SECONDS = 1e-9
"""Of an evaluation, for each number of a configuration, at least: an operation."""

_DAY = 86400.0
_LONGEST_BLOCK, _LONGEST_RUN = _DAY, 100 * 365 * _DAY


class _Sizes(NamedTuple):
    """Bytes of a chain's configuration, also as the records keep it, its state, what is recorded of a step, and the
    largest array of the weight."""

    configuration: int
    kept: int
    state: int
    recorded: int
    inside: int
    evaluations_per_step: int


def check_size(settings: RunSettings, problem: Problem) -> None:
    """Raises ``UserError`` for a run that needs more memory than there is, or would not end in anybody's lifetime."""
    sizes = _sizes(settings, problem)
    if sizes is None:
        return
    _check_kept(settings, sizes)
    room = available()
    for what, n_bytes in _needs(settings, sizes):
        if n_bytes > room:
            raise UserError(
                f"{what} would take at least {_gigabytes(n_bytes)} of memory, and there are {_gigabytes(room)}; ask "
                "for less."
            )
    _check_time(settings, sizes)


def _sizes(settings: RunSettings, problem: Problem) -> _Sizes | None:
    """The sizes of a run; ``None`` where something cannot be traced, of which nothing is known beforehand."""
    n_chains = settings.measurement.n_chains
    with contextlib.suppress(jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError):
        chains = jax.eval_shape(lambda key: problem.start(key, n_chains), jax.random.key(0))
        configuration = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), chains)
        update = problem.exact(problem.target)
        traced, state = jax.make_jaxpr(update.init, return_shape=True)(configuration)
        recorded = jax.eval_shape(problem.observe, state)[0]
        counts: list[int] = []
        jax.eval_shape(lambda one: counts.append(evaluations_per_step(update, one)), configuration)
        return _Sizes(
            _bytes(configuration),
            kept_bytes(configuration),
            _bytes(state),
            _bytes(recorded) + 24,
            max(_arrays(traced.jaxpr), default=0),
            counts[0],
        )
    return None


def _needs(settings: RunSettings, sizes: _Sizes) -> Iterator[tuple[str, int]]:
    measurement, n_chains = settings.measurement, settings.measurement.n_chains
    yield f"measurement.n_chains = {n_chains} chains", n_chains * sizes.state
    for name in ("block_size", "n_thermalise"):
        n_steps = getattr(measurement, name)
        yield (
            f"what {n_chains} chains record in measurement.{name} = {n_steps} steps",
            n_chains * n_steps * sizes.recorded,
        )
    if measurement.keep_every and measurement.keep_every < measurement.block_size:
        yield (
            f"configurations of {measurement.block_size} steps, some of which measurement.keep_every keeps,",
            n_chains * measurement.block_size * sizes.configuration,
        )
    if settings.learns:
        learning = settings.learning_settings
        n_steps = learning.n_rounds * learning.steps_in(0)
        if isinstance(learning.n_steps, tuple) and learning.n_rounds < 1000:
            n_steps = sum(map(learning.steps_in, range(learning.n_rounds)))
        n_labels = n_steps * (n_chains - n_held_out(n_chains, learning.held_out_share))
        yield f"{n_labels} configurations to learn from", 2 * n_labels * sizes.configuration
    yield "an evaluation of the exact weight of a system of this size", sizes.inside


def _check_kept(settings: RunSettings, sizes: _Sizes) -> None:
    """Raises ``UserError`` where what is kept of one step is more than records take."""
    each = settings.measurement.n_chains * sizes.kept
    if settings.measurement.keep_every and each > LARGEST_CHUNK:
        raise UserError(
            f"measurement.keep_every would keep {_gigabytes(each)} at a time, and records take at most "
            f"{_gigabytes(LARGEST_CHUNK)}; use fewer chains (measurement.n_chains), or keep none."
        )


def _check_time(settings: RunSettings, sizes: _Sizes) -> None:
    measurement, inner = settings.measurement, getattr(settings, "inner", None)
    n_updates = getattr(inner, "n_updates", 1) if settings.learns else 1
    each = max(sizes.evaluations_per_step, n_updates if isinstance(n_updates, int) else 1)
    cost = measurement.n_chains * max(1, sizes.configuration // 8) * _SECONDS
    n_steps = measurement.n_steps + settings.thermalisation.n_steps + settings.baseline.n_steps
    tuning = getattr(settings.exact, "tuning_steps", 0)
    block = max(measurement.block_size, measurement.n_thermalise, tuning)
    for seconds, longest, what in (
        (block * each * cost, _LONGEST_BLOCK, "the steps between two checkpoints would"),
        (n_steps * cost, _LONGEST_RUN, "the run would"),
    ):
        if seconds > longest:
            raise UserError(f"{what} take {seconds / _DAY:.3g} days, by an estimate that is far too low; ask for less.")


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * _width(leaf) for leaf in jax.tree.leaves(tree))


def _width(array: Any) -> int:
    return int(getattr(array.dtype, "itemsize", 8))


def _arrays(program: Any) -> Iterator[int]:
    """Bytes of all arrays in a traced program, those in the programs that it calls included."""
    for equation in program.eqns:
        yield from (math.prod(v.aval.shape) * _width(v.aval) for v in equation.outvars if hasattr(v.aval, "shape"))
        for part in jax.tree.leaves(tuple(equation.params.values()), is_leaf=_is_program):
            if _is_program(part):
                yield from _arrays(getattr(part, "jaxpr", part))


def _is_program(part: Any) -> bool:
    return hasattr(part, "eqns") or hasattr(getattr(part, "jaxpr", None), "eqns")


def available() -> int:
    """Bytes of memory that a run may take: what is free, within the limits of the process and its group."""
    limits = [_free(), _of_group(), resource.getrlimit(resource.RLIMIT_AS)[0]]
    if jax.default_backend() != "cpu":
        stats = jax.local_devices()[0].memory_stats() or {}
        limits.append(int(stats.get("bytes_limit", -1)))
    return min(limit for limit in limits if limit > 0)


def _free() -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_group() -> int:
    """The limit of a control group, as batch systems and containers set it; -1 without one."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            return int(Path(path).read_text(encoding="ascii"))
    return -1


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"
