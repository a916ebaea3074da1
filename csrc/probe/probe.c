/* Small measured loops for `stratac probe`: arithmetic and memory, on any number of threads at once.
 *
 * Compiled once per ISA level, loaded by compiler/probe/hardware.py.  Every function returns seconds, or a negative number
 * where it cannot measure.
 */
#include "../simd/simd.h"
#include "../simd/simd_pairs.h"
#include "../simd/simd_quads.h"
#include "../simd/simd_tiles.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))
#define THREADS 256

EXPORT double st_probe_fma(int64_t steps);
EXPORT double st_probe_dot2(int64_t steps);
EXPORT double st_probe_dot4(int64_t steps);
EXPORT double st_probe_tiles(int64_t steps, int of_bytes);
EXPORT double st_probe_read(const float *data, int64_t floats, int64_t rounds);
EXPORT double st_probe_read_threads(float *data, int64_t floats_each, int64_t rounds, int threads);
EXPORT int st_probe_lanes(void);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int st_probe_lanes(void) { return VL; }

static volatile float sink;

#define EACH(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)

/* Seconds for `steps` rounds of 8 independent chains of vector multiply-adds, spelled out so that they stay in registers. */
double st_probe_fma(int64_t steps)
{
    vf a = vf_set1(0.999f), b = vf_set1(0.001f);
#define BEGIN(I) vf acc##I = vf_set1((float)I);
    EACH(BEGIN)
    double start = now();
    for (int64_t n = 0; n < steps; n++) {
#define STEP(I) acc##I = vf_fma(acc##I, a, b);
        EACH(STEP)
    }
#define JOIN(I) total = vf_add(total, acc##I);
    vf total = vf_zero();
    EACH(JOIN)
    sink = vf_reduce_add(total);
    return now() - start;
}

/* The same with pairs of bf16, twice the arithmetic in each step. */
double st_probe_dot2(int64_t steps)
{
    vf a = vi_as_vf(vi_set1(0x3f7f3f7f)), b = vi_as_vf(vi_set1(0x3a833a83));
    EACH(BEGIN)
    double start = now();
    for (int64_t n = 0; n < steps; n++) {
#define PAIR(I) acc##I = vf_dot2(a, b, acc##I);
        EACH(PAIR)
        __asm__ volatile("" : "+r"(n)); /* a and b never change: without this nothing would be left to repeat */
    }
    vf total = vf_zero();
    EACH(JOIN)
    sink = vf_reduce_add(total);
    return now() - start;
}

/* The same with quads of whole numbers, four times the arithmetic in each step. */
double st_probe_dot4(int64_t steps)
{
    vf a = vi_as_vf(vi_set1(0x01020304)), b = vi_as_vf(vi_set1(0x04030201));
#define BEGIN_QUADS(I) vi sum##I = vi_set1(I);
    EACH(BEGIN_QUADS)
    double start = now();
    for (int64_t n = 0; n < steps; n++) {
#define QUAD(I) sum##I = vf_as_vi(vf_dot4(a, b, vi_as_vf(sum##I)));
        EACH(QUAD)
        __asm__ volatile("" : "+r"(n));
    }
#define JOIN_QUADS(I) sums = vi_add(sums, sum##I);
    vi sums = vi_set1(0);
    EACH(JOIN_QUADS)
    sink = vf_reduce_add(vf_from_i32(sums));
    return now() - start;
}

/* Seconds for `steps` rounds of four products of tiles, 16 x 16 x 32 of bf16 each or 16 x 16 x 64 of bytes, that nothing but the unit
 * itself holds up. */
double st_probe_tiles(int64_t steps, int of_bytes)
{
    const float row[16] = {0};
    tile_shape shape = {.palette = 1};
    tile_file t;
    for (int n = 0; n < 8; n++)
        shape.row_bytes[n] = 64, shape.rows[n] = 16;
    tile_configure(&t, &shape);
    tile_zero(&t, 0);
    tile_zero(&t, 1);
    tile_zero(&t, 2);
    tile_zero(&t, 3);
    tile_load(&t, 4, row, 0);
    tile_load(&t, 5, row, 0);
    tile_load(&t, 6, row, 0);
    tile_load(&t, 7, row, 0);
    double start = now();
    for (int64_t n = 0; of_bytes && n < steps; n++) {
        tile_dot_i8(&t, 0, 4, 6);
        tile_dot_i8(&t, 1, 4, 7);
        tile_dot_i8(&t, 2, 5, 6);
        tile_dot_i8(&t, 3, 5, 7);
    }
    for (int64_t n = 0; !of_bytes && n < steps; n++) {
        tile_dot(&t, 0, 4, 6);
        tile_dot(&t, 1, 4, 7);
        tile_dot(&t, 2, 5, 6);
        tile_dot(&t, 3, 5, 7);
    }
    double taken = now() - start;
    tile_release(&t);
    return taken;
}

/* Seconds to read an array over and over: eight independent sums. */
double st_probe_read(const float *data, int64_t floats, int64_t rounds)
{
#define CLEAR(I) vf acc##I = vf_zero();
    EACH(CLEAR)
    double start = now();
    for (int64_t r = 0; r < rounds; r++) {
        for (const float *at = data, *end = data + floats - 8 * VL; at <= end; at += 8 * VL) {
#define TAKE(I) acc##I = vf_add(acc##I, vf_load(at + I * VL));
            EACH(TAKE)
        }
        __asm__ volatile("" : "+r"(data)); /* the next round is no repetition as far as the compiler knows */
    }
    vf total = vf_zero();
    EACH(JOIN)
    sink = vf_reduce_add(total);
    return now() - start;
}

typedef struct job {
    const float *data;
    int64_t floats, rounds;
    atomic_int *waiting;
    double start, end;
} job;

static void *read_job(void *argument)
{
    job *j = argument;
    atomic_fetch_sub(j->waiting, 1);
    while (atomic_load(j->waiting) > 0)
        sched_yield();
    j->start = now();
    st_probe_read(j->data, j->floats, j->rounds);
    j->end = now();
    return 0;
}

/* The same on several threads, each on an array of its own that lies in `data` after the other: from the first start to the
 * last end. */
double st_probe_read_threads(float *data, int64_t floats_each, int64_t rounds, int threads)
{
    pthread_t handles[THREADS];
    job jobs[THREADS];
    atomic_int waiting;
    if (threads < 1 || threads > THREADS)
        return -1.0;
    atomic_init(&waiting, threads);
    int made = 0;
    for (; made < threads; made++) {
        jobs[made] = (job){.data = data + made * floats_each, .floats = floats_each, .rounds = rounds, .waiting = &waiting};
        if (pthread_create(&handles[made], 0, read_job, &jobs[made]))
            break;
    }
    if (made < threads)
        atomic_fetch_sub(&waiting, threads - made);
    double start = 1e300, end = 0;
    for (int i = 0; i < made; i++) {
        pthread_join(handles[i], 0);
        start = jobs[i].start < start ? jobs[i].start : start;
        end = jobs[i].end > end ? jobs[i].end : end;
    }
    return made < threads ? -1.0 : end - start;
}
