/* Linked with the runtime and the tiny plan's kernels, under TSan, ASan and UBSan or with count.c preloaded:
 *
 *     stress PLAN RUNS       two sessions at once, each with 1 to 4 threads, results checked
 *     stress PLAN RUNS count one session; prints the allocations of RUNS runs */
#include "twice.h"

enum { ROWS = 64 };

static const float scale[4] = {1.0f, -2.0f, 0.5f, 3.0f};

static int run_once(st_session *s, int64_t n, int round)
{
    float x[ROWS * 4], y[ROWS * 4], z[ROWS * 4];
    int64_t rows[ROWS], shape[] = {n, 4}, out[2], count;
    for (int i = 0; i < n * 4; i++) {
        x[i] = (float)(i + round);
        y[i] = (float)(i * 3 - round);
        z[i] = -1.0f;
    }
    if (st_bind_input(s, 0, x, 1, 2, shape) || st_bind_input(s, 1, y, 1, 2, shape) || st_output_shape(s, 0, out, 2) ||
        st_output_shape(s, 1, &count, 1))
        return complain(s, "inputs");
    if (out[0] != n || out[1] != 4 || count != n / 2 + 1)
        return complain(s, "wrong output shape");
    if (st_bind_output(s, 0, z, 1, 2, out) || st_bind_output(s, 1, rows, 7, 1, &count) || st_run(s))
        return complain(s, "run");
    for (int i = 0; i < n * 4; i++)
        if (z[i] != (x[i] + y[i]) * scale[i % 4])
            return complain(s, "wrong value");
    return rows[0] != n;
}

static int work(job *j, void (*begin)(void), long (*end)(void))
{
    st_session *s;
    char error[1024];
    const st_options options = {.size = sizeof options, .threads = j->threads, .affinity = j->threads == 3};
    if (st_open(j->folder, &options, &s, error, sizeof error)) {
        fprintf(stderr, "open: %s\n", error);
        return 1;
    }
    if (begin)
        begin();
    int failed = 0;
    for (int i = 0; !failed && i < j->runs; i++)
        failed = run_once(s, 1 + i % ROWS, i);
    if (end)
        printf("%ld\n", end());
    st_close(s);
    return failed;
}
