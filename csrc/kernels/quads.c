/* The register tiles of the mode i8: operands are quads along k (simd/simd_quads.h), sums are int32. */
#include "../simd/simd_quads.h"
#include "tile.h"

#define ST_MULTIPLY vf_dot4
#ifdef SIMD_SDOT
#define ST_MULTIPLY_LANE vf_dot4_lane
#endif
#define ST_ADD vf_add_whole
#define ST_FINISHES 0
#define ST_TABLE st_micro_quads
#include "micro.h"
