/* The register tiles of f32. */
#include "tile.h"

#define ST_MULTIPLY vf_fma
#ifdef SIMD_BY_LANE
#define ST_MULTIPLY_LANE vf_fma_lane
#endif
#define ST_ADD vf_add
#define ST_FINISHES 1
#define ST_TABLE st_micro
#include "micro.h"
