"""How a section of a configuration file is declared: fields with defaults, limits and a sentence each."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Base of all sections: unknown fields are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)
