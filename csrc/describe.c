/* What a session says of itself: its signature, its memory, its measurements. */
#include "session.h"

#include <string.h>

static int outside(st_session *s, const char *what, int index, int64_t count)
{
    st_error error;
    if (index >= 0 && index < count)
        return ST_OK;
    return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "there is no %s %d; the plan has %lld", what, index,
                                      (long long)count), &error);
}

int32_t st_get_info(st_session *s, st_info *info)
{
    const st_plan *plan = &s->plan;
    *info = (st_info){
        .name = plan->strings + plan->header->name,
        .target = plan->strings + plan->header->target,
        .threads = s->program.threads,
        .planned_threads = (int32_t)plan->header->threads,
        .inputs = st_ports(plan, ST_INPUT),
        .outputs = st_ports(plan, ST_OUTPUT),
        .symbols = (int32_t)plan->counts[STP_SECTION_SYMBOL],
        .arenas = (int32_t)plan->counts[STP_SECTION_ARENA],
        .instructions = (int32_t)plan->call_count,
        .predicted_seconds = plan->header->seconds,
        .reads = (int32_t)plan->read_count,
        .io = s->storage.text,
        .states = (int32_t)plan->counts[STP_SECTION_STATE],
    };
    return ST_OK;
}

int32_t st_get_symbol(st_session *s, int32_t index, st_symbol *symbol)
{
    const int status = outside(s, "symbol", index, (int64_t)s->plan.counts[STP_SECTION_SYMBOL]);
    if (!status) {
        const stp_symbol *row = &s->plan.symbols[index];
        *symbol = (st_symbol){s->plan.strings + row->name, row->min, row->typical, row->max};
    }
    return status;
}

int32_t st_get_port(st_session *s, int32_t direction, int32_t index, st_port *port)
{
    int status = outside(s, "direction", direction, 2);
    if (!status)
        status = outside(s, direction == ST_INPUT ? "input" : "output", index, st_ports(&s->plan, direction));
    if (!status) {
        const stp_type *type = st_port_type(&s->plan, direction, index);
        *port = (st_port){
            .name = s->plan.strings + s->plan.ports[direction][index].name,
            .shape = s->plan.strings + type->text,
            .dtype_name = st_dtype_name(type->dtype),
            .dtype = (int32_t)type->dtype,
            .rank = (int32_t)type->rank,
        };
    }
    return status;
}

int32_t st_get_dim(st_session *s, int32_t direction, int32_t index, int32_t axis, st_dim *dim)
{
    st_port port;
    int status = st_get_port(s, direction, index, &port);
    if (!status)
        status = outside(s, "axis", axis, port.rank);
    if (!status) {
        const stp_dim *row = &s->plan.dims[st_port_type(&s->plan, direction, index)->first_dim + (uint32_t)axis];
        const stp_dim_op *op = &s->plan.dim_ops[row->first];
        *dim = (st_dim){.value = -1, .symbol = -1};
        if (row->count == 1)
            dim->value = op->op == STP_DIM_CONST ? op->value : -1;
        if (row->count == 3 && op[0].op == STP_DIM_CONST && op[0].value == 1 && op[1].op == STP_DIM_SYMBOL)
            dim->symbol = (int32_t)op[1].value;
    }
    return status;
}

int32_t st_shape_at(st_session *s, int32_t direction, int32_t index, const int64_t *symbols, int64_t *shape,
                    int32_t capacity)
{
    st_port port;
    st_error error;
    const int status = st_get_port(s, direction, index, &port);
    if (status)
        return status;
    if (port.rank > capacity)
        return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "'%s' has rank %d, there is room for %d extents",
                                          port.name, (int)port.rank, (int)capacity), &error);
    if (st_type_shape(&s->plan, st_port_type(&s->plan, direction, index), symbols, shape))
        return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "'%s' %s has no size for these dims", port.name,
                                          port.shape), &error);
    return ST_OK;
}

int32_t st_get_arena(st_session *s, int32_t index, st_arena *arena)
{
    const int status = outside(s, "arena", index, (int64_t)s->plan.counts[STP_SECTION_ARENA]);
    if (!status) {
        const stp_arena *row = &s->plan.arenas[index];
        const char *strings = s->plan.strings;
        *arena = (st_arena){strings + row->name, strings + row->tier, row->kind == STP_ARENA_WORKSPACE,
                            (int64_t)row->bytes};
    }
    return status;
}

int32_t st_get_memory(st_session *s, st_memory *memory)
{
    *memory = (st_memory){
        .weights = (int64_t)(s->plan.header->resident_bytes - s->plan.mapped_bytes),
        .mapped = (int64_t)s->plan.mapped_bytes,
        .ring = (int64_t)s->ring.bytes,
        .states = (int64_t)s->states.bytes,
        .threads = s->program.threads,
        .session = (int64_t)(s->file.bytes + s->tables.bytes + sizeof *s),
        .stacks = st_pool_stack_bytes(s->program.threads) + st_storage_stack_bytes(&s->storage),
    };
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARENA]; i++) {
        const stp_arena *arena = &s->plan.arenas[i];
        if (arena->kind == STP_ARENA_WORKSPACE)
            memory->workspace += (int64_t)arena->bytes;
        else if (arena->kind == STP_ARENA_SCRATCH)
            memory->scratch += (int64_t)arena->bytes;
    }
    memory->total = memory->weights + memory->mapped + memory->ring + memory->states + memory->scratch +
                    memory->threads * memory->workspace + memory->session;
    return ST_OK;
}

int32_t st_get_profile(st_session *s, int32_t index, st_profile *row)
{
    const int status = outside(s, "instruction", index, s->plan.call_count);
    if (!status) {
        const stp_call *call = &s->plan.calls[index];
        const st_timing none = {0, 0, 0}, *timing = s->program.timings ? &s->program.timings[index] : &none;
        *row = (st_profile){s->plan.strings + call->label, timing->count, timing->nanoseconds,
                            call->seconds,                 call->flops,   call->bytes, timing->waited};
    }
    return status;
}

int32_t st_get_read(st_session *s, int32_t index, st_read *row)
{
    const int status = outside(s, "read", index, s->plan.read_count);
    if (!status) {
        const stp_read *read = &s->plan.reads[index];
        st_read_state *state = s->storage.io ? &s->storage.io->states[index] : NULL;
        *row = (st_read){
            .label = s->plan.strings + read->label,
            .count = state ? atomic_load(&state->count) : 0,
            .nanoseconds = state ? atomic_load(&state->nanoseconds) : 0,
            .bytes = (int64_t)read->bytes,
            .predicted_seconds = read->seconds,
        };
    }
    return status;
}

int32_t st_get_traffic(st_session *s, st_traffic *traffic)
{
    st_io *io = s->storage.io;
    *traffic = (st_traffic){.lookups = atomic_load(&s->storage.source_bytes)};
    if (io)
        traffic->busy_nanoseconds = atomic_load(&io->busy);
    for (uint32_t i = 0; io && i < s->plan.read_count; i++)
        traffic->streamed += atomic_load(&io->states[i].count) * (int64_t)s->plan.reads[i].bytes;
    return ST_OK;
}

int32_t st_reset_profile(st_session *s)
{
    const int status = st_enter(s);
    if (status)
        return status;
    if (s->program.timings)
        memset(s->program.timings, 0, s->program.count * sizeof(st_timing));
    atomic_store(&s->storage.source_bytes, 0);
    if (s->storage.io)
        atomic_store(&s->storage.io->busy, 0);
    for (uint32_t i = 0; s->storage.io && i < s->plan.read_count; i++) {
        atomic_store(&s->storage.io->states[i].count, 0);
        atomic_store(&s->storage.io->states[i].nanoseconds, 0);
    }
    st_leave(s);
    return ST_OK;
}
