/* What stays from one run to the next: one block of memory, filled when the plan is opened and by st_reset.
 *
 * Runs write over states, some of them in the middle.  A run that begins and fails therefore leaves them neither as they were nor
 * as they would have become: they are torn, and nothing but st_reset is allowed then.  A run that is refused before it begins
 * changes nothing. */
#include "session.h"

#include <string.h>

int st_states_open(st_session *s, st_error *error)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARENA]; i++)
        bytes += s->plan.arenas[i].kind == STP_ARENA_STATE ? s->plan.arenas[i].bytes : 0;
    return st_block_take(&s->states, (size_t)bytes, error);
}

char *st_state_place(const st_session *s, uint64_t index)
{
    return s->states.base ? (char *)s->states.base + s->plan.states[index].offset : s->memory.base;
}

void st_states_fill(st_session *s)
{
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_STATE]; i++) {
        const stp_state *state = &s->plan.states[i];
        if (!state->bytes)
            continue;
        if (state->initial)
            memcpy(st_state_place(s, i), (char *)s->weights.base + s->plan.weights[state->initial - 1].offset, state->bytes);
        else
            memset(st_state_place(s, i), 0, state->bytes);
    }
    s->torn = 0;
}

int st_states_check(const st_session *s, st_error *error)
{
    if (s->torn)
        return st_fail(error, ST_STATE, "a run failed and left the state half-way; call st_reset (Session.reset), and set what you "
                       "saved");
    return ST_OK;
}

int32_t st_get_state(st_session *s, int32_t index, st_state *row)
{
    st_error error;
    if (index < 0 || (uint64_t)index >= s->plan.counts[STP_SECTION_STATE])
        return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "there is no state %d; the plan has %llu", (int)index,
                                          (unsigned long long)s->plan.counts[STP_SECTION_STATE]), &error);
    const stp_state *state = &s->plan.states[index];
    const stp_type *type = &s->plan.types[state->type];
    *row = (st_state){
        .name = s->plan.strings + state->name,
        .shape = s->plan.strings + type->text,
        .dtype_name = st_dtype_name(type->dtype),
        .dtype = (int32_t)type->dtype,
        .rank = (int32_t)type->rank,
        .bytes = (int64_t)state->bytes,
        .zeros = !state->initial,
    };
    return ST_OK;
}

/* From the state or to it, between two runs. */
static int32_t copy_state(st_session *s, int32_t index, void *to, const void *from, int64_t bytes)
{
    st_error error;
    st_state row;
    int status = st_enter(s);
    if (status)
        return status;
    status = st_get_state(s, index, &row); /* keeps its own text */
    if (!status) {
        status = st_states_check(s, &error);
        if (!status && (bytes != row.bytes || (bytes && !(to ? to : from))))
            status = st_fail(&error, ST_ARGUMENT, "state '%s' %s%s has %lld bytes and got %lld", row.name, row.dtype_name,
                             row.shape, (long long)row.bytes, (long long)bytes);
        if (status)
            st_session_keep(s, status, &error);
        else if (bytes)
            memcpy(to ? to : st_state_place(s, (uint64_t)index), to ? st_state_place(s, (uint64_t)index) : from, (size_t)bytes);
    }
    st_leave(s);
    return status;
}

int32_t st_save_state(st_session *s, int32_t index, void *data, int64_t bytes)
{
    return copy_state(s, index, data, NULL, bytes);
}

int32_t st_load_state(st_session *s, int32_t index, const void *data, int64_t bytes)
{
    return copy_state(s, index, NULL, data, bytes);
}

int32_t st_reset(st_session *s)
{
    const int status = st_enter(s);
    if (status)
        return status;
    st_states_fill(s);
    st_leave(s);
    return ST_OK;
}
