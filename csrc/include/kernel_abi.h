/* What generated code and the runtime agree on.  One generated file of a plan defines the tables below; plan.bin names
 * the same kernels in the same order and carries the same id, so that a libplan.so of another plan is refused. */
#ifndef STRATAC_KERNEL_ABI_H
#define STRATAC_KERNEL_ABI_H

#include <stdint.h>

/* Compute part `part` of `parts`.  `dims` holds the values of the plan's symbols in the plan's order.  A workspace
 * argument is the base of the whole arena: part p owns the bytes from p * (bytes of one thread). */
typedef void (*st_kernel)(void *const *args, const int64_t *dims, int part, int parts);

extern const st_kernel st_plan_kernels[];

/* What several parts call before a kernel, or NULL: all of it is done, and seen by all, before any part of the kernel begins.  It may
 * leave something in the workspaces that parts of the kernel read in each other's; what comes next waits for all of them. */
extern const st_kernel st_plan_before[];

extern const char *const st_plan_kernel_names[];
extern const int st_plan_kernel_count;
extern const uint64_t st_plan_id;

/* Bytes of workspace each thread owns, the same for every kernel: two kernels that run side by side on different parts
 * never meet in it.  Only kernels refer to it. */
extern const int64_t st_plan_workspace;

/* A weight that stays in storage, as an argument of space `file`: the kernel reads the rows it wants by itself. */
typedef struct st_source st_source;

/* Copy `bytes` of the weight from its byte `offset` to `to`; any thread, any alignment.  `bounce` is the caller's to lend:
 * st_source_bounce(bytes) bytes, because storage is read in whole blocks.  Where that fails the bytes are zeros and the
 * run fails when it ends: a kernel need not ask. */
void st_source_read(const st_source *source, uint64_t offset, uint64_t bytes, void *to, void *bounce);

/* A row to be copied: from byte `offset` of the weight to `to`. */
typedef struct st_row {
    uint64_t offset;
    void *to;
} st_row;

#define ST_SOURCE_BATCH 64

/* The same for up to ST_SOURCE_BATCH rows of `bytes` each, side by side where the machine can.  `part` is the kernel's own, and
 * `bounce` has room for ST_SOURCE_BATCH times st_source_bounce(bytes). */
void st_source_rows(const st_source *source, const st_row *rows, int count, uint64_t bytes, void *bounce, int part);

#define ST_SOURCE_BLOCK 4096 /* STP_READ_ALIGNMENT */

/* Bytes of the bounce buffer, whatever its own alignment: the blocks that `bytes` may touch, and room to align them. */
static inline uint64_t st_source_bounce(uint64_t bytes)
{
    return (bytes + ST_SOURCE_BLOCK - 1) / ST_SOURCE_BLOCK * ST_SOURCE_BLOCK + 2 * (uint64_t)ST_SOURCE_BLOCK;
}

#endif
