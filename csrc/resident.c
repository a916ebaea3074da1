/* Bytes of weights.bin that are read at open, by all workers at once: the resident part, which stays, and the weights that
 * kernels read by themselves, which are looked at only.  A digest is summed over bytes that were just read, while they are
 * in the cache. */
#include "session.h"

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

static int load(st_session *s, st_load_job *job, const char *label, uint64_t digest, st_error *error)
{
    if (s->program.pool)
        st_pool_run(s->program.pool, load_part, job);
    else
        load_part(job, 0);
    if (job->failed)
        return st_file_fail(job->file, label, job->reason, job->where, error);
    if (job->digest && st_digest_finish(atomic_load(&job->sum), job->bytes) != digest)
        return st_fail(error, ST_DAMAGED, "%.600s is damaged or of another plan: its digest does not match%s%.200s; compile "
                       "the plan again", job->file->path, *label ? " at " : "", label);
    return ST_OK;
}

int st_resident_load(st_session *s, int digest, st_error *error)
{
    const st_file *file = &s->storage.file;
    _Static_assert(STP_REQUEST_BYTES % ST_DIGEST_BLOCK == 0, "pieces are whole blocks of the digest");
    st_load_job job = {
        .file = file,
        .to = s->weights.base,
        .bytes = s->plan.header->resident_bytes,
        .span = SPAN,
        .piece = file->direct ? PIECE_DIRECT : PIECE_BUFFERED,
        .digest = digest,
        .workers = s->program.threads,
    };
    return load(s, &job, "", s->plan.header->resident_digest, error);
}

int st_sources_verify(st_session *s, st_error *error)
{
    const st_plan *plan = &s->plan;
    const st_file *file = &s->storage.file;
    st_block room = s->memory.bytes > s->ring.bytes ? s->memory : s->ring, own = {NULL, 0};
    int status = ST_OK;
    if (room.bytes < ST_DIGEST_BLOCK) {
        status = st_block_take(&own, ST_DIGEST_BLOCK, error);
        room = own;
    }
    const uint64_t blocks = room.bytes / ST_DIGEST_BLOCK, threads = (uint64_t)s->program.threads;
    const uint64_t workers = blocks < threads ? blocks : threads, most = PIECE_DIRECT / ST_DIGEST_BLOCK;
    const uint64_t each = workers ? blocks / workers : 0, piece = (each < most ? each : most) * ST_DIGEST_BLOCK;
    for (uint64_t i = 0; !status && i < plan->counts[STP_SECTION_WEIGHT]; i++) {
        const stp_weight *w = &plan->weights[i];
        int used = 0;
        for (uint64_t k = 0; !used && k < plan->counts[STP_SECTION_ARG]; k++)
            used = plan->args[k].space == STP_SPACE_FILE && plan->args[k].index == i;
        if (!used)
            continue;
        st_load_job job = {
            .file = file,
            .to = room.base,
            .lane = piece,
            .begin = w->offset,
            .bytes = (w->bytes + STP_READ_ALIGNMENT - 1) / STP_READ_ALIGNMENT * STP_READ_ALIGNMENT,
            .span = piece,
            .piece = piece,
            .digest = 1,
            .workers = (int)workers,
        };
        status = load(s, &job, plan->strings + w->name, w->digest, error);
    }
    st_block_release(&own);
    return status;
}
