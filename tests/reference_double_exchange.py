"""The double-exchange model written down slowly: loops over sites and displacements, nothing shared with slmc."""

import itertools
import math

import numpy as np
from scipy.special import expit

SIGMA_X = [[0, 1], [1, 0]]
SIGMA_Y = [[0, -1j], [1j, 0]]
SIGMA_Z = [[1, 0], [0, -1]]


def displacements_by_shell(shape):
    """Displacement vectors with |d_a| ≤ L_a/2, grouped by length; on an even extent +L/2 and −L/2 are two vectors."""
    ranges = [range(-(extent // 2), extent // 2 + 1) for extent in shape]
    groups = {}
    for vector in itertools.product(*ranges):
        groups.setdefault(sum(component**2 for component in vector), []).append(vector)
    return [groups[squared] for squared in sorted(groups) if squared > 0]


def site_number(position, shape):
    number = 0
    for coordinate, extent in zip(position, shape, strict=True):
        number = number * extent + coordinate % extent
    return number


def hamiltonian(spins, hopping, coupling):
    """H element by element: −t_n for each displacement vector of shell n, (J/2) S·σ added to the diagonal blocks."""
    spins = np.asarray(spins)
    shape = spins.shape[:-1]
    n_sites = math.prod(shape)
    matrix = np.zeros((2 * n_sites, 2 * n_sites), complex)
    shells = displacements_by_shell(shape)
    for position in itertools.product(*[range(extent) for extent in shape]):
        i = site_number(position, shape)
        for t, vectors in zip(hopping, shells, strict=False):
            for vector in vectors:
                j = site_number([p + d for p, d in zip(position, vector, strict=True)], shape)
                for spin in range(2):
                    matrix[2 * i + spin, 2 * j + spin] += -t
        x, y, z = spins[position]
        for a in range(2):
            for b in range(2):
                matrix[2 * i + a, 2 * i + b] += (
                    coupling / 2 * (x * SIGMA_X[a][b] + y * SIGMA_Y[a][b] + z * SIGMA_Z[a][b])
                )
    return matrix


def levels(spins, hopping, coupling):
    return np.linalg.eigvalsh(hamiltonian(spins, hopping, coupling))


def log_weight(spins, hopping, coupling, mu, temperature):
    """Σ_n log(1 + exp(−(E_n − μ)/T)), level by level."""
    total = 0.0
    for energy in levels(spins, hopping, coupling):
        argument = -(energy - mu) / temperature
        total += max(argument, 0.0) + math.log1p(math.exp(-abs(argument)))
    return total


def observables(spins, hopping, coupling, mu, temperature):
    """Electronic expectation values at fixed spins, from the Fermi function of each level."""
    energies = levels(spins, hopping, coupling)
    n_sites = math.prod(np.shape(spins)[:-1])
    occupations = [1 / (1 + math.exp(min((e - mu) / temperature, 700))) for e in energies]
    return {
        "energy": sum(e * f for e, f in zip(energies, occupations, strict=True)) / n_sites,
        "density": sum(occupations) / n_sites,
        "grand_energy": sum((e - mu) * f for e, f in zip(energies, occupations, strict=True)),
        "energy_variance": sum((e - mu) ** 2 * f * (1 - f) for e, f in zip(energies, occupations, strict=True)),
    }


def heisenberg_log_weight(spins, couplings, constant, temperature):
    """Σ_n J_n Σ_i Σ_d∈shell n S_i·S_{i+d} / 2 − E_0, over T: every displacement vector is half a bond."""
    spins = np.asarray(spins)
    shape = spins.shape[:-1]
    flat = spins.reshape(-1, 3)
    total = -constant
    for position in itertools.product(*[range(extent) for extent in shape]):
        i = site_number(position, shape)
        for strength, vectors in zip(couplings, displacements_by_shell(shape), strict=False):
            for vector in vectors:
                j = site_number([p + d for p, d in zip(position, vector, strict=True)], shape)
                total += strength * float(flat[i] @ flat[j]) / 2
    return total / temperature


def transformer_spins(spins, layers):
    """S^(L) of the equivariant Transformer; each layer is (filters, scores), scores None for dot-product attention."""
    spins = np.asarray(spins)
    shape = spins.shape[:-1]
    flat = spins.reshape(-1, 3).copy()
    n_sites = len(flat)
    shells = [[(0,) * len(shape)], *displacements_by_shell(shape)]

    def matrix(weights):
        result = np.zeros((n_sites, n_sites))
        for position in itertools.product(*[range(extent) for extent in shape]):
            i = site_number(position, shape)
            for weight, vectors in zip(weights, shells, strict=False):
                for vector in vectors:
                    j = site_number([p + d for p, d in zip(position, vector, strict=True)], shape)
                    result[i, j] += weight
        return result

    for filters, scores in layers:
        moved = flat.copy()
        for head in range(filters.shape[1]):
            if scores is None:
                queries, keys, values = (matrix(filters[role, head]) @ flat for role in range(3))
                attention = np.zeros((n_sites, n_sites))
                for i in range(n_sites):
                    for j in range(n_sites):
                        attention[i, j] = max(0.0, queries[i] @ keys[j] / math.sqrt(3))
            else:
                values = matrix(filters[0, head]) @ flat
                attention = matrix(scores[head])
            moved += attention @ values
        flat = moved / np.linalg.norm(moved, axis=1)[:, None]
    return flat.reshape(spins.shape)


def displacement_classes(shape):
    """Shortest displacement vectors of the torus, grouped by their sorted absolute components, nearest first."""
    zero = [[(0,) * len(shape)]]
    classes = {}
    for vectors in (*zero, *displacements_by_shell(shape)):
        for vector in vectors:
            name = tuple(sorted((abs(c) for c in vector), reverse=True))
            classes.setdefault((sum(c**2 for c in name), name), []).append(vector)
    return [classes[name] for name in sorted(classes)]


def network_log_weight(spins, model):
    """The equivariant network with loops over sites, channels and displacements."""
    spins = np.asarray(spins)
    shape = spins.shape[:-1]
    flat = spins.reshape(-1, 3)
    sites = list(itertools.product(*[range(extent) for extent in shape]))
    classes = displacement_classes(shape)
    if model.reach is not None:
        classes = [one for one in classes if max(abs(c) for c in one[0]) <= model.reach]

    def filtered(weights, field):
        result = np.zeros_like(field)
        for i, position in enumerate(sites):
            for weight, vectors in zip(weights, classes, strict=True):
                for vector in vectors:
                    result[i] += weight * field[site_number(np.add(position, vector), shape)]
        return result

    total = float(model.linear.constant)
    total += float(np.sum(flat * filtered([0, *np.asarray(model.linear.couplings)], flat))) / 2
    channels = [filtered(weights, flat) for weights in np.asarray(model.filters)]
    n_channels = len(channels)
    for layer, perceptron in enumerate(model.perceptrons):
        hidden = np.zeros((len(sites), len(perceptron.bias)))
        for i in range(len(sites)):
            invariants = [channels[c][i] @ channels[d][i] for c in range(n_channels) for d in range(c, n_channels)]
            argument = np.asarray(perceptron.weights) @ invariants + np.asarray(perceptron.bias)
            hidden[i] = argument * expit(argument)
        total += float(np.sum(hidden @ np.asarray(perceptron.readout)))
        if layer < len(model.messages):
            message = model.messages[layer]
            gates = np.asarray(message.gates).reshape(n_channels, n_channels, -1)
            received = []
            for d in range(n_channels):
                sent = sum((hidden @ gates[d, e])[:, None] * channels[e] for e in range(n_channels))
                received.append(filtered(np.asarray(message.filters)[d], sent))
            mixing = np.asarray(message.mixing)
            channels = [
                channels[c] + sum(mixing[c, d] * received[d] for d in range(n_channels)) for c in range(n_channels)
            ]
    return total
