/* The queue of reads: which request is next, when it may start, and who waits for what.
 *
 * Reads are made in the plan's order, again and again: those of the next run start as soon as the calls that use their part
 * of the ring are complete, so a run finds its first weights in memory.  Workers tell how many calls they have completed,
 * each in its own cache line; the slowest counts.  Nobody polls: io threads sleep in the kernel until a request or a call is
 * complete, and workers spin for a moment only.
 *
 * Two levels are waited on, calls and reads.  Whoever waits first writes what for, then looks at the level; whoever raises
 * the level first writes it, then looks at what is waited for.  All of these accesses are sequentially consistent, so one
 * of the two sees the other, and no wake-up is lost.  Waking first forgets what was waited for and then changes the epoch,
 * so that a sleeper whose wish was forgotten finds another epoch than it saw, and writes it again. */
#include "storage.h"

#include "processor.h"

#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SPINS 200 /* 1 to 10 microseconds */
#define AWAKE_NS 200000
#define SLICE_NS 100000 /* the shortest there is */

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- levels ---- */

static void level_want(st_level *level, uint64_t value)
{
    uint64_t least = atomic_load(&level->awaited);
    while (value < least && !atomic_compare_exchange_weak(&level->awaited, &least, value))
        ;
}

static void level_sleep(st_level *level, uint32_t seen)
{
    syscall(SYS_futex, &level->epoch, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void level_wake(st_level *level)
{
    atomic_store(&level->awaited, UINT64_MAX);
    atomic_fetch_add(&level->epoch, 1);
    syscall(SYS_futex, &level->epoch, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* ---- for workers ---- */

static uint64_t slowest(const st_io *io)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < io->workers; i++) {
        const uint64_t calls = atomic_load(&io->lanes[i].calls);
        least = calls < least ? calls : least;
    }
    return least;
}

void st_io_advance(st_io *io, int worker, uint64_t calls)
{
    atomic_store(&io->lanes[worker].calls, calls);
    const uint64_t awaited = atomic_load(&io->calls.awaited);
    /* of several workers that get there, the last sees that all did */
    if (calls >= awaited && slowest(io) >= awaited)
        level_wake(&io->calls);
}

int st_io_wait(st_io *io, uint64_t reads)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&io->done, memory_order_acquire) >= reads)
            return 1;
        st_relax();
    }
    level_want(&io->reads, reads); /* before it sleeps: the io thread is to know that somebody waits */
    /* to sleep and be woken takes longer than most waits do, above all where a sleeping CPU is handed back to a hypervisor */
    for (const int64_t until = now() + AWAKE_NS; now() < until; sched_yield())
        if (atomic_load_explicit(&io->done, memory_order_acquire) >= reads)
            return 1;
    for (;;) {
        const uint32_t seen = atomic_load(&io->reads.epoch);
        level_want(&io->reads, reads);
        /* `frozen` first: after it `done` is final, so all workers give up at the same call and no barrier is missed */
        const int frozen = atomic_load(&io->frozen);
        if (atomic_load(&io->done) >= reads)
            return 1;
        if (frozen)
            return 0;
        level_sleep(&io->reads, seen);
    }
}

/* ---- for io threads ---- */

/* A thread that is awake for microseconds must not wait until a computing thread's slice ends: it asks for short slices of
 * its own, which Linux 6.12 and later answer by running it at once when it wakes.  Elsewhere nothing changes. */
void st_io_hurry(void)
{
#ifdef SYS_sched_setattr
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } wish = {.size = 48, .policy = SCHED_OTHER, .runtime = SLICE_NS};
    _Static_assert(sizeof wish == 48, "layout of sched_attr");
    if (sched_getscheduler(0) == SCHED_OTHER) {
        wish.nice = getpriority(PRIO_PROCESS, 0);
        syscall(SYS_sched_setattr, 0, &wish, 0);
    }
#endif
}

void st_io_wake(st_io *io)
{
    level_wake(&io->calls);
}

void st_io_sleep(st_io *io, uint32_t seen, uint64_t calls)
{
    level_want(&io->calls, calls);
    if (slowest(io) < calls && !atomic_load(&io->stopping))
        level_sleep(&io->calls, seen);
}

int st_io_next(st_io *io, st_request *request, uint64_t *calls)
{
    if (atomic_load(&io->stopping) || atomic_load(&io->frozen))
        return ST_NEXT_NEVER;
    const stp_read *row = &io->rows[io->next];
    st_read_state *state = &io->states[io->next];
    const uint64_t number = io->next_run * io->count + io->next;
    if (!io->next_at) {
        /* a run ahead at most: the state is that of one read */
        if (number >= atomic_load_explicit(&io->done, memory_order_relaxed) + io->count)
            return ST_NEXT_AFTER_READS;
        const int64_t wanted = (int64_t)(io->next_run * io->call_count) + row->after;
        if (wanted > 0 && io->calls_seen < (uint64_t)wanted) {
            io->calls_seen = slowest(io);
            if (io->calls_seen < (uint64_t)wanted) {
                *calls = (uint64_t)wanted;
                return ST_NEXT_AFTER_CALLS;
            }
        }
        /* calls that were skipped did not wait for their reads, whose bytes this one may overwrite */
        const int64_t settled = (int64_t)(io->next_run * io->count) + state->settled;
        if (settled > 0 && atomic_load_explicit(&io->done, memory_order_relaxed) < (uint64_t)settled)
            return ST_NEXT_AFTER_READS;
        state->left = row->bytes;
        state->sum = 0;
        state->begun = now();
    }
    const uint64_t rest = row->bytes - io->next_at;
    *request = (st_request){
        .to = io->ring + io->buffers[row->buffer].offset + io->next_at,
        .read = number,
        .at = io->next_at,
        .offset = row->offset + io->next_at,
        .bytes = rest < STP_REQUEST_BYTES ? rest : STP_REQUEST_BYTES,
        .digest = !state->verified,
    };
    io->next_at += request->bytes;
    if (io->next_at == row->bytes) {
        io->next_at = 0;
        if (++io->next == io->count) {
            io->next = 0;
            io->next_run++;
        }
    }
    if (!io->flying++)
        io->busy_since = now();
    return ST_NEXT_REQUEST;
}

/* Requests are whole blocks of the digest but for a read's last one, so their shares add up in any order. */
uint64_t st_io_share(const st_request *request)
{
    _Static_assert(STP_REQUEST_BYTES % ST_DIGEST_BLOCK == 0, "requests are whole blocks of the digest");
    return request->digest ? st_digest_share(request->to, request->bytes, request->at / ST_DIGEST_BLOCK) : 0;
}

static void land(st_io *io)
{
    const int64_t end = now();
    atomic_fetch_add_explicit(&io->busy, end - io->busy_since, memory_order_relaxed);
    io->busy_since = end;
    io->flying--;
}

static void freeze(st_io *io, int status, const st_error *error)
{
    st_trouble_set(io->trouble, status, error);
    atomic_store(&io->frozen, 1);
    level_wake(&io->reads);
    level_wake(&io->calls);
}

void st_io_complete(st_io *io, const st_request *request, uint64_t share)
{
    st_error error;
    const uint32_t number = (uint32_t)(request->read % io->count);
    st_read_state *state = &io->states[number];
    land(io);
    if (atomic_load(&io->frozen))
        return;
    state->sum += share;
    state->left -= request->bytes;
    if (state->left)
        return;
    const stp_read *row = &io->rows[number];
    if (!state->verified && st_digest_finish(state->sum, row->bytes) != row->digest) {
        st_fail(&error, ST_DAMAGED, "%.600s is damaged at bytes %llu to %llu ('%.200s'): their digest does not match; copy "
                "or compile the plan again", io->file->path, (unsigned long long)row->offset,
                (unsigned long long)(row->offset + row->bytes), io->strings + row->label);
        freeze(io, ST_DAMAGED, &error);
        return;
    }
    state->verified = 1;
    state->whole = 1;
    atomic_fetch_add_explicit(&state->nanoseconds, now() - state->begun, memory_order_relaxed);
    atomic_fetch_add_explicit(&state->count, 1, memory_order_relaxed);
    const uint64_t before = atomic_load_explicit(&io->done, memory_order_relaxed);
    uint64_t done = before;
    for (st_read_state *first = &io->states[done % io->count]; first->whole; first = &io->states[done % io->count]) {
        first->whole = 0;
        done++;
    }
    if (done == before)
        return;
    atomic_store(&io->done, done);
    if (done >= atomic_load(&io->reads.awaited))
        level_wake(&io->reads);
}

void st_io_abort(st_io *io, const st_request *request, int reason)
{
    st_error error;
    land(io);
    if (atomic_load(&io->frozen))
        return;
    const stp_read *row = &io->rows[request->read % io->count];
    st_file_fail(io->file, io->strings + row->label, reason, request->offset + request->done, &error);
    freeze(io, ST_IO, &error);
}

void st_io_break(st_io *io, int reason)
{
    st_error error;
    st_fail(&error, ST_IO, "cannot read %.600s through io_uring any more: %s; open the plan again with io=threads",
            io->file->path, strerror(reason));
    freeze(io, ST_IO, &error);
}
