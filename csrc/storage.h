/* Weights that stay in storage: the queue of reads into the ring, and kernels that read rows by themselves. */
#ifndef STRATAC_STORAGE_H
#define STRATAC_STORAGE_H

#include "runtime.h"

#include <pthread.h>

#define ST_IO_MODES (ST_IO_MMAP + 1)
#define ST_IO_THREAD_COUNT 4

/* ---- what went wrong ---- */

/* The first failure of a session's storage.  It stays: a file that changed or a disk that failed once is no ground for more
 * results, so every later run says the same until the plan is opened again. */
typedef struct st_trouble {
    _Atomic int status; /* ST_OK until something failed */
    pthread_mutex_t lock;
    st_error error;
} st_trouble;

int st_trouble_set(st_trouble *trouble, int status, const st_error *error); /* the first one is kept; returns `status` */
int st_trouble_get(st_trouble *trouble, st_error *error);

/* ---- kernels that read by themselves ---- */

typedef struct st_uring st_uring;

struct st_source {
    const st_file *file;
    st_uring *urings; /* one for each worker, or NULL: rows are read one at a time */
    st_trouble *trouble;
    _Atomic int64_t *bytes_read;
    const char *map; /* the weight's bytes where weights.bin is mapped, else NULL */
    const char *name;
    uint64_t offset, bytes;
};

/* ---- the queue of reads ---- */

/* A number that only grows, and the least value that a sleeper waits for. */
typedef struct st_level {
    _Alignas(ST_CACHE_LINE) _Atomic uint64_t awaited;
    _Atomic uint32_t epoch; /* sleepers sleep on it */
} st_level;

/* How many calls a worker has completed, over all runs. */
typedef struct st_lane {
    _Alignas(ST_CACHE_LINE) _Atomic uint64_t calls;
} st_lane;

/* One read of the plan; the first six belong to whoever holds the queue. */
typedef struct st_read_state {
    uint64_t left; /* bytes of the read under way that have not arrived */
    uint64_t sum;  /* of its digest */
    int64_t begun;
    int whole;    /* all have, but an earlier read is not whole */
    int verified; /* its bytes had the right digest once */
    int64_t settled; /* reads of this run (below 0: of the one before) that are complete before it starts */
    _Atomic int64_t count, nanoseconds;
} st_read_state;

/* Part of a read, small enough that several keep the disk busy and no one of them blocks it for long. */
typedef struct st_request {
    char *to;
    uint64_t read;   /* over all runs */
    uint64_t at;     /* first byte within the read */
    uint64_t offset; /* in weights.bin */
    uint64_t bytes, done;
    int digest; /* the share is wanted */
} st_request;

/* as many as the kind of use with the most has under way */
enum { ST_SLOTS = ST_SOURCE_BATCH > STP_REQUEST_DEPTH ? ST_SOURCE_BATCH : STP_REQUEST_DEPTH };

struct st_uring {
    int fd; /* -1: none */
    int fixed_buffers, fixed_file, disabled;
    void *rings, *entries;
    size_t rings_bytes, entries_bytes;
    _Atomic uint32_t *submit_tail, *complete_head, *complete_tail;
    uint32_t *submit_index;
    void *completions;
    uint32_t submit_mask, complete_mask;
    st_request slots[ST_SLOTS];
};

typedef struct st_io {
    st_level calls; /* the io threads sleep on it */
    st_level reads; /* workers sleep on it */
    _Alignas(ST_CACHE_LINE) _Atomic uint64_t done; /* reads complete, over all runs */
    _Atomic int frozen;                            /* a read failed: `done` grows no more */
    _Atomic int stopping;
    /* of whoever holds the queue: the one thread of io_uring, or the holder of `lock` */
    _Alignas(ST_CACHE_LINE) pthread_mutex_t lock;
    uint64_t next_run, next_at, calls_seen;
    uint32_t next;   /* the read that the next request is of */
    uint32_t flying; /* requests under way */
    int starved;     /* a thread sleeps until a read is complete */
    int64_t busy_since; /* or the last answer, if it was later */
    _Atomic int64_t busy; /* nanoseconds with at least one request under way */
    /* fixed */
    const stp_read *rows;
    const stp_buffer *buffers;
    const char *strings;
    uint32_t count, call_count;
    int workers, threads; /* threads: of the queue itself */
    st_file *file;
    st_trouble *trouble;
    char *ring;
    uint64_t ring_bytes;
    st_read_state *states;
    st_lane *lanes;
    st_uring uring;
    pthread_t thread[ST_IO_THREAD_COUNT];
} st_io;

/* io.c: what both kinds of queue share */
enum { ST_NEXT_REQUEST, ST_NEXT_AFTER_CALLS, ST_NEXT_AFTER_READS, ST_NEXT_NEVER };
int st_io_next(st_io *io, st_request *request, uint64_t *calls);
void st_io_sleep(st_io *io, uint32_t seen, uint64_t calls); /* until so many calls are complete or the epoch is not `seen` */
uint64_t st_io_share(const st_request *request);
void st_io_complete(st_io *io, const st_request *request, uint64_t share);
/* A request ended early: `reason` is an errno, or 0 at the file's end. */
void st_io_abort(st_io *io, const st_request *request, int reason);
void st_io_break(st_io *io, int reason); /* nothing can be read any more */
void st_io_wake(st_io *io);              /* the io threads */
void st_io_hurry(void);                  /* the calling thread is an io thread */
/* For workers: 0 where the reads will never be complete. */
int st_io_wait(st_io *io, uint64_t reads);
void st_io_advance(st_io *io, int worker, uint64_t calls);

/* io_uring.c */
/* 0 or an errno.  With a ring, one thread uses it and `ring` is registered; without, one thread at a time. */
int st_uring_open(st_uring *uring, int fd, char *ring, uint64_t ring_bytes);
/* Read the first `count` slots side by side; `done` of each says how far it came.  0, or an errno where the queue is broken. */
int st_uring_batch(st_uring *uring, int fd, uint32_t count);
void st_uring_close(st_uring *uring);
void *st_uring_work(void *io);
/* io_threads.c */
void *st_threads_work(void *io);

/* ---- storage.c ---- */
typedef struct st_storage {
    st_file file;
    st_trouble trouble;
    st_block map;       /* of weights.bin, only where asked for */
    st_io *io;          /* NULL: no reads, or mapped */
    st_source *sources; /* of each weight; NULL: no kernel reads by itself */
    st_uring *urings;   /* of each worker, for rows */
    int uring_count;    /* of them that are open */
    _Atomic int64_t source_bytes;
    char text[256];
} st_storage;

void st_storage_init(st_storage *storage);
size_t st_io_bytes(const st_plan *plan, int threads); /* of an st_io and its tables; 0 without reads */
int st_storage_open(st_storage *storage, const char *folder, const st_plan *plan, int mode, void *probe, st_error *error);
/* `place`: st_io_bytes zeroed bytes, aligned to a cache line.  The queue starts reading at once. */
int st_storage_start(st_storage *storage, const st_plan *plan, void *place, const st_block *ring, int threads, int mode,
                     int verify, st_error *error);
int st_storage_check(st_storage *storage, st_error *error); /* did anything fail, or the file change since it was opened? */
void st_storage_stop(st_storage *storage, int forked);
int64_t st_storage_stack_bytes(const st_storage *storage);

#endif
