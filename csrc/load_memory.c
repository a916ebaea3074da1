/* plan.bin: where bytes lie. */
#include "check.h"

/* At most one arena of each of these kinds: the runtime keeps them apart from the others. */
static int check_arenas(st_plan *plan, st_error *error)
{
    const stp_header *header = plan->header;
    uint64_t total = header->weights_bytes, resident = 0, mapped = 0, ring = 0;
    int weights = 0, maps = 0, rings = 0, states = 0;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARENA]; i++) {
        const stp_arena *a = &plan->arenas[i];
        CHECK_AT(a->kind < STP_ARENA_COUNT, STP_SECTION_ARENA, i, "an unknown kind");
        /* each thread's share of a workspace must start aligned */
        CHECK_AT(a->kind != STP_ARENA_WORKSPACE || a->bytes % STP_ALIGNMENT == 0, STP_SECTION_ARENA, i,
                 "its bytes for each thread are not a multiple of the alignment");
        CHECK_AT(a->bytes <= INT64_MAX / ST_MAX_THREADS && total <= INT64_MAX / 2, STP_SECTION_ARENA, i,
                 "it is larger than any machine");
        total += a->bytes * (a->kind == STP_ARENA_WORKSPACE ? ST_MAX_THREADS : 1);
        if (a->kind == STP_ARENA_WORKSPACE) {
            plan->workspaces++;
        } else if (a->kind == STP_ARENA_WEIGHTS) {
            CHECK_AT(!weights++, STP_SECTION_ARENA, i, "there is an arena of weights before it");
            resident = a->bytes;
        } else if (a->kind == STP_ARENA_MAPPED) {
            CHECK_AT(!maps++, STP_SECTION_ARENA, i, "there is an arena of mapped weights before it");
            mapped = a->bytes;
        } else if (a->kind == STP_ARENA_STATE) {
            CHECK_AT(!states++, STP_SECTION_ARENA, i, "there is an arena of states before it");
        } else if (a->kind == STP_ARENA_RING) {
            CHECK_AT(!rings++, STP_SECTION_ARENA, i, "there is a ring before it");
            CHECK_AT(a->bytes % STP_READ_ALIGNMENT == 0, STP_SECTION_ARENA, i,
                     "its bytes are not a multiple of what reads need");
            ring = a->bytes;
        }
    }
    CHECK(total <= INT64_MAX / 2, "plan.bin is malformed: its memory is larger than any machine; " AGAIN);
    CHECK(header->resident_bytes <= header->weights_bytes,
          "plan.bin is malformed: the resident part is larger than weights.bin; " AGAIN);
    CHECK(resident + mapped == header->resident_bytes,
          "plan.bin is malformed: its arena of weights has not the size of the resident part; " AGAIN);
    CHECK(!mapped || header->resident_bytes == header->weights_bytes,
          "plan.bin is malformed: it maps weights beside those that stay in storage; " AGAIN);
    CHECK(header->resident_bytes == header->weights_bytes ||
              (header->resident_bytes % STP_READ_ALIGNMENT == 0 && header->weights_bytes % STP_READ_ALIGNMENT == 0),
          "plan.bin is malformed: the streamed part of weights.bin is not aligned; " AGAIN);
    plan->ring_bytes = ring;
    plan->mapped_bytes = mapped;
    return ST_OK;
}

/* Constant extents, bytes that lie in the arena of states, and bytes to start from that are in memory.  Two states that share bytes
 * are the compiler's verifier to find: nothing leaves the arena. */
static int check_states(const st_plan *plan, st_error *error)
{
    uint64_t room = 0;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARENA]; i++)
        room += plan->arenas[i].kind == STP_ARENA_STATE ? plan->arenas[i].bytes : 0;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_STATE]; i++) {
        const stp_state *s = &plan->states[i];
        CHECK_AT(s->type < plan->counts[STP_SECTION_TYPE], STP_SECTION_STATE, i, "an unknown type");
        const stp_type *type = &plan->types[s->type];
        int64_t shape[ST_MAX_RANK], bytes = -1;
        for (uint32_t axis = 0; axis < type->rank; axis++)
            for (uint32_t k = 0; k < plan->dims[type->first_dim + axis].count; k++)
                CHECK_AT(plan->dim_ops[plan->dims[type->first_dim + axis].first + k].op != STP_DIM_SYMBOL, STP_SECTION_STATE, i,
                         "its extents are not constant");
        if (!st_type_shape(plan, type, NULL, shape))
            bytes = st_shape_bytes(type->dtype, (int)type->rank, shape);
        CHECK_AT(bytes >= 0 && (uint64_t)bytes == s->bytes, STP_SECTION_STATE, i, "its bytes are not those of its type");
        CHECK_AT(s->offset % STP_ALIGNMENT == 0 && st_inside(s->offset, s->bytes, room), STP_SECTION_STATE, i,
                 "it lies outside the arena of states, or is not aligned");
        CHECK_AT(s->initial <= plan->counts[STP_SECTION_WEIGHT], STP_SECTION_STATE, i, "it starts from an unknown weight");
        const stp_weight *w = s->initial ? &plan->weights[s->initial - 1] : NULL;
        CHECK_AT(!w || (w->bytes == s->bytes && st_inside(w->offset, w->bytes, plan->header->resident_bytes)),
                 STP_SECTION_STATE, i, "what it starts from is not in memory, or of another size");
    }
    return ST_OK;
}

int st_check_memory(st_plan *plan, st_error *error)
{
    const uint64_t *counts = plan->counts;
    const stp_header *header = plan->header;
    const int status = check_arenas(plan, error);
    if (status)
        return status;
    for (uint64_t i = 0; i < counts[STP_SECTION_BUFFER]; i++) {
        const stp_buffer *b = &plan->buffers[i];
        CHECK_AT(b->arena < counts[STP_SECTION_ARENA] && (plan->arenas[b->arena].kind == STP_ARENA_SCRATCH ||
                                                          plan->arenas[b->arena].kind == STP_ARENA_RING),
                 STP_SECTION_BUFFER, i, "it is in no scratch arena and no ring");
        const stp_arena *arena = &plan->arenas[b->arena];
        CHECK_AT(b->offset % (arena->kind == STP_ARENA_RING ? STP_READ_ALIGNMENT : STP_ALIGNMENT) == 0,
                 STP_SECTION_BUFFER, i, "its offset is not aligned");
        CHECK_AT(st_inside(b->offset, b->bytes, arena->bytes), STP_SECTION_BUFFER, i, "it lies outside its arena");
        CHECK_AT(b->type < counts[STP_SECTION_TYPE], STP_SECTION_BUFFER, i, "an unknown type");
        CHECK_AT(b->first <= b->last, STP_SECTION_BUFFER, i, "it ends before it begins");
    }
    for (uint64_t i = 0; i < counts[STP_SECTION_WEIGHT]; i++) {
        const stp_weight *w = &plan->weights[i];
        const int resident = st_inside(w->offset, w->bytes, header->resident_bytes);
        CHECK_AT(w->offset % STP_ALIGNMENT == 0, STP_SECTION_WEIGHT, i, "its offset is not aligned");
        CHECK_AT(st_inside(w->offset, w->bytes, header->weights_bytes), STP_SECTION_WEIGHT, i,
                 "it lies outside weights.bin");
        CHECK_AT(resident || (w->offset >= header->resident_bytes && w->offset % STP_READ_ALIGNMENT == 0),
                 STP_SECTION_WEIGHT, i, "it lies between the resident and the streamed part, or is not aligned for reads");
    }
    return check_states(plan, error);
}
