/* What generated code and the runtime agree on.  One generated file of a plan defines the tables below; plan.bin names
 * the same kernels in the same order and carries the same id, so that a libplan.so of another plan is refused. */
#ifndef STRATAC_KERNEL_ABI_H
#define STRATAC_KERNEL_ABI_H

#include <stdint.h>

/* Compute part `part` of `parts`.  `dims` holds the values of the plan's symbols in the plan's order.  A workspace
 * argument is the base of the whole arena: part p owns the bytes from p * (bytes of one thread). */
typedef void (*st_kernel)(void *const *args, const int64_t *dims, int part, int parts);

extern const st_kernel st_plan_kernels[];
extern const char *const st_plan_kernel_names[];
extern const int st_plan_kernel_count;
extern const uint64_t st_plan_id;

/* Bytes of workspace each thread owns, the same for every kernel: two kernels that run side by side on different parts
 * never meet in it.  Only kernels refer to it. */
extern const int64_t st_plan_workspace;

#endif
