"""Slow, independent lattice gauge theory: loops over sites, NumPy and SciPy alone.

Links are complex arrays U[mu, x_0, …, x_{d−1}, i, j].
"""

import itertools

import numpy as np
from scipy import integrate, special


def complex_links(links):
    """The complex array of a configuration."""
    array = np.asarray(links)
    return array[..., 0, :, :] + 1j * array[..., 1, :, :]


def stored(matrices):
    """A configuration of the complex array."""
    return np.stack([matrices.real, matrices.imag], axis=-3)


def random_group(rng, *shape_and_n):
    """Haar-distributed SU(N) matrices by QR, those of SU(2) as unit vectors in four dimensions."""
    *shape, n = shape_and_n
    if n == 2:
        a = rng.normal(size=(4, *shape))
        a /= np.sqrt(np.sum(a * a, axis=0))
        return np.stack([a[0] + 1j * a[3], a[2] + 1j * a[1], -a[2] + 1j * a[1], a[0] - 1j * a[3]], -1).reshape(
            *shape, 2, 2
        )
    gaussian = rng.normal(size=(*shape, n, n)) + 1j * rng.normal(size=(*shape, n, n))
    q, r = np.linalg.qr(gaussian)
    diagonal = np.diagonal(r, axis1=-2, axis2=-1)
    q = q * (diagonal / abs(diagonal))[..., None, :]
    return q / np.linalg.det(q)[..., None, None] ** (1 / n)


def step(site, mu, by, shape):
    """The site by·μ further on the torus."""
    moved = list(site)
    moved[mu] = (moved[mu] + by) % shape[mu]
    return tuple(moved)


def path(u, site, steps):
    """The ordered product of links along steps ±(μ + 1) from a site."""
    shape, n = u.shape[1:-2], u.shape[-1]
    product = np.eye(n, dtype=complex)
    for one in steps:
        mu = abs(one) - 1
        if one > 0:
            product = product @ u[(mu, *site)]
            site = step(site, mu, 1, shape)
        else:
            site = step(site, mu, -1, shape)
            product = product @ u[(mu, *site)].conj().T
    return product


def loop_deficit(u, lengths):
    """Σ (1 − Re tr W/N) over all sites and ordered pairs of directions (each plane once for squares)."""
    dimension, shape, n = len(u), u.shape[1:-2], u.shape[-1]
    pairs = itertools.combinations(range(dimension), 2)
    if lengths[0] != lengths[1]:
        pairs = itertools.permutations(range(dimension), 2)
    total = 0.0
    for mu, nu in pairs:
        steps = [mu + 1] * lengths[0] + [nu + 1] * lengths[1] + [-mu - 1] * lengths[0] + [-nu - 1] * lengths[1]
        total += sum(1 - np.trace(path(u, site, steps)).real / n for site in np.ndindex(*shape))
    return total


def gauge_action(u, beta, c1):
    return beta * ((1 - 8 * c1) * loop_deficit(u, (1, 1)) + c1 * loop_deficit(u, (2, 1)))


def polyakov_sum(u, mu):
    """Σ tr Pol over transverse sites."""
    shape = u.shape[1:-2]
    starts = [site for site in np.ndindex(*shape) if site[mu] == 0]
    return sum(np.trace(path(u, site, [mu + 1] * shape[mu])) for site in starts)


def _hops(u, antiperiodic):
    """(from site, to site, μ, matrices) of every forward link of a batch, the boundary's sign in it."""
    shape = u.shape[2:-2]
    for mu in range(len(shape)):
        for site in np.ndindex(*shape):
            sign = -1 if antiperiodic and mu == len(shape) - 1 and site[mu] == shape[mu] - 1 else 1
            yield site, step(site, mu, 1, shape), mu, sign * u[(slice(None), mu, *site)]


def staggered_matrix(u, mass, antiperiodic=True):
    """M on the whole lattice, sites in row-major order, colour fastest."""
    return staggered_matrices(u[None], mass, antiperiodic)[0]


def staggered_matrices(u, mass, antiperiodic=True):
    """M of every field of a batch."""
    shape, n = u.shape[2:-2], u.shape[-1]
    number = {site: k for k, site in enumerate(np.ndindex(*shape))}
    matrices = np.tile(mass * np.eye(len(number) * n, dtype=complex), (len(u), 1, 1))
    for here, there, mu, links in _hops(u, antiperiodic):
        eta = (-1) ** sum(here[:mu])
        a, b = (slice(number[x] * n, (number[x] + 1) * n) for x in (here, there))
        matrices[:, a, b] += eta * links / 2
        matrices[:, b, a] -= eta * np.conj(np.swapaxes(links, -1, -2)) / 2
    return matrices


def wilson_matrix(u, kappa, gammas, antiperiodic=True):
    """M on the whole lattice: site, then spin, then colour."""
    return wilson_matrices(u[None], kappa, gammas, antiperiodic)[0]


def wilson_matrices(u, kappa, gammas, antiperiodic=True):
    """M of every field of a batch."""
    shape, n, spin = u.shape[2:-2], u.shape[-1], len(gammas[0])
    number = {site: k for k, site in enumerate(np.ndindex(*shape))}
    size, one = n * spin, np.eye(spin)
    matrices = np.tile(np.eye(len(number) * size, dtype=complex), (len(u), 1, 1))
    for here, there, mu, links in _hops(u, antiperiodic):
        a, b = (slice(number[x] * size, (number[x] + 1) * size) for x in (here, there))
        back = np.conj(np.swapaxes(links, -1, -2))
        for rows, columns, spins, colours in ((a, b, one - gammas[mu], links), (b, a, one + gammas[mu], back)):
            product = np.einsum("st,kij->ksitj", spins, colours)
            matrices[:, rows, columns] -= kappa * product.reshape(-1, size, size)
    return matrices


def wilson_kernel(u, height, gammas, antiperiodic=True):
    """D_W(−height) = d − height − H/2, H that of ``wilson_matrix``, of one field or of a batch."""
    batch = u if u.ndim == len(gammas) + 4 else u[None]
    matrices = wilson_matrices(batch, 1.0, gammas, antiperiodic)
    unit = np.eye(matrices.shape[-1])
    kernels = (len(gammas) - height) * unit - (unit - matrices) / 2
    return kernels if batch is u else kernels[0]


def domain_wall_matrix(kernel, gamma_5, mass, n_layers, b, c):
    """Layers outermost: (b D_W + 1) on the diagonal, (c D_W − 1) P_∓ above and below it, −m at the corners."""
    n = kernel.shape[-1]
    unit, matrix = np.eye(n), np.zeros((*kernel.shape[:-2], n_layers * n, n_layers * n), complex)
    for s in range(n_layers):
        here = slice(s * n, (s + 1) * n)
        matrix[..., here, here] += b * kernel + unit
        for step_, chirality in ((1, (unit - gamma_5) / 2), (-1, (unit + gamma_5) / 2)):
            t = (s + step_) % n_layers
            sign = -mass if s + step_ != t else 1.0
            matrix[..., here, t * n : (t + 1) * n] += sign * (c * kernel - unit) @ chirality
    return matrix


def overlap_matrix(kernel, gamma_5, mass, n_layers, b, c):
    """½[1 + m + (1 − m) γ_5 ε(H_T)] by the eigenvalues of H_T; ``n_layers`` = inf takes the sign function."""
    unit = np.eye(kernel.shape[-1])
    transfer = gamma_5 @ ((b + c) * kernel) @ np.linalg.inv(2 * unit + (b - c) * kernel)
    values, vectors = np.linalg.eigh((transfer + np.conj(np.swapaxes(transfer, -1, -2))) / 2)
    if np.isinf(n_layers):
        sign = np.sign(values)
    else:
        plus, minus = (1 + values) ** n_layers, (1 - values) ** n_layers
        sign = (plus - minus) / (plus + minus)
    epsilon = (vectors * sign[..., None, :]) @ np.conj(np.swapaxes(vectors, -1, -2))
    return ((1 + mass) * unit + (1 - mass) * gamma_5 @ epsilon) / 2


def torus_plaquette(n, beta, volume):
    """⟨Re tr P/N⟩ of two-dimensional SU(2) or SU(3) on a periodic torus of ``volume`` plaquettes.

    Z = Σ_r λ_r^V, λ_r = (1/d_r) ∫ dU χ_r(U) exp((β/N) Re tr U); ⟨P⟩ = (1/V) d log Z/dβ.
    """
    coefficients, slopes = _su2_coefficients(beta) if n == 2 else _su3_coefficients(beta)
    weights = (coefficients / coefficients[0]) ** volume
    return float(np.sum(weights * slopes / coefficients) / np.sum(weights))


def _su2_coefficients(beta, n_representations=30):
    """λ_j = 2 I_{2j+1}(β)/β and its derivative."""
    order = np.arange(1, n_representations + 1)
    value = special.iv(order, beta)
    return 2 * value / beta, 2 * special.ivp(order, beta) / beta - 2 * value / beta**2


def _su3_coefficients(beta, n_grid=96, highest=8):
    """By the Weyl formula on a grid of eigenvalue angles (exponentially accurate for periodic functions)."""
    angle = 2 * np.pi * np.arange(n_grid) / n_grid
    a, b = np.meshgrid(angle, angle, indexing="ij")
    eigenvalues = np.exp(1j * np.stack([a, b, -a - b]))

    def determinant(powers):
        rows = np.stack([eigenvalues**p for p in powers])
        return np.linalg.det(np.moveaxis(rows, (0, 1), (-2, -1)))

    vandermonde = determinant((2, 1, 0))
    trace = eigenvalues.sum(0).real / 3
    weight = np.exp(beta * trace)
    coefficients, slopes = [], []
    for p, q in itertools.product(range(highest), repeat=2):
        numerator = determinant((p + q + 2, q + 1, 0))
        dimension = (p + 1) * (q + 1) * (p + q + 2) / 2
        # χ |Δ|² = numerator · conj(Δ); the measure is |Δ|²/6 over both angles.
        measure = (numerator * vandermonde.conj()).real / (6 * n_grid**2 * dimension)
        coefficients.append(np.sum(measure * weight))
        slopes.append(np.sum(measure * weight * trace))
    kept = np.array(coefficients) > 1e-14
    return np.array(coefficients)[kept], np.array(slopes)[kept]


def one_link_mean(n, strength):
    """⟨Re tr U⟩/N of one SU(2) link with weight exp((strength/N) Re tr U), by quadrature."""
    assert n == 2

    def weight(a):
        return np.exp(strength * a) * np.sqrt(1 - a * a)

    return integrate.quad(lambda a: a * weight(a), -1, 1)[0] / integrate.quad(weight, -1, 1)[0]


def weighted_draws(rng, log_weights, bound, shape, n_colours, n_draws, n_batch=20_000):
    """Configurations of W(U) by rejection from the Haar measure; ``log_weights`` of a batch of complex links."""
    kept, n_kept = [], 0
    while n_kept < n_draws:
        proposed = random_group(rng, n_batch, len(shape), *shape, n_colours)
        values = log_weights(proposed)
        assert np.all(values <= bound)
        chosen = proposed[np.log(rng.uniform(size=n_batch)) < values - bound]
        kept.append(chosen)
        n_kept += len(chosen)
    return np.concatenate(kept)[:n_draws]


def torus_plaquettes(u):
    """Re tr P/N of every plaquette of a batch of two-dimensional fields, shape (batch, *lattice)."""
    a, b = u[:, 0], u[:, 1]
    product = a @ np.roll(b, -1, 1) @ np.conj(np.swapaxes(np.roll(a, -1, 2), -1, -2)) @ np.conj(np.swapaxes(b, -1, -2))
    return np.trace(product, axis1=-2, axis2=-1).real / u.shape[-1]
