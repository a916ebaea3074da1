/* remote LIBRARY: calls functions of a shared object for whoever writes to standard input, so that code for another
 * architecture can be called from Python through an emulator.  remote.py is the other side.
 *
 * A request is a line "NAME RESULT COUNT" and so many arguments: a line "i VALUE", or a line "b BYTES" and the bytes, which
 * the function gets a pointer to.  The answer is a line with the result (RESULT i: an integer, f: the bits of a float, s: a
 * text) and then the bytes of every buffer as they are afterwards. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARGUMENTS = 6 };

typedef struct argument {
    int64_t value;
    size_t bytes;
    void *buffer;
} argument;

static int read_argument(argument *a)
{
    char kind, line[64];
    long long number;
    if (!fgets(line, sizeof line, stdin) || sscanf(line, "%c %lld", &kind, &number) != 2)
        return -1;
    *a = (argument){.value = number};
    if (kind == 'i')
        return 0;
    a->bytes = (size_t)number;
    a->buffer = malloc(a->bytes + 1);
    a->value = (int64_t)(intptr_t)a->buffer;
    return a->buffer && fread(a->buffer, 1, a->bytes, stdin) == a->bytes ? 0 : -1;
}

static void call(void *function, char result, const argument *a)
{
    const int64_t v[ARGUMENTS] = {a[0].value, a[1].value, a[2].value, a[3].value, a[4].value, a[5].value};
    if (result == 'f') {
        float (*f)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
        uint32_t bits;
        *(void **)&f = function;
        const float got = f(v[0], v[1], v[2], v[3], v[4], v[5]);
        memcpy(&bits, &got, sizeof bits);
        printf("%" PRIu32 "\n", bits);
    } else {
        int64_t (*f)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);
        *(void **)&f = function;
        const int64_t got = f(v[0], v[1], v[2], v[3], v[4], v[5]);
        if (result == 's')
            printf("%s\n", (const char *)(intptr_t)got);
        else
            printf("%" PRId64 "\n", got);
    }
}

int main(int argc, char **argv)
{
    char line[256], name[128], result;
    int count;
    void *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (!library)
        return fprintf(stderr, "%s\n", argc > 1 ? dlerror() : "which library?"), 2;
    while (fgets(line, sizeof line, stdin)) {
        argument a[ARGUMENTS] = {{0, 0, NULL}};
        if (sscanf(line, "%127s %c %d", name, &result, &count) != 3 || count > ARGUMENTS)
            return fprintf(stderr, "not understood: %s\n", line), 2;
        for (int i = 0; i < count; i++)
            if (read_argument(&a[i]))
                return fputs("an argument is missing\n", stderr), 2;
        void *function = dlsym(library, name);
        if (!function)
            return fprintf(stderr, "no function %s\n", name), 2;
        call(function, result, a);
        for (int i = 0; i < count; i++) {
            fwrite(a[i].buffer, 1, a[i].bytes, stdout);
            free(a[i].buffer);
        }
        fflush(stdout);
    }
    return 0;
}
