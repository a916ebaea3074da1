/* The executor: every worker walks the same instruction list and computes its own part of each. */
#include "storage.h"

#include "processor.h"

#include <time.h>

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void charge(st_timing *timing, int64_t nanoseconds)
{
    timing->nanoseconds += nanoseconds;
}

/* Before a call: until the reads it needs are complete.  0 where they never will be. */
static int await(st_program *program, uint32_t number, st_timing *timings, int64_t *begin)
{
    const uint64_t reads = program->run * program->reads + program->steps[number].needs;
    if (atomic_load_explicit(&program->io->done, memory_order_acquire) >= reads)
        return 1;
    const int found = st_io_wait(program->io, reads);
    if (timings) {
        const int64_t end = now();
        timings[number].waited += end - *begin;
        *begin = end;
    }
    return found;
}

/* A dim outside its bounds would lead kernels out of their buffers: it is brought back, and the run fails when it ends. */
static void hold(st_program *program, uint32_t symbol)
{
    const stp_symbol *row = &program->symbols[symbol];
    const int64_t value = program->dims[symbol];
    if (value >= row->min && value <= row->max)
        return;
    program->exceeded = symbol + 1;
    program->exceeding = value;
    program->dims[symbol] = value < row->min ? row->min : row->max;
}

/* Where to go on from instruction `i`: behind the outermost region that begins there and whose condition is not met, else at `i`
 * itself.  `region` is the first one that this worker has not looked at. */
static uint32_t skip(const st_program *program, uint32_t i, uint32_t *region)
{
    for (; *region < program->region_count && program->regions[*region].first <= i; ++*region) {
        const st_region *r = &program->regions[*region];
        if (r->first == i && (*(const uint8_t *)*r->value != 0) != r->when)
            return r->last + 1;
    }
    return i;
}

/* Whether a loop goes on, as every worker sees it behind the barrier of the loop's first instruction.  The trip writes the next
 * condition over this one, so that all workers that run it (`together`) must have seen it before. */
static int goes_on(const st_program *program, const st_loop *loop, int together)
{
    const int more = program->dims[loop->symbol] <= program->symbols[loop->symbol].max;
    if (!loop->value)
        return more;
    const int holds = *(const uint8_t *)*loop->value != 0;
    if (program->pool && together)
        st_pool_barrier(program->pool);
    return more && holds;
}

/* Behind the last instruction of a trip: the next one is counted once all workers are done with this one, and the loops inside
 * begin anew.  The barrier of the first instruction comes before anybody looks at it. */
static uint32_t again(st_program *program, uint32_t number, int worker, int together)
{
    const st_loop *loop = &program->loops[number];
    if (program->pool && together)
        st_pool_barrier(program->pool);
    if (!worker) {
        program->dims[loop->symbol]++;
        for (uint32_t k = 1; k <= loop->inside; k++)
            program->dims[loop[k].symbol] = 0;
    }
    return loop->first;
}

/* Tells the queue of reads how far this worker is; a loop is one step. */
static void advance(st_program *program, int worker, uint64_t calls, uint32_t from, uint32_t to)
{
    if (program->io && (!program->steps[from].repeats || to == program->count || !program->steps[to].repeats))
        st_io_advance(program->io, worker, calls + to);
}

/* Worker 0 leaves in program->open and program->begin which instruction is under way, and since when. */
static void walk(st_program *program, int worker)
{
    st_timing *timings = worker ? NULL : program->timings;
    const uint64_t calls = program->run * program->count;
    st_timing *open = NULL;
    int64_t begin = timings ? now() : 0;
    uint32_t region = 0, fresh = 0; /* instructions from `fresh` on did not run yet */
    uint32_t alone = 0;             /* those in front of `alone` are of a loop that worker 0 runs by itself */
    for (uint32_t i = 0, next; i < program->count; i = next) {
        const st_step *step = &program->steps[i];
        if (program->pool && step->barrier && i >= alone)
            st_pool_barrier(program->pool);
        if (timings) {
            /* from barrier to barrier: what waiting for the slowest thread costs belongs to the instruction before */
            const int64_t end = now();
            if (open)
                charge(open, end - begin);
            begin = end;
        }
        next = skip(program, i, &region);
        if (next == i && step->begins) {
            const st_loop *loop = &program->loops[step->begins - 1];
            if (loop->alone && i >= alone)
                alone = loop->last + 1;
            if ((loop->alone && worker) || !goes_on(program, loop, i >= alone))
                next = loop->last + 1;
            if (next >= alone) /* behind it all workers meet */
                alone = 0;
        }
        open = NULL;
        if (next != i) {
            advance(program, worker, calls, i, next);
            continue;
        }
        next = i + 1;
        open = timings ? &timings[i] : NULL;
        if (step->needs && program->io && !await(program, i, timings, &begin)) {
            atomic_store_explicit(&program->stopped, 1, memory_order_relaxed); /* all workers give up here */
            return;
        }
        switch (step->kind) {
        case STP_CALL_KERNEL:
            if (step->before) {
                if ((uint32_t)worker < step->parts)
                    step->before(step->args, program->dims, worker, (int)step->parts);
                st_pool_barrier(program->pool);
            }
            if ((uint32_t)worker < step->parts)
                step->kernel(step->args, program->dims, worker, (int)step->parts);
            if (step->symbol && !worker) /* its one part ran here, and a barrier comes before anybody uses the value */
                hold(program, step->symbol - 1);
            break;
        default:
            break; /* load.c let no other kind through */
        }
        if (open && i >= fresh) { /* what further trips take adds to the one that is counted */
            open->count++;
            fresh = i + 1;
        }
        if (step->ends)
            next = again(program, step->ends - 1, worker, i >= alone);
        advance(program, worker, calls, i, next);
    }
    if (!worker) {
        program->open = open;
        program->begin = begin;
    }
}

static void walk_job(void *context, int worker)
{
    walk(context, worker);
}

int st_program_run(st_program *program)
{
    program->exceeded = 0;
    for (uint32_t i = 0; i < program->loop_count; i++)
        program->dims[program->loops[i].symbol] = 0;
    const st_modes before = st_modes_usual();
    if (program->pool)
        st_pool_run(program->pool, walk_job, program);
    else
        walk(program, 0);
    const int stopped = atomic_load_explicit(&program->stopped, memory_order_relaxed);
    program->run++;
    if (program->open && !stopped)
        charge(program->open, now() - program->begin);
    st_modes_back(before);
    return !stopped;
}
