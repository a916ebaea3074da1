/* What programs share that run a plan in two sessions at once, or in one while allocations are counted (count.c preloaded). Whoever
 * includes this defines `work`: it opens a session, calls `begin` unless NULL, runs, prints what `end` gives, and returns 0 if all
 * was right. */
#define _GNU_SOURCE
#include "stratac.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    const char *folder;
    int threads, runs, failed;
} job;

static int complain(st_session *s, const char *what)
{
    char text[1024] = "";
    st_last_error(s, text, sizeof text);
    fprintf(stderr, "%s: %s\n", what, text);
    return 1;
}

static int work(job *j, void (*begin)(void), long (*end)(void));

static void *work_thread(void *argument)
{
    job *j = argument;
    j->failed = work(j, NULL, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    const int runs = atoi(argv[2]);
    if (argc > 3) {
        void (*begin)(void);
        long (*end)(void);
        *(void **)&begin = dlsym(RTLD_DEFAULT, "count_begin");
        *(void **)&end = dlsym(RTLD_DEFAULT, "count_end");
        job one = {argv[1], atoi(argv[3]), runs, 0};
        return !begin || !end ? 2 : work(&one, begin, end);
    }
    for (int threads = 1; threads <= 4; threads++) {
        job jobs[2] = {{argv[1], threads, runs, 0}, {argv[1], 5 - threads, runs, 0}};
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
