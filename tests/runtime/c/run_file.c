/* run_file PLAN THREADS IO REQUEST ANSWER [upward]: one run of a plan on arrays from a file, for programs that an emulator runs.
 *
 * REQUEST holds every input in the plan's order: int64 rank, the extents, int64 bytes, the elements; ANSWER gets the outputs
 * in the same form.  With `upward` the caller rounds up, which must not show.  Prints how weights in storage are read. */
#define _GNU_SOURCE
#include "stratac.h"

#include <ctype.h>
#include <dlfcn.h>
#include <fenv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 64 };

#define FUNCTIONS(X) \
    X(st_open) X(st_close) X(st_last_error) X(st_get_info) X(st_get_port) X(st_bind_input) X(st_bind_output) X(st_output_shape) X(st_found_shape) X(st_run)

static struct {
#define X(name) __typeof__(name) *name;
    FUNCTIONS(X)
#undef X
} a;

static int load(const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/libplan.so", folder);
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fprintf(stderr, "%s\n", dlerror()), -1;
#define X(name)                                     \
    *(void **)&a.name = dlsym(library, #name);      \
    if (!a.name)                                    \
        return fprintf(stderr, "no " #name "\n"), -1;
    FUNCTIONS(X)
#undef X
    return 0;
}

/* Bytes of an element: the first digits of a dtype's name are its bits, and fewer than 8 take a byte. */
static int64_t element_bytes(const char *dtype)
{
    while (*dtype && !isdigit((unsigned char)*dtype))
        dtype++;
    return *dtype ? (atoi(dtype) + 7) / 8 : 1; /* bool */
}

static int whole(FILE *file, void *to, size_t bytes) { return fread(to, 1, bytes, file) == bytes; }

static int bind_inputs(st_session *s, int count, FILE *file)
{
    for (int i = 0; i < count; i++) {
        int64_t rank, shape[RANK], bytes;
        st_port port;
        if (!whole(file, &rank, 8) || rank > RANK || !whole(file, shape, 8 * (size_t)rank) || !whole(file, &bytes, 8))
            return -1;
        void *data = aligned_alloc(64, ((size_t)bytes + 64) / 64 * 64);
        if (!data || !whole(file, data, (size_t)bytes) || a.st_get_port(s, ST_INPUT, i, &port) ||
            a.st_bind_input(s, i, data, port.dtype, (int32_t)rank, shape))
            return -1;
    }
    return 0;
}

static int64_t bytes_of(const st_port *port, const int64_t *shape)
{
    int64_t bytes = element_bytes(port->dtype_name);
    for (int i = 0; i < port->rank; i++)
        bytes *= shape[i];
    return bytes;
}

static int bind_outputs(st_session *s, int count, void **data)
{
    for (int i = 0; i < count; i++) {
        int64_t shape[RANK];
        st_port port;
        if (a.st_get_port(s, ST_OUTPUT, i, &port) || a.st_output_shape(s, i, shape, RANK))
            return -1;
        data[i] = aligned_alloc(64, ((size_t)bytes_of(&port, shape) + 64) / 64 * 64);
        if (!data[i] || a.st_bind_output(s, i, data[i], port.dtype, port.rank, shape))
            return -1;
    }
    return 0;
}

static int write_outputs(st_session *s, int count, void **data, FILE *file)
{
    for (int i = 0; i < count; i++) {
        int64_t shape[RANK];
        st_port port;
        if (a.st_get_port(s, ST_OUTPUT, i, &port) || a.st_found_shape(s, i, shape, RANK))
            return -1;
        const int64_t rank = port.rank, bytes = bytes_of(&port, shape);
        fwrite(&rank, 8, 1, file);
        fwrite(shape, 8, (size_t)rank, file);
        fwrite(&bytes, 8, 1, file);
        fwrite(data[i], 1, (size_t)bytes, file);
    }
    return fclose(file);
}

int main(int argc, char **argv)
{
    char error[1024] = "";
    st_session *s;
    st_info info;
    if (argc < 6 || load(argv[1]))
        return 3;
    const st_options options = {.size = sizeof options, .threads = atoi(argv[2]), .io = atoi(argv[3])};
    if (a.st_open(argv[1], &options, &s, error, sizeof error))
        return fprintf(stderr, "%s\n", error), 2;
    FILE *request = fopen(argv[4], "rb"), *answer = fopen(argv[5], "wb");
    if (!request || !answer || a.st_get_info(s, &info))
        return 3;
    void **outputs = calloc((size_t)info.outputs + 1, sizeof *outputs);
    if (argc > 6)
        fesetround(FE_UPWARD);
    if (bind_inputs(s, info.inputs, request) || bind_outputs(s, info.outputs, outputs) || a.st_run(s)) {
        a.st_last_error(s, error, sizeof error);
        return fprintf(stderr, "%s\n", error), 2;
    }
    if (argc > 6 && fegetround() != FE_UPWARD)
        return fputs("the caller's rounding is gone\n", stderr), 2;
    printf("%s\n", info.io);
    const int failed = write_outputs(s, info.outputs, outputs, answer);
    a.st_close(s);
    return failed ? 3 : 0;
}
