/* LD_PRELOAD: counts every allocation and mapping of the process between count_begin and count_end, in any thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *old, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);

static _Atomic int counting;
static _Atomic long counted;

void count_begin(void);
long count_end(void);

static void note(void)
{
    if (atomic_load(&counting))
        atomic_fetch_add(&counted, 1);
}

void count_begin(void)
{
    atomic_store(&counted, 0);
    atomic_store(&counting, 1);
}

long count_end(void)
{
    atomic_store(&counting, 0);
    return atomic_load(&counted);
}

void *malloc(size_t bytes)
{
    note();
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    note();
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    note();
    return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    note();
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    note();
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **result, size_t alignment, size_t bytes)
{
    note();
    *result = __libc_memalign(alignment, bytes);
    return *result ? 0 : ENOMEM;
}

void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset)
{
    note();
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}

int brk(void *end)
{
    note();
    return (int)syscall(SYS_brk, end);
}
