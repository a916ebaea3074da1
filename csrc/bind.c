/* Bind and run: is what the caller gives what the plan takes?  The symbols get their values from the inputs' extents; each
 * must agree with every other and lie within its bounds, because kernels and arenas are made for these and no others. */
#include "session.h"

#include <string.h>
#include <unistd.h>

static const char *port_name(const st_session *s, int direction, int index)
{
    return s->plan.strings + s->plan.ports[direction][index].name;
}

static const char *word(int direction)
{
    return direction == ST_INPUT ? "input" : "output";
}

static const char *symbol_name(const st_session *s, uint32_t symbol)
{
    return s->plan.strings + s->plan.symbols[symbol].name;
}

/* ---- symbols ---- */

static int set_symbol(st_session *s, uint32_t symbol, int64_t value, int input, int axis, st_error *error)
{
    const stp_symbol *row = &s->plan.symbols[symbol];
    if (value < row->min || value > row->max)
        return st_fail(error, ST_ARGUMENT, "dim %s is %lld in axis %d of input '%s', outside its bounds %lld to %lld; "
                       "compile with a wider --dim %s=", symbol_name(s, symbol), (long long)value, axis,
                       port_name(s, ST_INPUT, input), (long long)row->min, (long long)row->max, symbol_name(s, symbol));
    s->symbols[symbol] = value;
    return ST_OK;
}

static int same_extent(st_session *s, int input, int axis, int64_t expected, st_error *error)
{
    const int64_t got = s->bindings[ST_INPUT][input].shape[axis];
    if (got == expected)
        return ST_OK;
    return st_fail(error, ST_ARGUMENT, "input '%s' takes %s; its axis %d is %lld where %lld is needed to agree with the "
                   "other extents", port_name(s, ST_INPUT, input),
                   s->plan.strings + st_port_type(&s->plan, ST_INPUT, input)->text, axis, (long long)got,
                   (long long)expected);
}

/* `dim` has one unknown symbol; where it is linear in it, find the value that makes it `extent`. */
static int solve(st_session *s, uint32_t dim, uint32_t symbol, int64_t extent, int64_t *value)
{
    int64_t at0, at1, slope, rest;
    s->symbols[symbol] = 0;
    int failed = st_dim_value(&s->plan, dim, s->symbols, &at0);
    s->symbols[symbol] = 1;
    failed |= st_dim_value(&s->plan, dim, s->symbols, &at1);
    s->symbols[symbol] = ST_UNKNOWN;
    if (failed || __builtin_sub_overflow(at1, at0, &slope) || __builtin_sub_overflow(extent, at0, &rest) || slope == 0 ||
        (slope == -1 && rest == INT64_MIN))
        return -1;
    *value = rest / slope;
    return 0;
}

/* One look at one extent: 1 where it taught or confirmed something, 0 where it must wait, negative: -status. */
static int look(st_session *s, int input, int axis, st_error *error)
{
    const uint32_t dim = st_port_type(&s->plan, ST_INPUT, input)->first_dim + (uint32_t)axis;
    const int64_t extent = s->bindings[ST_INPUT][input].shape[axis];
    uint32_t symbol = 0;
    int64_t value;
    const int unknown = st_dim_unknowns(&s->plan, dim, s->symbols, &symbol);
    if (unknown > 1)
        return 0;
    if (unknown == 1) {
        if (solve(s, dim, symbol, extent, &value))
            return 0;
        const int status = set_symbol(s, symbol, value, input, axis, error);
        if (status)
            return -status;
    }
    if (st_dim_value(&s->plan, dim, s->symbols, &value))
        return -st_fail(error, ST_ARGUMENT, "axis %d of input '%s' has no value for these extents", axis,
                        port_name(s, ST_INPUT, input));
    const int status = same_extent(s, input, axis, value, error);
    return status ? -status : 1;
}

static int resolve_symbols(st_session *s, st_error *error)
{
    const int inputs = st_ports(&s->plan, ST_INPUT);
    const uint64_t symbols = s->plan.counts[STP_SECTION_SYMBOL];
    int found, waiting;
    size_t extents = 0;
    for (uint64_t i = 0; i < symbols; i++)
        s->symbols[i] = s->plan.symbols[i].min == s->plan.symbols[i].max || s->plan.symbols[i].setter
                            ? s->plan.symbols[i].min /* a run-time dim gets its value when its call runs */
                            : ST_UNKNOWN;
    for (int i = 0; i < inputs; i++)
        extents += st_port_type(&s->plan, ST_INPUT, i)->rank;
    memset(s->seen, 0, extents);
    do {
        size_t extent = 0;
        found = waiting = 0;
        for (int i = 0; i < inputs; i++)
            for (uint32_t axis = 0; axis < st_port_type(&s->plan, ST_INPUT, i)->rank; axis++, extent++) {
                if (s->seen[extent])
                    continue;
                const int taught = look(s, i, (int)axis, error);
                if (taught < 0)
                    return -taught;
                s->seen[extent] = (uint8_t)taught;
                found += taught;
                waiting += !taught;
            }
    } while (found && waiting);
    for (uint64_t i = 0; i < symbols; i++)
        if (s->symbols[i] == ST_UNKNOWN)
            return st_fail(error, ST_STATE, "no input's extents determine dim %s; compile with --dim %s=NUMBER",
                           symbol_name(s, (uint32_t)i), symbol_name(s, (uint32_t)i));
    return ST_OK;
}

/* The room an output takes: its shape, with what is set during the run at its greatest. */
static int output_room(st_session *s, int index)
{
    const stp_type *type = st_port_type(&s->plan, ST_OUTPUT, index);
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        st_span span;
        if (st_dim_span(&s->plan, type->first_dim + axis, s->symbols, &span) || span.high < 0)
            return -1;
        s->output_shape[index][axis] = span.high;
    }
    return 0;
}

/* Values of the symbols and room of the outputs, from the inputs. */
static int resolve(st_session *s, st_error *error)
{
    if (s->resolved)
        return ST_OK;
    for (int i = 0; i < st_ports(&s->plan, ST_INPUT); i++)
        if (!s->bindings[ST_INPUT][i].bound)
            return st_fail(error, ST_STATE, "input '%s' is not bound; call st_bind_input for it",
                           port_name(s, ST_INPUT, i));
    const int status = resolve_symbols(s, error);
    if (status)
        return status;
    for (int i = 0; i < st_ports(&s->plan, ST_OUTPUT); i++)
        if (output_room(s, i))
            return st_fail(error, ST_ARGUMENT, "output '%s' %s has no size for these inputs; give larger inputs",
                           port_name(s, ST_OUTPUT, i), s->plan.strings + st_port_type(&s->plan, ST_OUTPUT, i)->text);
    s->resolved = 1;
    return ST_OK;
}

/* ---- bind ---- */

static int wrong_shape(const st_session *s, int direction, int index, int rank, const int64_t *shape, st_error *error)
{
    const stp_type *type = st_port_type(&s->plan, direction, index);
    st_fail(error, ST_ARGUMENT, "%s '%s' takes shape %s and got ", word(direction), port_name(s, direction, index),
            s->plan.strings + type->text);
    st_append_shape(error->text, sizeof error->text, rank, shape);
    return ST_ARGUMENT;
}

/* What can be said about one port alone: dtype, rank, fixed extents, bounds of plain symbols, address. */
static int check_port(st_session *s, int direction, int index, const void *data, int dtype, int rank,
                      const int64_t *shape, int64_t *bytes, st_error *error)
{
    if (index < 0 || index >= st_ports(&s->plan, direction))
        return st_fail(error, ST_ARGUMENT, "there is no %s %d; the plan has %d", word(direction), index,
                       st_ports(&s->plan, direction));
    const stp_type *type = st_port_type(&s->plan, direction, index);
    const char *name = port_name(s, direction, index);
    if ((uint32_t)dtype != type->dtype)
        return st_fail(error, ST_ARGUMENT, "%s '%s' has element type %s and got %s (code %d)", word(direction), name,
                       st_dtype_name(type->dtype), st_dtype_name((uint32_t)dtype), dtype);
    if ((uint32_t)rank != type->rank)
        return rank < 0 || (rank && !shape) || rank > ST_MAX_RANK
                   ? st_fail(error, ST_ARGUMENT, "%s '%s' has rank %u and got %d", word(direction), name, type->rank, rank)
                   : wrong_shape(s, direction, index, rank, shape, error);
    if (rank && !shape)
        return st_fail(error, ST_ARGUMENT, "%s '%s' got no shape", word(direction), name);
    for (int axis = 0; axis < rank; axis++) {
        st_dim dim;
        st_get_dim(s, direction, index, axis, &dim);
        if (shape[axis] < 0 || (dim.value >= 0 && shape[axis] != dim.value))
            return wrong_shape(s, direction, index, rank, shape, error);
        if (dim.symbol >= 0 && direction == ST_INPUT) {
            const int status = set_symbol(s, (uint32_t)dim.symbol, shape[axis], index, axis, error);
            if (status)
                return status;
        }
    }
    *bytes = st_shape_bytes(type->dtype, rank, shape);
    if (*bytes < 0 || (*bytes && !data))
        return st_fail(error, ST_ARGUMENT, "%s '%s' got %s", word(direction), name,
                       data ? "a shape larger than memory" : "no data");
    const int bits = st_dtype_bits(type->dtype);
    if (bits > 8 && (uintptr_t)data % (uintptr_t)(bits / 8 < 8 ? bits / 8 : 8))
        return st_fail(error, ST_ARGUMENT, "%s '%s' lies at an address that is not aligned for %s; copy it", word(direction),
                       name, st_dtype_name(type->dtype));
    return ST_OK;
}

static int bind(st_session *s, int direction, int index, const void *data, int dtype, int rank, const int64_t *shape)
{
    st_error error;
    int64_t bytes = 0;
    int status = st_enter(s);
    if (status)
        return status;
    if (direction == ST_INPUT)
        s->resolved = 0;
    s->ready = s->found = 0;
    status = check_port(s, direction, index, data, dtype, rank, shape, &bytes, &error);
    if (!status) {
        st_binding *binding = &s->bindings[direction][index];
        binding->data = (char *)(uintptr_t)data; /* kernels only read inputs */
        binding->bytes = bytes;
        binding->bound = 1;
        if (rank)
            memcpy(binding->shape, shape, (size_t)rank * sizeof *shape);
    } else {
        if (index >= 0 && index < st_ports(&s->plan, direction))
            s->bindings[direction][index].bound = 0; /* not what an earlier call bound, should the error be ignored */
        st_session_keep(s, status, &error);
    }
    st_leave(s);
    return status;
}

int32_t st_bind_input(st_session *s, int32_t index, const void *data, int32_t dtype, int32_t rank, const int64_t *shape)
{
    return bind(s, ST_INPUT, index, data, dtype, rank, shape);
}

int32_t st_bind_output(st_session *s, int32_t index, void *data, int32_t dtype, int32_t rank, const int64_t *shape)
{
    return bind(s, ST_OUTPUT, index, data, dtype, rank, shape);
}

/* Is there an output `index`, and room for its extents? */
static int check_output(const st_session *s, int index, int capacity, st_error *error)
{
    if (index < 0 || index >= st_ports(&s->plan, ST_OUTPUT))
        return st_fail(error, ST_ARGUMENT, "there is no output %d; the plan has %d", index,
                       st_ports(&s->plan, ST_OUTPUT));
    const stp_type *type = st_port_type(&s->plan, ST_OUTPUT, index);
    if (capacity < (int)type->rank)
        return st_fail(error, ST_ARGUMENT, "output '%s' has rank %u, there is room for %d extents",
                       port_name(s, ST_OUTPUT, index), type->rank, capacity);
    return ST_OK;
}

int32_t st_output_shape(st_session *s, int32_t index, int64_t *shape, int32_t capacity)
{
    st_error error;
    int status = st_enter(s);
    if (status)
        return status;
    status = check_output(s, index, capacity, &error);
    if (!status)
        status = resolve(s, &error);
    if (status)
        st_session_keep(s, status, &error);
    else
        for (uint32_t axis = 0; axis < st_port_type(&s->plan, ST_OUTPUT, index)->rank; axis++)
            shape[axis] = s->output_shape[index][axis];
    st_leave(s);
    return status;
}

int32_t st_found_shape(st_session *s, int32_t index, int64_t *shape, int32_t capacity)
{
    st_error error;
    int status = st_enter(s);
    if (status)
        return status;
    status = check_output(s, index, capacity, &error);
    if (!status && !s->found)
        status = st_fail(&error, ST_STATE, "what is bound has not run yet, or its run failed; call st_run");
    if (!status && st_type_shape(&s->plan, st_port_type(&s->plan, ST_OUTPUT, index), s->symbols, shape))
        status = st_fail(&error, ST_ARGUMENT, "output '%s' came out with an extent below 0",
                         port_name(s, ST_OUTPUT, index));
    if (status)
        st_session_keep(s, status, &error);
    st_leave(s);
    return status;
}

/* ---- run ---- */

static int overlap(const st_binding *a, const st_binding *b)
{
    return a->data < b->data + b->bytes && b->data < a->data + a->bytes;
}

/* The plan writes an output as early as it likes, so an output that shares memory with another port would destroy it. */
static int check_overlap(const st_session *s, st_error *error)
{
    const int outputs = st_ports(&s->plan, ST_OUTPUT), inputs = st_ports(&s->plan, ST_INPUT);
    for (int i = 0; i < outputs; i++)
        for (int k = 0; k < i + inputs; k++) {
            const int direction = k < i ? ST_OUTPUT : ST_INPUT, other = k < i ? k : k - i;
            if (overlap(&s->bindings[ST_OUTPUT][i], &s->bindings[direction][other]))
                return st_fail(error, ST_ARGUMENT, "output '%s' shares memory with %s '%s'; give each its own",
                               port_name(s, ST_OUTPUT, i), word(direction), port_name(s, direction, other));
        }
    return ST_OK;
}

static int prepare(st_session *s, st_error *error)
{
    int status = resolve(s, error);
    for (int i = 0; !status && i < st_ports(&s->plan, ST_OUTPUT); i++) {
        const st_binding *binding = &s->bindings[ST_OUTPUT][i];
        const int rank = (int)st_port_type(&s->plan, ST_OUTPUT, i)->rank;
        if (!binding->bound)
            status = st_fail(error, ST_STATE, "output '%s' is not bound; call st_bind_output for it",
                             port_name(s, ST_OUTPUT, i));
        else if (rank && memcmp(binding->shape, s->output_shape[i], (size_t)rank * sizeof(int64_t))) {
            status = wrong_shape(s, ST_OUTPUT, i, rank, binding->shape, error);
            st_append(error->text, sizeof error->text, " where these inputs give ");
            st_append_shape(error->text, sizeof error->text, rank, s->output_shape[i]);
        }
    }
    if (!status)
        status = check_overlap(s, error);
    if (status)
        return status;
    for (uint32_t i = 0; i < s->patch_count; i++) {
        const st_patch *patch = &s->patches[i];
        s->args[patch->arg] = s->bindings[patch->direction][patch->index].data;
    }
    st_layout_fit(s);
    s->ready = 1;
    return ST_OK;
}

int32_t st_run(st_session *s)
{
    st_error error;
    int status = st_enter(s);
    if (status)
        return status;
    if ((s->program.pool || s->storage.io) && s->process != getpid())
        status = st_fail(&error, ST_STATE, "the process forked after the plan was opened, and its threads stayed behind; "
                         "open the plan again in the child");
    else
        status = st_states_check(s, &error);
    if (!status && !s->ready)
        status = prepare(s, &error);
    if (!status)
        status = st_storage_check(&s->storage, &error);
    if (!status) {
        s->torn = s->plan.counts[STP_SECTION_STATE] > 0; /* until all of the run is known to be well */
        const int whole = st_program_run(&s->program);
        /* again: what was read meanwhile may be of another file's bytes */
        status = st_storage_check(&s->storage, &error);
        if (!status && !whole)
            status = st_fail(&error, ST_IO, "the run was given up; open the plan again");
        const uint32_t exceeded = s->program.exceeded;
        if (!status && exceeded)
            status = st_fail(&error, ST_ARGUMENT, "dim %s came out as %lld, outside its bounds %lld to %lld, and the outputs "
                             "are not valid", symbol_name(s, exceeded - 1), (long long)s->program.exceeding,
                             (long long)s->plan.symbols[exceeded - 1].min, (long long)s->plan.symbols[exceeded - 1].max);
        s->torn &= status != ST_OK;
    }
    s->found = !status;
    if (status)
        st_session_keep(s, status, &error);
    st_leave(s);
    return status;
}
