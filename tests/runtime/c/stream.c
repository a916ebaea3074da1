/* Linked with the runtime and the kernels of streamed plans, under TSan, ASan and UBSan or with count.c preloaded:
 *
 *     stream PLAN RUNS       two sessions at once in every way of reading, each with 1 to 4 threads, results compared
 *     stream PLAN RUNS count one session for each way; prints the allocations of RUNS runs of each */
#define _GNU_SOURCE
#include "stratac.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 64 };

typedef struct job {
    const char *folder;
    int io, threads, runs, failed;
    const int64_t *expected; /* of the first run */
} job;

static int complain(st_session *s, const char *what)
{
    char text[1024] = "";
    st_last_error(s, text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

static int run_once(st_session *s, int64_t from, int64_t *z)
{
    int64_t x[N], shape[] = {N};
    for (int i = 0; i < N; i++)
        x[i] = from + i;
    if (st_bind_input(s, 0, x, 7, 1, shape) || st_bind_output(s, 0, z, 7, 1, shape))
        return complain(s, "bind");
    return st_run(s) ? complain(s, "run") : 0;
}

static int open_one(const job *j, st_session **s)
{
    char error[1024];
    const st_options options = {.size = sizeof options, .threads = j->threads, .io = j->io};
    if (!st_open(j->folder, &options, s, error, sizeof error))
        return 0;
    fprintf(stderr, "open: %s\n", error);
    return 1;
}

static int work(const job *j)
{
    st_session *s;
    int64_t z[N];
    st_read row;
    if (open_one(j, &s))
        return 1;
    int failed = 0;
    for (int i = 0; !failed && i < j->runs; i++) {
        failed = run_once(s, i % 3, z);
        if (!failed && i % 3 == 0 && j->expected && memcmp(z, j->expected, sizeof z))
            failed = complain(s, "wrong value");
        failed |= st_get_read(s, 0, &row); /* while others are counted */
    }
    st_close(s);
    return failed;
}

static void *work_thread(void *argument)
{
    job *j = argument;
    j->failed = work(j);
    return NULL;
}

static int count(const char *folder, int runs, int threads)
{
    void (*begin)(void);
    long (*end)(void), allocations = 0;
    *(void **)&begin = dlsym(RTLD_DEFAULT, "count_begin");
    *(void **)&end = dlsym(RTLD_DEFAULT, "count_end");
    if (!begin || !end)
        return 2;
    for (int io = ST_IO_AUTO; io <= ST_IO_MMAP; io += io == ST_IO_AUTO ? 2 : 1) {
        const job one = {folder, io, threads, runs, 0, NULL};
        st_session *s;
        int64_t z[N];
        if (open_one(&one, &s))
            return 1;
        begin();
        for (int i = 0; i < runs; i++)
            if (run_once(s, i, z))
                return 1;
        allocations += end();
        st_close(s);
    }
    printf("%ld\n", allocations);
    return 0;
}

int main(int argc, char **argv)
{
    int64_t expected[N];
    st_session *s;
    if (argc < 3)
        return 2;
    const int runs = atoi(argv[2]);
    if (argc > 3)
        return count(argv[1], runs, atoi(argv[3]));
    const job first = {argv[1], ST_IO_MMAP, 1, 1, 0, NULL};
    if (open_one(&first, &s) || run_once(s, 0, expected))
        return 1;
    st_close(s);
    for (int threads = 1; threads <= 4; threads++)
        for (int io = ST_IO_AUTO; io <= ST_IO_MMAP; io += io == ST_IO_AUTO ? 2 : 1) {
            job jobs[2] = {{argv[1], io, threads, runs, 0, expected},
                           {argv[1], ST_IO_THREADS, 5 - threads, runs, 0, expected}};
            pthread_t other;
            if (pthread_create(&other, NULL, work_thread, &jobs[1]))
                return 2;
            work_thread(&jobs[0]);
            pthread_join(other, NULL);
            if (jobs[0].failed || jobs[1].failed)
                return 1;
        }
    puts("ok");
    return 0;
}
