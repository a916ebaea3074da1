/* quota ROOT: the cgroup quota below ROOT, in whole CPUs. */
#include "../../../csrc/runtime.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    printf("%d\n", st_cpus_quota(argc > 1 ? argv[1] : ""));
    return 0;
}
