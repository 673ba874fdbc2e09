"""The J1-J2 model and attention written down once more, slowly, with NumPy and loops."""

import itertools

import numpy as np


def basis(n_sites):
    """All configurations ±1 of total S^z = 0."""
    every = np.array(list(itertools.product((-1, 1), repeat=n_sites)))
    return every[every.sum(1) == 0]


def bonds(shape, squared_distance):
    """Pairs of sites at a distance on the torus, each once."""
    places = list(np.ndindex(*shape))
    found = set()
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            nearest = [min(abs(a - b), extent - abs(a - b)) for a, b, extent in zip(one, other, shape, strict=True)]
            if i < j and sum(d * d for d in nearest) == squared_distance:
                found.add((i, j))
    return sorted(found)


def hamiltonian(shape, j2, marshall=False):
    """Dense H = Σ S_i·S_j + J2 Σ S_i·S_j over the two shortest distances, in ``basis`` order.

    S_i·S_j has 1/4 on the diagonal for parallel spins and −1/4 for antiparallel ones, which it also exchanges with 1/2.
    """
    states = basis(int(np.prod(shape)))
    number = {tuple(state): place for place, state in enumerate(states)}
    matrix = np.zeros((len(states), len(states)))
    next_nearest = 2 if len(shape) == 2 else 4
    for coupling, distance, sign in ((1.0, 1, -1 if marshall else 1), (j2, next_nearest, 1)):
        for i, j in bonds(shape, distance):
            for place, state in enumerate(states):
                matrix[place, place] += coupling * state[i] * state[j] / 4
                if state[i] != state[j]:
                    other = state.copy()
                    other[i], other[j] = state[j], state[i]
                    matrix[place, number[tuple(other)]] += sign * coupling / 2
    return matrix


def attention(kind, tokens, parameters, token_shape):
    """Weights (head, i, j) and output of one set of tokens (token, feature), from Flax's parameters of the module."""
    maps = {
        name: (np.asarray(one["kernel"]), np.asarray(one["bias"]))
        for name, one in parameters.items()
        if name != "position"
    }
    position = np.asarray(parameters["position"])
    n_heads, n_tokens = position.shape
    places = list(np.ndindex(*token_shape))

    def mapped(name):
        return (tokens @ maps[name][0] + maps[name][1]).reshape(n_tokens, n_heads, -1)

    weights = np.zeros((n_heads, n_tokens, n_tokens))
    for head in range(n_heads):
        for i in range(n_tokens):
            relative = np.zeros(n_tokens)
            scores = np.zeros(n_tokens)
            for j in range(n_tokens):
                step = [(b - a) % extent for a, b, extent in zip(places[i], places[j], token_shape, strict=True)]
                relative[j] = position[head, places.index(tuple(step))]
                if kind != "factored":
                    query, key = mapped("query")[i, head], mapped("key")[j, head]
                    scores[j] = query @ key / np.sqrt(len(query))
            if kind == "factored":
                weights[head, i] = relative
            elif kind == "decoupled":
                weights[head, i] = np.exp(scores) / np.exp(scores).sum() + relative
            else:
                weights[head, i] = np.exp(scores + relative) / np.exp(scores + relative).sum()
    values = mapped("value")
    mixed = np.concatenate([weights[head] @ values[:, head] for head in range(n_heads)], axis=1)
    return weights, mixed @ maps["output"][0] + maps["output"][1]
