/* LD_PRELOAD: what a sick disk, an older kernel or a strict container does, as the variable FAULT says:
 *
 *     eio:N short:N   from the Nth read of 4096 or more bytes of a weights.bin on, pread fails or reads nothing
 *     nodirect        files cannot be opened for direct reads
 *     nouring         io_uring_setup is refused
 *     nofixed         io_uring registers nothing */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic long reads;

static const char *fault(const char *name)
{
    const char *wanted = getenv("FAULT");
    return wanted && strncmp(wanted, name, strlen(name)) == 0 ? wanted + strlen(name) : NULL;
}

static int of_weights(int file)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 11 && memcmp(path + length - 11, "weights.bin", 11) == 0;
}

ssize_t pread(int file, void *to, size_t bytes, off_t at)
{
    const char *eio = fault("eio:"), *nothing = fault("short:");
    if ((eio || nothing) && bytes >= 4096 && of_weights(file) && atomic_fetch_add(&reads, 1) + 1 >= atol(eio ? eio : nothing)) {
        errno = EIO;
        return eio ? -1 : 0;
    }
    return syscall(SYS_pread64, file, to, bytes, at);
}

int open(const char *path, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    const int mode = flags & O_CREAT ? va_arg(list, int) : 0;
    va_end(list);
    if (flags & O_DIRECT && fault("nodirect")) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

long syscall(long number, ...)
{
    static long (*real)(long, ...);
    va_list list;
    va_start(list, number);
    const long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long), d = va_arg(list, long),
               e = va_arg(list, long), f = va_arg(list, long);
    va_end(list);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    if (number == 425 && fault("nouring")) {
        errno = EPERM;
        return -1;
    }
    if (number == 427 && (b == 0 || b == 2) && fault("nofixed")) {
        errno = ENOMEM;
        return -1;
    }
    return real(number, a, b, c, d, e, f);
}
