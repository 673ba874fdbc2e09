"""One job from a file, start to end, resumable: the only part that touches disk, devices and progress bars.

- ``config_file``, ``toml``: settings read and written
- ``loop``: phases and blocks, the same for every run; ``sampling``: those of a Monte Carlo run; ``optimisation``: those
  of a variational one; ``scan``: many runs, a point each
- ``progress``: what it tells; ``stopping``: signals and wall time
- ``clock``: where time goes
- ``kept``: configurations that are kept, and what is measured of them afterwards
- ``records``, ``described``, ``checkpoint``, ``directory``, ``files``: what is on disk; ``marks``, ``verification``:
  whether it belongs together
- ``configuration_files``: configurations that a run writes for others
- ``summary``: what was found; ``watched``: what is kept in mind of it while running; ``size``: what it takes
"""

from slmc.simulation.checkpoint import Checkpoints, changed_settings
from slmc.simulation.config_file import read_toml, with_overrides
from slmc.simulation.described import described_tree
from slmc.simulation.directory import (
    CHECKPOINTS,
    CONFIG,
    config_of,
    holds_run,
    locked,
    new_directory,
    records_path,
)
from slmc.simulation.files import checksum, write_arrays, write_whole
from slmc.simulation.kept import measured_anew
from slmc.simulation.loop import run_blocks
from slmc.simulation.optimisation import FREE, WAVE_FUNCTION, Optimisation, digest_of, summarise_optimisation
from slmc.simulation.progress import Listener, Reporter, json_lines
from slmc.simulation.records import Records, Variable
from slmc.simulation.sampling import MODEL, Sampling
from slmc.simulation.scan import (
    Point,
    begun_points,
    carry_out_points,
    check_scan,
    forget_failures,
    points_of,
    source_of,
)
from slmc.simulation.size import check_size
from slmc.simulation.summary import summarise
from slmc.simulation.toml import to_toml
from slmc.simulation.verification import Stored, stored_run

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "FREE",
    "MODEL",
    "WAVE_FUNCTION",
    "Checkpoints",
    "Listener",
    "Optimisation",
    "Point",
    "Records",
    "Reporter",
    "Sampling",
    "Stored",
    "Variable",
    "begun_points",
    "carry_out_points",
    "changed_settings",
    "check_scan",
    "check_size",
    "checksum",
    "config_of",
    "described_tree",
    "digest_of",
    "forget_failures",
    "holds_run",
    "json_lines",
    "locked",
    "measured_anew",
    "new_directory",
    "points_of",
    "read_toml",
    "records_path",
    "run_blocks",
    "source_of",
    "stored_run",
    "summarise",
    "summarise_optimisation",
    "to_toml",
    "with_overrides",
    "write_arrays",
    "write_whole",
]
