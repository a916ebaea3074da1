/* Linked with the runtime and the kernels of tests/runtime/test_regions.py, under TSan, ASan and UBSan or with count.c preloaded:
 *
 *     regions PLAN RUNS       a session with each of 1 to 5 threads, results checked
 *     regions PLAN RUNS count one session; prints the allocations of RUNS runs */
#define _GNU_SOURCE
#include "stratac.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 512 };

static float wanted(const float *x, int64_t n, int64_t i, int flag)
{
    if (x[0] <= 0.0f)
        return x[i];
    return flag ? 8.0f * x[n - 1 - i] : 4.0f * x[i];
}

static int run_once(st_session *s, int64_t n, int round)
{
    float x[ROWS], y[ROWS];
    const uint8_t flag = round % 3 == 0;
    const float sign = round % 4 < 2 ? 1.0f : -1.0f;
    for (int64_t i = 0; i < n; i++)
        x[i] = sign * (float)(i + 1 + round);
    if (st_bind_input(s, 0, x, 1, 1, &n) || st_bind_input(s, 1, &flag, 9, 0, NULL) || st_bind_output(s, 0, y, 1, 1, &n) ||
        st_run(s)) {
        char text[1024] = "";
        st_last_error(s, text, sizeof text);
        return fprintf(stderr, "%s\n", text), 1;
    }
    for (int64_t i = 0; i < n; i++)
        if (y[i] != wanted(x, n, i, flag))
            return fprintf(stderr, "wrong value\n"), 1;
    return 0;
}

static int work(const char *folder, int threads, int runs, void (*begin)(void), long (*end)(void))
{
    st_session *s;
    char error[1024];
    const st_options options = {.size = sizeof options, .threads = threads};
    if (st_open(folder, &options, &s, error, sizeof error))
        return fprintf(stderr, "open: %s\n", error), 1;
    if (begin)
        begin();
    int failed = 0;
    for (int i = 0; !failed && i < runs; i++)
        failed = run_once(s, 1 + i * 37 % ROWS, i);
    if (end)
        printf("%ld\n", end());
    st_close(s);
    return failed;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    if (argc > 3) {
        void (*begin)(void);
        long (*end)(void);
        *(void **)&begin = dlsym(RTLD_DEFAULT, "count_begin");
        *(void **)&end = dlsym(RTLD_DEFAULT, "count_end");
        return !begin || !end ? 2 : work(argv[1], atoi(argv[3]), atoi(argv[2]), begin, end);
    }
    for (int threads = 1; threads <= 5; threads++)
        if (work(argv[1], threads, atoi(argv[2]), NULL, NULL))
            return 1;
    puts("ok");
    return 0;
}
