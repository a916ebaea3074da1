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

int st_dim_value(const st_plan *plan, uint32_t dim, const int64_t *symbols, int64_t *value)
{
    const stp_dim_op *op = plan->dim_ops + plan->dims[dim].first;
    int64_t stack[STP_DIM_DEPTH] = {0};
    int depth = 0;
    for (uint32_t left = plan->dims[dim].count; left; left--, op++) {
        if (op->op == STP_DIM_CONST) {
            stack[depth++] = op->value;
            continue;
        }
        if (op->op == STP_DIM_SYMBOL) {
            if (symbols[op->value] == ST_UNKNOWN)
                return -1;
            stack[depth++] = symbols[op->value];
            continue;
        }
        const int64_t b = stack[--depth];
        int64_t *a = &stack[depth - 1];
        switch (op->op) {
        case STP_DIM_ADD:
            if (__builtin_add_overflow(*a, b, a))
                return -1;
            break;
        case STP_DIM_MUL:
            if (__builtin_mul_overflow(*a, b, a))
                return -1;
            break;
        case STP_DIM_MIN:
            *a = *a < b ? *a : b;
            break;
        case STP_DIM_MAX:
            *a = *a > b ? *a : b;
            break;
        default: /* floordiv and mod */
            if (b <= 0)
                return -1;
            *a = op->op == STP_DIM_FLOORDIV ? floor_div(*a, b) : floor_mod(*a, b);
        }
    }
    *value = stack[0];
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
    int64_t elements = 1, bits;
    for (int axis = 0; axis < rank; axis++)
        if (shape[axis] < 0 || __builtin_mul_overflow(elements, shape[axis], &elements))
            return -1;
    if (__builtin_mul_overflow(elements, (int64_t)st_dtype_bits(dtype), &bits) || bits > INT64_MAX - 7)
        return -1;
    return (bits + 7) / 8; /* elements of less than a byte are packed */
}

int st_type_shape(const st_plan *plan, const stp_type *type, const int64_t *symbols, int64_t *shape)
{
    for (uint32_t axis = 0; axis < type->rank; axis++)
        if (st_dim_value(plan, type->first_dim + axis, symbols, &shape[axis]) || shape[axis] < 0)
            return -1;
    return 0;
}
