/* source FOLDER ROUNDS: a kernel's reads of a weight that stays in storage, at any offset, length and alignment, direct and
 * buffered, compared with the bytes that were written; nothing beyond the bounce buffer's documented size is touched. */
#include "../../../csrc/storage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 16, START = 2 * STP_READ_ALIGNMENT, LONGEST = 5 * STP_READ_ALIGNMENT, GUARD = 64 };

static uint64_t state = 88172645463325252u;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static int guarded(const unsigned char *at)
{
    for (int i = 0; i < GUARD; i++)
        if (at[i] != 0xA5)
            return 0;
    return 1;
}

static int read_once(const st_source *source, const unsigned char *weight)
{
    const uint64_t bytes = draw(4) ? draw(LONGEST) : draw(5) * STP_READ_ALIGNMENT;
    const uint64_t offset = draw(4) ? draw(source->bytes - bytes + 1) : (source->bytes - bytes) / 4096 * 4096;
    const uint64_t room = st_source_bounce(bytes), shift = draw(2) ? draw(4096) : 0, skew = draw(2) ? draw(64) : 0;
    unsigned char *bounce = malloc(shift + room + GUARD), *to = aligned_alloc(4096, 8 * STP_READ_ALIGNMENT);
    memset(bounce + shift + room, 0xA5, GUARD);
    memset(to + skew + bytes, 0xA5, GUARD);
    st_source_read(source, offset, bytes, to + skew, bounce + shift);
    const int same = memcmp(to + skew, weight + offset, bytes) == 0;
    const int kept = guarded(bounce + shift + room) && guarded(to + skew + bytes);
    free(bounce);
    free(to);
    if (!same || !kept)
        printf("%llu bytes at %llu: %s\n", (unsigned long long)bytes, (unsigned long long)offset, same ? "too far" : "wrong");
    return same && kept;
}

/* Several rows at once, each with guards around it. */
static int read_batch(const st_source *source, const unsigned char *weight)
{
    enum { STRIDE = 8 * STP_READ_ALIGNMENT };
    const uint64_t bytes = draw(LONGEST), room = ST_SOURCE_BATCH * st_source_bounce(bytes), shift = draw(2) ? draw(4096) : 0;
    const int count = (int)draw(ST_SOURCE_BATCH + 1);
    unsigned char *bounce = malloc(shift + room + GUARD), *to = malloc(ST_SOURCE_BATCH * STRIDE);
    st_row rows[ST_SOURCE_BATCH];
    int good = 1;
    memset(bounce + shift + room, 0xA5, GUARD);
    for (int i = 0; i < count; i++) {
        rows[i] = (st_row){draw(source->bytes - bytes + 1), to + i * STRIDE + draw(64)};
        memset((unsigned char *)rows[i].to + bytes, 0xA5, GUARD);
    }
    st_source_rows(source, rows, count, bytes, bounce + shift, 0);
    for (int i = 0; i < count; i++)
        good &= !memcmp(rows[i].to, weight + rows[i].offset, bytes) && guarded((unsigned char *)rows[i].to + bytes);
    good &= guarded(bounce + shift + room);
    if (!good)
        printf("%d rows of %llu bytes: wrong\n", count, (unsigned long long)bytes);
    free(bounce);
    free(to);
    return good;
}

int main(int argc, char **argv)
{
    static unsigned char data[BLOCKS * STP_READ_ALIGNMENT];
    char path[4096];
    st_error error;
    if (argc < 3)
        return 2;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)draw(256);
    snprintf(path, sizeof path, "%s/weights.bin", argv[1]);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, sizeof data, file) != sizeof data || fclose(file))
        return 2;
    void *probe = aligned_alloc(4096, 4096);
    for (int way = 0; way < 3; way++) { /* buffered, direct, direct with io_uring where there is one */
        const int direct = way > 0;
        st_uring uring = {.fd = -1};
        st_storage storage = {0};
        st_storage_init(&storage);
        if (st_file_open(&storage.file, argv[1], sizeof data, direct ? probe : NULL, &error))
            return puts(error.text), 1;
        if (way == 2 && st_uring_open(&uring, storage.file.fd, NULL, 0))
            way = 3;
        st_source source = {&storage.file, way == 2 ? &uring : NULL, &storage.trouble, &storage.source_bytes, NULL, "rows", START,
                            (BLOCKS - 3) * STP_READ_ALIGNMENT - 100};
        for (long round = atol(argv[2]); round; round--)
            if (!read_once(&source, data + START) || !read_batch(&source, data + START))
                return 1;
        if (st_trouble_get(&storage.trouble, &error))
            return puts(error.text), 1;
        char to[16] = "not zero", bounce[3 * 4096];
        st_source_read(&source, source.bytes - 7, 8, to, bounce);
        if (!st_trouble_get(&storage.trouble, &error) || !strstr(error.text, "8 bytes at 53141 of 'rows', which has 53148") ||
            memcmp(to, "\0\0\0\0\0\0\0", 8))
            return printf("outside: %s\n", error.text), 1;
        st_row late[2] = {{0, to}, {source.bytes - 7, to + 8}}; /* one of two is wrong: zeros, and the other is right */
        memset(to, 1, sizeof to);
        static char room[ST_SOURCE_BATCH * 3 * 4096];
        st_source_rows(&source, late, 2, 8, room, 0);
        if (memcmp(to, data + START, 8) || memcmp(to + 8, "\0\0\0\0\0\0\0", 8))
            return puts("a batch with a row outside is wrong"), 1;
        st_uring_close(&uring);
        printf("%s\n", way == 2 ? "uring" : storage.file.direct ? "direct" : "buffered");
        st_storage_stop(&storage, 0);
    }
    free(probe);
    return 0;
}
