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

static size_t arena_bytes(const stp_arena *arena, int threads)
{
    return aligned((size_t)arena->bytes * (arena->kind == STP_ARENA_WORKSPACE ? (size_t)threads : 1), STP_ALIGNMENT);
}

/* One mapping for all arenas; each begins aligned. */
static int take_memory(st_session *s, int threads, st_error *error)
{
    size_t bytes = 0;
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARENA]; i++)
        bytes += arena_bytes(&s->plan.arenas[i], threads);
    return st_block_take(&s->memory, bytes + LINE, error); /* never empty: empty buffers and weights point here */
}

/* Take `bytes` of the tables; with no base, only count them. */
static void *carve(char *base, size_t *used, size_t bytes)
{
    void *at = base ? base + *used : NULL;
    *used += aligned(bytes, LINE);
    return at;
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
    s->patches = carve(base, &used, n[STP_SECTION_ARG] * sizeof *s->patches);
    s->symbols = carve(base, &used, n[STP_SECTION_SYMBOL] * sizeof *s->symbols);
    s->seen = carve(base, &used, inputs);
    s->output_shapes = carve(base, &used, outputs * sizeof *s->output_shapes);
    s->output_shape = carve(base, &used, n[STP_SECTION_OUTPUT] * sizeof *s->output_shape);
    s->program.timings = timed ? carve(base, &used, s->plan.call_count * sizeof(st_timing)) : NULL;
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

static void *arena_base(const st_session *s, uint32_t wanted, int threads)
{
    char *at = s->memory.base;
    for (uint32_t i = 0; i < wanted; i++)
        at += arena_bytes(&s->plan.arenas[i], threads);
    return at;
}

/* Pointers of all arguments that never change, and a list of those that do. */
static void fill_tables(st_session *s, int threads)
{
    const st_plan *plan = &s->plan;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARG]; i++) {
        const stp_arg *arg = &plan->args[i];
        switch (arg->space) {
        case STP_SPACE_BUFFER: {
            const stp_buffer *buffer = &plan->buffers[arg->index];
            s->args[i] = (char *)arena_base(s, buffer->arena, threads) + buffer->offset;
            break;
        }
        case STP_SPACE_WEIGHT:
            s->args[i] = s->weights.base ? (char *)s->weights.base + plan->weights[arg->index].offset : s->memory.base;
            break;
        case STP_SPACE_WORKSPACE:
            s->args[i] = workspace_base(s, arg->index, threads);
            break;
        default:
            s->patches[s->patch_count++] = (st_patch){(uint32_t)i, arg->space == STP_SPACE_OUTPUT, arg->index};
        }
    }
    for (uint32_t i = 0; i < plan->call_count; i++) {
        const stp_call *call = &plan->calls[i];
        const uint32_t all = (uint32_t)threads, cap = (uint32_t)call->parts;
        s->steps[i] = (st_step){
            .kind = call->kind,
            .parts = cap && cap < all ? cap : all,
            .barrier = call->barrier && i, /* the first instruction has nothing to wait for */
            .kernel = st_plan_kernels[call->kernel],
            .args = s->args + call->first_arg,
        };
    }
    int64_t *shape = s->output_shapes;
    for (int i = 0; i < st_ports(plan, ST_OUTPUT); i++) {
        s->output_shape[i] = shape;
        shape += st_port_type(plan, ST_OUTPUT, i)->rank;
    }
    s->program.steps = s->steps;
    s->program.count = plan->call_count;
    s->program.threads = threads;
    s->program.dims = s->symbols;
}

typedef struct st_digest_job {
    const st_session *session;
    _Atomic uint64_t sum;
} st_digest_job;

static void digest_part(void *context, int worker)
{
    st_digest_job *job = context;
    const uint64_t bytes = job->session->weights.bytes, parts = (uint64_t)job->session->program.threads;
    const uint64_t blocks = (bytes + ST_DIGEST_BLOCK - 1) / ST_DIGEST_BLOCK;
    const uint64_t first = blocks * (uint64_t)worker / parts, last = blocks * ((uint64_t)worker + 1) / parts;
    const uint64_t begin = first * ST_DIGEST_BLOCK, end = last == blocks ? bytes : last * ST_DIGEST_BLOCK;
    atomic_fetch_add(&job->sum,
                     st_digest_share((const char *)job->session->weights.base + begin, end - begin, first));
}

static int verify_weights(st_session *s, const char *folder, st_error *error)
{
    st_digest_job job = {s, 0};
    if (!s->weights.bytes)
        ; /* the digest of nothing */
    else if (s->program.pool)
        st_pool_run(s->program.pool, digest_part, &job);
    else
        digest_part(&job, 0);
    if (st_digest_finish(atomic_load(&job.sum), s->weights.bytes) != s->plan.header->weights_digest)
        return st_fail(error, ST_DAMAGED, "%s/weights.bin is damaged or of another plan: its digest does not match; "
                       "compile the plan again", folder);
    return ST_OK;
}

static int open_session(st_session *s, const char *folder, const st_options *options, st_error *error)
{
    int status = st_file_read(folder, "plan.bin", &s->file, error);
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
    status = take_memory(s, threads, error);
    if (!status)
        status = st_block_take(&s->tables, lay_tables(s, NULL, threads, !options->skip_profile), error);
    if (!status)
        status = st_file_map(folder, "weights.bin", s->plan.header->weights_bytes, &s->weights, error);
    if (status)
        return status;
    lay_tables(s, s->tables.base, threads, !options->skip_profile);
    fill_tables(s, threads);
    if (s->program.pool) {
        st_pool *pool = s->program.pool;
        s->program.pool = NULL; /* closing must not stop what did not start */
        status = st_pool_start(pool, threads, available, options->affinity, error);
        if (status)
            return status;
        s->program.pool = pool;
    }
    return options->skip_weights ? ST_OK : verify_weights(s, folder, error);
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
    if (s->program.pool && s->process == getpid()) /* a forked child has no workers to stop */
        st_pool_stop(s->program.pool);
    st_file_unmap(&s->weights);
    st_block_release(&s->memory);
    st_block_release(&s->tables);
    st_block_release(&s->file);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- describe ---- */

static int outside(st_session *s, const char *what, int index, int64_t count)
{
    st_error error;
    if (index >= 0 && index < count)
        return ST_OK;
    return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "there is no %s %d; the plan has %lld", what, index,
                                      (long long)count), &error);
}

int32_t st_get_info(st_session *s, st_info *info)
{
    const st_plan *plan = &s->plan;
    *info = (st_info){
        .name = plan->strings + plan->header->name,
        .target = plan->strings + plan->header->target,
        .threads = s->program.threads,
        .planned_threads = (int32_t)plan->header->threads,
        .inputs = st_ports(plan, ST_INPUT),
        .outputs = st_ports(plan, ST_OUTPUT),
        .symbols = (int32_t)plan->counts[STP_SECTION_SYMBOL],
        .arenas = (int32_t)plan->counts[STP_SECTION_ARENA],
        .instructions = (int32_t)plan->call_count,
    };
    for (uint32_t i = 0; i < plan->call_count; i++)
        info->predicted_seconds += plan->calls[i].seconds;
    return ST_OK;
}

int32_t st_get_symbol(st_session *s, int32_t index, st_symbol *symbol)
{
    const int status = outside(s, "symbol", index, (int64_t)s->plan.counts[STP_SECTION_SYMBOL]);
    if (!status) {
        const stp_symbol *row = &s->plan.symbols[index];
        *symbol = (st_symbol){s->plan.strings + row->name, row->min, row->typical, row->max};
    }
    return status;
}

int32_t st_get_port(st_session *s, int32_t direction, int32_t index, st_port *port)
{
    int status = outside(s, "direction", direction, 2);
    if (!status)
        status = outside(s, direction == ST_INPUT ? "input" : "output", index, st_ports(&s->plan, direction));
    if (!status) {
        const stp_type *type = st_port_type(&s->plan, direction, index);
        *port = (st_port){
            .name = s->plan.strings + s->plan.ports[direction][index].name,
            .shape = s->plan.strings + type->text,
            .dtype_name = st_dtype_name(type->dtype),
            .dtype = (int32_t)type->dtype,
            .rank = (int32_t)type->rank,
        };
    }
    return status;
}

int32_t st_get_dim(st_session *s, int32_t direction, int32_t index, int32_t axis, st_dim *dim)
{
    st_port port;
    int status = st_get_port(s, direction, index, &port);
    if (!status)
        status = outside(s, "axis", axis, port.rank);
    if (!status) {
        const stp_dim *row = &s->plan.dims[st_port_type(&s->plan, direction, index)->first_dim + (uint32_t)axis];
        const stp_dim_op *op = &s->plan.dim_ops[row->first];
        *dim = (st_dim){.value = -1, .symbol = -1};
        if (row->count == 1)
            dim->value = op->op == STP_DIM_CONST ? op->value : -1;
        if (row->count == 3 && op[0].op == STP_DIM_CONST && op[0].value == 1 && op[1].op == STP_DIM_SYMBOL)
            dim->symbol = (int32_t)op[1].value;
    }
    return status;
}

int32_t st_shape_at(st_session *s, int32_t direction, int32_t index, const int64_t *symbols, int64_t *shape,
                    int32_t capacity)
{
    st_port port;
    st_error error;
    const int status = st_get_port(s, direction, index, &port);
    if (status)
        return status;
    if (port.rank > capacity)
        return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "'%s' has rank %d, there is room for %d extents",
                                          port.name, (int)port.rank, (int)capacity), &error);
    if (st_type_shape(&s->plan, st_port_type(&s->plan, direction, index), symbols, shape))
        return st_session_keep(s, st_fail(&error, ST_ARGUMENT, "'%s' %s has no size for these dims", port.name,
                                          port.shape), &error);
    return ST_OK;
}

int32_t st_get_arena(st_session *s, int32_t index, st_arena *arena)
{
    const int status = outside(s, "arena", index, (int64_t)s->plan.counts[STP_SECTION_ARENA]);
    if (!status) {
        const stp_arena *row = &s->plan.arenas[index];
        const char *strings = s->plan.strings;
        *arena = (st_arena){strings + row->name, strings + row->tier, row->kind == STP_ARENA_WORKSPACE,
                            (int64_t)row->bytes};
    }
    return status;
}

int32_t st_get_memory(st_session *s, st_memory *memory)
{
    *memory = (st_memory){
        .weights = (int64_t)s->weights.bytes,
        .threads = s->program.threads,
        .session = (int64_t)(s->file.bytes + s->tables.bytes + sizeof *s),
        .stacks = st_pool_stack_bytes(s->program.threads),
    };
    for (uint64_t i = 0; i < s->plan.counts[STP_SECTION_ARENA]; i++) {
        const stp_arena *arena = &s->plan.arenas[i];
        *(arena->kind == STP_ARENA_WORKSPACE ? &memory->workspace : &memory->scratch) += (int64_t)arena->bytes;
    }
    memory->total = memory->weights + memory->scratch + memory->threads * memory->workspace + memory->session;
    return ST_OK;
}

int32_t st_get_profile(st_session *s, int32_t index, st_profile *row)
{
    const int status = outside(s, "instruction", index, s->plan.call_count);
    if (!status) {
        const stp_call *call = &s->plan.calls[index];
        const st_timing none = {0, 0}, *timing = s->program.timings ? &s->program.timings[index] : &none;
        *row = (st_profile){s->plan.strings + call->label, timing->count, timing->nanoseconds,
                            call->seconds,                 call->flops,   call->bytes};
    }
    return status;
}

int32_t st_reset_profile(st_session *s)
{
    const int status = st_enter(s);
    if (status)
        return status;
    if (s->program.timings)
        memset(s->program.timings, 0, s->program.count * sizeof(st_timing));
    st_leave(s);
    return ST_OK;
}
