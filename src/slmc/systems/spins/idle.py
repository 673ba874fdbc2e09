"""Settings of spins that nothing would read, which are refused."""

from typing import Any

from slmc.system import Idle, refuse_idle

_FORMS = {
    "linear": ("n_shells",),
    "network": ("n_layers", "n_channels", "n_hidden", "reach"),
    "transformer": ("n_layers", "n_heads", "n_shells", "head_shells", "attention", "initial_scale"),
}
"""The fields of [model] that each effective model has."""


def refuse_idle_spins(settings: Any) -> None:
    """Raises ``ValueError`` for fields of a double-exchange run that cannot take effect."""
    model, inner, exact = settings.model, settings.inner, settings.exact
    known = {name for form in _FORMS.values() for name in form}
    foreign = tuple(f"model.{name}" for name in type(model).model_fields if name in known - set(_FORMS[model.name]))
    is_nested, trajectory = inner.nested == "linear", ("inner.n_steps", "inner.integrator", "inner.precision")
    chosen = ("inner.n_guide_updates",) if is_nested else ("inner.n_steps",)
    is_chosen = inner.n_updates == "auto" and (is_nested or inner.update == "hmc")
    refuse_idle(
        settings,
        Idle(model.file is None, foreign, f'with model.name = "{model.name}"'),
        Idle(inner.update != "hmc", trajectory, f'with inner.update = "{inner.update}"'),
        Idle(inner.update == "heat-bath", ("inner.acceptance",), 'with inner.update = "heat-bath"'),
        Idle(not is_nested, ("inner.n_guide_updates",), 'with inner.nested = "no"'),
        Idle(is_chosen, chosen, 'with inner.n_updates = "auto", which chooses it'),
        Idle(exact.update == "local", ("exact.n_steps", "exact.integrator"), 'with exact.update = "local"'),
        Idle(settings.learning.training_steps == 0, ("learning.force_weight",), "with learning.training_steps = 0"),
    )
