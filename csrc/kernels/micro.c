/* The register tiles of f32. */
#include "tile.h"

#define ST_MULTIPLY vf_fma
#define ST_TABLE st_micro
#include "micro.h"
