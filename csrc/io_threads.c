/* The queue of reads where there is no io_uring: a few threads that read. */
#include "storage.h"

void *st_threads_work(void *argument)
{
    st_io *io = argument;
    st_io_hurry();
    for (;;) {
        st_request request;
        uint64_t calls = UINT64_MAX - 1; /* more than there will be: until somebody says otherwise */
        const uint32_t seen = atomic_load(&io->calls.epoch);
        if (atomic_load(&io->stopping))
            return NULL;
        pthread_mutex_lock(&io->lock);
        const int next = st_io_next(io, &request, &calls);
        io->starved |= next == ST_NEXT_AFTER_READS;
        pthread_mutex_unlock(&io->lock);
        if (next != ST_NEXT_REQUEST) {
            st_io_sleep(io, seen, calls);
            continue;
        }
        int reason;
        request.done = (uint64_t)st_file_read(io->file, request.to, request.bytes, request.offset, &reason);
        const int whole = request.done == request.bytes;
        const uint64_t share = whole ? st_io_share(&request) : 0;
        pthread_mutex_lock(&io->lock);
        const uint64_t before = atomic_load(&io->done);
        if (whole)
            st_io_complete(io, &request, share);
        else
            st_io_abort(io, &request, reason);
        const int wake = io->starved && atomic_load(&io->done) != before;
        io->starved &= !wake;
        pthread_mutex_unlock(&io->lock);
        if (wake)
            st_io_wake(io);
    }
}
