/* The register tiles of the mode bf16: operands are pairs along k (simd/simd_pairs.h), sums are f32. */
#include "../simd/simd_pairs.h"
#include "tile.h"

#define ST_MULTIPLY vf_dot2
#ifdef SIMD_BFDOT
#define ST_MULTIPLY_LANE vf_dot2_lane
#endif
#define ST_ADD vf_add
#define ST_FINISHES 1
#define ST_TABLE st_micro_pairs
#include "micro.h"
