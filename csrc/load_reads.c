/* plan.bin: the queues, and what reads and calls promise each other.
 *
 * That the bytes of a read lie where it may write, that no call uses the ring before its read, and that no read waits for a
 * call which waits for that read, is checked here.  That a read does not overwrite what an earlier call still uses is the
 * compiler's verifier to prove. */
#include "check.h"

#include <string.h>

int st_check_queues(st_plan *plan, const stp_queue *queues, st_error *error)
{
    const uint64_t *counts = plan->counts;
    int seen_calls = 0, seen_reads = 0;
    plan->call_count = plan->read_count = 0;
    for (uint64_t i = 0; i < counts[STP_SECTION_QUEUE]; i++) {
        const stp_queue *q = &queues[i];
        const char *name = plan->strings + q->name;
        const int calls = strcmp(name, "cpu") == 0, reads = strcmp(name, "io") == 0;
        CHECK_AT(calls || reads, STP_SECTION_QUEUE, i, "this runtime has no such queue, only `cpu` and `io`");
        CHECK_AT(calls ? !seen_calls++ : !seen_reads++, STP_SECTION_QUEUE, i, "a queue of its name comes before it");
        CHECK_AT(st_inside(q->first_call, q->calls, counts[STP_SECTION_CALL]), STP_SECTION_QUEUE, i,
                 "its instructions lie outside the section");
        CHECK_AT(st_inside(q->first_read, q->reads, counts[STP_SECTION_READ]), STP_SECTION_QUEUE, i,
                 "its reads lie outside the section");
        CHECK_AT(calls ? !q->reads : !q->calls, STP_SECTION_QUEUE, i, "it has what belongs to the other queue");
        if (calls) {
            plan->calls += q->first_call;
            plan->call_count = q->calls;
        } else {
            plan->reads += q->first_read;
            plan->read_count = q->reads;
        }
    }
    CHECK(!plan->read_count || plan->call_count, "plan.bin is malformed: it has reads and no calls; " AGAIN);
    return ST_OK;
}

/* Where a read's bytes come from and go to. */
static int check_read(const st_plan *plan, uint64_t i, st_error *error)
{
    const stp_read *r = &plan->reads[i];
    const stp_header *header = plan->header;
    CHECK_AT(r->offset % STP_READ_ALIGNMENT == 0 && r->bytes % STP_READ_ALIGNMENT == 0 && r->bytes, STP_SECTION_READ, i,
             "it is not aligned, or empty");
    CHECK_AT(r->offset >= header->resident_bytes && st_inside(r->offset, r->bytes, header->weights_bytes),
             STP_SECTION_READ, i, "it lies outside the streamed part of weights.bin");
    CHECK_AT(r->buffer < plan->counts[STP_SECTION_BUFFER], STP_SECTION_READ, i, "an unknown buffer");
    const stp_buffer *b = &plan->buffers[r->buffer];
    CHECK_AT(plan->arenas[b->arena].kind == STP_ARENA_RING, STP_SECTION_READ, i, "its buffer does not lie in the ring");
    CHECK_AT(r->bytes <= b->bytes, STP_SECTION_READ, i, "its buffer is too small");
    CHECK_AT(-(int64_t)plan->call_count <= r->after && r->after <= (int64_t)plan->call_count, STP_SECTION_READ, i,
             "it starts after a call that is more than a run away");
    return ST_OK;
}

/* Arguments of a call in the ring: one of the reads that the call waits for puts the bytes there. */
static int check_ring_arg(const st_plan *plan, const stp_call *call, uint32_t buffer)
{
    if (plan->arenas[plan->buffers[buffer].arena].kind != STP_ARENA_RING)
        return 1;
    for (uint32_t k = call->needs; k--;) /* backwards: it is nearly always the last */
        if (plan->reads[k].buffer == buffer)
            return 1;
    return 0;
}

int st_check_reads(const st_plan *plan, st_error *error)
{
    const uint64_t resident = plan->header->resident_bytes;
    for (uint32_t i = 0; i < plan->read_count; i++) {
        const int status = check_read(plan, i, error);
        if (status)
            return status;
    }
    for (uint32_t i = 0; i < plan->call_count; i++) {
        const stp_call *call = &plan->calls[i];
        CHECK_AT(call->needs <= plan->read_count, STP_SECTION_CALL, i, "it needs more reads than there are");
        for (uint32_t k = 0; k < call->args; k++) {
            const stp_arg *arg = &plan->args[call->first_arg + k];
            CHECK_AT(arg->space != STP_SPACE_BUFFER || check_ring_arg(plan, call, arg->index), STP_SECTION_CALL, i,
                     "it uses a buffer of the ring and does not wait for its read");
        }
    }
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARG]; i++) {
        const stp_arg *a = &plan->args[i];
        if (a->space != STP_SPACE_WEIGHT && a->space != STP_SPACE_FILE)
            continue;
        const stp_weight *w = &plan->weights[a->index];
        const int inside = st_inside(w->offset, w->bytes, resident);
        CHECK_AT(a->space != STP_SPACE_WEIGHT || inside, STP_SECTION_ARG, i,
                 "it takes a weight from memory that stays in storage");
        CHECK_AT(a->space != STP_SPACE_FILE || !inside || !w->bytes, STP_SECTION_ARG, i,
                 "it takes a weight from storage that is resident");
    }
    /* the calls before a read's start may need only the reads in front of it; `needed`: the most of calls [0, call) */
    uint32_t needed = 0, call = 0;
    int64_t started = INT64_MIN;
    for (uint32_t i = 0; i < plan->read_count; i++) {
        started = plan->reads[i].after > started ? plan->reads[i].after : started;
        for (; (int64_t)call < started; call++)
            needed = plan->calls[call].needs > needed ? plan->calls[call].needs : needed;
        CHECK_AT(needed <= i, STP_SECTION_READ, i, "it waits for a call that waits for it");
    }
    return ST_OK;
}
