"""One job from a file, start to end, resumable: the only part that touches disk, devices and progress bars.

- ``config``, ``toml``: settings read, validated, written
- ``runner``: phases and blocks of a Monte Carlo run; ``optimisation``: those of a variational one
- ``progress``: what it tells; ``stopping``: signals and wall time
- ``clock``: where time goes
- ``records``, ``checkpoint``, ``model_file``, ``directory``: what is on disk
- ``summary``: what was found; ``devices``: where it runs
"""

from slmc.simulation.config import RunSettings, ScanSettings, TrainingSection, load_config, system_of, validated
from slmc.simulation.devices import use_all_cores
from slmc.simulation.directory import config_of, locked, new_directory, point_directory, records_path
from slmc.simulation.errors import UserError
from slmc.simulation.model_file import load_model, save_model
from slmc.simulation.optimisation import WAVE_FUNCTION, Optimisation, StepSettings, summarise_optimisation
from slmc.simulation.progress import Reporter, make_console
from slmc.simulation.records import Records, Variable
from slmc.simulation.runner import Problem, Simulation
from slmc.simulation.summary import summarise
from slmc.simulation.toml import to_toml

__all__ = [
    "WAVE_FUNCTION",
    "Optimisation",
    "Problem",
    "Records",
    "Reporter",
    "RunSettings",
    "ScanSettings",
    "Simulation",
    "StepSettings",
    "TrainingSection",
    "UserError",
    "Variable",
    "config_of",
    "load_config",
    "load_model",
    "locked",
    "make_console",
    "new_directory",
    "point_directory",
    "records_path",
    "save_model",
    "summarise",
    "summarise_optimisation",
    "system_of",
    "to_toml",
    "use_all_cores",
    "validated",
]
