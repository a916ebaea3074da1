/* Run a stratac plan from C: open, describe, bind, run, profile, close.
 *
 * A plan's libplan.so is this runtime and the plan's kernels.  Link to it, or dlopen it, and open the folder it lies in.
 * All memory is taken by st_open; nothing is allocated afterwards.  A session is used by one thread at a time (a second
 * one gets ST_BUSY); only st_last_error may be called from any thread at any time.  Sessions are independent.
 *
 * Weights that do not fit memory stay in storage and are read while the plan runs; large tables of which runs look up few rows are
 * mapped.  Should reading fail, or weights.bin change meanwhile, st_run returns ST_IO or ST_DAMAGED, and so does every later one:
 * open the plan again.
 *
 * A plan may keep state (caches, windows, counters), which belongs to the session: it starts when the plan is opened, every run goes
 * on from where the last one ended, and st_reset starts again.  A run that is refused (ST_ARGUMENT for what is bound, ST_BUSY, ...)
 * leaves it as it was; one that fails after it began leaves it half-way: then runs, reads and writes of it return ST_STATE until
 * st_reset.
 *
 * Every function that can fail returns a status and stores a text that says what, where and what to do.  Strings that a
 * function hands out live as long as the session.
 */
#ifndef STRATAC_H
#define STRATAC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default) /* libplan.so hides everything else */
#endif

#define ST_ABI_VERSION 5

/* cdef begin: runtime/declarations.py is made of it; a test compares */
typedef struct st_session st_session;

enum {
    ST_OK = 0,
    ST_IO = 1,       /* a file is missing or cannot be read */
    ST_DAMAGED = 2,  /* the plan is truncated, tampered with or malformed */
    ST_VERSION = 3,  /* the plan has another format version */
    ST_MACHINE = 4,  /* the CPU lacks a feature the kernels need */
    ST_MEMORY = 5,   /* memory or threads could not be had */
    ST_ARGUMENT = 6, /* a wrong index, dtype, rank or extent */
    ST_STATE = 7,    /* something is not bound, the process forked, or a failed run left the state half-way */
    ST_BUSY = 8      /* another thread is using the session */
};

enum { ST_INPUT = 0, ST_OUTPUT = 1 };

enum {
    ST_IO_AUTO = 0,    /* io_uring with direct reads, else threads */
    ST_IO_URING = 1,   /* io_uring or an error */
    ST_IO_THREADS = 2,
    ST_IO_MMAP = 3     /* page faults in a mapping, for comparison: not verified, and SIGBUS where the file is truncated */
};

typedef struct st_options {
    uint32_t size;           /* sizeof(st_options); later versions append fields */
    int32_t threads;         /* 0: the planned number, at most what affinity and cgroup quota allow */
    int32_t affinity;        /* 1: each worker stays on its own CPU (the calling thread never moves) */
    int32_t skip_weights;    /* 1: do not verify the digests of weights.bin */
    int32_t skip_profile;    /* 1: do not time the instructions */
    int32_t io;              /* how weights that stay in storage are read: ST_IO_AUTO, ... */
} st_options;

typedef struct st_info {
    const char *name;
    const char *target;
    int32_t threads;
    int32_t planned_threads;
    int32_t inputs;
    int32_t outputs;
    int32_t symbols;
    int32_t arenas;
    int32_t instructions;
    double predicted_seconds; /* of a run, waits for reads included */
    int32_t reads;           /* of weights that stay in storage, in one run */
    const char *io;          /* how they are read and why: "io_uring, direct, registered"; "none" where nothing is,
                                "lookups mapped" where rows of some are pages of weights.bin */
    int32_t states;          /* that stay from one run to the next */
} st_info;

typedef struct st_symbol {
    const char *name;
    int64_t min;
    int64_t typical;
    int64_t max;
} st_symbol;

typedef struct st_port {
    const char *name;
    const char *shape;       /* as text, with symbols: "[batch, 128]" */
    const char *dtype_name;  /* "f32" */
    int32_t dtype;           /* ONNX's element type code: 1 is f32, 7 is i64, ... */
    int32_t rank;
} st_port;

typedef struct st_state {
    const char *name;
    const char *shape;       /* as text: "[2, 128]"; always constant */
    const char *dtype_name;
    int32_t dtype;
    int32_t rank;
    int64_t bytes;
    int32_t zeros;           /* 1: it starts as zeros, else as bytes of weights.bin */
} st_state;

typedef struct st_dim {
    int64_t value;           /* a fixed extent, or -1 */
    int32_t symbol;          /* the symbol this extent is, or -1 (fixed, or an expression) */
} st_dim;

typedef struct st_profile {
    const char *label;
    int64_t count;           /* timed runs */
    int64_t nanoseconds;     /* over all of them, waiting for the slowest thread included */
    double predicted_seconds; /* of one run */
    double flops;
    double bytes;
    int64_t waited_nanoseconds; /* for reads, before it; not in `nanoseconds` */
} st_profile;

typedef struct st_read {
    const char *label;
    int64_t count;           /* how often it was made; those for the next run count as soon as they are complete */
    int64_t nanoseconds;     /* over all of them, from the first request to the last answer; reads overlap */
    int64_t bytes;           /* of one */
    double predicted_seconds; /* of one */
} st_read;

typedef struct st_traffic {
    int64_t streamed;        /* bytes of all reads */
    int64_t busy_nanoseconds; /* with at least one request under way: streamed / busy is the bandwidth */
    int64_t lookups;         /* bytes that kernels read by themselves */
} st_traffic;

typedef struct st_arena {
    const char *name;
    const char *tier;
    int32_t workspace;       /* 1: one part of `bytes` for each thread */
    int64_t bytes;
} st_arena;

typedef struct st_memory {
    int64_t weights;         /* of weights.bin, read at open */
    int64_t scratch;
    int64_t workspace;       /* of one thread */
    int32_t threads;
    int64_t session;         /* the loaded plan and the session's own tables */
    int64_t total;           /* at most: weights + mapped + ring + states + scratch + threads * workspace + session */
    int64_t stacks;          /* address space of the workers' stacks; they touch a few pages of it */
    int64_t ring;            /* where weights that stay in storage are read to */
    int64_t states;          /* what stays between runs */
    int64_t mapped;          /* pages of weights.bin: those that lookups touched are in memory, and the system may take them back */
} st_memory;

int32_t st_abi_version(void);
int32_t st_open(const char *folder, const st_options *options, st_session **session, char *error, size_t error_bytes);
void st_close(st_session *session);
void st_last_error(st_session *session, char *text, size_t bytes);

int32_t st_get_info(st_session *session, st_info *info);
int32_t st_get_symbol(st_session *session, int32_t index, st_symbol *symbol);
int32_t st_get_port(st_session *session, int32_t direction, int32_t index, st_port *port);
int32_t st_get_dim(st_session *session, int32_t direction, int32_t index, int32_t axis, st_dim *dim);
/* The shape of a port where symbol i has the value symbols[i]. */
int32_t st_shape_at(st_session *session, int32_t direction, int32_t index, const int64_t *symbols, int64_t *shape,
                    int32_t capacity);

/* Arrays are dense and row-major.  Floats of 16 and 8 bits are their bits; an element of fewer than 8 bits takes a byte: its value
 * as int8 (i4, i2) or uint8 (u4, u2), or its code (f4e2m1). */
int32_t st_bind_input(st_session *session, int32_t index, const void *data, int32_t dtype, int32_t rank,
                      const int64_t *shape);
/* The shape to bind an output with: extents that the run finds out (the number of non-zero elements, say) at their bounds. */
int32_t st_output_shape(st_session *session, int32_t index, int64_t *shape, int32_t capacity);
int32_t st_bind_output(st_session *session, int32_t index, void *data, int32_t dtype, int32_t rank,
                       const int64_t *shape);
int32_t st_run(st_session *session);
/* After a run: the shape an output came out with.  Its elements lie dense at the start of what was bound. */
int32_t st_found_shape(st_session *session, int32_t index, int64_t *shape, int32_t capacity);

int32_t st_get_state(st_session *session, int32_t index, st_state *row);
/* Copy a whole state, as the last run left it or the next will find it; dense, row-major. */
int32_t st_save_state(st_session *session, int32_t index, void *data, int64_t bytes);
int32_t st_load_state(st_session *session, int32_t index, const void *data, int64_t bytes);
/* All states as they were when the plan was opened. */
int32_t st_reset(st_session *session);

int32_t st_get_profile(st_session *session, int32_t index, st_profile *row);
int32_t st_get_read(st_session *session, int32_t index, st_read *row);
int32_t st_get_traffic(st_session *session, st_traffic *traffic);
int32_t st_reset_profile(st_session *session);
int32_t st_get_arena(st_session *session, int32_t index, st_arena *arena);
int32_t st_get_memory(st_session *session, st_memory *memory);
/* cdef end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
