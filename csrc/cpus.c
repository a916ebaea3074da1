/* How many CPUs this process may use: its affinity mask, and the tightest cgroup quota above it (v1 and v2).
 *
 * A quota is rounded down to whole CPUs: with one thread more, the kernel would stop all of them in every period, and
 * threads that wait for each other would all lose. */
#include "runtime.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096

int st_cpus_allowed(int *cpus, int capacity)
{
    int found = 0;
#if defined(__linux__)
    cpu_set_t *set = CPU_ALLOC(ST_MAX_CPUS);
    const size_t bytes = CPU_ALLOC_SIZE(ST_MAX_CPUS);
    if (set && sched_getaffinity(0, bytes, set) == 0)
        for (int cpu = 0; cpu < ST_MAX_CPUS; cpu++)
            if (CPU_ISSET_S((size_t)cpu, bytes, set)) {
                if (cpus && found < capacity)
                    cpus[found] = cpu;
                found++;
            }
    if (set)
        CPU_FREE(set);
#endif
    if (!found) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        found = online > 0 ? (int)online : 1;
        for (int i = 0; cpus && i < found && i < capacity; i++)
            cpus[i] = i;
    }
    return found;
}

/* The first line of a file into `line`; 0 where it cannot be read. */
static int first_line(const char *path, char *line, int bytes)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    const int read = fgets(line, bytes, file) != NULL;
    fclose(file);
    return read;
}

static int whole_cpus(double quota, double period)
{
    if (quota <= 0 || period <= 0 || quota / period >= ST_MAX_CPUS)
        return 0;
    const int cpus = (int)(quota / period);
    return cpus > 1 ? cpus : 1;
}

static int quota_v2(const char *folder)
{
    char path[PATH_BYTES + 32], line[128];
    double quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!first_line(path, line, sizeof line) || sscanf(line, "%lf %lf", &quota, &period) != 2)
        return 0; /* "max 100000": no quota */
    return whole_cpus(quota, period);
}

static int quota_v1(const char *folder)
{
    char path[PATH_BYTES + 32], line[128], other[128];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!first_line(path, line, sizeof line))
        return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!first_line(path, other, sizeof other))
        return 0;
    return whole_cpus(strtod(line, NULL), strtod(other, NULL)); /* -1: no quota */
}

static int tighter(int a, int b)
{
    return !a ? b : !b ? a : a < b ? a : b;
}

/* The tightest quota of `group` and its ancestors below `mount`.  In a container the group's path is often the host's and
 * does not exist here; the mount itself is then the container's group. */
static int along(const char *mount, char *group, int (*quota)(const char *))
{
    char folder[PATH_BYTES];
    int found = 0;
    for (;;) {
        if (snprintf(folder, sizeof folder, "%s%s", mount, group) < (int)sizeof folder)
            found = tighter(found, quota(folder));
        char *slash = strrchr(group, '/');
        if (!slash)
            return found;
        *slash = 0;
    }
}

static int names_cpu(char *controllers)
{
    char *rest = NULL;
    for (char *name = strtok_r(controllers, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        if (strcmp(name, "cpu") == 0)
            return 1;
    return 0;
}

int st_cpus_quota(const char *root)
{
    char path[PATH_BYTES], line[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int found = 0;
    while (fgets(line, sizeof line, file)) {
        /* "4:cpu,cpuacct:/group" for v1, "0::/group" for v2 */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *controllers++ = 0;
        *group++ = 0;
        const char *const v2[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
        const char *const v1[] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"};
        const int unified = !*controllers;
        if (!unified && !names_cpu(controllers))
            continue;
        for (int i = 0; i < 2; i++) {
            char copy[PATH_BYTES];
            snprintf(copy, sizeof copy, "%s", group);
            snprintf(path, sizeof path, "%.2000s%s", root, unified ? v2[i] : v1[i]);
            found = tighter(found, along(path, copy, unified ? quota_v2 : quota_v1));
        }
    }
    fclose(file);
    return found;
}
