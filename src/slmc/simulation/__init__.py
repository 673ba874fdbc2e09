"""One job from a file, start to end, resumable: the only part that touches disk, devices and progress bars.

- ``config_file``, ``toml``: settings read and written
- ``loop``: phases and blocks, the same for every run; ``sampling``: those of a Monte Carlo run; ``optimisation``: those
  of a variational one; ``scan``: many runs, a point each
- ``progress``: what it tells; ``stopping``: signals and wall time
- ``clock``: where time goes
- ``records``, ``described``, ``checkpoint``, ``directory``: what is on disk
- ``summary``: what was found; ``devices``: where it runs
"""

from slmc.simulation.config_file import read_toml, with_overrides
from slmc.simulation.described import described_tree
from slmc.simulation.directory import config_of, locked, new_directory, records_path
from slmc.simulation.loop import run_blocks
from slmc.simulation.optimisation import WAVE_FUNCTION, Optimisation, summarise_optimisation
from slmc.simulation.progress import Reporter, make_console
from slmc.simulation.records import Records, Variable
from slmc.simulation.sampling import Sampling
from slmc.simulation.scan import Point, begun_points, carry_out_points
from slmc.simulation.summary import summarise
from slmc.simulation.toml import to_toml

__all__ = [
    "WAVE_FUNCTION",
    "Optimisation",
    "Point",
    "Records",
    "Reporter",
    "Sampling",
    "Variable",
    "begun_points",
    "carry_out_points",
    "config_of",
    "described_tree",
    "locked",
    "make_console",
    "new_directory",
    "read_toml",
    "records_path",
    "run_blocks",
    "summarise",
    "summarise_optimisation",
    "to_toml",
    "with_overrides",
]
