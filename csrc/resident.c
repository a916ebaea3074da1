/* Bytes of weights.bin that are read at open, by all workers at once: the resident part, which stays, and what is only looked
 * at: weights that are mapped, and those that kernels read by themselves.  A digest is summed over bytes that were just read,
 * while they are in the cache. */
#include "session.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* Buffered reads come from memory, in pieces that stay in the cache; direct ones keep the disk busy, one for each worker. */
#define PIECE_BUFFERED ((uint64_t)4 * ST_DIGEST_BLOCK)
#define PIECE_DIRECT ((uint64_t)4 * STP_REQUEST_BYTES)
/* What a worker takes at once: much, since where two workers meet in a huge page both clear it, one of them for nothing. */
#define SPAN ((uint64_t)4 << 20)

typedef struct st_load_job {
    const st_file *file;
    char *to;               /* of the first byte, or the lanes of the workers */
    uint64_t lane;          /* 0: the bytes stay; else bytes of a lane */
    uint64_t begin, bytes;  /* in the file */
    uint64_t span, piece;   /* taken at once, read at once */
    int digest, workers;    /* workers: how many take part */
    _Atomic uint64_t next;  /* first byte that no worker took */
    _Atomic uint64_t sum;
    _Atomic int failed;     /* who sets it first also sets the two below */
    int reason;
    uint64_t where;
} st_load_job;

/* [at, at + bytes), in pieces; 0 where it failed. */
static int load_span(st_load_job *job, int worker, uint64_t at, uint64_t bytes, uint64_t *sum)
{
    for (const uint64_t end = at + bytes; at < end; at += job->piece) {
        const uint64_t wanted = job->piece < end - at ? job->piece : end - at;
        char *to = job->to + (job->lane ? job->lane * (uint64_t)worker : at);
        int reason;
        const uint64_t got = (uint64_t)st_file_read(job->file, to, wanted, job->begin + at, &reason);
        if (got < wanted) {
            if (!atomic_exchange(&job->failed, 1)) {
                job->reason = reason;
                job->where = job->begin + at + got;
            }
            return 0;
        }
        if (job->digest)
            *sum += st_digest_share(to, wanted, at / ST_DIGEST_BLOCK);
    }
    return 1;
}

static void load_part(void *context, int worker)
{
    st_load_job *job = context;
    uint64_t sum = 0, at;
    while (worker < job->workers && !atomic_load(&job->failed) &&
           (at = atomic_fetch_add(&job->next, job->span)) < job->bytes)
        if (!load_span(job, worker, at, job->span < job->bytes - at ? job->span : job->bytes - at, &sum))
            break;
    atomic_fetch_add(&job->sum, sum);
}

static int load(st_session *s, st_load_job *job, const char *label, st_error *error)
{
    if (s->program.pool)
        st_pool_run(s->program.pool, load_part, job);
    else
        load_part(job, 0);
    if (job->failed)
        return st_file_fail(job->file, label, job->reason, job->where, error);
    return ST_OK;
}

static int check(const st_load_job *job, const char *label, uint64_t digest, st_error *error)
{
    if (job->digest && st_digest_finish(atomic_load(&job->sum), job->bytes) != digest)
        return st_fail(error, ST_DAMAGED, "%.600s is damaged or of another plan: its digest does not match%s%.200s; compile "
                       "the plan again", job->file->path, *label ? " at " : "", label);
    return ST_OK;
}

/* Let every worker read into a lane of its own, in memory that is taken and not used yet; `own` is taken where there is none. */
static int lay_lanes(const st_session *s, st_load_job *job, st_block *own, st_error *error)
{
    st_block room = s->memory.bytes > s->ring.bytes ? s->memory : s->ring;
    int status = ST_OK;
    if (room.bytes < ST_DIGEST_BLOCK) {
        status = st_block_take(own, ST_DIGEST_BLOCK, error);
        room = *own;
    }
    const uint64_t blocks = room.bytes / ST_DIGEST_BLOCK, threads = (uint64_t)s->program.threads;
    const uint64_t workers = blocks < threads ? blocks : threads;
    const uint64_t most = (job->file->direct ? PIECE_DIRECT : PIECE_BUFFERED) / ST_DIGEST_BLOCK;
    const uint64_t each = workers ? blocks / workers : 0;
    job->to = room.base;
    job->lane = job->span = job->piece = (each < most ? each : most) * ST_DIGEST_BLOCK;
    job->workers = (int)workers;
    return status;
}

/* The resident part up to here is memory of its own: what is read, rounded up to whole blocks, which are whole pages. */
static uint64_t own_bytes(const st_plan *plan)
{
    const uint64_t all = plan->header->resident_bytes, read = all - plan->mapped_bytes;
    const uint64_t own = (read + ST_DIGEST_BLOCK - 1) / ST_DIGEST_BLOCK * ST_DIGEST_BLOCK;
    return plan->mapped_bytes && own < all ? own : all;
}

int st_resident_map(st_session *s, st_error *error)
{
    const uint64_t own = own_bytes(&s->plan), rest = s->plan.header->resident_bytes - own;
    if (!rest)
        return ST_OK;
    void *at = (char *)s->weights.base + own;
    if (mmap(at, rest, PROT_READ, MAP_PRIVATE | MAP_FIXED, s->storage.file.fd, (off_t)own) == MAP_FAILED)
        return st_fail(error, ST_MEMORY, "cannot map %.600s (%.1f MiB): %s; raise the limit (ulimit -v)", s->storage.file.path,
                       (double)rest / 1048576, strerror(errno));
    madvise(at, rest, MADV_RANDOM); /* the rows beside one that is looked up are no more likely than others */
    return ST_OK;
}

int st_resident_load(st_session *s, int digest, st_error *error)
{
    const st_file *file = &s->storage.file;
    const uint64_t own = own_bytes(&s->plan), all = s->plan.header->resident_bytes;
    _Static_assert(STP_REQUEST_BYTES % ST_DIGEST_BLOCK == 0, "pieces are whole blocks of the digest");
    st_block lanes = {NULL, 0};
    st_load_job job = {
        .file = file,
        .to = s->weights.base,
        .bytes = own,
        .span = SPAN,
        .piece = file->direct ? PIECE_DIRECT : PIECE_BUFFERED,
        .digest = digest,
        .workers = s->program.threads,
    };
    int status = load(s, &job, "", error);
    if (!status && digest && own < all) { /* by reads, which leave the mapping untouched: its pages stay out of memory */
        job.bytes = all;
        atomic_store(&job.next, own);
        status = lay_lanes(s, &job, &lanes, error);
        if (!status)
            status = load(s, &job, "", error);
    }
    st_block_release(&lanes);
    return status ? status : check(&job, "", s->plan.header->resident_digest, error);
}

int st_sources_verify(st_session *s, st_error *error)
{
    const st_plan *plan = &s->plan;
    st_block lanes = {NULL, 0};
    st_load_job room = {.file = &s->storage.file, .digest = 1};
    int status = lay_lanes(s, &room, &lanes, error);
    for (uint64_t i = 0; !status && i < plan->counts[STP_SECTION_WEIGHT]; i++) {
        const stp_weight *w = &plan->weights[i];
        int used = 0;
        for (uint64_t k = 0; !used && k < plan->counts[STP_SECTION_ARG]; k++)
            used = plan->args[k].space == STP_SPACE_FILE && plan->args[k].index == i;
        if (!used)
            continue;
        st_load_job job = {
            .file = room.file,
            .to = room.to,
            .lane = room.lane,
            .begin = w->offset,
            .bytes = (w->bytes + STP_READ_ALIGNMENT - 1) / STP_READ_ALIGNMENT * STP_READ_ALIGNMENT,
            .span = room.span,
            .piece = room.piece,
            .digest = 1,
            .workers = room.workers,
        };
        status = load(s, &job, plan->strings + w->name, error);
        if (!status)
            status = check(&job, plan->strings + w->name, w->digest, error);
    }
    st_block_release(&lanes);
    return status;
}
