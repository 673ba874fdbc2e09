"""The elliptic inverse problem behind UM-Bridge, served by its package; run by ``vectors.py`` in another process.

    python benchmarks/vectors_server.py DIMENSION N_CELLS PORT

Needs the package umbridge (``peers_requirements.txt``) but not slmc. The model ``posterior`` has the log-likelihood as
its one output, and its gradient.
"""

import sys

import umbridge
from vectors_chains import elliptic


class Posterior(umbridge.Model):
    """The log-likelihood of ``Elliptic``."""

    def __init__(self, dimension: int, n_cells: int) -> None:
        super().__init__("posterior")
        self.problem = elliptic()(dimension, n_cells)

    def get_input_sizes(self, config: dict) -> list[int]:
        return [self.problem.dimension]

    def get_output_sizes(self, config: dict) -> list[int]:
        return [1]

    def __call__(self, parameters: list, config: dict) -> list:
        return [[self.problem(parameters[0])]]

    def gradient(self, out_wrt: int, in_wrt: int, parameters: list, sens: list, config: dict) -> list:
        return [sens[0] * number for number in self.problem.value_and_gradient(parameters[0])[1]]

    def supports_evaluate(self) -> bool:
        return True

    def supports_gradient(self) -> bool:
        return True


if __name__ == "__main__":
    umbridge.serve_models([Posterior(int(sys.argv[1]), int(sys.argv[2]))], int(sys.argv[3]))
