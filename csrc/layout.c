/* Where buffers lie.  The plan's offsets hold at the greatest dims.  At others each buffer sinks, from the lowest up, until it
 * meets one that is in use while it is, so that what a run touches lies together and more of it stays in the caches.
 *
 * That is safe for any dims: buffers that threads may use at once are still apart, and none ever lies above its planned
 * offset, since what is below it has grown neither in size nor in offset.  "At once" means in one stretch between barriers:
 * the plan's barriers are where bytes are used again at its own offsets, so a buffer may sink onto bytes of another only
 * across a barrier. */
#include "session.h"

#include "check.h"

#include <stdlib.h>
#include <string.h>

static int by_place(const void *left, const void *right)
{
    const stp_buffer *a = (*(const st_place *)left).buffer, *b = (*(const st_place *)right).buffer;
    if (a->arena != b->arena)
        return a->arena < b->arena ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* Bytes at the dims the layout is for; all that were planned where a dim is set during the run. */
static uint64_t bytes_of(const st_session *s, const stp_buffer *buffer)
{
    const stp_type *type = &s->plan.types[buffer->type];
    int64_t shape[ST_MAX_RANK];
    if (st_type_shape(&s->plan, type, s->layout.symbols, shape))
        return buffer->bytes;
    const int64_t bytes = st_shape_bytes(type->dtype, (int)type->rank, shape);
    return bytes < 0 || (uint64_t)bytes > buffer->bytes ? buffer->bytes : (uint64_t)bytes;
}

/* New offsets of all buffers, at their planned bytes or at those of the dims.  Stops at a buffer that would lie above its planned
 * offset, which no dims can bring about in a sound plan, and returns it. */
static const stp_buffer *sink(st_session *s, int planned)
{
    const st_layout *layout = &s->layout;
    for (uint64_t i = 0; i < layout->count; i++) {
        const st_place *place = &layout->places[i];
        const stp_buffer *buffer = place->buffer;
        if (!i || buffer->arena != place[-1].buffer->arena)
            memset(layout->tops, 0, layout->stretches * sizeof *layout->tops);
        uint64_t offset = 0;
        for (uint32_t t = place->from; t <= place->to; t++)
            offset = layout->tops[t] > offset ? layout->tops[t] : offset;
        if (offset > buffer->offset && buffer->bytes)
            return buffer;
        const uint64_t bytes = planned ? buffer->bytes : bytes_of(s, buffer);
        const uint64_t top = offset + (bytes + STP_ALIGNMENT - 1) / STP_ALIGNMENT * STP_ALIGNMENT;
        for (uint32_t t = place->from; bytes && t <= place->to; t++)
            layout->tops[t] = top; /* an empty one holds nothing up */
        layout->offsets[buffer - s->plan.buffers] = offset;
    }
    return NULL;
}

int st_layout_open(st_session *s, st_error *error)
{
    const st_plan *plan = &s->plan;
    st_layout *layout = &s->layout;
    uint32_t stretch = 0;
    for (uint32_t i = 0; i < plan->call_count; i++) {
        stretch += i && plan->calls[i].barrier;
        layout->stretch[i] = stretch;
    }
    layout->stretches = (uint64_t)stretch + 1;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_BUFFER]; i++) {
        const stp_buffer *buffer = &plan->buffers[i];
        if (plan->arenas[buffer->arena].kind != STP_ARENA_SCRATCH)
            continue;
        CHECK_AT(buffer->first >= 0 && buffer->last < (int64_t)plan->call_count, STP_SECTION_BUFFER, i,
                 "it is in use where there are no instructions");
        layout->places[layout->count++] = (st_place){buffer, layout->stretch[buffer->first], layout->stretch[buffer->last]};
    }
    qsort(layout->places, layout->count, sizeof *layout->places, by_place);
    const stp_buffer *wrong = sink(s, 1);
    CHECK_AT(!wrong, STP_SECTION_BUFFER, wrong - plan->buffers, "it shares bytes with another that is in use at the same time");
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_SYMBOL]; i++)
        layout->symbols[i] = ST_UNKNOWN;
    return ST_OK;
}

void st_layout_fit(st_session *s)
{
    const st_layout *layout = &s->layout;
    int same = 1;
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_SYMBOL]; i++) {
        const int64_t value = s->plan.symbols[i].setter ? ST_UNKNOWN : s->symbols[i];
        same &= value == layout->symbols[i];
        layout->symbols[i] = value;
    }
    if (same)
        return;
    sink(s, 0);
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARG]; i++) {
        const stp_arg *arg = &s->plan.args[i];
        const int lies = arg->space == STP_SPACE_BUFFER || arg->space == STP_SPACE_CARRY;
        if (lies && s->plan.arenas[s->plan.buffers[arg->index].arena].kind == STP_ARENA_SCRATCH)
            s->args[i] = st_arena_base(s, s->plan.buffers[arg->index].arena) + layout->offsets[arg->index];
    }
}
