/* begin CPUS: a pool of three threads, whose opener is on the first CPU it may use.  Linked so that what is asked of the system about CPUs
 * goes through here; prints, in any order, a line for each set that a thread asks to run on: its only CPU, or "all" that are allowed. */
#include "../../../csrc/runtime.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static int allowed[ST_MAX_THREADS], cpus;

int __real_sched_setaffinity(pid_t thread, size_t bytes, const cpu_set_t *set);
int __wrap_sched_setaffinity(pid_t thread, size_t bytes, const cpu_set_t *set);
int __wrap_sched_getcpu(void);

int __wrap_sched_getcpu(void) { return allowed[0]; }

int __wrap_sched_setaffinity(pid_t thread, size_t bytes, const cpu_set_t *set)
{
    const int count = CPU_COUNT_S(bytes, set);
    int cpu = 0;
    while (count == 1 && !CPU_ISSET_S((size_t)cpu, bytes, set))
        cpu++;
    count == 1 ? printf("%d\n", cpu) : puts(count == cpus ? "all" : "some");
    return __real_sched_setaffinity(thread, bytes, set);
}

static void nothing(void *context, int part)
{
    (void)context;
    (void)part;
}

int main(int argc, char **argv)
{
    enum { THREADS = 3 };
    st_error error;
    st_pool *pool = calloc(1, (size_t)st_pool_bytes(THREADS));
    cpus = st_cpus_allowed(allowed, ST_MAX_THREADS);
    if (argc != 2 || !pool || st_pool_start(pool, THREADS, atoi(argv[1]), 0, &error) != ST_OK)
        return 1;
    st_pool_run(pool, nothing, NULL);
    st_pool_stop(pool);
    free(pool);
    return 0;
}
