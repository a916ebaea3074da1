/* Kernels that read rows of a weight by themselves, and the first failure of a session's storage. */
#include "storage.h"

#include <string.h>

_Static_assert(ST_SOURCE_BLOCK == STP_READ_ALIGNMENT, "kernels size their bounce buffers by it");

int st_trouble_set(st_trouble *trouble, int status, const st_error *error)
{
    pthread_mutex_lock(&trouble->lock);
    if (!atomic_load(&trouble->status)) {
        trouble->error = *error;
        atomic_store(&trouble->status, status);
    }
    pthread_mutex_unlock(&trouble->lock);
    return status;
}

int st_trouble_get(st_trouble *trouble, st_error *error)
{
    const int status = atomic_load(&trouble->status);
    if (status) {
        pthread_mutex_lock(&trouble->lock);
        *error = trouble->error;
        pthread_mutex_unlock(&trouble->lock);
    }
    return status;
}

static void fail(const st_source *source, int reason, uint64_t at)
{
    st_error error;
    st_trouble_set(source->trouble, st_file_fail(source->file, source->name, reason, at, &error), &error);
}

static uint64_t up(uint64_t number)
{
    return (number + STP_READ_ALIGNMENT - 1) / STP_READ_ALIGNMENT * STP_READ_ALIGNMENT;
}

void st_source_read(const st_source *source, uint64_t offset, uint64_t bytes, void *to, void *bounce)
{
    st_error error;
    int reason;
    if (offset > source->bytes || bytes > source->bytes - offset) {
        memset(to, 0, bytes);
        st_fail(&error, ST_IO, "a kernel reads %llu bytes at %llu of '%.200s', which has %llu; report this as a bug",
                (unsigned long long)bytes, (unsigned long long)offset, source->name, (unsigned long long)source->bytes);
        st_trouble_set(source->trouble, ST_IO, &error);
        return;
    }
    if (!bytes)
        return;
    if (source->map) {
        memcpy(to, source->map + offset, bytes);
        return;
    }
    const uint64_t at = source->offset + offset;
    uint64_t begin = at, wanted = bytes;
    char *place = to;
    const int loose = at % STP_READ_ALIGNMENT || bytes % STP_READ_ALIGNMENT || (uintptr_t)to % STP_READ_ALIGNMENT;
    if (source->file->direct && loose) {
        begin = at / STP_READ_ALIGNMENT * STP_READ_ALIGNMENT;
        wanted = up(at + bytes) - begin;
        place = (char *)(uintptr_t)up((uintptr_t)bounce);
    }
    const uint64_t got = (uint64_t)st_file_read(source->file, place, wanted, begin, &reason);
    atomic_fetch_add_explicit(source->bytes_read, (int64_t)got, memory_order_relaxed);
    if (got < wanted) {
        memset(to, 0, bytes);
        fail(source, reason, begin + got);
    } else if (place != to) {
        memcpy(to, place + (at - begin), bytes);
    }
}
