"""Eight float64 lanes as a numba type, so that compiled loops take eight neighbours at a time.

Values of the type behave like numbers (+, -, *, /, with scalars too); LLVM maps them to one AVX-512 register,
two AVX2 ones or four of NEON. Loads and stores are not bounds-checked: buffers end in padding.
"""
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math
import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model
from numba.np.arrayobj import make_array

WIDTH = 8
FLAGS = ("reassoc", "contract", "arcp", "nsz")
_DOUBLE, _INT32, _INT64 = ir.DoubleType(), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)


class LanesType(types.Type):
    """Numba type of eight float64 lanes."""

    def __init__(self) -> None:
        super().__init__(name="float64x8")


class MaskType(types.Type):
    """Numba type of eight truth values."""

    def __init__(self) -> None:
        super().__init__(name="bool_x8")


lanes, mask = LanesType(), MaskType()


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: types.Type) -> None:
        super().__init__(manager, fe_type, _VECTOR)


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: types.Type) -> None:
        super().__init__(manager, fe_type, ir.VectorType(ir.IntType(1), WIDTH))


def _spread(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    if isinstance(value.type, ir.VectorType):
        return value
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_INT32, 0))
    zeros = ir.Constant(ir.VectorType(_INT32, WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), zeros)


class _Binary(AbstractTemplate):
    def generic(self, args: tuple, kws: dict) -> Any:
        if len(args) == 2 and lanes in args and all(a in (lanes, types.float64) for a in args):
            return signature(lanes, *args)
        return None


def _register_binary(op: Any, method: str) -> None:
    infer_global(op)(type(f"_{method}", (_Binary,), {"key": op}))

    def lower(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> ir.Value:
        a, b = (_spread(builder, v) for v in args)
        return getattr(builder, method)(a, b, flags=FLAGS)

    for left, right in ((lanes, lanes), (lanes, types.float64), (types.float64, lanes)):
        lower_builtin(op, left, right)(lower)


for _op, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"),
    (operator.isub, "fsub"),
    (operator.imul, "fmul"),
):
    _register_binary(_op, _method)


def _pointer(context: Any, builder: ir.IRBuilder, ty: Any, value: Any, index: Any, to: Any) -> Any:
    array = make_array(ty)(context, builder, value)
    return builder.bitcast(builder.gep(array.data, [index]), ir.PointerType(to))


def _aligned_load(builder: ir.IRBuilder, pointer: Any, kind: ir.Type, align: int) -> Any:
    value = builder.load(pointer)
    value.align = align
    return value


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, args: list) -> ir.Value:
    function = builder.module.globals.get(name)
    if function is None:
        kind = ir.FunctionType(result, [a.type for a in args])
        function = ir.Function(builder.module, kind, name)
    return builder.call(function, args)


@intrinsic
def splat(typingctx, x):
    """All lanes equal to a float64."""

    def codegen(context, builder, sig, args):
        return _spread(builder, args[0])

    return lanes(types.float64), codegen


@intrinsic
def borrowed(typingctx, arrays):
    """A tuple of arrays without their reference counts, whose changes at calls of helpers cost as much as the sums.

    Somebody else must keep the memory: the caller of the kernel, or ``alive`` at its end.
    """

    def codegen(context, builder, sig, args):
        views = []
        for kind, value in zip(sig.args[0], cgutils.unpack_tuple(builder, args[0]), strict=True):
            view = make_array(kind)(context, builder, value)
            view.meminfo = ir.Constant(view.meminfo.type, None)
            view.parent = ir.Constant(view.parent.type, None)
            views.append(view._getvalue())
        return context.make_tuple(builder, sig.return_type, views)

    return arrays(arrays), codegen


@intrinsic
def alive(typingctx, arrays):
    """Keeps arrays up to here: compiled code lets go of one after its last use."""

    def codegen(context, builder, sig, args):
        return context.get_dummy_value()

    return types.void(arrays), codegen


@intrinsic
def at(typingctx, array, index):
    """One value of a contiguous float64 array; no check for negative indices, which would slow tight loops."""

    def codegen(context, builder, sig, args):
        return builder.load(_pointer(context, builder, sig.args[0], args[0], args[1], _DOUBLE))

    return types.float64(array, types.intp), codegen


@intrinsic
def load(typingctx, array, index):
    """Eight consecutive values of a contiguous float64 array, from a flat index on."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], _VECTOR)
        return _aligned_load(builder, pointer, _VECTOR, 8)

    return lanes(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, value):
    """Write eight consecutive values."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], _VECTOR)
        builder.store(args[2], pointer).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), codegen


@intrinsic
def load_triples(typingctx, array, index):
    """x, y, z of eight consecutive rows of a contiguous (n, 3) array, from row ``index`` on."""

    def codegen(context, builder, sig, args):
        start = builder.mul(args[1], ir.Constant(_INT64, 3))
        wide = ir.VectorType(_DOUBLE, 3 * WIDTH)
        pointer = _pointer(context, builder, sig.args[0], args[0], start, wide)
        rows = _aligned_load(builder, pointer, wide, 8)
        parts = []
        for k in range(3):
            picks = ir.Constant(ir.VectorType(_INT32, WIDTH), [3 * i + k for i in range(WIDTH)])
            parts.append(builder.shuffle_vector(rows, ir.Constant(wide, ir.Undefined), picks))
        return context.make_tuple(builder, sig.return_type, parts)

    return types.UniTuple(lanes, 3)(array, types.intp), codegen


@intrinsic
def gather(typingctx, table, stride, shift, indices, index):
    """``table.flat[stride * indices[index + lane] + shift]``; the indices are int32."""

    def codegen(context, builder, sig, args):
        int_vector = ir.VectorType(_INT32, WIDTH)
        pointer = _pointer(context, builder, sig.args[3], args[3], args[4], int_vector)
        rows = _aligned_load(builder, pointer, int_vector, 4)
        base = make_array(sig.args[0])(context, builder, args[0]).data
        value = ir.Constant(_VECTOR, ir.Undefined)
        for k in range(WIDTH):
            at = ir.Constant(_INT32, k)
            row = builder.sext(builder.extract_element(rows, at), _INT64)
            flat = builder.add(builder.mul(row, args[1]), args[2])
            value = builder.insert_element(value, builder.load(builder.gep(base, [flat])), at)
        return value

    return lanes(table, types.intp, types.intp, indices, types.intp), codegen


@intrinsic
def root(typingctx, x):
    """Square root of each lane."""

    def codegen(context, builder, sig, args):
        return _call(builder, f"llvm.sqrt.v{WIDTH}f64", _VECTOR, [args[0]])

    return lanes(lanes), codegen


@intrinsic
def exponential(typingctx, x):
    """exp of each lane for -708 < x < 709, relative error 2e-16 (1 + |x|); NaN stays NaN.

    exp(x) = 2^n exp(r) with n the whole number next to x / ln 2, |r| < 0.35: a Taylor series to the 13th power, the
    rest below 1e-17.
    """

    def codegen(context, builder, sig, args):
        def constant(value):
            return ir.Constant(_VECTOR, [value] * WIDTH)

        def times_plus(a, b, c):
            return builder.fadd(builder.fmul(a, b), c)

        # Rounded by a call: kernels' fast sums make x + big - big the x that it was.
        n = _call(builder, f"llvm.rint.v{WIDTH}f64", _VECTOR, [builder.fmul(args[0], constant(1.0 / math.log(2.0)))])
        # ln 2 in two parts, the first with zeros at its end, so that its product with n is exact.
        r = times_plus(n, constant(-float.fromhex("0x1.62e42fee00000p-1")), args[0])
        r = times_plus(n, constant(-1.9082149292705877e-10), r)
        value = constant(1.0 / math.factorial(13))
        for k in reversed(range(13)):
            value = times_plus(value, r, constant(1.0 / math.factorial(k)))
        # Added to such a number, n stands in its last bits: from there into the exponent of 1.
        kind = ir.VectorType(_INT64, WIDTH)
        bits = builder.bitcast(builder.fadd(n, constant(1.5 * 2.0**52)), kind)
        bits = builder.shl(bits, ir.Constant(kind, [52] * WIDTH))
        bits = builder.add(bits, ir.Constant(kind, [1023 << 52] * WIDTH))
        return builder.fmul(value, builder.bitcast(bits, _VECTOR))

    return lanes(lanes), codegen


@intrinsic
def clamped(typingctx, x, limit):
    """Each lane, but not below -limit and not above limit, a float64; NaN stays NaN."""

    def codegen(context, builder, sig, args):
        high = _spread(builder, args[1])
        low = _spread(builder, builder.fneg(args[1]))
        x = builder.select(builder.fcmp_ordered(">", args[0], high), high, args[0])
        return builder.select(builder.fcmp_ordered("<", x, low), low, x)

    return lanes(lanes, types.float64), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of each lane."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return lanes(lanes, lanes), codegen


@intrinsic
def below(typingctx, x, limit):
    """Mask of the lanes with x < limit, a float64."""

    def codegen(context, builder, sig, args):
        return builder.fcmp_ordered("<", args[0], _spread(builder, args[1]))

    return mask(lanes, types.float64), codegen


@intrinsic
def keep(typingctx, inside, x):
    """x where the mask is true, 0 elsewhere."""

    def codegen(context, builder, sig, args):
        return builder.select(args[0], args[1], ir.Constant(_VECTOR, [0.0] * WIDTH))

    return lanes(mask, lanes), codegen


@intrinsic
def count_true(typingctx, inside):
    """Number of true lanes."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(WIDTH))
        return builder.zext(builder.ctpop(bits), _INT64)

    return types.intp(mask), codegen


@intrinsic
def first_lanes(typingctx, n):
    """Mask of the first n lanes; all of them for n >= 8."""

    def codegen(context, builder, sig, args):
        kind = ir.VectorType(_INT64, WIDTH)
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), args[0], ir.Constant(_INT32, 0))
        zeros = ir.Constant(ir.VectorType(_INT32, WIDTH), [0] * WIDTH)
        n = builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)
        return builder.icmp_signed("<", ir.Constant(kind, list(range(WIDTH))), n)

    return mask(types.intp), codegen


@intrinsic
def both(typingctx, a, b):
    """Lanes true in both masks."""

    def codegen(context, builder, sig, args):
        return builder.and_(args[0], args[1])

    return mask(mask, mask), codegen


@intrinsic
def opposite(typingctx, inside):
    """Lanes that are not in the mask."""

    def codegen(context, builder, sig, args):
        return builder.not_(args[0])

    return mask(mask), codegen


def _packed(builder: ir.IRBuilder, value: ir.Value, inside: ir.Value, suffix: str) -> ir.Value:
    nothing = ir.Constant(value.type, ir.Undefined)
    name = f"llvm.experimental.vector.compress.v{WIDTH}{suffix}"
    return _call(builder, name, value.type, [value, inside, nothing])


@intrinsic
def store_packed(typingctx, array, index, value, inside):
    """Write the lanes of the mask one after the other; up to eight values from ``index`` on are overwritten."""

    def codegen(context, builder, sig, args):
        packed = _packed(builder, args[2], args[3], "f64")
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], _VECTOR)
        builder.store(packed, pointer).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, mask), codegen


@intrinsic
def load_unpacked(typingctx, array, index, inside):
    """The reverse: consecutive values into the lanes of the mask, 0 elsewhere."""

    def codegen(context, builder, sig, args):
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], _DOUBLE)
        zero = ir.Constant(_VECTOR, [0.0] * WIDTH)
        return _call(builder, f"llvm.masked.expandload.v{WIDTH}f64", _VECTOR, [pointer, args[2], zero])

    return lanes(array, types.intp, mask), codegen


@intrinsic
def sum_of_eight(typingctx, array, index):
    """Sums over the lanes of eight consecutive vectors: lane k of the result is the sum of vector k."""

    def codegen(context, builder, sig, args):
        rows = []
        for k in range(WIDTH):
            at = builder.add(args[1], ir.Constant(_INT64, k * WIDTH))
            pointer = _pointer(context, builder, sig.args[0], args[0], at, _VECTOR)
            rows.append(_aligned_load(builder, pointer, _VECTOR, 8))
        step = 1
        while len(rows) > 1:
            low = [i + (WIDTH - step if i & step else 0) for i in range(WIDTH)]
            high = [i + step for i in low]
            merged = []
            for a, b in zip(rows[::2], rows[1::2], strict=True):
                picks = [ir.Constant(ir.VectorType(_INT32, WIDTH), p) for p in (low, high)]
                merged.append(builder.fadd(*(builder.shuffle_vector(a, b, p) for p in picks), flags=FLAGS))
            rows, step = merged, 2 * step
        return rows[0]

    return lanes(array, types.intp), codegen


@intrinsic
def transposed(typingctx, source, starts, shift, target, index):
    """Eight values each from ``starts[row] + shift`` on, for eight rows, into eight vectors with a row a lane."""

    def codegen(context, builder, sig, args):
        rows = []
        for k in range(WIDTH):
            start = builder.load(_pointer(context, builder, sig.args[1], args[1], ir.Constant(_INT64, k), _INT64))
            pointer = _pointer(context, builder, sig.args[0], args[0], builder.add(start, args[2]), _VECTOR)
            rows.append(_aligned_load(builder, pointer, _VECTOR, 8))
        step = 1
        while step < WIDTH:  # exchange the blocks off the diagonal: of one, of two, of four
            low = [lane if not lane & step else WIDTH + lane - step for lane in range(WIDTH)]
            high = [lane + step if not lane & step else WIDTH + lane for lane in range(WIDTH)]
            picks = [ir.Constant(ir.VectorType(_INT32, WIDTH), p) for p in (low, high)]
            for k in (k for k in range(WIDTH) if not k & step):
                pair = rows[k], rows[k + step]
                rows[k], rows[k + step] = (builder.shuffle_vector(*pair, p) for p in picks)
            step *= 2
        for k, row in enumerate(rows):
            at = builder.add(args[4], ir.Constant(_INT64, k * WIDTH))
            builder.store(row, _pointer(context, builder, sig.args[3], args[3], at, _VECTOR)).align = 8
        return context.get_dummy_value()

    return types.void(source, starts, types.intp, target, types.intp), codegen


@intrinsic
def total(typingctx, x):
    """Sum over the lanes."""

    def codegen(context, builder, sig, args):
        value = args[0]
        picks = [builder.extract_element(value, ir.Constant(_INT32, k)) for k in range(WIDTH)]
        while len(picks) > 1:
            picks = [builder.fadd(a, b, flags=FLAGS) for a, b in zip(picks[::2], picks[1::2], strict=True)]
        return picks[0]

    return types.float64(lanes), codegen


@intrinsic
def within(typingctx, x, above, up_to):
    """Mask of the lanes with above < x <= up_to, float64 limits."""

    def codegen(context, builder, sig, args):
        low = builder.fcmp_ordered(">", args[0], _spread(builder, args[1]))
        return builder.and_(low, builder.fcmp_ordered("<=", args[0], _spread(builder, args[2])))

    return mask(lanes, types.float64, types.float64), codegen


@intrinsic
def copy_packed_ints(typingctx, source, start, target, index, inside):
    """Copy those of eight int32 from ``start`` on that the mask names; up to eight of the target change."""

    def codegen(context, builder, sig, args):
        kind = ir.VectorType(_INT32, WIDTH)
        pointer = _pointer(context, builder, sig.args[0], args[0], args[1], kind)
        packed = _packed(builder, _aligned_load(builder, pointer, kind, 4), args[4], "i32")
        pointer = _pointer(context, builder, sig.args[2], args[2], args[3], kind)
        builder.store(packed, pointer).align = 4
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp, mask), codegen


@intrinsic
def store_packed_triples(typingctx, array, index, x, y, z, inside):
    """Write the lanes of the mask as rows of a contiguous (n, 3) array; up to eight rows change."""

    def codegen(context, builder, sig, args):
        a, b, c = (_packed(builder, v, args[5], "f64") for v in args[2:5])
        start = builder.mul(args[1], ir.Constant(_INT64, 3))
        for part in range(3):
            flat = [part * WIDTH + lane for lane in range(WIDTH)]
            kind = ir.VectorType(_INT32, WIDTH)
            first = [(k // 3 + (0, WIDTH, 0)[k % 3]) for k in flat]
            both_of = builder.shuffle_vector(a, b, ir.Constant(kind, first))
            last = [WIDTH + k // 3 if k % 3 == 2 else lane for lane, k in enumerate(flat)]
            row = builder.shuffle_vector(both_of, c, ir.Constant(kind, last))
            at = builder.add(start, ir.Constant(_INT64, part * WIDTH))
            pointer = _pointer(context, builder, sig.args[0], args[0], at, _VECTOR)
            builder.store(row, pointer).align = 8
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes, lanes, lanes, mask), codegen


@intrinsic
def displacement(typingctx, point, origin, translation):
    """(point - origin) + translation in just this order, so that the reverse pair gives the exact negative."""

    def codegen(context, builder, sig, args):
        return builder.fadd(builder.fsub(args[0], _spread(builder, args[1])), args[2])

    return lanes(lanes, types.float64, lanes), codegen


@intrinsic
def norm_squared(typingctx, x, y, z):
    """x x + y y + z z, each operation rounded, as numpy does it."""

    def codegen(context, builder, sig, args):
        xx, yy, zz = (builder.fmul(v, v) for v in args)
        return builder.fadd(builder.fadd(xx, yy), zz)

    return lanes(lanes, lanes, lanes), codegen
