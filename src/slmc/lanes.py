"""Eight float64 numbers at once in loops compiled by Numba: one vector register where the processor has them wide.

``Lanes`` is a type for values inside compiled loops: ``+ - * /`` act on each of the eight numbers, ``plus_product`` and
``minus_product`` are fused where the processor can. Whatever a lane holds, its arithmetic does not depend on the other
lanes. LLVM is given vectors and need not find them, so that no compiler other than Numba's is needed.
"""

import operator
from typing import no_type_check

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

N_LANES = 8
_VECTOR = ir.VectorType(ir.DoubleType(), N_LANES)
_INTEGERS = ir.VectorType(ir.IntType(64), N_LANES)
_BYTES = 8 * N_LANES


class LanesType(types.Type):
    """The type of eight numbers."""

    def __init__(self) -> None:
        super().__init__(name="lanes")


Lanes = LanesType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    @no_type_check
    def __init__(self, manager, front_end_type):
        super().__init__(manager, front_end_type, _VECTOR)


@no_type_check
def _place(builder, address, index):
    """The address of block ``index`` of eight numbers, 64 bytes each."""
    offset = builder.mul(index, ir.Constant(ir.IntType(64), _BYTES))
    return builder.inttoptr(builder.add(address, offset), _VECTOR.as_pointer())


@intrinsic
@no_type_check
def load(context, address, index):
    """Eight numbers from ``address`` (a multiple of 64) + 64 ``index``."""

    def generate(context, builder, signature, arguments):
        loaded = builder.load(_place(builder, *arguments))
        loaded.align = _BYTES
        return loaded

    return Lanes(types.uint64, types.int64), generate


@intrinsic
@no_type_check
def load_anywhere(context, address):
    """Eight numbers from any address of a number."""

    def generate(context, builder, signature, arguments):
        loaded = builder.load(builder.inttoptr(arguments[0], _VECTOR.as_pointer()))
        loaded.align = 8
        return loaded

    return Lanes(types.uint64), generate


@intrinsic
@no_type_check
def store(context, address, index, value):
    """Writes eight numbers to ``address`` (a multiple of 64) + 64 ``index``."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _place(builder, *arguments[:2])).align = _BYTES
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, Lanes), generate


@intrinsic
@no_type_check
def spread(context, number):
    """One number in all eight lanes."""

    def generate(context, builder, signature, arguments):
        return _spread(builder, arguments[0])

    return Lanes(types.float64), generate


@intrinsic
@no_type_check
def spread_from(context, address, index):
    """The number at ``address`` + 8 ``index`` in all eight lanes."""

    def generate(context, builder, signature, arguments):
        offset = builder.mul(arguments[1], ir.Constant(ir.IntType(64), 8))
        place = builder.inttoptr(builder.add(arguments[0], offset), ir.DoubleType().as_pointer())
        return _spread(builder, builder.load(place))

    return Lanes(types.uint64, types.int64), generate


@no_type_check
def _spread(builder, number):
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), N_LANES), [0] * N_LANES)
    return builder.shuffle_vector(first, ir.Constant(_VECTOR, ir.Undefined), everywhere)


@no_type_check
def _fused(builder, a, b, c):
    signature = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.fmuladd.v{N_LANES}f64")
    return builder.call(function, [a, b, c])


@intrinsic
@no_type_check
def plus_product(context, c, a, b):
    """c + a b."""

    def generate(context, builder, signature, arguments):
        c, a, b = arguments
        return _fused(builder, a, b, c)

    return Lanes(Lanes, Lanes, Lanes), generate


@intrinsic
@no_type_check
def minus_product(context, c, a, b):
    """c − a b."""

    def generate(context, builder, signature, arguments):
        c, a, b = arguments
        return _fused(builder, builder.fneg(a), b, c)

    return Lanes(Lanes, Lanes, Lanes), generate


@intrinsic
@no_type_check
def square_root(context, x):
    """√x."""

    def generate(context, builder, signature, arguments):
        root = ir.FunctionType(_VECTOR, [_VECTOR])
        function = cgutils.get_or_insert_function(builder.module, root, f"llvm.sqrt.v{N_LANES}f64")
        return builder.call(function, arguments)

    return Lanes(Lanes), generate


@intrinsic
@no_type_check
def total(context, x):
    """The sum of the eight numbers, by halves."""

    def generate(context, builder, signature, arguments):
        summed, undefined = arguments[0], ir.Constant(_VECTOR, ir.Undefined)
        for width in (4, 2, 1):
            moved = [(number + width) % N_LANES for number in range(N_LANES)]
            order = ir.Constant(ir.VectorType(ir.IntType(32), N_LANES), moved)
            summed = builder.fadd(summed, builder.shuffle_vector(summed, undefined, order))
        return builder.extract_element(summed, ir.Constant(ir.IntType(32), 0))

    return types.float64(Lanes), generate


@intrinsic
@no_type_check
def exponents(context, x):
    """The exponents of two of positive numbers, as numbers: x = 2^exponent · mantissa."""

    def generate(context, builder, signature, arguments):
        bits = builder.lshr(builder.bitcast(arguments[0], _INTEGERS), ir.Constant(_INTEGERS, [52] * N_LANES))
        return builder.sitofp(builder.sub(bits, ir.Constant(_INTEGERS, [1023] * N_LANES)), _VECTOR)

    return Lanes(Lanes), generate


@intrinsic
@no_type_check
def mantissas(context, x):
    """The mantissas of positive numbers, in [1, 2)."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], _INTEGERS)
        kept = builder.and_(bits, ir.Constant(_INTEGERS, [(1 << 52) - 1] * N_LANES))
        return builder.bitcast(builder.or_(kept, ir.Constant(_INTEGERS, [1023 << 52] * N_LANES)), _VECTOR)

    return Lanes(Lanes), generate


@intrinsic
@no_type_check
def _power_of_two(context, x):
    """2^n for whole numbers n between −1022 and 1023, given n + 1.5 · 2^52, whose last bits are those of n."""

    def generate(context, builder, signature, arguments):
        bits = builder.add(builder.bitcast(arguments[0], _INTEGERS), ir.Constant(_INTEGERS, [1023] * N_LANES))
        return builder.bitcast(builder.shl(bits, ir.Constant(_INTEGERS, [52] * N_LANES)), _VECTOR)

    return Lanes(Lanes), generate


@intrinsic
@no_type_check
def _within(context, x):
    """Numbers moved to [−700, 700]; what is not a number stays so."""

    def generate(context, builder, signature, arguments):
        moved = arguments[0]
        for limit, order in ((700.0, ">"), (-700.0, "<")):
            bound = ir.Constant(_VECTOR, [limit] * N_LANES)
            moved = builder.select(builder.fcmp_ordered(order, moved, bound), bound, moved)
        return moved

    return Lanes(Lanes), generate


@numba.njit(cache=True, forceinline=True)
@no_type_check
def exponential(x):
    """e^x, to 1e-16 of itself for |x| up to 700 and as at the ends beyond.

    x = n log 2 + r with |r| ≤ log(2)/2, and e^r by its series to r¹³. Beside 1.5 · 2^52 numbers round to whole ones.
    """
    x = _within(x)
    shifted = plus_product(spread(6755399441055744.0), x, spread(1.4426950408889634))
    n = shifted - spread(6755399441055744.0)
    r = minus_product(minus_product(x, n, spread(0.693147180369123816490)), n, spread(1.90821492927058770002e-10))
    t = spread(1.6059043836821613e-10)
    t = plus_product(spread(2.08767569878681e-09), t, r)
    t = plus_product(spread(2.505210838544172e-08), t, r)
    t = plus_product(spread(2.755731922398589e-07), t, r)
    t = plus_product(spread(2.7557319223985893e-06), t, r)
    t = plus_product(spread(2.48015873015873e-05), t, r)
    t = plus_product(spread(1.984126984126984e-04), t, r)
    t = plus_product(spread(1.388888888888889e-03), t, r)
    t = plus_product(spread(8.333333333333333e-03), t, r)
    t = plus_product(spread(4.1666666666666664e-02), t, r)
    t = plus_product(spread(1.6666666666666666e-01), t, r)
    t = plus_product(spread(0.5), t, r)
    t = plus_product(spread(1.0), t, r)
    t = plus_product(spread(1.0), t, r)
    return t * _power_of_two(shifted)


@intrinsic
@no_type_check
def turns(context, before, by, after):
    """Whole turns made by multiplying phases, from imaginary parts: +1, −1 or 0.

    The phases ``before`` and ``by`` lie in (−π, π), and ``after`` is the imaginary part of their product.
    """

    def generate(context, builder, signature, arguments):
        zero, one = ir.Constant(_VECTOR, [0.0] * N_LANES), ir.Constant(_VECTOR, [1.0] * N_LANES)
        up = [builder.fcmp_ordered(">=", value, zero) for value in arguments]
        forwards = builder.and_(builder.and_(up[0], up[1]), builder.not_(up[2]))
        backwards = builder.and_(builder.not_(builder.or_(up[0], up[1])), up[2])
        return builder.fsub(builder.select(forwards, one, zero), builder.select(backwards, one, zero))

    return Lanes(Lanes, Lanes, Lanes), generate


@intrinsic
@no_type_check
def lane(context, x, number):
    """One of the eight numbers."""

    def generate(context, builder, signature, arguments):
        return builder.extract_element(*arguments)

    return types.float64(Lanes, types.int64), generate


@intrinsic
@no_type_check
def _negative(context, x):
    def generate(context, builder, signature, arguments):
        return builder.fneg(arguments[0])

    return Lanes(Lanes), generate


@no_type_check
def _elementwise(operation):
    @intrinsic
    @no_type_check
    def apply(context, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, operation)(*arguments)

        return Lanes(Lanes, Lanes), generate

    return apply


_add, _subtract, _multiply, _divide = (_elementwise(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@overload(operator.add)
@no_type_check
def _overload_add(a, b):
    return (lambda a, b: _add(a, b)) if a is Lanes and b is Lanes else None


@overload(operator.sub)
@no_type_check
def _overload_subtract(a, b):
    return (lambda a, b: _subtract(a, b)) if a is Lanes and b is Lanes else None


@overload(operator.mul)
@no_type_check
def _overload_multiply(a, b):
    return (lambda a, b: _multiply(a, b)) if a is Lanes and b is Lanes else None


@overload(operator.truediv)
@no_type_check
def _overload_divide(a, b):
    return (lambda a, b: _divide(a, b)) if a is Lanes and b is Lanes else None


@overload(operator.neg)
@no_type_check
def _overload_negative(a):
    return (lambda a: _negative(a)) if a is Lanes else None
