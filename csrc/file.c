/* weights.bin as an open file.  What is streamed is read, never mapped: a mapped file that becomes shorter during a run ends the
 * process, while a read of it is an error that can be told.  Where lookups of few rows are mapped, a file that changed is found
 * before and after each run; who cuts it short in the middle of one ends the process, as with libplan.so beside it. */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void identity(const struct stat *status, struct st_identity *seen)
{
    *seen = (struct st_identity){
        .bytes = status->st_size,
        .written = (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec,
        .changed = (int64_t)status->st_ctim.tv_sec * 1000000000 + status->st_ctim.tv_nsec,
        .links = status->st_nlink,
        .mode = status->st_mode,
        .owner = (uint64_t)status->st_uid << 32 | status->st_gid,
    };
}

/* Open for direct reads where the file system takes them: `probe` is READ_ALIGNMENT bytes, as aligned, to try one. */
static int open_direct(const char *path, int64_t bytes, void *probe, int *reason)
{
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (file < 0) {
        *reason = errno;
        return -1;
    }
    /* the second block: what needs larger alignment than ours refuses it */
    const off_t at = bytes >= 2 * STP_READ_ALIGNMENT ? STP_READ_ALIGNMENT : 0;
    if (pread(file, probe, STP_READ_ALIGNMENT, at) >= 0)
        return file;
    *reason = errno;
    close(file);
    return -1;
}

int st_file_open(st_file *file, const char *folder, uint64_t bytes, void *probe, st_error *error)
{
    struct stat status;
    file->fd = -1;
    if ((size_t)snprintf(file->path, sizeof file->path, "%s/weights.bin", folder) >= sizeof file->path)
        return st_fail(error, ST_IO, "the path of the plan is too long: %.200s...", folder);
    file->fd = open(file->path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0 || fstat(file->fd, &status))
        return st_fail(error, ST_IO, "cannot open %.800s: %s; is it the folder of a compiled plan?", file->path,
                       strerror(errno));
    if (!S_ISREG(status.st_mode))
        return st_fail(error, ST_IO, "%.800s is not a file; compile the plan again", file->path);
    if ((uint64_t)status.st_size != bytes)
        return st_fail(error, ST_DAMAGED, "%.700s has %lld bytes, the plan needs %llu: it is truncated or of another "
                       "plan; compile the plan again", file->path, (long long)status.st_size, (unsigned long long)bytes);
    identity(&status, &file->seen);
    file->direct = 0;
    file->reason = 0;
    if (probe) {
        const int direct = open_direct(file->path, status.st_size, probe, &file->reason);
        memset(probe, 0, STP_READ_ALIGNMENT);
        struct stat again;
        if (direct >= 0 && (fstat(direct, &again) || again.st_ino != status.st_ino || again.st_dev != status.st_dev)) {
            close(direct); /* replaced between the two: the first stays */
            file->reason = ESTALE;
        } else if (direct >= 0) {
            close(file->fd);
            file->fd = direct;
            file->direct = 1;
        }
    }
    return ST_OK;
}

void st_file_close(st_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

int st_file_fail(const st_file *file, const char *label, int reason, uint64_t at, st_error *error)
{
    const char *open = *label ? " ('" : "", *close = *label ? "')" : "";
    if (reason)
        return st_fail(error, ST_IO, "cannot read %.600s at byte %llu%s%.200s%s: %s; check the disk, then copy or compile "
                       "the plan again", file->path, (unsigned long long)at, open, label, close, strerror(reason));
    return st_fail(error, ST_IO, "%.600s ends before byte %llu%s%.200s%s: it was truncated while the plan was open; copy or "
                   "compile the plan again", file->path, (unsigned long long)at, open, label, close);
}

/* A plan that is replaced or removed by name leaves this file as it is: the open descriptor keeps it until the session is
 * closed.  That, new names and new permissions change the inode's time but no byte. */
int st_file_check(st_file *file, st_error *error)
{
    struct stat status;
    struct st_identity found;
    if (fstat(file->fd, &status))
        return st_file_fail(file, "", errno, 0, error);
    identity(&status, &found);
    const struct st_identity *seen = &file->seen;
    const int explained = found.links != seen->links || found.mode != seen->mode || found.owner != seen->owner;
    if (found.bytes != seen->bytes || found.written != seen->written || (found.changed != seen->changed && !explained))
        return st_fail(error, ST_IO, "%.600s changed while the plan was open (it had %lld bytes and has %lld); copy or "
                       "compile the plan again, and open it anew", file->path, (long long)seen->bytes,
                       (long long)found.bytes);
    file->seen = found;
    return ST_OK;
}

int64_t st_file_read(const st_file *file, void *to, uint64_t bytes, uint64_t at, int *reason)
{
    uint64_t done = 0;
    *reason = 0;
    while (done < bytes) {
        const ssize_t got = pread(file->fd, (char *)to + done, bytes - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            *reason = errno;
        if (got <= 0)
            break;
        done += (uint64_t)got;
        if (file->direct && done % STP_READ_ALIGNMENT)
            break; /* direct reads end off a block's edge only at the end of the file */
    }
    return (int64_t)done;
}
