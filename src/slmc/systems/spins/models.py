"""The effective models of classical spins that a configuration file can choose: their names, fields and forms.

A new model is a line in ``MODELS``, its name in ``ModelSettings.name`` and the fields that it needs.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from slmc.lattice import Shape
from slmc.system import Settings
from slmc.systems.spins.heisenberg import Heisenberg
from slmc.systems.spins.network import EquivariantNetwork
from slmc.systems.spins.transformer import EquivariantTransformer

AllOrNumber = Literal["all"] | int
EffectiveModel = Heisenberg | EquivariantTransformer | EquivariantNetwork


class ModelSettings(Settings):
    """The effective model."""

    name: Literal["transformer", "network", "linear"] = Field(
        "transformer", description='"transformer", "network" or "linear"'
    )
    n_layers: int = Field(2, ge=0, description="attention layers (transformer); layers, 1 or more (network)")
    n_channels: PositiveInt = Field(12, description="vectors per site (network)")
    n_hidden: PositiveInt = Field(32, description="hidden values per site (network)")
    reach: AllOrNumber = Field("all", description='largest displacement component in a filter (network), or "all"')
    n_heads: PositiveInt = Field(4, description="heads in each layer (transformer)")
    n_shells: AllOrNumber = Field("all", description='neighbour shells in Q, K, V; of the linear model: in H; or "all"')
    head_shells: AllOrNumber = Field("all", description='shells of the Heisenberg head (transformer), or "all"')
    attention: Literal["dot-product", "factored"] = Field("dot-product", description='or "factored" (transformer)')
    initial_scale: PositiveFloat = Field(0.1, description="initial attention weights times sqrt(N) (transformer)")
    evaluation: Literal["compiled", "arrays"] = Field(
        "compiled", description='"arrays": with the last bits of earlier versions, slower (network)'
    )
    file: str | None = Field(None, description="a stored model.eqx to start from; its form replaces the fields above")

    @field_validator("n_shells", "head_shells", "reach")
    @classmethod
    def _not_negative(cls, value: AllOrNumber) -> AllOrNumber:
        if value != "all" and value < 0:
            raise ValueError('must be "all" or a number, 0 or more')
        return value

    def build(self, shape: Shape, temperature: float, key: jax.Array) -> EffectiveModel:
        """A model to start learning from. Raises ``ValueError`` for more shells than the torus has."""
        return MODELS[self.name].build(self, shape, temperature, key)


def _number(value: AllOrNumber) -> int | None:
    return None if value == "all" else value


def _linear(of: ModelSettings, shape: Shape, temperature: float, key: jax.Array) -> Heisenberg:
    return Heisenberg(shape, _number(of.n_shells), temperature=temperature)


def _form_of_linear(model: Heisenberg) -> dict[str, Any]:
    return {"n_shells": len(model.reduced_couplings)}


def _network(of: ModelSettings, shape: Shape, temperature: float, key: jax.Array) -> EquivariantNetwork:
    reach = _number(of.reach)
    sizes, compiled = (of.n_layers, of.n_channels, of.n_hidden), of.evaluation == "compiled"
    return EquivariantNetwork(shape, *sizes, reach, temperature, compiled, key=key)


def _form_of_network(model: EquivariantNetwork) -> dict[str, Any]:
    return {
        "n_layers": len(model.perceptrons),
        "n_channels": len(model.filters),
        "n_hidden": len(model.perceptrons[0].bias),
        "reach": "all" if model.reach is None else model.reach,
    }


def _transformer(of: ModelSettings, shape: Shape, temperature: float, key: jax.Array) -> EquivariantTransformer:
    shells = _number(of.n_shells), _number(of.head_shells)
    scale = of.initial_scale
    return EquivariantTransformer(shape, of.n_layers, of.n_heads, *shells, of.attention, temperature, scale, key=key)


def _form_of_transformer(model: EquivariantTransformer) -> dict[str, Any]:
    layers = model.layers
    return {
        "n_layers": len(layers),
        "n_heads": layers[0].filters.shape[1] if layers else 1,
        "n_shells": layers[0].filters.shape[2] - 1 if layers else 0,
        "head_shells": len(model.head.reduced_couplings),
        "attention": "factored" if layers and layers[0].scores is not None else "dot-product",
    }


class Kind(NamedTuple):
    """A kind of model: how it is made from [model], and with which fields of it one of the same structure is."""

    type: type[Any]
    build: Callable[[ModelSettings, Shape, float, jax.Array], Any]
    form: Callable[[Any], dict[str, Any]]


MODELS = {
    "transformer": Kind(EquivariantTransformer, _transformer, _form_of_transformer),
    "network": Kind(EquivariantNetwork, _network, _form_of_network),
    "linear": Kind(Heisenberg, _linear, _form_of_linear),
}


def describe(model: EffectiveModel) -> dict[str, Any]:
    """What ``build_like`` needs to know to make a model of the same structure."""
    name, kind = next((name, kind) for name, kind in MODELS.items() if type(model) is kind.type)
    return {"name": name, "shape": model.shape, "temperature": model.temperature, **kind.form(model)}


def build_like(description: dict[str, Any]) -> EffectiveModel:
    """A model of the structure that ``describe`` has told, with numbers to be replaced."""
    form = dict(description)
    shape, temperature = tuple(form.pop("shape")), form.pop("temperature")
    return ModelSettings(**form).build(shape, temperature, jax.random.key(0))
