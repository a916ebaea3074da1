/* The queue of reads on io_uring: one thread that sleeps in the kernel until a request is complete.
 *
 * System calls only, and the few structures of their interface that are used here are declared below: neither a library nor
 * recent kernel headers are needed to compile a plan.  An older kernel refuses what it does not know. */
#include "storage.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#define SYS_io_uring_enter 426
#define SYS_io_uring_register 427
#endif

enum { OP_READ_FIXED = 4, OP_READ = 22 };
enum { ENTRY_FIXED_FILE = 1 };
enum { ENTER_GETEVENTS = 1 };
enum { REGISTER_BUFFERS = 0, REGISTER_FILES = 2, REGISTER_ENABLE = 12 };
enum { FEATURE_SINGLE_MMAP = 1, FEATURE_RW_CUR_POS = 1 << 3 }; /* the second came with OP_READ */
/* start disabled, one submitter, completions handled when that one asks for them: no interrupts of other threads */
enum { SETUP_R_DISABLED = 1 << 6, SETUP_SINGLE_ISSUER = 1 << 12, SETUP_DEFER_TASKRUN = 1 << 13 };
#define OFFSET_ENTRIES 0x10000000

typedef struct uring_params {
    uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, features, wq_fd, reserved[3];
    struct {
        uint32_t head, tail, ring_mask, ring_entries, flags, dropped, array, reserved;
        uint64_t user;
    } sq;
    struct {
        uint32_t head, tail, ring_mask, ring_entries, overflow, completions, flags, reserved;
        uint64_t user;
    } cq;
} uring_params;
_Static_assert(sizeof(uring_params) == 120, "layout of io_uring_params");

typedef struct uring_entry {
    uint8_t opcode, flags;
    uint16_t priority;
    int32_t fd;
    uint64_t offset, address;
    uint32_t bytes, rw_flags;
    uint64_t user_data;
    uint16_t buffer, personality;
    uint32_t splice;
    uint64_t reserved[2];
} uring_entry;
_Static_assert(sizeof(uring_entry) == 64, "layout of io_uring_sqe");

typedef struct uring_completion {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
} uring_completion;

/* A registered buffer holds a GiB at most; they overlap by more than a request, so that every request lies in one. */
#define BUFFER_BYTES ((uint64_t)1 << 30)
#define BUFFER_STEP (BUFFER_BYTES - 2 * (uint64_t)STP_REQUEST_BYTES)
#define BUFFERS 64

static void fix(st_uring *u, int file, char *ring, uint64_t ring_bytes)
{
    struct iovec parts[BUFFERS];
    int32_t files[1] = {file};
    uint32_t count = 0;
    for (uint64_t at = 0; at < ring_bytes && count < BUFFERS; at += BUFFER_STEP)
        parts[count++] = (struct iovec){ring + at, ring_bytes - at < BUFFER_BYTES ? ring_bytes - at : BUFFER_BYTES};
    /* refused where the limit of locked memory is too low, for one */
    u->fixed_buffers = ring_bytes <= BUFFERS * BUFFER_STEP &&
                       syscall(SYS_io_uring_register, u->fd, REGISTER_BUFFERS, parts, count) == 0;
    u->fixed_file = syscall(SYS_io_uring_register, u->fd, REGISTER_FILES, files, 1) == 0;
}

int st_uring_open(st_uring *u, int file, char *ring, uint64_t ring_bytes)
{
    static const uint32_t wishes[] = {SETUP_R_DISABLED | SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN, 0};
    uring_params p;
    u->fd = -1;
    for (size_t i = ring ? 0 : 1; u->fd < 0 && i < sizeof wishes / sizeof *wishes; i++) {
        memset(&p, 0, sizeof p);
        p.flags = wishes[i];
        u->fd = (int)syscall(SYS_io_uring_setup, ring ? STP_REQUEST_DEPTH : ST_SOURCE_BATCH, &p);
        if (u->fd < 0 && errno != EINVAL)
            break;
    }
    if (u->fd < 0)
        return errno;
    const uint32_t needed = FEATURE_SINGLE_MMAP | FEATURE_RW_CUR_POS;
    if ((p.features & needed) != needed) {
        st_uring_close(u);
        return ENOSYS;
    }
    const size_t submit = p.sq.array + p.sq_entries * sizeof(uint32_t);
    const size_t complete = p.cq.completions + p.cq_entries * sizeof(uring_completion);
    u->rings_bytes = submit > complete ? submit : complete;
    u->entries_bytes = p.sq_entries * sizeof(uring_entry);
    void *rings = mmap(NULL, u->rings_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, 0);
    void *entries = mmap(NULL, u->entries_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd, OFFSET_ENTRIES);
    const int reason = errno;
    u->rings = rings == MAP_FAILED ? NULL : rings;
    u->entries = entries == MAP_FAILED ? NULL : entries;
    if (!u->rings || !u->entries) {
        st_uring_close(u);
        return reason;
    }
    char *base = rings;
    u->submit_tail = (_Atomic uint32_t *)(void *)(base + p.sq.tail);
    u->submit_mask = *(uint32_t *)(void *)(base + p.sq.ring_mask);
    u->submit_index = (uint32_t *)(void *)(base + p.sq.array);
    u->complete_head = (_Atomic uint32_t *)(void *)(base + p.cq.head);
    u->complete_tail = (_Atomic uint32_t *)(void *)(base + p.cq.tail);
    u->complete_mask = *(uint32_t *)(void *)(base + p.cq.ring_mask);
    u->completions = base + p.cq.completions;
    u->disabled = (p.flags & SETUP_R_DISABLED) != 0;
    if (ring)
        fix(u, file, ring, ring_bytes);
    return 0;
}

void st_uring_close(st_uring *u)
{
    if (u->rings)
        munmap(u->rings, u->rings_bytes);
    if (u->entries)
        munmap(u->entries, u->entries_bytes);
    if (u->fd >= 0)
        close(u->fd);
    u->rings = u->entries = NULL;
    u->fd = -1;
}

/* Queue what is left of a request.  There are as many entries as slots, so there is always room. */
static void put(st_uring *u, int file, const char *ring, uint32_t slot)
{
    const st_request *request = &u->slots[slot];
    const uint32_t tail = atomic_load_explicit(u->submit_tail, memory_order_relaxed), at = tail & u->submit_mask;
    char *to = request->to + request->done;
    uring_entry *entry = (uring_entry *)u->entries + at;
    *entry = (uring_entry){
        .opcode = u->fixed_buffers ? OP_READ_FIXED : OP_READ,
        .flags = u->fixed_file ? ENTRY_FIXED_FILE : 0,
        .fd = u->fixed_file ? 0 : file,
        .offset = request->offset + request->done,
        .address = (uint64_t)(uintptr_t)to,
        .bytes = (uint32_t)(request->bytes - request->done),
        .buffer = u->fixed_buffers ? (uint16_t)((uint64_t)(to - ring) / BUFFER_STEP) : 0,
        .user_data = slot,
    };
    u->submit_index[at] = at;
    atomic_store_explicit(u->submit_tail, tail + 1, memory_order_release);
}

static void push(st_io *io, uint32_t slot)
{
    put(&io->uring, io->file->fd, io->ring, slot);
}

/* One request's result.  Returns 1 where its rest was queued again. */
static int land(st_io *io, uint32_t slot, int32_t result)
{
    st_request *request = &io->uring.slots[slot];
    if (result == -EAGAIN || result == -EINTR)
        result = 0;
    else if (result <= 0) {
        st_io_abort(io, request, -result);
        return 0;
    }
    request->done += (uint64_t)result;
    if (request->done == request->bytes) {
        st_io_complete(io, request, st_io_share(request));
        return 0;
    }
    if (io->file->direct && request->done % STP_READ_ALIGNMENT) {
        st_io_abort(io, request, 0); /* direct reads end off a block's edge only at the end of the file */
        return 0;
    }
    push(io, slot);
    return 1;
}

/* Hand over `*queued` entries and wait for so many completions; 0, or an errno after which nothing more can be done. */
static int enter(st_uring *u, uint32_t *queued, uint32_t wait)
{
    for (int tries = 0;; tries++) {
        const long taken = syscall(SYS_io_uring_enter, u->fd, *queued, wait, ENTER_GETEVENTS, NULL, 0);
        if (taken >= 0) {
            *queued -= (uint32_t)taken;
            return 0;
        }
        if (errno == EINTR)
            continue;
        if ((errno != EAGAIN && errno != EBUSY) || tries > 1000)
            return errno;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); /* the kernel has no memory for a request just now */
    }
}

int st_uring_batch(st_uring *u, int fd, uint32_t count)
{
    uint32_t queued = count, flying = count;
    for (uint32_t slot = 0; slot < count; slot++)
        put(u, fd, NULL, slot);
    while (flying) {
        const int broken = enter(u, &queued, 1);
        if (broken)
            return broken;
        uint32_t head = atomic_load_explicit(u->complete_head, memory_order_relaxed);
        const uint32_t tail = atomic_load_explicit(u->complete_tail, memory_order_acquire);
        for (; head != tail; head++) {
            const uring_completion *found = (uring_completion *)u->completions + (head & u->complete_mask);
            st_request *request = &u->slots[found->user_data];
            const int again = found->result == -EAGAIN || found->result == -EINTR;
            if (found->result > 0)
                request->done += (uint64_t)found->result;
            flying--;
            if (again || (found->result > 0 && request->done < request->bytes && request->done % STP_READ_ALIGNMENT == 0)) {
                put(u, fd, NULL, (uint32_t)found->user_data);
                queued++;
                flying++;
            }
        }
        atomic_store_explicit(u->complete_head, head, memory_order_release);
    }
    return 0;
}

void *st_uring_work(void *argument)
{
    st_io *io = argument;
    st_uring *u = &io->uring;
    uint32_t idle[STP_REQUEST_DEPTH], idles = 0, queued = 0;
    int broken = u->disabled && syscall(SYS_io_uring_register, u->fd, REGISTER_ENABLE, NULL, 0) ? errno : 0;
    if (broken)
        st_io_break(io, broken);
    st_io_hurry();
    for (uint32_t slot = 0; slot < STP_REQUEST_DEPTH; slot++)
        idle[idles++] = slot;
    for (;;) {
        uint64_t calls = UINT64_MAX - 1; /* more than there will be: until somebody says otherwise */
        const uint32_t seen = atomic_load(&io->calls.epoch);
        int next = ST_NEXT_REQUEST;
        while (idles && !broken && next == ST_NEXT_REQUEST) {
            const uint32_t slot = idle[idles - 1];
            next = st_io_next(io, &u->slots[slot], &calls);
            if (next == ST_NEXT_REQUEST) {
                push(io, slot);
                idles--;
                queued++;
            }
        }
        if (idles == STP_REQUEST_DEPTH || broken) { /* nothing under way */
            if (atomic_load(&io->stopping))
                return NULL; /* requests of a broken queue end before its file is closed */
            st_io_sleep(io, seen, calls);
            continue;
        }
        /* while nobody waits, half of them at once: each time this thread runs, another does not */
        const int awaited = atomic_load(&io->reads.awaited) != UINT64_MAX;
        broken = enter(u, &queued, awaited ? 1 : (STP_REQUEST_DEPTH - idles + 1) / 2);
        uint32_t head = atomic_load_explicit(u->complete_head, memory_order_relaxed);
        const uint32_t tail = atomic_load_explicit(u->complete_tail, memory_order_acquire);
        for (; head != tail; head++) {
            const uring_completion *found = (uring_completion *)u->completions + (head & u->complete_mask);
            const uint32_t slot = (uint32_t)found->user_data;
            if (land(io, slot, found->result))
                queued++;
            else
                idle[idles++] = slot;
        }
        atomic_store_explicit(u->complete_head, head, memory_order_release);
        if (broken)
            st_io_break(io, broken);
    }
}
