/* Linked with the runtime and the kernels of the stateful plan, under TSan, ASan and UBSan or with count.c preloaded:
 *
 *     state PLAN RUNS         two sessions at once, each with 1 to 4 threads, state checked
 *     state PLAN RUNS THREADS one session; prints the allocations of RUNS runs, each with a look at the state, and of resets */
#include "twice.h"

enum { WIDTH = 1000 };

static int run_some(st_session *s, int runs)
{
    float first[WIDTH], x[WIDTH], y[WIDTH], total[WIDTH];
    const int64_t width = WIDTH;
    int64_t calls;
    if (st_reset(s) || st_save_state(s, 0, first, sizeof first) || first[0] != -1.0f)
        return complain(s, "reset");
    for (int i = 0; i < WIDTH; i++)
        x[i] = (float)(i % 7);
    if (st_bind_input(s, 0, x, 1, 1, &width) || st_bind_output(s, 0, y, 1, 1, &width))
        return complain(s, "bind");
    for (int run = 1; run <= runs; run++) {
        if (st_run(s) || st_save_state(s, 0, total, sizeof total) || st_save_state(s, 1, &calls, sizeof calls))
            return complain(s, "run");
        for (int i = 0; i < WIDTH; i++)
            if (y[i] != 2 * total[i])
                return complain(s, "wrong value");
        if (calls != run || total[0] != first[0])
            return complain(s, "wrong state");
        if (run % 5 == 0 && st_load_state(s, 0, first, sizeof first))
            return complain(s, "load");
    }
    return 0;
}

static int work(job *j, void (*begin)(void), long (*end)(void))
{
    st_session *s;
    char error[1024];
    st_state row;
    const st_options options = {.size = sizeof options, .threads = j->threads};
    if (st_open(j->folder, &options, &s, error, sizeof error)) {
        fprintf(stderr, "open: %s\n", error);
        return 1;
    }
    int failed = st_get_state(s, 1, &row) || strcmp(row.name, "calls") || row.bytes != 8 || !row.zeros || row.rank;
    failed |= st_get_state(s, 2, &row) != ST_ARGUMENT || st_save_state(s, 0, &row, 1) != ST_ARGUMENT;
    if (begin)
        begin();
    for (int i = 0; !failed && i < 3; i++)
        failed = run_some(s, j->runs);
    if (end)
        printf("%ld\n", end());
    st_close(s);
    return failed;
}
