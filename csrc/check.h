/* How the loader says what is wrong with plan.bin. */
#ifndef STRATAC_CHECK_H
#define STRATAC_CHECK_H

#include "runtime.h"

#define AGAIN "compile the plan again"
#define CHECK(condition, ...)                             \
    do {                                                  \
        if (!(condition))                                 \
            return st_fail(error, ST_DAMAGED, __VA_ARGS__); \
    } while (0)
/* A defect at one record of a section. */
#define CHECK_AT(condition, section, index, what)                                                         \
    CHECK(condition, "plan.bin is malformed: %s %llu: %s; " AGAIN, st_section_names[section], \
          (unsigned long long)(index), what)

extern const char *const st_section_names[STP_SECTION_COUNT];

/* [first, first + count) lies in [0, total). */
static inline int st_inside(uint64_t first, uint64_t count, uint64_t total)
{
    return first <= total && count <= total - first;
}

/* load_memory.c: arenas, buffers and weights; load_reads.c: the queues, and what reads and calls promise each other. */
int st_check_memory(st_plan *plan, st_error *error);
int st_check_queues(st_plan *plan, const stp_queue *queues, st_error *error);
int st_check_reads(const st_plan *plan, st_error *error);

#endif
