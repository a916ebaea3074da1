/* The naive twins of kernels.h, for tests: whole results, no parts, no workspace. */
#ifndef STRATAC_KERNELS_REFERENCE_H
#define STRATAC_KERNELS_REFERENCE_H

#include "kernels.h"

void st_ref_gemm_f32(const st_gemm *g);
void st_ref_conv_f32(const st_conv *c);
void st_ref_depthwise_f32(const st_conv *c);
void st_ref_attention_f32(const st_attention *a);

#endif
