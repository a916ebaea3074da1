/* Threads: created at open, woken once for a run, meeting at barriers within it.
 *
 * Whoever waits spins for a moment, then yields for a while (which costs as little as spinning where nobody else wants the
 * CPU, and lets the thread that is waited for run where it lost its own), then sleeps on a futex, from which waking takes
 * many microseconds.  With more threads than CPUs the spinning is left out. */
#include "runtime.h"

#include "processor.h"

#include <errno.h>
#include <fenv.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)8 << 20) /* what a main thread usually has; kernels may rely on it */
#define SPIN_NS 5000
#define YIELDS 256 /* about 100 microseconds at least */
#define YIELDS_CROWDED 32

/* A word that is waited on, and how many sleep on it. */
typedef struct st_gate {
    _Alignas(ST_CACHE_LINE) _Atomic uint32_t epoch;
    _Atomic uint32_t sleepers;
} st_gate;

typedef struct st_worker {
    st_pool *pool;
    pthread_t thread;
    int number;
} st_worker;

struct st_pool {
    st_gate start;                                    /* opens once for each job */
    st_gate meet;                                     /* opens when the last worker arrives at a barrier */
    _Alignas(ST_CACHE_LINE) _Atomic uint32_t missing; /* workers that have not arrived */
    _Alignas(ST_CACHE_LINE) st_job job;
    void *context;
    uint32_t threads;
    uint32_t spins, yields;
    int stopping;
    st_worker workers[];
};

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Wait until the gate's epoch is no longer `seen`. */
static void gate_wait(st_gate *gate, uint32_t seen, const st_pool *pool)
{
    for (uint32_t i = pool->spins; i; i--) {
        if (atomic_load_explicit(&gate->epoch, memory_order_acquire) != seen)
            return;
        st_relax();
    }
    for (uint32_t i = pool->yields; i; i--) {
        if (atomic_load_explicit(&gate->epoch, memory_order_acquire) != seen)
            return;
        sched_yield();
    }
    /* the opener writes the epoch and then reads `sleepers`; here it is the other way round, and all four accesses are
     * sequentially consistent, so one of the two sees the other */
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->epoch) == seen)
        syscall(SYS_futex, &gate->epoch, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&gate->sleepers, 1);
}

static void gate_open(st_gate *gate, uint32_t epoch)
{
    atomic_store(&gate->epoch, epoch);
    if (atomic_load(&gate->sleepers))
        syscall(SYS_futex, &gate->epoch, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void st_pool_barrier(st_pool *pool)
{
    /* nobody can open the gate before this worker arrives, so what is read here is this round's epoch */
    const uint32_t seen = atomic_load_explicit(&pool->meet.epoch, memory_order_relaxed);
    if (atomic_fetch_sub_explicit(&pool->missing, 1, memory_order_acq_rel) == 1) {
        atomic_store_explicit(&pool->missing, pool->threads, memory_order_relaxed);
        gate_open(&pool->meet, seen + 1);
    } else {
        gate_wait(&pool->meet, seen, pool);
    }
}

static void *work(void *argument)
{
    const st_worker *self = argument;
    st_pool *pool = self->pool;
    fesetenv(FE_DFL_ENV); /* not what the thread that opened the session happened to have */
    for (uint32_t seen = 0;; seen++) {
        gate_wait(&pool->start, seen, pool);
        if (pool->stopping)
            return NULL;
        pool->job(pool->context, self->number);
        st_pool_barrier(pool);
    }
}

void st_pool_run(st_pool *pool, st_job job, void *context)
{
    pool->job = job;
    pool->context = context;
    gate_open(&pool->start, atomic_load_explicit(&pool->start.epoch, memory_order_relaxed) + 1);
    job(context, 0);
    st_pool_barrier(pool);
}

int st_pool_bytes(int threads)
{
    return (int)(sizeof(st_pool) + (size_t)threads * sizeof(st_worker));
}

int64_t st_pool_stack_bytes(int threads)
{
    return (int64_t)(threads - 1) * (int64_t)STACK_BYTES;
}

/* Spins that take about `nanoseconds`: a pause lasts 4 to 140 cycles, depending on the core. */
static uint32_t spins_for(int64_t nanoseconds)
{
    enum { TRIES = 1000 };
    int64_t best = INT64_MAX;
    for (int round = 0; round < 3; round++) {
        const int64_t begin = now();
        for (int i = 0; i < TRIES; i++)
            st_relax();
        const int64_t taken = now() - begin;
        best = taken < best ? taken : best;
    }
    return (uint32_t)(nanoseconds * TRIES / (best > 0 ? best : 1));
}

static int start_worker(st_pool *pool, int number, const int *cpu)
{
    st_worker *worker = &pool->workers[number];
    pthread_attr_t attributes;
    worker->pool = pool;
    worker->number = number;
    int failed = pthread_attr_init(&attributes);
    if (failed)
        return failed;
    failed = pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (!failed)
        failed = pthread_create(&worker->thread, &attributes, work, worker);
    pthread_attr_destroy(&attributes);
    if (!failed && cpu && *cpu < CPU_SETSIZE) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(*cpu, &set);
        pthread_setaffinity_np(worker->thread, sizeof set, &set); /* a wish: the mask may have changed meanwhile */
    }
    return failed;
}

int st_pool_start(st_pool *pool, int threads, int cpus, int pin, st_error *error)
{
    int allowed[ST_MAX_THREADS], count = 0, failed = 0, started = 1;
    sigset_t all, before;
    pool->threads = (uint32_t)threads;
    atomic_store(&pool->missing, (uint32_t)threads);
    pool->spins = threads <= cpus ? spins_for(SPIN_NS) : 0;
    pool->yields = threads <= cpus ? YIELDS : YIELDS_CROWDED;
    if (pin) {
        count = st_cpus_allowed(allowed, ST_MAX_THREADS);
        count = count < ST_MAX_THREADS ? count : ST_MAX_THREADS;
    }
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (!failed && started < threads) {
        failed = start_worker(pool, started, count ? &allowed[started % count] : NULL);
        started += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return ST_OK;
    pool->threads = (uint32_t)started;
    st_pool_stop(pool);
    return st_fail(error, ST_MEMORY, "cannot start thread %d of %d: %s; open with fewer threads or raise the limit "
                   "(ulimit -u, pids.max)", started + 1, threads, strerror(failed));
}

void st_pool_stop(st_pool *pool)
{
    pool->stopping = 1;
    gate_open(&pool->start, atomic_load(&pool->start.epoch) + 1);
    for (uint32_t i = 1; i < pool->threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
}
