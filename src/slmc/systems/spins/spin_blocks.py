"""2×2 blocks of spin space in lanes, one lane a frequency: what a factorisation does with single blocks.

Two kinds, told apart by the number of their components. A *quaternion* is q_0 − i q·σ with four real numbers. A
*complex* block has real and imaginary parts of its elements 11, 12, 21, 22, eight numbers, and twice the cost.
Functions that take ``like`` make a block of the kind of ``like``. All act on the matrix 1 − i(H − μ)/ω.
"""

from typing import no_type_check

import numba
from numba.extending import overload

from slmc.lanes import (
    exponents,
    load,
    mantissas,
    minus_product,
    plus_product,
    spread,
    square_root,
    store,
    turns,
)

_inlined = numba.njit(cache=True, forceinline=True)
_N_QUATERNION = 4
_N_COMPLEX = 8


@_inlined
@no_type_check
def quaternion():
    """A quaternion, zero."""
    zero = spread(0.0)
    return zero, zero, zero, zero


@_inlined
@no_type_check
def complex_block():
    """A complex block, zero."""
    zero = spread(0.0)
    return zero, zero, zero, zero, zero, zero, zero, zero


@_inlined
@no_type_check
def load_quaternion(address, block):
    n = block * 4
    return load(address, n), load(address, n + 1), load(address, n + 2), load(address, n + 3)


@_inlined
@no_type_check
def load_complex(address, block):
    n = block * 8
    return (
        load(address, n),
        load(address, n + 1),
        load(address, n + 2),
        load(address, n + 3),
        load(address, n + 4),
        load(address, n + 5),
        load(address, n + 6),
        load(address, n + 7),
    )


@_inlined
@no_type_check
def store_quaternion(address, block, value):
    n = block * 4
    store(address, n, value[0])
    store(address, n + 1, value[1])
    store(address, n + 2, value[2])
    store(address, n + 3, value[3])


@_inlined
@no_type_check
def store_complex(address, block, value):
    n = block * 8
    store(address, n, value[0])
    store(address, n + 1, value[1])
    store(address, n + 2, value[2])
    store(address, n + 3, value[3])
    store(address, n + 4, value[4])
    store(address, n + 5, value[5])
    store(address, n + 6, value[6])
    store(address, n + 7, value[7])


@_inlined
@no_type_check
def less_quaternions(t, a, b):
    a0, a1, a2, a3 = a
    b0, b1, b2, b3 = b
    t0, t1, t2, t3 = t
    t0 = minus_product(t0, a0, b0)
    t1 = minus_product(t1, a0, b1)
    t2 = minus_product(t2, a0, b2)
    t3 = minus_product(t3, a0, b3)
    t0 = plus_product(t0, a1, b1)
    t1 = minus_product(t1, a1, b0)
    t2 = plus_product(t2, a1, b3)
    t3 = minus_product(t3, a1, b2)
    t0 = plus_product(t0, a2, b2)
    t1 = minus_product(t1, a2, b3)
    t2 = minus_product(t2, a2, b0)
    t3 = plus_product(t3, a2, b1)
    t0 = plus_product(t0, a3, b3)
    t1 = plus_product(t1, a3, b2)
    t2 = minus_product(t2, a3, b1)
    t3 = minus_product(t3, a3, b0)
    return t0, t1, t2, t3


@_inlined
@no_type_check
def _less_complex(re, im, a, b, c, d):
    """(re + i im) − (a + i b)(c + i d)."""
    re = plus_product(minus_product(re, a, c), b, d)
    im = minus_product(minus_product(im, a, d), b, c)
    return re, im


@_inlined
@no_type_check
def less_complex_blocks(t, a, b):
    t0, t1, t2, t3, t4, t5, t6, t7 = t
    a0, a1, a2, a3, a4, a5, a6, a7 = a
    b0, b1, b2, b3, b4, b5, b6, b7 = b
    t0, t1 = _less_complex(t0, t1, a0, a1, b0, b1)
    t2, t3 = _less_complex(t2, t3, a0, a1, b2, b3)
    t4, t5 = _less_complex(t4, t5, a4, a5, b0, b1)
    t6, t7 = _less_complex(t6, t7, a4, a5, b2, b3)
    t0, t1 = _less_complex(t0, t1, a2, a3, b4, b5)
    t2, t3 = _less_complex(t2, t3, a2, a3, b6, b7)
    t4, t5 = _less_complex(t4, t5, a6, a7, b4, b5)
    t6, t7 = _less_complex(t6, t7, a6, a7, b6, b7)
    return t0, t1, t2, t3, t4, t5, t6, t7


@_inlined
@no_type_check
def minus_inverse_of_quaternion(a):
    a0, a1, a2, a3 = a
    squared = plus_product(plus_product(plus_product(a0 * a0, a1, a1), a2, a2), a3, a3)
    s = spread(1.0) / squared
    return (-(a0 * s), a1 * s, a2 * s, a3 * s), squared, spread(0.0)


@_inlined
@no_type_check
def minus_inverse_of_complex_block(a):
    a0, a1, a2, a3, a4, a5, a6, a7 = a
    zero = spread(0.0)
    re, im = _less_complex(zero, zero, a2, a3, a4, a5)
    re = minus_product(plus_product(re, a0, a6), a1, a7)
    im = plus_product(plus_product(im, a0, a7), a1, a6)
    s = spread(1.0) / plus_product(re * re, im, im)
    c, d = re * s, -(im * s)
    p0, p1 = _less_complex(zero, zero, c, d, a6, a7)
    p2, p3 = _less_complex(zero, zero, c, d, a2, a3)
    p4, p5 = _less_complex(zero, zero, c, d, a4, a5)
    p6, p7 = _less_complex(zero, zero, c, d, a0, a1)
    return (p0, p1, -p2, -p3, -p4, -p5, p6, p7), re, im


@_inlined
@no_type_check
def quaternion_counted(state, re, im):
    """The quaternion's determinant is real and positive."""
    mantissa, exponent, phase_re, phase_im, n_turns = state
    mantissa = mantissa * re
    return mantissas(mantissa), exponent + exponents(mantissa), phase_re, phase_im, n_turns


@_inlined
@no_type_check
def complex_block_counted(state, re, im):
    mantissa, exponent, phase_re, phase_im, n_turns = state
    modulus = square_root(plus_product(re * re, im, im))
    mantissa = mantissa * modulus
    scale = spread(1.0) / modulus
    re, im = re * scale, im * scale
    after_re = minus_product(phase_re * re, phase_im, im)
    after_im = plus_product(phase_re * im, phase_im, re)
    n_turns = n_turns + turns(phase_im, im, after_im)
    return mantissas(mantissa), exponent + exponents(mantissa), after_re, after_im, n_turns


@_inlined
@no_type_check
def spin_of_quaternion(a):
    minus_two = spread(-2.0)
    return minus_two * a[1], minus_two * a[2], minus_two * a[3]


@_inlined
@no_type_check
def spin_of_complex_block(a):
    return a[3] + a[5], a[2] - a[4], a[1] - a[7]


@_inlined
@no_type_check
def quaternions_plus(t, factor, a):
    return (
        plus_product(t[0], factor, a[0]),
        plus_product(t[1], factor, a[1]),
        plus_product(t[2], factor, a[2]),
        plus_product(t[3], factor, a[3]),
    )


@_inlined
@no_type_check
def complex_blocks_plus(t, factor, a):
    return (
        plus_product(t[0], factor, a[0]),
        plus_product(t[1], factor, a[1]),
        plus_product(t[2], factor, a[2]),
        plus_product(t[3], factor, a[3]),
        plus_product(t[4], factor, a[4]),
        plus_product(t[5], factor, a[5]),
        plus_product(t[6], factor, a[6]),
        plus_product(t[7], factor, a[7]),
    )


@_inlined
@no_type_check
def complex_block_with_hop(a, strength, inverse_frequency):
    change = spread(strength) * inverse_frequency
    return a[0], a[1] - change, a[2], a[3], a[4], a[5], a[6], a[7] - change


@_inlined
@no_type_check
def quaternion_of_site(x, y, z, inverse_frequency):
    return spread(1.0), spread(x) * inverse_frequency, spread(y) * inverse_frequency, spread(z) * inverse_frequency


@_inlined
@no_type_check
def complex_block_of_site(x, y, z, mu, inverse_frequency):
    one, s = spread(1.0), inverse_frequency
    up, down, along_x, along_y = spread(mu - z) * s, spread(mu + z) * s, spread(x) * s, spread(y) * s
    return one, up, -along_y, -along_x, along_y, -along_x, one, down


@no_type_check
def load_block(address, block, like):
    """Block number ``block`` of the memory at ``address``."""


@overload(load_block)
@no_type_check
def _load_block(address, block, like):
    if like.count == _N_QUATERNION:
        return lambda address, block, like: load_quaternion(address, block)
    return lambda address, block, like: load_complex(address, block)


@no_type_check
def store_block(address, block, value):
    """Writes block number ``block``."""


@overload(store_block)
@no_type_check
def _store_block(address, block, value):
    if value.count == _N_QUATERNION:
        return lambda address, block, value: store_quaternion(address, block, value)
    return lambda address, block, value: store_complex(address, block, value)


@no_type_check
def less_product(t, a, b):
    """t − a b."""


@overload(less_product)
@no_type_check
def _less_product(t, a, b):
    if t.count == _N_QUATERNION:
        return lambda t, a, b: less_quaternions(t, a, b)
    return lambda t, a, b: less_complex_blocks(t, a, b)


@no_type_check
def plus_scaled(t, factor, a):
    """t + factor a."""


@overload(plus_scaled)
@no_type_check
def _plus_scaled(t, factor, a):
    if t.count == _N_QUATERNION:
        return lambda t, factor, a: quaternions_plus(t, factor, a)
    return lambda t, factor, a: complex_blocks_plus(t, factor, a)


@no_type_check
def zero_block(like):
    """A block of zeros."""


@overload(zero_block)
@no_type_check
def _zero_block(like):
    if like.count == _N_QUATERNION:
        return lambda like: quaternion()
    return lambda like: complex_block()


@no_type_check
def minus_inverse(a):
    """Minus the inverse of a block, and real and imaginary part of the determinant."""


@overload(minus_inverse)
@no_type_check
def _minus_inverse(a):
    if a.count == _N_QUATERNION:
        return lambda a: minus_inverse_of_quaternion(a)
    return lambda a: minus_inverse_of_complex_block(a)


@no_type_check
def counted(state, re, im, like):
    """A product of determinants, times one more: mantissa, exponent of two, phase (re, im), whole turns of the phase.

    The phase of each factor lies in (−π, π), since the Hermitian part of every block is at least 1.
    """


@overload(counted)
@no_type_check
def _counted(state, re, im, like):
    if like.count == _N_QUATERNION:
        return lambda state, re, im, like: quaternion_counted(state, re, im)
    return lambda state, re, im, like: complex_block_counted(state, re, im)


@no_type_check
def spin_of(a):
    """Im tr(a σ), three components."""


@overload(spin_of)
@no_type_check
def _spin_of(a):
    if a.count == _N_QUATERNION:
        return lambda a: spin_of_quaternion(a)
    return lambda a: spin_of_complex_block(a)


@no_type_check
def with_hop(a, strength, inverse_frequency):
    """a − i strength/ω: a hop between two sites that both are kept, which only complex blocks can hold."""


@overload(with_hop)
@no_type_check
def _with_hop(a, strength, inverse_frequency):
    if a.count == _N_QUATERNION:
        return lambda a, strength, inverse_frequency: a
    return lambda a, strength, inverse_frequency: complex_block_with_hop(a, strength, inverse_frequency)


@no_type_check
def block_of_site(x, y, z, mu, inverse_frequency, like):
    """1 − i(h·σ − μ)/ω for a field h; quaternions leave out μ, which is zero where they serve."""


@overload(block_of_site)
@no_type_check
def _block_of_site(x, y, z, mu, inverse_frequency, like):
    if like.count == _N_QUATERNION:
        return lambda x, y, z, mu, inverse_frequency, like: quaternion_of_site(x, y, z, inverse_frequency)
    return lambda x, y, z, mu, inverse_frequency, like: complex_block_of_site(x, y, z, mu, inverse_frequency)
