/* NEON (Advanced SIMD of AArch64): 4 lanes, masks are integer vectors of all-ones or all-zeros. */
#ifndef STRATAC_SIMD_NEON_H
#define STRATAC_SIMD_NEON_H

#include <arm_neon.h>

#define VL 4
#define SIMD_ISA "neon"

typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm;
typedef struct { float64x2_t lo, hi; } vd;

static inline vi vi_set1(int32_t x) { return vdupq_n_s32(x); }
static inline vi vi_iota(void) { return vcombine_s32(vcreate_s32(0x0000000100000000u), vcreate_s32(0x0000000300000002u)); }
static inline vm vm_first(int64_t n) { return vcltq_s32(vi_iota(), vi_set1((int32_t)n)); }

static inline vf vf_set1(float x) { return vdupq_n_f32(x); }
static inline vf vf_zero(void) { return vdupq_n_f32(0); }
static inline vf vf_load(const float *p) { return vld1q_f32(p); }
static inline void vf_store(float *p, vf v) { vst1q_f32(p, v); }
static inline vf vf_load_n(const float *p, int64_t n)
{
    if (n == VL)
        return vf_load(p);
    float32x2_t zero = vdup_n_f32(0), low = n & 2 ? vld1_f32(p) : zero;
    if (n & 1)
        return n & 2 ? vcombine_f32(low, vld1_lane_f32(p + 2, zero, 0)) : vcombine_f32(vld1_lane_f32(p, zero, 0), zero);
    return vcombine_f32(low, zero);
}
static inline void vf_store_n(float *p, vf v, int64_t n)
{
    float32x2_t next = vget_low_f32(v);
    if (n == VL) {
        vf_store(p, v);
        return;
    }
    if (n & 2) {
        vst1_f32(p, next);
        next = vget_high_f32(v);
        p += 2;
    }
    if (n & 1)
        vst1_lane_f32(p, next, 0);
}
static inline float vf_first(vf v) { return vgetq_lane_f32(v, 0); }

static inline vf vf_load_strided(const float *p, int64_t stride, int64_t n)
{
    if (stride == 1)
        return vf_load_n(p, n);
    vf v = n > 0 ? vld1q_lane_f32(p, vf_zero(), 0) : vf_zero();
    v = n > 1 ? vld1q_lane_f32(p + stride, v, 1) : v;
    v = n > 2 ? vld1q_lane_f32(p + 2 * stride, v, 2) : v;
    return n > 3 ? vld1q_lane_f32(p + 3 * stride, v, 3) : v;
}

static inline vf vf_add(vf a, vf b) { return vaddq_f32(a, b); }
static inline vf vf_sub(vf a, vf b) { return vsubq_f32(a, b); }
static inline vf vf_mul(vf a, vf b) { return vmulq_f32(a, b); }
static inline vf vf_div(vf a, vf b) { return vdivq_f32(a, b); }
static inline vf vf_quotient(vf a, vf b) { return vf_div(a, b); } /* avx512.h */
static inline vf vf_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf vf_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
static inline vf vf_neg(vf a) { return vnegq_f32(a); }
static inline vf vf_abs(vf a) { return vabsq_f32(a); }
static inline vf vf_sqrt(vf a) { return vsqrtq_f32(a); }
static inline vf vf_floor(vf a) { return vrndmq_f32(a); }
static inline vf vf_ceil(vf a) { return vrndpq_f32(a); }
static inline vf vf_round(vf a) { return vrndnq_f32(a); }
static inline vf vf_trunc(vf a) { return vrndq_f32(a); }

/* One lane of `a` times all of b: no broadcast is needed.  Where the lane is a constant, as in unrolled loops, this is one
 * instruction. */
#define SIMD_BY_LANE
static inline vf vf_fma_lane(vf a, int lane, vf b, vf c)
{
    return lane == 0 ? vfmaq_laneq_f32(c, b, a, 0) : lane == 1 ? vfmaq_laneq_f32(c, b, a, 1)
         : lane == 2 ? vfmaq_laneq_f32(c, b, a, 2) : vfmaq_laneq_f32(c, b, a, 3);
}

static inline vm vf_lt(vf a, vf b) { return vcltq_f32(a, b); }
static inline vm vf_le(vf a, vf b) { return vcleq_f32(a, b); }
static inline vm vf_gt(vf a, vf b) { return vcgtq_f32(a, b); }
static inline vm vf_ge(vf a, vf b) { return vcgeq_f32(a, b); }
static inline vm vf_eq(vf a, vf b) { return vceqq_f32(a, b); }
static inline vm vf_ne(vf a, vf b) { return vmvnq_u32(vceqq_f32(a, b)); }
static inline vm vm_and(vm a, vm b) { return vandq_u32(a, b); }
static inline vm vm_or(vm a, vm b) { return vorrq_u32(a, b); }
static inline vm vm_xor(vm a, vm b) { return veorq_u32(a, b); }
static inline vm vm_not(vm a) { return vmvnq_u32(a); }
static inline vm vm_and_lt(vm m, vf a, vf b) { return vm_and(m, vf_lt(a, b)); }
static inline int vm_any(vm a) { return vmaxvq_u32(a) != 0; }
static inline int vm_all(vm a) { return vminvq_u32(a) != 0; }
static inline vf vf_select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }

/* b where either operand is NaN. */
static inline vf vf_min_fast(vf a, vf b) { return vf_select(vf_lt(a, b), a, b); }
static inline vf vf_max_fast(vf a, vf b) { return vf_select(vf_gt(a, b), a, b); }
/* FMIN and FMAX hand NaN on by themselves, and take -0 to be less than 0. */
static inline vf vf_min(vf a, vf b) { return vminq_f32(a, b); }
static inline vf vf_max(vf a, vf b) { return vmaxq_f32(a, b); }
/* The same where the bound is no NaN. */
static inline vf vf_at_most(vf x, vf bound) { return vminq_f32(x, bound); }
static inline vf vf_at_least(vf x, vf bound) { return vmaxq_f32(x, bound); }

static inline vf vi_as_vf(vi a) { return vreinterpretq_f32_s32(a); }
static inline vi vf_as_vi(vf a) { return vreinterpretq_s32_f32(a); }

/* table[index mod 16], found byte by byte */
static inline vf vf_lookup(const float table[16], vi index)
{
    const uint32x4_t first = vshlq_n_u32(vandq_u32(vreinterpretq_u32_s32(index), vdupq_n_u32(15)), 2);
    const uint32x4_t bytes = vmlaq_u32(vdupq_n_u32(0x03020100), first, vdupq_n_u32(0x01010101));
    const uint8_t *from = (const uint8_t *)table;
    const uint8x16x4_t all = {{vld1q_u8(from), vld1q_u8(from + 16), vld1q_u8(from + 32), vld1q_u8(from + 48)}};
    return vreinterpretq_f32_u8(vqtbl4q_u8(all, vreinterpretq_u8_u32(bytes)));
}

static inline vi vi_load(const int32_t *p) { return vld1q_s32(p); }
static inline void vi_store(int32_t *p, vi v) { vst1q_s32(p, v); }
static inline vi vi_load_n(const int32_t *p, int64_t n)
{
    if (n == VL)
        return vi_load(p);
    int32_t lanes[VL] = {0};
    for (int64_t i = 0; i < n; i++)
        lanes[i] = p[i];
    return vi_load(lanes);
}
static inline void vi_store_n(int32_t *p, vi v, int64_t n)
{
    int32_t lanes[VL];
    vi_store(lanes, v);
    for (int64_t i = 0; i < n; i++)
        p[i] = lanes[i];
}
static inline vi vi_load_u16(const uint16_t *p) { return vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p))); }
static inline vi vi_load_u8(const uint8_t *p)
{
    uint32_t bytes;
    memcpy(&bytes, p, VL);
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes)))));
}
static inline void vi_store_u16(uint16_t *p, vi v) { vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(v))); }
static inline void vi_store_u8(uint8_t *p, vi v)
{
    const uint16x4_t half = vmovn_u32(vreinterpretq_u32_s32(v));
    const uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
    memcpy(p, &bytes, VL);
}
static inline vi vi_add(vi a, vi b) { return vaddq_s32(a, b); }
static inline vi vi_sub(vi a, vi b) { return vsubq_s32(a, b); }
static inline vi vi_mul(vi a, vi b) { return vmulq_s32(a, b); }
static inline vi vi_and(vi a, vi b) { return vandq_s32(a, b); }
static inline vi vi_or(vi a, vi b) { return vorrq_s32(a, b); }
static inline vi vi_xor(vi a, vi b) { return veorq_s32(a, b); }
/* Shifts take their count from a vector; a negative one shifts right. */
static inline vi vi_shl(vi a, int n) { return vshlq_s32(a, vdupq_n_s32(n)); }
static inline vi vi_sar(vi a, int n) { return vshlq_s32(a, vdupq_n_s32(-n)); }
static inline vi vi_shr(vi a, int n) { return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_s32(a), vdupq_n_s32(-n))); }
static inline vi vi_min(vi a, vi b) { return vminq_s32(a, b); }
static inline vi vi_max(vi a, vi b) { return vmaxq_s32(a, b); }
static inline vm vi_eq(vi a, vi b) { return vceqq_s32(a, b); }
static inline vm vi_gt(vi a, vi b) { return vcgtq_s32(a, b); }
static inline vi vi_select(vm m, vi a, vi b) { return vbslq_s32(m, a, b); }

static inline vf vf_from_i32(vi a) { return vcvtq_f32_s32(a); }
/* The instruction saturates and makes NaN zero; on x86 whatever does not fit is the least integer, and so it is here. */
static inline vi vi_from_vf(vf a) { return vi_select(vf_lt(a, vf_set1(2147483648.0f)), vcvtq_s32_f32(a), vi_set1(INT32_MIN)); }
static inline vi vi_nearest(vf a) { return vi_from_vf(vf_round(a)); }
static inline vf vf_iota(void) { return vf_from_i32(vi_iota()); }

#define SIMD_F16
static inline vf vf_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
static inline void vf_store_f16(uint16_t *p, vf v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
static inline vf vf_round_f16(vf v) { return vcvt_f32_f16(vcvt_f16_f32(v)); }

/* Booleans in memory are bytes, 0 or 1 (any non-zero reads as true). */
static inline vm vm_load_n(const uint8_t *p, int64_t n)
{
    uint32_t bytes = 0;
    if (n == VL)
        memcpy(&bytes, p, VL);
    else
        for (int64_t i = 0; i < n; i++)
            bytes |= (uint32_t)p[i] << 8 * i;
    uint32x4_t wide = vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(bytes))));
    return vtstq_u32(wide, wide);
}
static inline void vm_store_n(uint8_t *p, vm m, int64_t n)
{
    uint16x4_t half = vmovn_u32(vshrq_n_u32(m, 31));
    uint32_t bytes = vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(half, half))), 0);
    for (int64_t i = 0; i < n; i++)
        p[i] = (uint8_t)(bytes >> 8 * i);
}

/* One order for every reduction: lane i with lane i + 2, then + 1. */
static inline float vf_reduce_add(vf v) { return vpadds_f32(vadd_f32(vget_low_f32(v), vget_high_f32(v))); }
static inline float vf_reduce_max(vf v) { return vmaxvq_f32(v); }
static inline float vf_reduce_min(vf v) { return vminvq_f32(v); }

/* y * 2^n for integral n in [-250, 250]: the first of two halves is exact, so denormals are rounded once. */
static inline vf simd_pow2(vi n) { return vi_as_vf(vshlq_n_s32(vi_add(n, vi_set1(127)), 23)); }
static inline vf vf_ldexp(vf y, vf n)
{
    vi i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1);
    return vf_mul(vf_mul(y, simd_pow2(half)), simd_pow2(vi_sub(i, half)));
}

static inline vd vd_set1(double x) { return (vd){vdupq_n_f64(x), vdupq_n_f64(x)}; }
static inline vd vd_from_vf(vf a) { return (vd){vcvt_f64_f32(vget_low_f32(a)), vcvt_high_f64_f32(a)}; }
static inline vf vf_from_vd(vd a) { return vcvt_high_f32_f64(vcvt_f32_f64(a.lo), a.hi); }
static inline vd vd_add(vd a, vd b) { return (vd){vaddq_f64(a.lo, b.lo), vaddq_f64(a.hi, b.hi)}; }
static inline vd vd_sub(vd a, vd b) { return (vd){vsubq_f64(a.lo, b.lo), vsubq_f64(a.hi, b.hi)}; }
static inline vd vd_mul(vd a, vd b) { return (vd){vmulq_f64(a.lo, b.lo), vmulq_f64(a.hi, b.hi)}; }
static inline vd vd_div(vd a, vd b) { return (vd){vdivq_f64(a.lo, b.lo), vdivq_f64(a.hi, b.hi)}; }

/* r[i][j] <- r[j][i]: pairs, then pairs of pairs. */
static inline void vf_transpose(vf r[VL])
{
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(r[0], r[1])), b = vreinterpretq_f64_f32(vtrn2q_f32(r[0], r[1]));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(r[2], r[3])), d = vreinterpretq_f64_f32(vtrn2q_f32(r[2], r[3]));
    r[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    r[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    r[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    r[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

#endif
