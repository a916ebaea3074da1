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

void st_source_rows(const st_source *source, const st_row *rows, int count, uint64_t bytes, void *bounce, int part)
{
    const uint64_t room = st_source_bounce(bytes);
    st_uring *uring = source->urings ? &source->urings[part] : NULL;
    uint32_t numbers[ST_SOURCE_BATCH], asked = 0;
    int64_t got = 0;
    for (int i = 0; i < count; i++) {
        const uint64_t at = source->offset + rows[i].offset, begin = at / STP_READ_ALIGNMENT * STP_READ_ALIGNMENT;
        if (!uring || !bytes || rows[i].offset > source->bytes || bytes > source->bytes - rows[i].offset) {
            st_source_read(source, rows[i].offset, bytes, rows[i].to, bounce); /* says what is wrong */
            continue;
        }
        numbers[asked] = (uint32_t)i;
        uring->slots[asked] = (st_request){
            .to = (char *)(uintptr_t)up((uintptr_t)bounce + asked * room),
            .offset = begin,
            .bytes = up(at + bytes) - begin,
        };
        asked++;
    }
    const int broken = asked ? st_uring_batch(uring, source->file->fd, asked) : 0;
    if (broken)
        fail(source, broken, source->offset);
    for (uint32_t i = 0; i < asked && !broken; i++) {
        const st_request *request = &uring->slots[i];
        const st_row *row = &rows[numbers[i]];
        got += (int64_t)request->done;
        if (request->done == request->bytes)
            memcpy(row->to, request->to + (source->offset + row->offset - request->offset), bytes);
    }
    for (uint32_t i = 0; i < asked && !broken; i++) /* after all have been copied out of the bounce buffer */
        if (uring->slots[i].done < uring->slots[i].bytes)
            st_source_read(source, rows[numbers[i]].offset, bytes, rows[numbers[i]].to, bounce);
    atomic_fetch_add_explicit(source->bytes_read, got, memory_order_relaxed);
}
