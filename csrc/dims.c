/* Sizes: evaluating a dim's postfix program, whose form load.c has checked, with every overflow found. */
#include "runtime.h"

/* Rounding towards minus infinity, as Python does; `right` is positive. */
static int64_t floor_div(int64_t left, int64_t right)
{
    return left / right - (left % right < 0);
}

static int64_t floor_mod(int64_t left, int64_t right)
{
    const int64_t rest = left % right;
    return rest < 0 ? rest + right : rest;
}

/* The ends of the products of two intervals: -1 where they overflow. */
static int product(st_span a, st_span b, st_span *out)
{
    const int64_t left[] = {a.low, a.low, a.high, a.high}, right[] = {b.low, b.high, b.low, b.high};
    for (int i = 0; i < 4; i++) {
        int64_t value;
        if (__builtin_mul_overflow(left[i], right[i], &value))
            return -1;
        out->low = i && out->low < value ? out->low : value;
        out->high = i && out->high > value ? out->high : value;
    }
    return 0;
}

/* The same for quotients and rests by a positive divisor. */
static int quotient(st_span a, st_span b, int rest, st_span *out)
{
    if (b.low <= 0)
        return -1;
    if (rest && a.low == a.high && b.low == b.high)
        *out = (st_span){floor_mod(a.low, b.low), floor_mod(a.low, b.low)};
    else if (rest)
        *out = (st_span){0, b.high - 1};
    else
        *out = (st_span){floor_div(a.low, a.low < 0 ? b.low : b.high), floor_div(a.high, a.high < 0 ? b.high : b.low)};
    return 0;
}

/* What a dim comes out as; where `open`, with the symbols that a run sets anywhere between their bounds. */
static int walk(const st_plan *plan, uint32_t dim, const int64_t *symbols, int open, st_span *span)
{
    const stp_dim_op *op = plan->dim_ops + plan->dims[dim].first;
    st_span stack[STP_DIM_DEPTH] = {{0, 0}};
    int depth = 0;
    for (uint32_t left = plan->dims[dim].count; left; left--, op++) {
        if (op->op == STP_DIM_CONST) {
            stack[depth++] = (st_span){op->value, op->value};
            continue;
        }
        if (op->op == STP_DIM_SYMBOL) {
            const stp_symbol *row = &plan->symbols[op->value];
            const int64_t value = symbols[op->value];
            const int set_later = open && row->setter;
            if (!set_later && value == ST_UNKNOWN)
                return -1;
            stack[depth++] = set_later ? (st_span){row->min, row->max} : (st_span){value, value};
            continue;
        }
        const st_span b = stack[--depth];
        st_span *a = &stack[depth - 1];
        switch (op->op) {
        case STP_DIM_ADD:
            if (__builtin_add_overflow(a->low, b.low, &a->low) || __builtin_add_overflow(a->high, b.high, &a->high))
                return -1;
            break;
        case STP_DIM_MUL:
            if (product(*a, b, a))
                return -1;
            break;
        case STP_DIM_MIN:
            *a = (st_span){a->low < b.low ? a->low : b.low, a->high < b.high ? a->high : b.high};
            break;
        case STP_DIM_MAX:
            *a = (st_span){a->low > b.low ? a->low : b.low, a->high > b.high ? a->high : b.high};
            break;
        default: /* floordiv and mod */
            if (quotient(*a, b, op->op != STP_DIM_FLOORDIV, a))
                return -1;
        }
    }
    *span = stack[0];
    return 0;
}

int st_dim_span(const st_plan *plan, uint32_t dim, const int64_t *symbols, st_span *span)
{
    return walk(plan, dim, symbols, 1, span);
}

int st_dim_value(const st_plan *plan, uint32_t dim, const int64_t *symbols, int64_t *value)
{
    st_span span;
    if (walk(plan, dim, symbols, 0, &span))
        return -1;
    *value = span.low; /* both ends are the same */
    return 0;
}

int st_dim_unknowns(const st_plan *plan, uint32_t dim, const int64_t *symbols, uint32_t *symbol)
{
    const stp_dim_op *op = plan->dim_ops + plan->dims[dim].first;
    int found = 0;
    for (uint32_t left = plan->dims[dim].count; left; left--, op++) {
        if (op->op != STP_DIM_SYMBOL || symbols[op->value] != ST_UNKNOWN)
            continue;
        if (!found || *symbol != (uint32_t)op->value)
            found++;
        *symbol = (uint32_t)op->value;
    }
    return found;
}

int64_t st_shape_bytes(uint32_t dtype, int rank, const int64_t *shape)
{
    const int bits = st_dtype_bits(dtype);
    int64_t elements = 1, bytes;
    for (int axis = 0; axis < rank; axis++)
        if (shape[axis] < 0 || __builtin_mul_overflow(elements, shape[axis], &elements))
            return -1;
    if (__builtin_mul_overflow(elements, (int64_t)(bits < 8 ? 1 : bits / 8), &bytes))
        return -1;
    return bytes; /* elements of less than a byte take one */
}

int st_type_shape(const st_plan *plan, const stp_type *type, const int64_t *symbols, int64_t *shape)
{
    for (uint32_t axis = 0; axis < type->rank; axis++)
        if (st_dim_value(plan, type->first_dim + axis, symbols, &shape[axis]) || shape[axis] < 0)
            return -1;
    return 0;
}
