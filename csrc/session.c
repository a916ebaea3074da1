/* Open, describe, close.  Opening takes all memory and checks all there is to check; nothing later can fail for want of it. */
#include "session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE ((size_t)ST_CACHE_LINE)

static size_t aligned(size_t bytes, size_t to)
{
    return (bytes + to - 1) / to * to;
}

int st_session_keep(st_session *session, int status, const st_error *error)
{
    pthread_mutex_lock(&session->lock);
    session->error = *error;
    pthread_mutex_unlock(&session->lock);
    return status;
}

void st_last_error(st_session *session, char *text, size_t bytes)
{
    if (!session || !text || !bytes)
        return;
    pthread_mutex_lock(&session->lock);
    snprintf(text, bytes, "%s", session->error.text);
    pthread_mutex_unlock(&session->lock);
}

int st_enter(st_session *session)
{
    st_error error;
    if (!atomic_exchange_explicit(&session->busy, 1, memory_order_acquire))
        return ST_OK;
    return st_session_keep(session, st_fail(&error, ST_BUSY, "the session is in use by another thread; give each "
                                            "thread its own session, or take turns"), &error);
}

void st_leave(st_session *session)
{
    atomic_store_explicit(&session->busy, 0, memory_order_release);
}

int32_t st_abi_version(void)
{
    return ST_ABI_VERSION;
}

/* ---- open ---- */

static int choose_threads(const st_plan *plan, int wanted, int available)
{
    if (wanted > 0)
        return wanted;
    const int planned = (int)plan->header->threads;
    return planned < available ? planned : available;
}

/* In the mapping that all arenas share but the weights, the ring and the states, which have their own. */
static size_t arena_bytes(const stp_arena *arena, int threads)
{
    if (arena->kind == STP_ARENA_WEIGHTS || arena->kind == STP_ARENA_MAPPED || arena->kind == STP_ARENA_RING ||
        arena->kind == STP_ARENA_STATE)
        return 0;
    return aligned((size_t)arena->bytes * (arena->kind == STP_ARENA_WORKSPACE ? (size_t)threads : 1), STP_ALIGNMENT);
}

/* Each arena begins aligned.  Streamed weights that are mapped need no ring. */
static int take_memory(st_session *s, int threads, int mapped, st_error *error)
{
    size_t bytes = 0;
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARENA]; i++)
        bytes += arena_bytes(&s->plan.arenas[i], threads);
    int status = st_block_take(&s->memory, bytes + LINE, error); /* never empty: empty buffers and weights point here */
    if (!status)
        status = st_block_map(&s->weights, (size_t)s->plan.header->resident_bytes, error);
    if (!status)
        status = st_block_take(&s->ring, mapped ? 0 : (size_t)s->plan.ring_bytes, error);
    return status ? status : st_states_open(s, error);
}

/* Take `bytes` of the tables; with no base, only count them. */
static void *carve(char *base, size_t *used, size_t bytes)
{
    void *at = base ? base + *used : NULL;
    *used += aligned(bytes, LINE);
    return at;
}

static int uses_files(const st_plan *plan)
{
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARG]; i++)
        if (plan->args[i].space == STP_SPACE_FILE)
            return 1;
    return 0;
}

static size_t lay_tables(st_session *s, char *base, int threads, int timed)
{
    const uint64_t *n = s->plan.counts;
    size_t used = 0, outputs = 0, inputs = 0;
    for (int i = 0; i < st_ports(&s->plan, ST_OUTPUT); i++)
        outputs += st_port_type(&s->plan, ST_OUTPUT, i)->rank;
    for (int i = 0; i < st_ports(&s->plan, ST_INPUT); i++)
        inputs += st_port_type(&s->plan, ST_INPUT, i)->rank;
    s->steps = carve(base, &used, s->plan.call_count * sizeof *s->steps);
    s->args = carve(base, &used, n[STP_SECTION_ARG] * sizeof *s->args);
    s->regions = carve(base, &used, n[STP_SECTION_REGION] * sizeof *s->regions);
    s->loops = carve(base, &used, n[STP_SECTION_REGION] * sizeof *s->loops);
    s->patches = carve(base, &used, n[STP_SECTION_ARG] * sizeof *s->patches);
    s->symbols = carve(base, &used, n[STP_SECTION_SYMBOL] * sizeof *s->symbols);
    s->layout.places = carve(base, &used, n[STP_SECTION_BUFFER] * sizeof *s->layout.places);
    s->layout.stretch = carve(base, &used, s->plan.call_count * sizeof *s->layout.stretch);
    s->layout.tops = carve(base, &used, ((size_t)s->plan.call_count + 1) * sizeof *s->layout.tops);
    s->layout.offsets = carve(base, &used, n[STP_SECTION_BUFFER] * sizeof *s->layout.offsets);
    s->layout.symbols = carve(base, &used, n[STP_SECTION_SYMBOL] * sizeof *s->layout.symbols);
    s->seen = carve(base, &used, inputs);
    s->output_shapes = carve(base, &used, outputs * sizeof *s->output_shapes);
    s->output_shape = carve(base, &used, n[STP_SECTION_OUTPUT] * sizeof *s->output_shape);
    s->program.timings = timed ? carve(base, &used, s->plan.call_count * sizeof(st_timing)) : NULL;
    s->io_place = carve(base, &used, st_io_bytes(&s->plan, threads));
    s->storage.urings = uses_files(&s->plan) ? carve(base, &used, (size_t)threads * sizeof(st_uring)) : NULL;
    s->storage.sources = uses_files(&s->plan) ? carve(base, &used, n[STP_SECTION_WEIGHT] * sizeof(st_source)) : NULL;
    s->program.pool = threads > 1 ? carve(base, &used, (size_t)st_pool_bytes(threads)) : NULL;
    for (int direction = 0; direction < 2; direction++) {
        const int count = st_ports(&s->plan, direction);
        s->bindings[direction] = carve(base, &used, (size_t)count * sizeof(st_binding));
        for (int i = 0; i < count; i++) {
            int64_t *shape = carve(base, &used, st_port_type(&s->plan, direction, i)->rank * sizeof *shape);
            if (base)
                s->bindings[direction][i].shape = shape;
        }
    }
    return used;
}

static void *workspace_base(const st_session *s, uint32_t wanted, int threads)
{
    char *at = s->memory.base;
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARENA]; i++) {
        const stp_arena *arena = &s->plan.arenas[i];
        if (arena->kind == STP_ARENA_WORKSPACE && !wanted--)
            return at;
        at += arena_bytes(arena, threads);
    }
    return NULL;
}

char *st_arena_base(const st_session *s, uint32_t wanted)
{
    char *at = s->memory.base;
    if (s->plan.arenas[wanted].kind == STP_ARENA_RING)
        return s->ring.base ? s->ring.base : at;
    for (uint32_t i = 0; i < wanted; i++)
        at += arena_bytes(&s->plan.arenas[i], s->program.threads);
    return at;
}

/* Stretches of instructions that are left out or repeated. */
static void fill_regions(st_session *s)
{
    const st_plan *plan = &s->plan;
    st_program *program = &s->program;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_REGION]; i++) {
        const stp_region *r = &plan->regions[i];
        if (r->kind == STP_REGION_UNLESS || r->kind == STP_REGION_WHERE) {
            const uint32_t when = r->kind == STP_REGION_WHERE;
            s->regions[program->region_count++] = (st_region){r->first, r->last, when, s->args + r->arg};
            continue;
        }
        const uint32_t number = program->loop_count++;
        void *const *value = r->kind == STP_REGION_LOOP_WHILE ? s->args + r->arg + 1 : NULL;
        s->loops[number] = (st_loop){r->first, r->last, plan->args[r->arg].index, 0, 1, value};
        for (uint32_t k = 0; k < number; k++)
            s->loops[k].inside += s->loops[k].last >= r->last;
        s->steps[r->first].begins = number + 1;
        s->steps[r->last].ends = number + 1;
        for (uint32_t k = r->first; k <= r->last; k++)
            s->steps[k].repeats = 1, s->loops[number].alone &= s->steps[k].parts == 1;
    }
}

/* Pointers of all arguments that never change, and a list of those that do. */
static void fill_tables(st_session *s, int threads)
{
    const st_plan *plan = &s->plan;
    s->program.threads = threads;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARG]; i++) {
        const stp_arg *arg = &plan->args[i];
        switch (arg->space) {
        case STP_SPACE_BUFFER:
        case STP_SPACE_CARRY: {
            const stp_buffer *buffer = &plan->buffers[arg->index];
            s->args[i] = st_arena_base(s, buffer->arena) + buffer->offset;
            break;
        }
        case STP_SPACE_WEIGHT:
            s->args[i] = s->weights.base ? (char *)s->weights.base + plan->weights[arg->index].offset : s->memory.base;
            break;
        case STP_SPACE_WORKSPACE:
            s->args[i] = workspace_base(s, arg->index, threads);
            break;
        case STP_SPACE_FILE:
            s->args[i] = &s->storage.sources[arg->index];
            break;
        case STP_SPACE_DIM:
            s->args[i] = &s->symbols[arg->index];
            break;
        case STP_SPACE_STATE:
        case STP_SPACE_NEXT:
            s->args[i] = st_state_place(s, arg->index);
            break;
        default:
            s->patches[s->patch_count++] = (st_patch){(uint32_t)i, arg->space == STP_SPACE_OUTPUT, arg->index};
        }
    }
    for (uint32_t i = 0; i < plan->call_count; i++) {
        const stp_call *call = &plan->calls[i];
        const uint32_t all = (uint32_t)threads, cap = (uint32_t)call->parts, parts = cap && cap < all ? cap : all;
        s->steps[i] = (st_step){
            .kind = call->kind,
            .parts = parts,
            .barrier = i && (call->barrier || s->steps[i - 1].before), /* the first instruction has nothing to wait for */
            .needs = call->needs,
            .before = parts > 1 ? st_plan_before[call->kernel] : NULL,
            .kernel = st_plan_kernels[call->kernel],
            .args = s->args + call->first_arg,
        };
    }
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_SYMBOL]; i++)
        if (plan->symbols[i].setter && plan->symbols[i].setter <= plan->call_count)
            s->steps[plan->symbols[i].setter - 1].symbol = (uint32_t)i + 1;
    fill_regions(s);
    int64_t *shape = s->output_shapes;
    for (int i = 0; i < st_ports(plan, ST_OUTPUT); i++) {
        s->output_shape[i] = shape;
        shape += st_port_type(plan, ST_OUTPUT, i)->rank;
    }
    s->program.steps = s->steps;
    s->program.count = plan->call_count;
    s->program.regions = s->regions;
    s->program.loops = s->loops;
    s->program.reads = plan->read_count;
    s->program.dims = s->symbols;
    s->program.symbols = plan->symbols;
}

/* With weights.bin mapped, buffers of the ring are the mapped bytes of the read that would fill them. */
static void use_map(st_session *s)
{
    const st_plan *plan = &s->plan;
    for (uint32_t i = 0; i < plan->call_count; i++) {
        const stp_call *call = &plan->calls[i];
        for (uint32_t k = 0; k < call->args; k++) {
            const stp_arg *arg = &plan->args[call->first_arg + k];
            if (arg->space != STP_SPACE_BUFFER || plan->arenas[plan->buffers[arg->index].arena].kind != STP_ARENA_RING)
                continue;
            uint32_t read = call->needs;
            while (read && plan->reads[--read].buffer != arg->index)
                ; /* load_reads.c found one */
            s->args[call->first_arg + k] = (char *)s->storage.map.base + plan->reads[read].offset;
        }
    }
}

static int open_session(st_session *s, const char *folder, const st_options *options, st_error *error)
{
    int status = st_part_read(folder, "plan.bin", &s->file, error);
    if (!status)
        status = st_plan_load(&s->plan, s->file.base, s->file.bytes, error);
    if (!status)
        status = st_plan_check_library(&s->plan, st_plan_id, st_plan_kernel_count, st_plan_kernel_names, error);
    if (!status)
        status = st_features_check(&s->plan, error);
    if (status)
        return status;
    const int cpus = st_cpus_allowed(NULL, 0), quota = st_cpus_quota("");
    const int available = quota && quota < cpus ? quota : cpus;
    const int threads = choose_threads(&s->plan, options->threads, available);
    if (threads < 1 || threads > ST_MAX_THREADS || options->threads < 0)
        return st_fail(error, ST_ARGUMENT, "%d threads were asked for; give 1 to %d, or 0 for the planned number",
                       (int)options->threads, ST_MAX_THREADS);
    if (options->io < 0 || options->io >= ST_IO_MODES)
        return st_fail(error, ST_ARGUMENT, "st_options.io is %d; give one of ST_IO_AUTO to ST_IO_MMAP", (int)options->io);
    const int timed = !options->skip_profile, verify = !options->skip_weights;
    status = take_memory(s, threads, options->io == ST_IO_MMAP, error);
    if (!status)
        status = st_block_take(&s->tables, lay_tables(s, NULL, threads, timed), error);
    if (!status)
        status = st_storage_open(&s->storage, folder, &s->plan, options->io, s->memory.base, error);
    if (!status)
        status = st_resident_map(s, error);
    if (status)
        return status;
    lay_tables(s, s->tables.base, threads, timed);
    fill_tables(s, threads);
    status = st_layout_open(s, error);
    if (status)
        return status;
    if (s->storage.map.base)
        use_map(s);
    if (s->program.pool) {
        st_pool *pool = s->program.pool;
        s->program.pool = NULL; /* closing must not stop what did not start */
        status = st_pool_start(pool, threads, available, options->affinity, error);
        if (status)
            return status;
        s->program.pool = pool;
    }
    status = st_resident_load(s, verify, error);
    if (!status)
        st_states_fill(s);
    if (!status && verify && s->storage.sources)
        status = st_sources_verify(s, error);
    if (!status)
        status = st_storage_start(&s->storage, &s->plan, s->io_place, &s->ring, threads, options->io, verify, error);
    s->program.io = s->storage.io;
    return status;
}

int32_t st_open(const char *folder, const st_options *options, st_session **session, char *error, size_t error_bytes)
{
    st_options chosen = {0};
    st_error text = {""};
    int status;
    st_session *s = NULL;
    if (error && error_bytes)
        *error = 0;
    if (!folder || !session) {
        status = st_fail(&text, ST_ARGUMENT, "st_open needs a folder and a place for the session");
    } else if (options && options->size < sizeof(uint32_t)) {
        status = st_fail(&text, ST_ARGUMENT, "st_options.size is %u; set it to sizeof(st_options)", options->size);
    } else {
        if (options) /* an older caller knows fewer fields */
            memcpy(&chosen, options, options->size < sizeof chosen ? options->size : sizeof chosen);
        s = aligned_alloc(LINE, aligned(sizeof *s, LINE));
        if (s) {
            memset(s, 0, sizeof *s);
            pthread_mutex_init(&s->lock, NULL);
            s->process = getpid();
            st_storage_init(&s->storage);
            status = open_session(s, folder, &chosen, &text);
        } else {
            status = st_fail(&text, ST_MEMORY, "no memory for a session");
        }
    }
    if (status) {
        st_close(s);
        s = NULL;
        if (error && error_bytes)
            snprintf(error, error_bytes, "%s", text.text);
    }
    if (session)
        *session = s;
    return status;
}

void st_close(st_session *s)
{
    if (!s)
        return;
    const int forked = s->process != getpid();
    if (s->program.pool && !forked) /* a forked child has no workers to stop */
        st_pool_stop(s->program.pool);
    const int ring = !s->storage.io || !forked; /* nor the ring: see MADV_DONTFORK */
    st_storage_stop(&s->storage, forked);
    if (ring)
        st_block_release(&s->ring);
    st_block_release(&s->weights);
    st_block_release(&s->memory);
    st_block_release(&s->states);
    st_block_release(&s->tables);
    st_block_release(&s->file);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
