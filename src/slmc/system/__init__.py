"""The seam: what a system is, and how systems are found. It knows none of them, and neither runs nor reports.

- ``settings``, ``run_settings``, ``scan_settings``, ``validation``: what a configuration may say
- ``problem``: what a run needs to know of a system, as values; ``variational``: of a wave function
- ``observable``: what is measured, as data
- ``model_file``: effective models on disk
- ``file_measurement``: what is measured of files of configurations
- ``discovery``: how systems are found
- ``errors``: what a user can put right
"""

from slmc.system.discovery import System, measurement_of, observable_named, ready_made, system_named, system_names
from slmc.system.errors import UserError, brief, sentence_of, shortened
from slmc.system.file_measurement import FileMeasurement, Measured, OfFile
from slmc.system.model_file import load_model, save_model
from slmc.system.observable import LOG_WEIGHT, Derived, Observable, chosen_names
from slmc.system.problem import ConfigurationFiles, ErrorOfModel, Fit, Problem, Sought, estimates_of
from slmc.system.run_settings import (
    PROPOSAL_WORDS,
    InnerProposal,
    InnerSection,
    LearningSection,
    MeasurementSettings,
    ProblemSettings,
    Rounds,
    RunSettings,
    TrainingSection,
    as_begun,
    kept_files,
)
from slmc.system.scan_settings import ScanSettings, field_about, point_settings
from slmc.system.settings import Idle, Settings, changed_fields, idle_fields_taken, no_effect, refuse_idle, value_of
from slmc.system.validation import validated, with_fields, without_idle
from slmc.system.variational import StepSettings, Variational, VariationalSettings

__all__ = [
    "LOG_WEIGHT",
    "PROPOSAL_WORDS",
    "ConfigurationFiles",
    "Derived",
    "ErrorOfModel",
    "FileMeasurement",
    "Fit",
    "Idle",
    "InnerProposal",
    "InnerSection",
    "LearningSection",
    "Measured",
    "MeasurementSettings",
    "Observable",
    "OfFile",
    "Problem",
    "ProblemSettings",
    "Rounds",
    "RunSettings",
    "ScanSettings",
    "Settings",
    "Sought",
    "StepSettings",
    "System",
    "TrainingSection",
    "UserError",
    "Variational",
    "VariationalSettings",
    "as_begun",
    "brief",
    "changed_fields",
    "chosen_names",
    "estimates_of",
    "field_about",
    "idle_fields_taken",
    "kept_files",
    "load_model",
    "measurement_of",
    "no_effect",
    "observable_named",
    "point_settings",
    "ready_made",
    "refuse_idle",
    "save_model",
    "sentence_of",
    "shortened",
    "system_named",
    "system_names",
    "validated",
    "value_of",
    "with_fields",
    "without_idle",
]
