/* What the runtime's own files share. */
#ifndef STRATAC_RUNTIME_H
#define STRATAC_RUNTIME_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "kernel_abi.h"
#include "plan_format.h"
#include "stratac.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "plan.bin is used in place: a big-endian machine needs a converting loader"
#endif

#define ST_ERROR_BYTES 1024
#define ST_MAX_RANK 64
#define ST_MAX_THREADS 1024
#define ST_CACHE_LINE 64

/* ---- error.c: texts ---- */
typedef struct st_error {
    char text[ST_ERROR_BYTES];
} st_error;

/* Store a text and return `status`, so that `return st_fail(...)` reads as one step. */
int st_fail(st_error *error, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Append to a text under construction; `used` is its length so far.  Never writes past `bytes`. */
void st_append(char *text, size_t bytes, const char *format, ...) __attribute__((format(printf, 3, 4)));
void st_append_shape(char *text, size_t bytes, int rank, const int64_t *shape);

/* ---- digest.c: the same sums as ir/plan_digest.py ---- */
#define ST_DIGEST_BLOCK 65536
/* The share of the blocks [first_block, ...) that `data` starts at; shares of disjoint block ranges add up. */
uint64_t st_digest_share(const void *data, uint64_t bytes, uint64_t first_block);
uint64_t st_digest_factor(uint64_t word); /* what word number `word` is multiplied by */
uint64_t st_digest_finish(uint64_t sum, uint64_t bytes);
uint64_t st_digest64(const void *data, uint64_t bytes);

/* ---- load.c: plan.bin, checked whole ---- */
typedef struct st_plan {
    const uint8_t *bytes;
    const stp_header *header;
    const char *strings;
    const stp_dim_op *dim_ops;
    const stp_dim *dims;
    const stp_type *types;
    const stp_symbol *symbols;
    const stp_feature *features;
    const stp_input *ports[2]; /* stp_output has the same layout */
    const stp_arena *arenas;
    const stp_buffer *buffers;
    const stp_weight *weights;
    const stp_kernel *kernels;
    const stp_call *calls; /* of the queue `cpu` */
    const stp_read *reads; /* of the queue `io` */
    const stp_arg *args;
    const stp_state *states;
    const stp_region *regions;
    uint64_t counts[STP_SECTION_COUNT];
    int workspaces;
    uint32_t call_count;
    uint32_t read_count;
    uint64_t ring_bytes;
    uint64_t mapped_bytes; /* the last of the resident part: pages of weights.bin */
} st_plan;

/* Part of weights.bin stays in storage. */
static inline int st_streams(const st_plan *plan)
{
    return plan->header->resident_bytes < plan->header->weights_bytes;
}

/* `bytes` must stay, unchanged and 8-aligned, as long as the plan. */
int st_plan_load(st_plan *plan, const void *bytes, uint64_t size, st_error *error);
int st_plan_check_library(const st_plan *plan, uint64_t id, int count, const char *const *names, st_error *error);

static inline int st_ports(const st_plan *plan, int direction)
{
    return (int)plan->counts[direction == ST_INPUT ? STP_SECTION_INPUT : STP_SECTION_OUTPUT];
}

static inline const stp_type *st_port_type(const st_plan *plan, int direction, int index)
{
    return &plan->types[plan->ports[direction][index].type];
}

/* Bits of an element, 0 for an unknown code; its name or "?". */
int st_dtype_bits(uint32_t code);
const char *st_dtype_name(uint32_t code);

/* ---- dims.c: sizes ---- */
#define ST_UNKNOWN INT64_MIN
/* 0, or -1 where it overflows, divides by zero or meets an unknown symbol. */
int st_dim_value(const st_plan *plan, uint32_t dim, const int64_t *symbols, int64_t *value);

typedef struct st_span {
    int64_t low, high;
} st_span;

/* What a dim may come out as, whatever values the dims get that are set during the run. */
int st_dim_span(const st_plan *plan, uint32_t dim, const int64_t *symbols, st_span *span);
/* Number of symbols of a dim without a value yet; `*symbol` is the last of them. */
int st_dim_unknowns(const st_plan *plan, uint32_t dim, const int64_t *symbols, uint32_t *symbol);
/* Bytes of a dense array, or -1 on overflow or a negative extent. */
int64_t st_shape_bytes(uint32_t dtype, int rank, const int64_t *shape);
int st_type_shape(const st_plan *plan, const stp_type *type, const int64_t *symbols, int64_t *shape);

/* ---- arena.c: memory ---- */
typedef struct st_block {
    void *base;
    size_t bytes;
} st_block;

int st_block_map(st_block *block, size_t bytes, st_error *error);  /* zeroed, pages appear when touched */
int st_block_take(st_block *block, size_t bytes, st_error *error); /* zeroed, every page present */
void st_block_release(st_block *block);
int st_part_read(const char *folder, const char *name, st_block *block, st_error *error);

/* ---- file.c: weights.bin ---- */
typedef struct st_file {
    int fd; /* -1: closed */
    int direct;
    int reason;      /* why not, where direct reads were wanted */
    struct st_identity {
        int64_t bytes, written, changed; /* size, times of the last change of its bytes and of its inode */
        uint64_t links, mode, owner;
    } seen; /* at open */
    char path[4096];
} st_file;

/* With `probe` (STP_READ_ALIGNMENT bytes, so aligned) for direct reads where they are possible. */
int st_file_open(st_file *file, const char *folder, uint64_t bytes, void *probe, st_error *error);
void st_file_close(st_file *file);
/* Bytes that were read; where they are fewer, `*reason` is an errno, or 0 at the file's end. */
int64_t st_file_read(const st_file *file, void *to, uint64_t bytes, uint64_t at, int *reason);
/* Tell of a read (of `label`, may be "") that failed at byte `at`; returns ST_IO. */
int st_file_fail(const st_file *file, const char *label, int reason, uint64_t at, st_error *error);
/* ST_IO where its bytes may have changed since it was opened. */
int st_file_check(st_file *file, st_error *error);

/* ---- cpus.c: what this process may use ---- */
#define ST_MAX_CPUS 4096
/* CPUs of the affinity mask into `cpus` (may be NULL), and how many there are. */
int st_cpus_allowed(int *cpus, int capacity);
/* Whole CPUs of the tightest cgroup quota, or 0 where there is none.  `root` is "" but in tests. */
int st_cpus_quota(const char *root);

/* ---- features.c ---- */
int st_features_check(const st_plan *plan, st_error *error);

/* ---- pool.c: threads ---- */
typedef void (*st_job)(void *context, int worker);
typedef struct st_pool st_pool;
int st_pool_bytes(int threads);
/* `pool` points to st_pool_bytes zeroed bytes, aligned to a cache line.  cpus: CPUs this process has; pin: see st_options. */
int st_pool_start(st_pool *pool, int threads, int cpus, int pin, st_error *error);
void st_pool_run(st_pool *pool, st_job job, void *context); /* the calling thread is worker 0 */
void st_pool_barrier(st_pool *pool);                        /* within a job: all workers meet */
void st_pool_stop(st_pool *pool);
int64_t st_pool_stack_bytes(int threads);

/* ---- exec.c ---- */
typedef struct st_step {
    uint32_t kind;
    uint32_t parts;   /* threads that take part */
    uint32_t barrier; /* all workers meet before it */
    uint32_t needs;   /* reads of this run that must be complete */
    uint32_t symbol;  /* 1 + number of the run-time dim that it sets, or 0 */
    uint32_t begins;  /* 1 + number of the loop that begins with it, or 0 */
    uint32_t ends;    /* 1 + number of the loop that ends with it, or 0 */
    uint32_t repeats; /* it lies in a loop */
    st_kernel before; /* all parts call it and meet, or NULL */
    st_kernel kernel;
    void *const *args;
} st_step;

/* Instructions that run only where the condition, a bool that `value` points to, is `when`. */
typedef struct st_region {
    uint32_t first, last;
    uint32_t when;
    void *const *value;
} st_region;

/* Instructions that run again and again: as long as the symbol that counts the trips is within its bounds and the condition, a bool,
 * is true; without a condition `value` is NULL. */
typedef struct st_loop {
    uint32_t first, last;
    uint32_t symbol;
    uint32_t inside; /* so many loops that follow lie inside it */
    uint32_t alone;  /* none of its instructions is for several threads: worker 0 runs it, and nobody waits inside */
    void *const *value;
} st_loop;

typedef struct st_timing {
    int64_t count;
    int64_t nanoseconds; /* of computing */
    int64_t waited;      /* for reads, before it */
} st_timing;

struct st_io;

typedef struct st_program {
    const st_step *steps;
    uint32_t count;
    const st_region *regions; /* in order of `first`, an outer one before those inside it */
    uint32_t region_count;
    const st_loop *loops; /* in order of `first` */
    uint32_t loop_count;
    int threads;
    st_pool *pool;       /* NULL with one thread */
    struct st_io *io;    /* NULL without reads */
    uint64_t run;        /* number of this run; counted only with reads */
    uint32_t reads;      /* of one run */
    int64_t *dims;       /* the symbols' values */
    const stp_symbol *symbols;
    uint32_t exceeded;   /* 1 + number of a dim that the last run set outside its bounds, or 0 */
    int64_t exceeding;   /* what it was set to */
    st_timing *timings;  /* NULL: not timed */
    st_timing *open;     /* of the instruction under way; NULL where none is */
    int64_t begin;       /* of that instruction */
    _Atomic int stopped; /* the workers gave up: a read failed */
} st_program;

/* 0 where it gave up; then it must not be run again. */
int st_program_run(st_program *program);

#endif
