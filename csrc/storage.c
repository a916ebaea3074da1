/* Storage of an open plan: which way it is read, started and stopped. */
#include "storage.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)256 << 10) /* no kernel runs on it */
#define LINE ((size_t)ST_CACHE_LINE)

static size_t aligned(size_t bytes)
{
    return (bytes + LINE - 1) / LINE * LINE;
}

void st_storage_init(st_storage *storage)
{
    storage->file.fd = -1;
    pthread_mutex_init(&storage->trouble.lock, NULL);
    snprintf(storage->text, sizeof storage->text, "none");
}

size_t st_io_bytes(const st_plan *plan, int threads)
{
    if (!plan->read_count)
        return 0;
    return aligned(sizeof(st_io)) + aligned((size_t)threads * sizeof(st_lane)) +
           aligned(plan->read_count * sizeof(st_read_state));
}

/* For comparison only: a file that becomes shorter ends the process, page faults make the workers wait one page at a time,
 * and the digests of the streamed part are not verified. */
static int map_file(st_storage *storage, uint64_t bytes, st_error *error)
{
    void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED, storage->file.fd, 0);
    if (base == MAP_FAILED)
        return st_fail(error, ST_MEMORY, "cannot map %.600s (%.1f MiB): %s; raise the limit (ulimit -v)",
                       storage->file.path, (double)bytes / 1048576, strerror(errno));
    storage->map = (st_block){base, bytes};
    return ST_OK;
}

int st_storage_open(st_storage *storage, const char *folder, const st_plan *plan, int mode, void *probe, st_error *error)
{
    const uint64_t bytes = plan->header->weights_bytes;
    const int streams = st_streams(plan);
    int status = st_file_open(&storage->file, folder, bytes, streams && mode != ST_IO_MMAP ? probe : NULL, error);
    if (!status && streams && mode == ST_IO_MMAP)
        status = map_file(storage, bytes, error);
    return status;
}

static int start_threads(st_io *io, void *(*work)(void *), st_error *error)
{
    sigset_t all, before;
    pthread_attr_t attributes;
    int failed = pthread_attr_init(&attributes), wanted = io->threads;
    const size_t least = (size_t)PTHREAD_STACK_MIN;
    if (!failed)
        pthread_attr_setstacksize(&attributes, STACK_BYTES > least ? STACK_BYTES : least);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    io->threads = 0;
    while (!failed && io->threads < wanted) {
        failed = pthread_create(&io->thread[io->threads], &attributes, work, io);
        io->threads += !failed;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (!failed)
        return ST_OK;
    return st_fail(error, ST_MEMORY, "cannot start a thread that reads weights: %s; raise the limit (ulimit -u, pids.max)",
                   strerror(failed));
}

/* Reads that the calls in front of a read's start need, counted from the begin of the read's own run. */
static int64_t settled(const st_plan *plan, const stp_read *read)
{
    const int64_t calls = read->after > 0 ? read->after : read->after + (int64_t)plan->call_count;
    int64_t most = 0;
    for (int64_t i = 0; i < calls; i++)
        most = plan->calls[i].needs > most ? plan->calls[i].needs : most;
    return read->after > 0 ? most : most - (int64_t)plan->read_count;
}

static st_io *lay_out(void *place, const st_plan *plan, const st_block *ring, int workers, int verify, st_storage *storage)
{
    st_io *io = place;
    char *at = (char *)place + aligned(sizeof *io);
    io->lanes = (st_lane *)(void *)at;
    io->states = (st_read_state *)(void *)(at + aligned((size_t)workers * sizeof(st_lane)));
    io->rows = plan->reads;
    io->buffers = plan->buffers;
    io->strings = plan->strings;
    io->count = plan->read_count;
    io->call_count = plan->call_count;
    io->workers = workers;
    io->file = &storage->file;
    io->trouble = &storage->trouble;
    io->ring = ring->base;
    io->ring_bytes = ring->bytes;
    io->uring.fd = -1;
    atomic_store(&io->calls.awaited, UINT64_MAX);
    atomic_store(&io->reads.awaited, UINT64_MAX);
    for (uint32_t i = 0; i < io->count; i++) {
        io->states[i].verified = !verify;
        io->states[i].settled = settled(plan, &plan->reads[i]);
    }
    pthread_mutex_init(&io->lock, NULL);
    return io;
}

/* io_uring, else threads.  Buffered reads are copies, which several threads share where none is asked for. */
static int start_queue(st_storage *storage, st_io *io, int mode, st_error *error)
{
    const st_file *file = &storage->file;
    const char *way = file->direct ? "direct" : "buffered";
    char why[160] = "";
    int reason = EOPNOTSUPP;
    if (!file->direct && file->reason)
        snprintf(why, sizeof why, " (no direct reads: %s)", strerror(file->reason));
    if (mode != ST_IO_THREADS && (file->direct || mode == ST_IO_URING))
        reason = st_uring_open(&io->uring, file->fd, io->ring, io->ring_bytes);
    else
        reason = -1;
    if (reason > 0 && mode == ST_IO_URING)
        return st_fail(error, ST_MACHINE, "io_uring cannot be used: %s; open the plan with io=auto", strerror(reason));
    if (reason == 0) {
        snprintf(storage->text, sizeof storage->text, "io_uring, %s%s, %s", way, why,
                 io->uring.fixed_buffers ? "registered" : "not registered (raise ulimit -l)");
        io->threads = 1;
        return start_threads(io, st_uring_work, error);
    }
    snprintf(storage->text, sizeof storage->text, "%d threads, %s%s", ST_IO_THREAD_COUNT, way, why);
    if (reason > 0)
        st_append(storage->text, sizeof storage->text, " (no io_uring: %s)", strerror(reason));
    io->threads = ST_IO_THREAD_COUNT;
    return start_threads(io, st_threads_work, error);
}

static void fill_sources(st_storage *storage, const st_plan *plan)
{
    const char *map = storage->map.base;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_WEIGHT]; i++) {
        const stp_weight *weight = &plan->weights[i];
        storage->sources[i] = (st_source){
            .file = &storage->file,
            .urings = storage->uring_count ? storage->urings : NULL,
            .trouble = &storage->trouble,
            .bytes_read = &storage->source_bytes,
            .map = map ? map + weight->offset : NULL,
            .name = plan->strings + weight->name,
            .offset = weight->offset,
            .bytes = weight->bytes,
        };
    }
}

/* Where every worker can have an io_uring of its own, rows are read side by side. */
static void open_rows(st_storage *storage, int threads, int mode)
{
    const int wanted = storage->file.direct && mode != ST_IO_THREADS && mode != ST_IO_MMAP;
    int open = 0;
    while (wanted && open < threads && st_uring_open(&storage->urings[open], storage->file.fd, NULL, 0) == 0)
        open++;
    storage->uring_count = open;
    while (open < threads && storage->uring_count)
        st_uring_close(&storage->urings[--storage->uring_count]);
}

static void say_rows(st_storage *storage)
{
    if (storage->sources && !storage->map.base)
        st_append(storage->text, sizeof storage->text, ", rows %s", storage->uring_count ? "side by side" : "one at a time");
}

int st_storage_start(st_storage *storage, const st_plan *plan, void *place, const st_block *ring, int threads, int mode,
                     int verify, st_error *error)
{
    if (storage->sources) {
        open_rows(storage, threads, mode);
        fill_sources(storage, plan);
    }
    if (plan->mapped_bytes) { /* open as long as the mapping, so that a change of the file is found before its bytes are used */
        snprintf(storage->text, sizeof storage->text, "lookups mapped");
        return ST_OK;
    }
    if (!st_streams(plan)) {
        st_file_close(&storage->file); /* all of it is in memory */
        return ST_OK;
    }
    snprintf(storage->text, sizeof storage->text, "%s",
             storage->map.base ? "mmap" : storage->file.direct ? "direct" : "buffered");
    if (storage->map.base || !plan->read_count) {
        say_rows(storage);
        return ST_OK;
    }
    st_io *io = lay_out(place, plan, ring, threads, verify, storage);
    /* a forked child has none of these threads, and must not inherit pages that the disk writes to */
    madvise(ring->base, ring->bytes, MADV_DONTFORK);
    storage->io = io;
    const int status = start_queue(storage, io, mode, error);
    say_rows(storage);
    return status;
}

int st_storage_check(st_storage *storage, st_error *error)
{
    int status = st_trouble_get(&storage->trouble, error);
    if (!status && storage->file.fd >= 0 && (status = st_file_check(&storage->file, error)))
        st_trouble_set(&storage->trouble, status, error);
    return status;
}

void st_storage_stop(st_storage *storage, int forked)
{
    st_io *io = storage->io;
    if (io && !forked) { /* a forked child has no threads to stop */
        atomic_store(&io->stopping, 1);
        st_io_wake(io);
        for (int i = 0; i < io->threads; i++)
            pthread_join(io->thread[i], NULL);
        pthread_mutex_destroy(&io->lock);
    }
    if (io)
        st_uring_close(&io->uring);
    while (storage->uring_count)
        st_uring_close(&storage->urings[--storage->uring_count]);
    storage->io = NULL;
    st_block_release(&storage->map);
    st_file_close(&storage->file);
    pthread_mutex_destroy(&storage->trouble.lock);
}

int64_t st_storage_stack_bytes(const st_storage *storage)
{
    return storage->io ? storage->io->threads * (int64_t)STACK_BYTES : 0;
}
