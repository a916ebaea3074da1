/* Memory taken at open: one mapping for each purpose, so that opening needs few system calls and closing cannot leak. */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)

int st_block_map(st_block *block, size_t bytes, st_error *error)
{
    block->base = NULL;
    block->bytes = 0;
    if (!bytes)
        return ST_OK;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    const double machine = (double)pages * (double)page;
    if (pages > 0 && page > 0 && (double)bytes > machine)
        return st_fail(error, ST_MEMORY, "the plan needs %.1f MiB at once, this machine has %.1f MiB; "
                       "compile it with a smaller --budget ram=", (double)bytes / 1048576, machine / 1048576);
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return st_fail(error, ST_MEMORY, "cannot take %.1f MiB of memory: %s; free memory, raise the limit (ulimit -v) "
                       "or compile with a smaller --budget ram=", (double)bytes / 1048576, strerror(errno));
    if (bytes >= HUGE_PAGE)
        madvise(base, bytes, MADV_HUGEPAGE); /* fewer TLB misses where the kernel agrees */
    block->base = base;
    block->bytes = bytes;
    return ST_OK;
}

/* Page faults belong to opening, not to the first run: every page is written once here. */
int st_block_take(st_block *block, size_t bytes, st_error *error)
{
    const long page = sysconf(_SC_PAGESIZE);
    const int status = st_block_map(block, bytes, error);
    for (size_t at = 0; !status && at < bytes; at += page > 0 ? (size_t)page : 4096)
        ((volatile char *)block->base)[at] = 0;
    return status;
}

void st_block_release(st_block *block)
{
    if (block->base)
        munmap(block->base, block->bytes);
    block->base = NULL;
}

static int open_part(const char *folder, const char *name, int64_t *bytes, st_error *error)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path)
        return st_fail(error, ST_IO, "the path of the plan is too long: %.200s...", folder), -1;
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status)) {
        st_fail(error, ST_IO, "cannot open %.800s: %s; is it the folder of a compiled plan?", path, strerror(errno));
        if (file >= 0)
            close(file);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        st_fail(error, ST_IO, "%.800s is not a file; compile the plan again", path);
        close(file);
        return -1;
    }
    *bytes = status.st_size;
    return file;
}

int st_part_read(const char *folder, const char *name, st_block *block, st_error *error)
{
    int64_t bytes;
    block->base = NULL;
    const int file = open_part(folder, name, &bytes, error);
    if (file < 0)
        return ST_IO;
    int status = bytes ? st_block_take(block, (size_t)bytes, error)
                       : st_fail(error, ST_DAMAGED, "%s/%s is empty; compile the plan again", folder, name);
    for (int64_t at = 0; !status && at < bytes;) {
        const ssize_t got = read(file, (char *)block->base + at, (size_t)(bytes - at));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            status = st_fail(error, ST_IO, "cannot read %s/%s: %s", folder, name,
                             got ? strerror(errno) : "it became shorter while being read");
        else
            at += got;
    }
    close(file);
    if (status)
        st_block_release(block);
    return status;
}
