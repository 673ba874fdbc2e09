"""Expensive log-likelihoods outside JAX: a function of one configuration or of a batch, in processes or threads."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from slmc.montecarlo import HostTarget
from slmc.system import UserError, shortened
from slmc.workers import RAISED, Called, Crew, FunctionProcess

NOT_FINITE = "gave no finite number"
_FIRST = 100
"""Evaluations before which the share of failures is taken as if there had been as many."""

_VALUE, _BOTH = "value", "value and gradient"

Batch = Float[np.ndarray, "configuration parameter"]


class Evaluations:
    """``log_likelihood(x)`` of single vectors x as a function of batches, which a ``HostTarget`` needs.

    ``value_and_gradient(x)`` returns log L and ∂ log L/∂x; without it trajectories of the exact weight and force
    matching are out of question. With ``batched`` both take all configurations at once, (configuration, parameter).
    ``workers`` evaluate at the same time: processes of their own, ``workers_are = "processes"``, for functions that
    hold Python's interpreter, or threads, for those that wait for another program. One evaluation may take ``timeout``
    seconds in a process.

    An evaluation that raises, gives no number or +∞, takes too long or ends its process has likelihood zero, which a
    return value of −∞ says without being a failure. More than a share ``max_failures`` of failures ends the run with a
    ``UserError``. Raises ``ValueError`` for ``batched`` with workers, whose batches would be single.
    """

    def __init__(
        self,
        log_likelihood: Callable[[Any], Any],
        value_and_gradient: Callable[[Any], tuple[Any, Any]] | None = None,
        *,
        batched: bool = False,
        workers: int = 0,
        workers_are: Literal["processes", "threads"] = "processes",
        timeout: float = 3600.0,
        max_failures: float = 0.1,
    ) -> None:
        if batched and workers:
            raise ValueError("a function of a batch shares its work out itself; leave workers out.")
        self.log_likelihood, self.value_and_gradient = log_likelihood, value_and_gradient
        self.batched, self.n_workers, self.workers_are = batched, workers, workers_are
        self.timeout, self.max_failures = timeout, max_failures
        self.n_evaluations = self.n_failures = 0
        self.last_words = ""
        self._lock = threading.Lock()

    @cached_property
    def target(self) -> HostTarget:
        """The log-likelihood as a target of x."""
        both = None if self.value_and_gradient is None else self.values_and_gradients
        return HostTarget(self.values, both, together=self.n_workers > 1)

    @property
    def remark(self) -> str:
        """A sentence about failures, empty where there were none."""
        if not self.n_failures:
            return ""
        return (
            f"{self.n_failures} of {self.n_evaluations} evaluations of the log-likelihood failed (the last: "
            f"{self.last_words}); such parameters have likelihood zero."
        )

    def values(self, batch: Batch) -> Float[np.ndarray, " configuration"]:
        """log L, −∞ where an evaluation failed."""
        return np.array([value for value, _ in self._evaluated(_VALUE, batch)])

    def values_and_gradients(self, batch: Batch) -> tuple[Float[np.ndarray, " configuration"], Batch]:
        """log L and its gradient, zero where an evaluation failed."""
        pairs = self._evaluated(_BOTH, batch)
        return np.array([value for value, _ in pairs]), np.array([gradient for _, gradient in pairs])

    def close(self) -> None:
        """Ends the processes; they are started again when needed."""
        if "_crew" in self.__dict__:
            self._crew.close()

    def __repr__(self) -> str:
        # What a resumed run is compared by: no address, which differs from process to process.
        name = getattr(self.log_likelihood, "__qualname__", type(self.log_likelihood).__name__)
        return f"Evaluations({name}, gradient={self.value_and_gradient is not None})"

    def _evaluated(self, kind: str, batch: Batch) -> list[tuple[float, np.ndarray]]:
        batch = np.asarray(batch)
        answers = self._of_batch(kind, batch) if self.batched else self._one_by_one(kind, batch)
        nothing = np.zeros(batch.shape[1])
        checked = [_checked(kind, answer, nothing) for answer in answers]
        with self._lock:
            self.n_evaluations += len(checked)
            for answer in checked:
                if answer.failure:
                    self.n_failures += 1
                    self.last_words = f"{answer.failure}, {answer.words}"
            too_many = self.n_failures > self.max_failures * max(self.n_evaluations, _FIRST)
        if too_many:
            raise UserError(
                f"the log-likelihood failed in {self.n_failures} of {self.n_evaluations} evaluations, more than "
                f"max_failures = {self.max_failures:g} allows (the last: {shortened(self.last_words, 300)}); put it "
                "right, let it return minus infinity where parameters are impossible, or allow more."
            )
        return [answer.result if not answer.failure else (-np.inf, nothing) for answer in checked]

    def _one_by_one(self, kind: str, batch: Batch) -> Sequence[Called]:
        requests = [(kind, x) for x in batch]
        if not self.n_workers:
            with self._alone:
                return [self._called(request) for request in requests]
        if self.workers_are == "threads":
            return list(self._threads.map(self._called, requests))
        return self._crew.evaluated(requests)

    def _of_batch(self, kind: str, batch: Batch) -> Sequence[Called]:
        with self._alone:
            answer = self._called((kind, batch))
        if answer.failure:
            return [answer] * len(batch)
        lines = answer.result if kind == _VALUE else list(zip(*answer.result, strict=True))
        if len(lines) != len(batch):
            raise UserError(f"the log-likelihood of a batch of {len(batch)} returned {len(lines)} values.")
        return [Called(line) for line in lines]

    def _called(self, request: tuple[str, Any]) -> Called:
        try:
            return Called(self._functions[request[0]](request[1]))
        except Exception as error:
            return Called(None, RAISED, shortened(f"{type(error).__name__}: {error}", 200))

    @property
    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        functions = {_VALUE: self.log_likelihood}
        return functions if self.value_and_gradient is None else {**functions, _BOTH: self.value_and_gradient}

    @cached_property
    def _crew(self) -> Crew[Called]:
        return Crew(lambda: FunctionProcess(self._functions, self.timeout), self.n_workers)

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.n_workers)

    @cached_property
    def _alone(self) -> threading.Lock:
        """Chains on several devices call at the same time; a function of a user's need not be made for that."""
        return threading.Lock()


def _checked(kind: str, answer: Called, nothing: np.ndarray) -> Called:
    """The answer with its numbers as they are needed; raises ``UserError`` for a gradient of another shape."""
    if answer.failure:
        return answer
    try:
        value, gradient = answer.result if kind == _BOTH else (answer.result, nothing)
        value, gradient = float(np.asarray(value, float).reshape(())), np.asarray(gradient, float)
    except (TypeError, ValueError):
        words = "a number and its gradient" if kind == _BOTH else "a number"
        raise UserError(
            f"the log-likelihood must return {words} for a vector; it returned {shortened(repr(answer.result), 80)}."
        ) from None
    if gradient.shape != nothing.shape:
        raise UserError(
            f"the gradient of the log-likelihood must have the shape {nothing.shape} of the parameters; "
            f"it has {gradient.shape}."
        )
    if np.isnan(value) or value == np.inf or (value > -np.inf and not np.all(np.isfinite(gradient))):
        return Called(None, NOT_FINITE, f"log-likelihood {value}")
    return Called((value, gradient if value > -np.inf else nothing))
