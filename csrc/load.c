/* plan.bin: every offset, index, count and program is checked here, once, before anything uses it.
 *
 * Whoever adds a record or a field to ir/plan_binary.py adds its check here: the rest of the runtime trusts the plan. */
#include "check.h"

#include <string.h>

const char *const st_section_names[STP_SECTION_COUNT] = STP_SECTION_NAMES;
static const uint32_t record_bytes[] = STP_RECORD_BYTES;

int st_dtype_bits(uint32_t code)
{
    switch (code) {
#define X(name, number, bits) \
    case number:              \
        return bits;
        STP_DTYPES(X)
#undef X
    default:
        return 0;
    }
}

const char *st_dtype_name(uint32_t code)
{
    switch (code) {
#define X(name, number, bits) \
    case number:              \
        return #name;
        STP_DTYPES(X)
#undef X
    default:
        return "?";
    }
}

static int check_header(st_plan *plan, const uint8_t *bytes, uint64_t size, st_error *error)
{
    const stp_header *h = (const stp_header *)(const void *)bytes;
    CHECK(size >= sizeof *h, "plan.bin is truncated: %llu bytes; " AGAIN, (unsigned long long)size);
    CHECK(h->magic == STP_MAGIC, "plan.bin is not a stratac plan; " AGAIN);
    if (h->format_version != STP_FORMAT_VERSION)
        return st_fail(error, ST_VERSION, "plan.bin has format %u, this runtime reads %d; %s", h->format_version,
                       STP_FORMAT_VERSION, h->format_version > STP_FORMAT_VERSION ? "use a newer stratac" : AGAIN);
    CHECK(h->file_bytes == size, "plan.bin has %llu bytes, its header says %llu; " AGAIN, (unsigned long long)size,
          (unsigned long long)h->file_bytes);
    CHECK(h->header_bytes == sizeof *h && h->sections == STP_SECTION_COUNT,
          "plan.bin is malformed: its header does not match its format; " AGAIN);
    /* the digest covers the file with the digest's own field as zero */
    const uint64_t own = h->digest * st_digest_factor(offsetof(stp_header, digest) / 8);
    const uint64_t sum = st_digest_share(bytes, size, 0) - own;
    CHECK(st_digest_finish(sum, size) == h->digest, "plan.bin is damaged: its digest does not match; " AGAIN);
    plan->header = h;
    return ST_OK;
}

static int check_sections(st_plan *plan, uint64_t size, const void **starts, st_error *error)
{
    const uint64_t table_end = sizeof(stp_header) + STP_SECTION_COUNT * sizeof(stp_section);
    CHECK(size >= table_end, "plan.bin is truncated: no section table; " AGAIN);
    const stp_section *table = (const stp_section *)(const void *)(plan->bytes + sizeof(stp_header));
    uint64_t end = table_end;
    for (uint32_t i = 0; i < STP_SECTION_COUNT; i++) {
        const stp_section *s = &table[i];
        const int sound = s->kind == i && s->record_bytes == record_bytes[i] && s->offset % 8 == 0 &&
                          s->offset >= end && s->offset <= size && s->count <= (size - s->offset) / record_bytes[i] &&
                          s->count < INT32_MAX;
        CHECK(sound, "plan.bin is malformed: section %s lies outside the file; " AGAIN, st_section_names[i]);
        end = s->offset + s->count * record_bytes[i];
        starts[i] = plan->bytes + s->offset;
        plan->counts[i] = s->count;
    }
    return ST_OK;
}

/* The program must leave one value, never hold more than STP_DIM_DEPTH, and use declared symbols only. */
static int check_dim(const st_plan *plan, uint64_t index, st_error *error)
{
    const stp_dim *dim = &plan->dims[index];
    CHECK_AT(dim->count && dim->count <= STP_DIM_CODE &&
                 st_inside(dim->first, dim->count, plan->counts[STP_SECTION_DIM_OP]),
             STP_SECTION_DIM, index, "its operations lie outside the section");
    int depth = 0;
    for (uint32_t i = 0; i < dim->count; i++) {
        const stp_dim_op *op = &plan->dim_ops[dim->first + i];
        CHECK_AT(op->op < STP_DIM_COUNT, STP_SECTION_DIM, index, "an unknown operation");
        if (op->op == STP_DIM_CONST || op->op == STP_DIM_SYMBOL) {
            CHECK_AT(op->op == STP_DIM_CONST ||
                         (op->value >= 0 && (uint64_t)op->value < plan->counts[STP_SECTION_SYMBOL]),
                     STP_SECTION_DIM, index, "an unknown symbol");
            depth++;
        } else {
            CHECK_AT(depth >= 2, STP_SECTION_DIM, index, "an operation lacks operands");
            depth--;
        }
        CHECK_AT(depth <= STP_DIM_DEPTH, STP_SECTION_DIM, index, "it nests too deeply");
    }
    CHECK_AT(depth == 1, STP_SECTION_DIM, index, "it does not leave one value");
    return ST_OK;
}

static int check_types(const st_plan *plan, st_error *error)
{
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_SYMBOL]; i++) {
        const stp_symbol *s = &plan->symbols[i];
        CHECK_AT(0 <= s->min && s->min <= s->typical && s->typical <= s->max, STP_SECTION_SYMBOL, i,
                 "its bounds are out of order");
    }
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_DIM]; i++) {
        const int status = check_dim(plan, i, error);
        if (status)
            return status;
    }
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_TYPE]; i++) {
        const stp_type *t = &plan->types[i];
        CHECK_AT(st_dtype_bits(t->dtype), STP_SECTION_TYPE, i, "an unknown element type");
        CHECK_AT(t->rank <= ST_MAX_RANK && st_inside(t->first_dim, t->rank, plan->counts[STP_SECTION_DIM]),
                 STP_SECTION_TYPE, i, "its dims lie outside the section");
    }
    return ST_OK;
}

static uint64_t count_loops(const st_plan *plan)
{
    uint64_t found = 0;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_REGION]; i++)
        found += plan->regions[i].kind == STP_REGION_LOOP || plan->regions[i].kind == STP_REGION_LOOP_WHILE;
    return found;
}

/* A run-time dim is set by one call, the only one that has it as an argument, with one part and a barrier behind it, no call sets
 * two; or it counts the trips of one loop.  No input has such a dim: its extents are known before a run. */
static int check_setters(const st_plan *plan, st_error *error)
{
    const uint64_t symbols = plan->counts[STP_SECTION_SYMBOL], calls = plan->call_count, all = calls + count_loops(plan);
    for (uint64_t i = 0; i < symbols; i++) {
        const uint32_t setter = plan->symbols[i].setter;
        CHECK_AT(setter <= all, STP_SECTION_SYMBOL, i, "an unknown call sets it");
        CHECK_AT(!setter || setter > calls || plan->calls[setter - 1].parts == 1, STP_SECTION_SYMBOL, i,
                 "several threads set it");
        CHECK_AT(!setter || setter >= calls || plan->calls[setter].barrier, STP_SECTION_SYMBOL, i,
                 "no barrier follows the call that sets it");
        for (uint64_t k = 0; setter && k < i; k++)
            CHECK_AT(plan->symbols[k].setter != setter, STP_SECTION_SYMBOL, i, "its call sets another");
    }
    for (uint32_t i = 0; i < plan->call_count; i++)
        for (uint32_t k = 0; k < plan->calls[i].args; k++) {
            const stp_arg *arg = &plan->args[plan->calls[i].first_arg + k];
            CHECK_AT(arg->space != STP_SPACE_DIM || plan->symbols[arg->index].setter == i + 1, STP_SECTION_CALL, i,
                     "it sets a dim that is not its own");
        }
    for (int i = 0; i < st_ports(plan, ST_INPUT); i++) {
        const stp_type *type = st_port_type(plan, ST_INPUT, i);
        for (uint32_t axis = 0; axis < type->rank; axis++) {
            const stp_dim *dim = &plan->dims[type->first_dim + axis];
            for (uint32_t k = 0; k < dim->count; k++) {
                const stp_dim_op *op = &plan->dim_ops[dim->first + k];
                CHECK_AT(op->op != STP_DIM_SYMBOL || !plan->symbols[op->value].setter, STP_SECTION_INPUT, i,
                         "an extent of it is set during the run");
            }
        }
    }
    return ST_OK;
}

/* One bool, wherever it lies: threads look at its one byte. */
static int is_bool(const st_plan *plan, const stp_arg *arg)
{
    uint32_t number;
    if (arg->space == STP_SPACE_BUFFER || arg->space == STP_SPACE_CARRY)
        number = plan->buffers[arg->index].bytes ? plan->buffers[arg->index].type : UINT32_MAX;
    else if (arg->space == STP_SPACE_INPUT || arg->space == STP_SPACE_OUTPUT)
        number = plan->ports[arg->space == STP_SPACE_INPUT ? ST_INPUT : ST_OUTPUT][arg->index].type;
    else
        return 0;
    if (number >= plan->counts[STP_SECTION_TYPE])
        return 0;
    const stp_type *type = &plan->types[number];
    for (uint32_t axis = 0; axis < type->rank; axis++) {
        const stp_dim *dim = &plan->dims[type->first_dim + axis];
        const stp_dim_op *op = &plan->dim_ops[dim->first];
        if (dim->count != 1 || op->op != STP_DIM_CONST || op->value != 1)
            return 0;
    }
    return type->dtype == STP_BOOL;
}

/* Number `number` of the loops: it has a dim of its own, which counts its trips, and hides its calls from reads. */
static int check_loop(const st_plan *plan, uint64_t i, uint64_t number, st_error *error)
{
    const stp_region *r = &plan->regions[i];
    const stp_arg *dim = &plan->args[r->arg];
    CHECK_AT(dim->space == STP_SPACE_DIM && plan->symbols[dim->index].setter == plan->call_count + number + 1,
             STP_SECTION_REGION, i, "it counts its trips by no dim of its own");
    CHECK_AT(plan->symbols[dim->index].min == 0 && plan->symbols[dim->index].max < INT64_MAX, STP_SECTION_REGION, i,
             "its trips are not counted from 0");
    CHECK_AT(r->last + 1 == plan->call_count || plan->calls[r->last + 1].barrier, STP_SECTION_REGION, i,
             "no barrier follows it");
    for (uint32_t k = r->first; k <= r->last; k++)
        CHECK_AT(!plan->calls[k].needs, STP_SECTION_REGION, i, "a call of it waits for reads");
    for (uint64_t k = i; k--;) {
        const stp_region *before = &plan->regions[k];
        const int other = before->kind == STP_REGION_LOOP || before->kind == STP_REGION_LOOP_WHILE;
        const int apart = before->last < r->first, around = before->last > r->last && before->first < r->first;
        CHECK_AT(apart || around || (!other && before->last >= r->last),
                 STP_SECTION_REGION, i, "it begins or ends with another, or lies only partly inside it");
    }
    return ST_OK;
}

/* Regions and loops stand in the order in which they begin, an outer one first, and begin behind a barrier, so that all threads see
 * the same condition.  Whatever begins in a loop ends in it, and is a loop. */
static int check_regions(const st_plan *plan, st_error *error)
{
    uint64_t loops = 0;
    int64_t inside = -1; /* the last call of loops so far */
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_REGION]; i++) {
        const stp_region *r = &plan->regions[i];
        const int loop = r->kind == STP_REGION_LOOP || r->kind == STP_REGION_LOOP_WHILE, asks = r->kind != STP_REGION_LOOP;
        CHECK_AT(r->first <= r->last && r->last < plan->call_count, STP_SECTION_REGION, i, "its calls are none of the plan");
        CHECK_AT(!i || plan->regions[i - 1].first < r->first ||
                     (plan->regions[i - 1].first == r->first && plan->regions[i - 1].last >= r->last),
                 STP_SECTION_REGION, i, "it stands behind one that begins later, or inside it");
        CHECK_AT(!r->first || plan->calls[r->first].barrier, STP_SECTION_REGION, i, "no barrier comes before its condition");
        const uint64_t last = (uint64_t)r->arg + (loop && asks), args = plan->counts[STP_SECTION_ARG];
        CHECK_AT(r->kind < STP_REGION_COUNT && last < args && (!asks || is_bool(plan, &plan->args[last])),
                 STP_SECTION_REGION, i, "its condition is not one bool");
        CHECK_AT(loop || (int64_t)r->first > inside, STP_SECTION_REGION, i, "it lies in a loop");
        CHECK_AT(!loop || r->first, STP_SECTION_REGION, i, "nothing is in front of it that it could carry on");
        if (!loop)
            continue;
        const int status = check_loop(plan, i, loops++, error);
        if (status)
            return status;
        inside = (int64_t)r->last > inside ? r->last : inside;
    }
    return ST_OK;
}

static int check_code(st_plan *plan, const stp_queue *queues, st_error *error)
{
    const uint64_t *counts = plan->counts;
    const uint64_t limits[STP_SPACE_COUNT] = {counts[STP_SECTION_INPUT], counts[STP_SECTION_OUTPUT],
                                              counts[STP_SECTION_BUFFER], counts[STP_SECTION_WEIGHT],
                                              (uint64_t)plan->workspaces, counts[STP_SECTION_WEIGHT],
                                              counts[STP_SECTION_SYMBOL], counts[STP_SECTION_STATE],
                                              counts[STP_SECTION_STATE], counts[STP_SECTION_BUFFER]};
    for (uint64_t i = 0; i < counts[STP_SECTION_ARG]; i++) {
        const stp_arg *a = &plan->args[i];
        CHECK_AT(a->space < STP_SPACE_COUNT && a->index < limits[a->space], STP_SECTION_ARG, i,
                 "it refers to nothing");
    }
    for (uint64_t i = 0; i < counts[STP_SECTION_CALL]; i++) {
        const stp_call *c = &plan->calls[i];
        CHECK_AT(c->kind < STP_CALL_COUNT, STP_SECTION_CALL, i, "an unknown kind of instruction");
        CHECK_AT(c->kernel < counts[STP_SECTION_KERNEL], STP_SECTION_CALL, i, "an unknown kernel");
        CHECK_AT(st_inside(c->first_arg, c->args, counts[STP_SECTION_ARG]), STP_SECTION_CALL, i,
                 "its arguments lie outside the section");
        CHECK_AT(c->barrier <= 1 && c->parts >= 0, STP_SECTION_CALL, i, "a wrong barrier or number of parts");
    }
    int status = st_check_queues(plan, queues, error);
    if (!status)
        status = check_setters(plan, error);
    if (!status)
        status = check_regions(plan, error);
    return status ? status : st_check_reads(plan, error);
}

/* Every field that refers to a string lies inside the strings, which end with a zero byte. */
static int check_strings(const st_plan *plan, const stp_queue *queues, const stp_note *notes, st_error *error)
{
    const uint64_t *n = plan->counts, size = n[STP_SECTION_STRING];
    CHECK(size && !plan->strings[0] && !plan->strings[size - 1],
          "plan.bin is malformed: its strings are not terminated; " AGAIN);
    CHECK(plan->header->name < size && plan->header->target < size,
          "plan.bin is malformed: its name lies outside the strings; " AGAIN);
#define STRINGS(section, rows, ...)                                                            \
    for (uint64_t i = 0; i < n[section]; i++) {                                                \
        const uint32_t offsets[] = {__VA_ARGS__};                                              \
        for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++)                          \
            CHECK_AT(offsets[k] < size, section, i, "a text of it lies outside the strings"); \
    }
    STRINGS(STP_SECTION_TYPE, types, plan->types[i].text)
    STRINGS(STP_SECTION_SYMBOL, symbols, plan->symbols[i].name)
    STRINGS(STP_SECTION_FEATURE, features, plan->features[i].name)
    STRINGS(STP_SECTION_INPUT, ports, plan->ports[0][i].name)
    STRINGS(STP_SECTION_OUTPUT, ports, plan->ports[1][i].name)
    STRINGS(STP_SECTION_ARENA, arenas, plan->arenas[i].name, plan->arenas[i].tier)
    STRINGS(STP_SECTION_BUFFER, buffers, plan->buffers[i].name, plan->buffers[i].why)
    STRINGS(STP_SECTION_WEIGHT, weights, plan->weights[i].name, plan->weights[i].format, plan->weights[i].label)
    STRINGS(STP_SECTION_KERNEL, kernels, plan->kernels[i].name)
    STRINGS(STP_SECTION_QUEUE, queues, queues[i].name)
    STRINGS(STP_SECTION_CALL, calls, plan->calls[i].label)
    STRINGS(STP_SECTION_READ, reads, plan->reads[i].label)
    STRINGS(STP_SECTION_NOTE, notes, notes[i].key, notes[i].value)
    STRINGS(STP_SECTION_STATE, states, plan->states[i].name)
#undef STRINGS
    return ST_OK;
}

/* A port's element must be something a caller can hand over, and its greatest size must be a number. */
static int check_ports(const st_plan *plan, st_error *error)
{
    for (int direction = 0; direction < 2; direction++) {
        const int section = direction == ST_INPUT ? STP_SECTION_INPUT : STP_SECTION_OUTPUT;
        for (uint64_t i = 0; i < plan->counts[section]; i++)
            CHECK_AT(plan->ports[direction][i].type < plan->counts[STP_SECTION_TYPE], section, i, "an unknown type");
    }
    return ST_OK;
}

int st_plan_load(st_plan *plan, const void *bytes, uint64_t size, st_error *error)
{
    const void *starts[STP_SECTION_COUNT];
    memset(plan, 0, sizeof *plan);
    plan->bytes = bytes;
    int status = check_header(plan, bytes, size, error);
    if (!status)
        status = check_sections(plan, size, starts, error);
    if (status)
        return status;
    plan->strings = starts[STP_SECTION_STRING];
    plan->dim_ops = starts[STP_SECTION_DIM_OP];
    plan->dims = starts[STP_SECTION_DIM];
    plan->types = starts[STP_SECTION_TYPE];
    plan->symbols = starts[STP_SECTION_SYMBOL];
    plan->features = starts[STP_SECTION_FEATURE];
    plan->ports[ST_INPUT] = starts[STP_SECTION_INPUT];
    plan->ports[ST_OUTPUT] = starts[STP_SECTION_OUTPUT];
    plan->arenas = starts[STP_SECTION_ARENA];
    plan->buffers = starts[STP_SECTION_BUFFER];
    plan->weights = starts[STP_SECTION_WEIGHT];
    plan->kernels = starts[STP_SECTION_KERNEL];
    plan->calls = starts[STP_SECTION_CALL];
    plan->reads = starts[STP_SECTION_READ];
    plan->args = starts[STP_SECTION_ARG];
    plan->states = starts[STP_SECTION_STATE];
    plan->regions = starts[STP_SECTION_REGION];
    const stp_queue *queues = starts[STP_SECTION_QUEUE];
    /* the strings first: the other checks print and compare them */
    status = check_strings(plan, queues, starts[STP_SECTION_NOTE], error);
    if (!status)
        status = check_types(plan, error);
    if (!status)
        status = check_ports(plan, error);
    if (!status)
        status = st_check_memory(plan, error);
    if (!status)
        status = check_code(plan, queues, error);
    if (!status && (plan->header->threads < 1 || plan->header->threads > ST_MAX_THREADS))
        status = st_fail(error, ST_DAMAGED, "plan.bin plans %u threads; " AGAIN, plan->header->threads);
    return status;
}

int st_plan_check_library(const st_plan *plan, uint64_t id, int count, const char *const *names, st_error *error)
{
    CHECK(plan->header->plan_id == id, "libplan.so belongs to another plan than plan.bin; " AGAIN);
    CHECK(count >= 0 && plan->counts[STP_SECTION_KERNEL] == (uint64_t)count,
          "libplan.so has %d kernels, plan.bin names %llu; " AGAIN, count,
          (unsigned long long)plan->counts[STP_SECTION_KERNEL]);
    for (int i = 0; i < count; i++)
        CHECK(strcmp(names[i], plan->strings + plan->kernels[i].name) == 0,
              "kernel %d is %s in libplan.so and %s in plan.bin; " AGAIN, i, names[i],
              plan->strings + plan->kernels[i].name);
    return ST_OK;
}
