"""Models behind UM-Bridge, the interface by which the uncertainty-quantification world serves expensive models.

A server answers JSON over HTTP: Seelinger et al., J. Open Source Softw. 8, 4748 (2023), protocol version 1.0. The
requests are a dozen lines of Python's own library here, so that no package is needed beside it.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from slmc.system import UserError, shortened


class UMBridgeModel:
    """``value(x)`` and ``value_and_gradient(x)`` of a model that a server at ``url`` offers under ``name``.

    A model with one output is a log-likelihood. One with several outputs G(x) is compared with data: with ``observed``
    and ``noise``, log L = −Σ_i (G_i(x) − observed_i)²/(2 noise_i²). ``config`` goes with every request. Where the model
    takes several vectors, x is all of them, one after the other.

    Raises ``UserError`` where there is no such server or model, and for outputs that do not fit.
    """

    def __init__(
        self,
        url: str,
        name: str,
        config: Mapping[str, Any] | None = None,
        observed: Any = None,
        noise: Any = 1.0,
        timeout: float = 3600.0,
    ) -> None:
        self.url, self.name, self.config, self.timeout = url.rstrip("/"), name, dict(config or {}), timeout
        self.observed = None if observed is None else np.asarray(observed, float)
        self.noise = np.asarray(noise, float)

    @cached_property
    def input_sizes(self) -> list[int]:
        """Lengths of the vectors that the model takes."""
        return [int(size) for size in self._asked("InputSizes", {})["inputSizes"]]

    @cached_property
    def has_gradient(self) -> bool:
        """Whether the server offers derivatives."""
        return bool(self._asked("ModelInfo", {})["support"].get("Gradient", False))

    @property
    def dimension(self) -> int:
        """Of x."""
        return sum(self.input_sizes)

    def check(self) -> "UMBridgeModel":
        """Asks the server for what it offers. Raises ``UserError`` if the model is not among it or does not fit."""
        models = self._request("Info", None).get("models", [])
        if self.name not in models:
            raise UserError(f"the UM-Bridge server {self.url} has no model {self.name!r:.60}; it has {models}.")
        n_outputs = sum(int(size) for size in self._asked("OutputSizes", {})["outputSizes"])
        wanted = 1 if self.observed is None else self.observed.size
        if n_outputs != wanted:
            what = (
                "a log-likelihood has one; compare several with observed data"
                if self.observed is None
                else (f"there are {wanted} observed ones")
            )
            raise UserError(f"the UM-Bridge model {self.name!r:.60} has {n_outputs} outputs: {what}.")
        return self

    def value(self, x: Any) -> float:
        """log L(x): one evaluation."""
        return self._log_likelihood(self._outputs(x))[0]

    def value_and_gradient(self, x: Any) -> tuple[float, np.ndarray]:
        """log L(x) and its gradient: one evaluation and one gradient."""
        value, sensitivity = self._log_likelihood(self._outputs(x))
        parts = [
            self._asked("Gradient", {"outWrt": 0, "inWrt": number, "input": self._inputs(x), "sens": list(sensitivity)})
            for number in range(len(self.input_sizes))
        ]
        return value, np.concatenate([np.asarray(part["output"], float) for part in parts])

    def _log_likelihood(self, outputs: np.ndarray) -> tuple[float, np.ndarray]:
        """log L, and its derivative by the outputs."""
        if self.observed is None:
            return float(outputs[0]), np.ones(1)
        away = (outputs - self.observed) / self.noise
        return float(-np.sum(away**2) / 2), -away / self.noise

    def _outputs(self, x: Any) -> np.ndarray:
        return np.concatenate(
            [np.asarray(v, float) for v in self._asked("Evaluate", {"input": self._inputs(x)})["output"]]
        )

    def _inputs(self, x: Any) -> list[list[float]]:
        ends = np.cumsum(self.input_sizes)[:-1]
        return [part.tolist() for part in np.split(np.asarray(x, float), ends)]

    def _asked(self, what: str, more: dict[str, Any]) -> dict[str, Any]:
        return self._request(what, {"name": self.name, "config": self.config, **more})

    def _request(self, what: str, content: dict[str, Any] | None) -> dict[str, Any]:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}/{what}", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                found: dict[str, Any] = json.loads(answer.read())
        except urllib.error.HTTPError as error:  # an error of the model, told in the answer
            raise UserError(f"the UM-Bridge server {self.url} says: {_words(error)}.") from None
        except (OSError, ValueError) as error:
            raise UserError(f"there is no UM-Bridge server at {self.url} ({shortened(str(error), 100)}).") from None
        if "error" in found:
            raise UserError(f"the UM-Bridge server {self.url} says: {shortened(str(found['error']), 200)}.")
        return found


def _words(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    return f"{error.code}, {shortened(text, 200)}".rstrip(".")
