/* Run a plan without Python:
 *
 *     cc -std=c11 -O2 -I csrc/include examples/run_plan.c -o run_plan -ldl
 *     ./run_plan PLAN [THREADS [RUNS]]
 *
 * The plan's own libplan.so is the runtime, so one program runs any plan: it is loaded from the plan's folder.  The inputs
 * are filled with a fixed pattern at the typical dims; the program prints the ports, the first values of every output, the
 * memory and the time of each instruction. */
#define _GNU_SOURCE
#include "stratac.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_RANK 64

/* The functions this program uses, as libplan.so exports them. */
#define FUNCTIONS(X)                                                                                                   \
    X(st_abi_version) X(st_open) X(st_close) X(st_last_error) X(st_get_info) X(st_get_symbol) X(st_get_port)           \
    X(st_shape_at) X(st_bind_input) X(st_bind_output) X(st_output_shape) X(st_run) X(st_found_shape)           \
    X(st_get_profile) X(st_get_memory)

typedef struct api {
#define X(name) __typeof__(name) *name;
    FUNCTIONS(X)
#undef X
} api;

static int load_api(api *a, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/libplan.so", folder);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "cannot load %s: %s\n", path, dlerror());
        return -1;
    }
#define X(name)                                                  \
    *(void **)&a->name = dlsym(library, #name);                  \
    if (!a->name) {                                              \
        fprintf(stderr, "%s lacks %s\n", path, #name);           \
        return -1;                                               \
    }
    FUNCTIONS(X)
#undef X
    return a->st_abi_version() == ST_ABI_VERSION ? 0 : -1;
}

/* Bytes of an element of the types this program prints; 0 for others. */
static size_t element_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        size_t bytes;
    } known[] = {{"f64", 8}, {"f32", 4}, {"i64", 8}, {"i32", 4}, {"i16", 2}, {"i8", 1},
                 {"u64", 8}, {"u32", 4}, {"u16", 2}, {"u8", 1},  {"f16", 2}, {"bf16", 2}, {"bool", 1}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, dtype) == 0)
            return known[i].bytes;
    return 0;
}

static size_t count(int rank, const int64_t *shape)
{
    size_t total = 1;
    for (int i = 0; i < rank; i++)
        total *= (size_t)shape[i];
    return total;
}

static void fill(void *data, const char *dtype, size_t elements)
{
    for (size_t i = 0; i < elements; i++) {
        if (strcmp(dtype, "f32") == 0)
            ((float *)data)[i] = (float)(i % 17) * 0.125f - 1.0f;
        else if (strcmp(dtype, "f64") == 0)
            ((double *)data)[i] = (double)(i % 17) * 0.125 - 1.0;
    } /* integers stay zero: valid as indices and masks */
}

static void print_port(const char *kind, const st_port *port, const int64_t *shape)
{
    printf("%s %s: %s%s =", kind, port->name, port->dtype_name, port->shape);
    for (int i = 0; i < port->rank; i++)
        printf("%s%lld", i ? " x " : " ", (long long)shape[i]);
    printf("\n");
}

static void print_values(const st_port *port, const void *data, size_t elements)
{
    for (size_t i = 0; i < elements && i < 4; i++) {
        if (strcmp(port->dtype_name, "f32") == 0)
            printf("  %g", (double)((const float *)data)[i]);
        else if (strcmp(port->dtype_name, "f64") == 0)
            printf("  %g", ((const double *)data)[i]);
        else if (strcmp(port->dtype_name, "i64") == 0)
            printf("  %lld", (long long)((const int64_t *)data)[i]);
        else if (strcmp(port->dtype_name, "i32") == 0)
            printf("  %d", (int)((const int32_t *)data)[i]);
    }
    printf("\n");
}

static int bind_all(const api *a, st_session *s, int direction, int ports, const int64_t *symbols, void **data)
{
    int64_t shape[MAX_RANK];
    st_port port;
    for (int i = 0; i < ports; i++) {
        if (a->st_get_port(s, direction, i, &port))
            return -1;
        if (direction == ST_INPUT ? a->st_shape_at(s, ST_INPUT, i, symbols, shape, MAX_RANK)
                                  : a->st_output_shape(s, i, shape, MAX_RANK))
            return -1;
        const size_t elements = count(port.rank, shape), bytes = elements * element_bytes(port.dtype_name);
        data[i] = aligned_alloc(64, (bytes + 64) / 64 * 64);
        if (!data[i])
            return -1;
        memset(data[i], 0, bytes);
        print_port(direction == ST_INPUT ? "input" : "output", &port, shape);
        if (direction == ST_INPUT)
            fill(data[i], port.dtype_name, elements);
        if (direction == ST_INPUT ? a->st_bind_input(s, i, data[i], port.dtype, port.rank, shape)
                                  : a->st_bind_output(s, i, data[i], port.dtype, port.rank, shape))
            return -1;
    }
    return 0;
}

static void report(const api *a, st_session *s, const st_info *info, void *const *outputs)
{
    int64_t shape[MAX_RANK];
    st_port port;
    st_memory memory;
    for (int i = 0; i < info->outputs; i++) {
        a->st_get_port(s, ST_OUTPUT, i, &port);
        a->st_found_shape(s, i, shape, MAX_RANK);
        printf("%s:", port.name);
        print_values(&port, outputs[i], count(port.rank, shape));
    }
    a->st_get_memory(s, &memory);
    printf("memory: %lld weights + %lld scratch + %d x %lld workspace + %lld session = %lld bytes\n",
           (long long)memory.weights, (long long)memory.scratch, memory.threads, (long long)memory.workspace,
           (long long)memory.session, (long long)memory.total);
    for (int i = 0; i < info->instructions; i++) {
        st_profile row;
        a->st_get_profile(s, i, &row);
        printf("%10.2f us measured %10.2f us predicted  %s\n",
               row.count ? (double)row.nanoseconds / 1e3 / (double)row.count : 0.0, row.predicted_seconds * 1e6,
               row.label);
    }
}

int main(int argc, char **argv)
{
    api a;
    st_session *s;
    st_info info;
    char error[1024];
    if (argc < 2) {
        fprintf(stderr, "usage: %s PLAN [THREADS [RUNS]]\n", argv[0]);
        return 2;
    }
    if (load_api(&a, argv[1]))
        return 3;
    const st_options options = {.size = sizeof options, .threads = argc > 2 ? atoi(argv[2]) : 0};
    if (a.st_open(argv[1], &options, &s, error, sizeof error)) {
        fprintf(stderr, "%s\n", error);
        return 2;
    }
    a.st_get_info(s, &info);
    printf("plan %s for %s, %d threads\n", info.name, info.target, info.threads);
    int64_t *symbols = calloc((size_t)info.symbols + 1, sizeof *symbols);
    void **inputs = calloc((size_t)info.inputs + 1, sizeof *inputs);
    void **outputs = calloc((size_t)info.outputs + 1, sizeof *outputs);
    int failed = !symbols || !inputs || !outputs;
    for (int i = 0; !failed && i < info.symbols; i++) {
        st_symbol symbol;
        a.st_get_symbol(s, i, &symbol);
        symbols[i] = symbol.typical;
    }
    if (!failed)
        failed = bind_all(&a, s, ST_INPUT, info.inputs, symbols, inputs) ||
                 bind_all(&a, s, ST_OUTPUT, info.outputs, symbols, outputs);
    for (int i = 0, runs = argc > 3 ? atoi(argv[3]) : 1; !failed && i < runs; i++)
        failed = a.st_run(s) != ST_OK;
    if (failed) {
        a.st_last_error(s, error, sizeof error);
        fprintf(stderr, "%s\n", *error ? error : "out of memory");
    } else {
        report(&a, s, &info, outputs);
    }
    for (int i = 0; inputs && i < info.inputs; i++)
        free(inputs[i]);
    for (int i = 0; outputs && i < info.outputs; i++)
        free(outputs[i]);
    free(inputs);
    free(outputs);
    free(symbols);
    a.st_close(s);
    return failed ? 2 : 0;
}
