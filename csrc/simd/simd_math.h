/* Elementary functions over vf, written once in the operations every ISA file has.
 *
 * Polynomials are minimax fits (Lawson-weighted, coefficients rounded to float from the lowest order up); each comment
 * gives the interval and the fit's own error.  Denormal inputs and results are kept; NaN in gives NaN out.
 * sf_X(x) is lane 0 of vf_X(x), so scalar and vector code give the same bits.
 */
#ifndef STRATAC_SIMD_MATH_H
#define STRATAC_SIMD_MATH_H

#define SIMD_INF __builtin_inff()
#define SIMD_NAN __builtin_nanf("")

static inline vf simd_copysign(vf magnitude, vf sign)
{
    vi bit = vi_set1(INT32_MIN);
    return vi_as_vf(vi_or(vf_as_vi(vf_abs(magnitude)), vi_and(vf_as_vi(sign), bit)));
}

/* 2^n * e^r with n = round(x / ln 2), |r| <= ln2/2; e^r = 1 + r + r^2 P(r), fit 2^-28.2.  ln2's high part has 15 bits, so
 * n * high is exact without a fused multiply.  For -110 <= x <= 100, or NaN. */
static inline vf simd_exp(vf x)
{
    vf n = vf_round(vf_mul(x, vf_set1(1.44269504f)));
    vf r = vf_fnma(n, vf_set1(1.42860682e-6f), vf_fnma(n, vf_set1(0.693145751953125f), x));
    vf p = vf_fma(vf_set1(0.0013942204f), r, vf_set1(0.00836867746f));
    p = vf_fma(p, r, vf_set1(0.0416663848f));
    p = vf_fma(p, r, vf_set1(0.166665211f));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(vf_mul(r, r), p, r);
    return vf_ldexp(vf_add(p, vf_set1(1.0f)), n);
}

/* min_fast/max_fast keep a NaN in their second operand. */
static inline vf vf_exp(vf x) { return simd_exp(vf_max_fast(vf_set1(-110.0f), vf_min_fast(vf_set1(100.0f), x))); }

/* x = 2^e * m with m in [sqrt(1/2), sqrt 2); denormals are scaled into range first.  x must be positive and finite. */
static inline vf simd_split(vf x, vf *e)
{
    vm tiny = vf_lt(x, vf_set1(1.17549435e-38f));
    vi bits = vf_as_vi(vf_select(tiny, vf_mul(x, vf_set1(33554432.0f)), x));
    vi exponent = vi_sar(vi_sub(bits, vi_set1(0x3f3504f3)), 23);
    *e = vf_sub(vf_from_i32(exponent), vf_select(tiny, vf_set1(25.0f), vf_zero()));
    return vi_as_vf(vi_sub(bits, vi_shl(exponent, 23)));
}

/* e ln 2 + log(1 + f), log(1 + f) = f - f^2/2 + f^3 P(f), fit 2^-30.4. */
static inline vf vf_log(vf x)
{
    vf e, f = vf_sub(simd_split(x, &e), vf_set1(1.0f)), f2 = vf_mul(f, f);
    vf p = vf_fma(vf_set1(0.0691561252f), f, vf_set1(-0.117893703f));
    p = vf_fma(p, f, vf_set1(0.118726194f));
    p = vf_fma(p, f, vf_set1(-0.12384402f));
    p = vf_fma(p, f, vf_set1(0.142187163f));
    p = vf_fma(p, f, vf_set1(-0.166692495f));
    p = vf_fma(p, f, vf_set1(0.200022236f));
    p = vf_fma(p, f, vf_set1(-0.249999866f));
    p = vf_fma(p, f, vf_set1(0.333333105f));
    vf y = vf_fma(e, vf_set1(1.42860682e-6f), vf_mul(vf_mul(f, f2), p));
    y = vf_add(f, vf_fnma(vf_set1(0.5f), f2, y));
    y = vf_fma(e, vf_set1(0.693145751953125f), y);
    y = vf_select(vf_lt(x, vf_set1(SIMD_INF)), y, x); /* +inf, NaN */
    y = vf_select(vf_lt(x, vf_zero()), vf_set1(SIMD_NAN), y);
    return vf_select(vf_eq(x, vf_zero()), vf_set1(-SIMD_INF), y);
}

/* |x| < 0.625: x + x^3 P(x^2), fit 2^-27.8; beyond: 1 - 2 / (e^2|x| + 1), which is 1 from 9.1 on. */
static inline vf vf_tanh(vf x)
{
    vf a = vf_abs(x), z = vf_mul(x, x);
    vf p = vf_fma(vf_set1(-0.00571620278f), z, vf_set1(0.0206497088f));
    p = vf_fma(p, z, vf_set1(-0.0537431724f));
    p = vf_fma(p, z, vf_set1(0.133314863f));
    p = vf_fma(p, z, vf_set1(-0.333332837f));
    vf near = vf_fma(vf_mul(x, z), p, x);
    vf one = vf_set1(1.0f), e = simd_exp(vf_min_fast(vf_set1(20.0f), vf_add(a, a)));
    vf far = vf_sub(one, vf_quotient(vf_set1(2.0f), vf_add(e, one)));
    return simd_copysign(vf_select(vf_lt(a, vf_set1(0.625f)), near, far), x); /* -0 stays -0 */
}

/* e^-|x| never overflows, so the lower tail keeps its relative accuracy down to the denormals. */
static inline vf vf_sigmoid(vf x)
{
    vf one = vf_set1(1.0f), e = simd_exp(vf_max_fast(vf_set1(-110.0f), vf_neg(vf_abs(x))));
    return vf_quotient(vf_select(vf_lt(x, vf_zero()), e, one), vf_add(one, e));
}

/* |x| near one of sixteen nodes: erf(node) + t P(t), t = |x| - node, fits 2^-29.4 and better; near 0: x + x P(x).  The nodes are
 * about 4 / 15.5 apart, each where erf is a float to a thousandth of its last place (Gal, 1986); t is exact.  0.99 ULP with a
 * fused multiply-add, 1.17 without.  Beyond 4: 1. */
static inline vf vf_erf(vf x)
{
    static const float nodes[16] = {
        0.0f, 0.258932531f, 0.516705751f, 0.775000453f, 1.0333823f, 1.29091084f, 1.54859889f, 1.80794644f,
        2.0650053f, 2.32421017f, 2.58308434f, 2.84026456f, 3.09798956f, 3.36355853f, 3.62370491f, 3.83250976f};
    static const float at[16] = {
        0.0f, 0.285773635f, 0.535057306f, 0.726928294f, 0.856100678f, 0.932093024f, 0.971479356f, 0.989436686f,
        0.996503711f, 0.998987138f, 0.999740839f, 0.999940991f, 0.999988198f, 0.999998033f, 0.999999702f, 0.99999994f};
    static const float p[6][16] = {
        {0.128379166f, 1.05520618f, 0.863982677f, 0.618880272f, 0.387865484f, 0.213169307f, 0.102552921f, 0.0429427177f,
         0.015867779f, 0.00508647272f, 0.00142791169f, 0.000353962416f, 7.66119774e-05f, 1.37737798e-05f, 2.23682991e-06f, 4.71499021e-07f},
        {3.51663289e-07f, -0.273227125f, -0.446424752f, -0.479632467f, -0.400813311f, -0.275182575f, -0.158813342f, -0.0776381418f,
         -0.0327670462f, -0.0118220318f, -0.00368841714f, -0.00100534712f, -0.00023734635f, -4.63300858e-05f, -8.10584061e-06f, -1.80578877e-06f},
        {-0.376146644f, -0.304567605f, -0.134222582f, 0.0415118858f, 0.146834463f, 0.165767565f, 0.129776314f, 0.0792645514f,
         0.0398206599f, 0.0166224614f, 0.00587553252f, 0.00178551581f, 0.000464617915f, 9.92814239e-05f, 1.88297672e-05f, 4.45675005e-06f},
        {0.000395828072f, 0.130489528f, 0.183469027f, 0.143785566f, 0.0577341393f, -0.0152661828f, -0.0475472063f, -0.0457719676f,
         -0.0301926099f, -0.015376512f, -0.00635901419f, -0.00220061932f, -0.000640260056f, -0.000151352957f, -3.13739838e-05f, -8.09651374e-06f},
        {0.110003673f, 0.07744506f, 0.00287356204f, -0.0564631931f, -0.0673780069f, -0.0418078266f, -0.00966801215f, 0.00913830567f,
         0.0129230218f, 0.00930433348f, 0.00482674688f, 0.00198070589f, 0.000661332277f, 0.000176656235f, 4.07399421e-05f, 1.15428538e-05f},
        {0.00294676796f, -0.0405528657f, -0.048481252f, -0.023388138f, 0.00788025372f, 0.0218930673f, 0.0175772142f, 0.00660080928f,
         -0.000845632399f, -0.00308814761f, -0.00244979933f, -0.00127930334f, -0.000518651505f, -0.000164599463f, -4.26519873e-05f, -9.75914736e-06f},
    };
    vf a = vf_min_fast(vf_set1(4.0f), vf_abs(x));
    vi nearest = vf_as_vi(vf_fma(a, vf_set1(3.8725f), vf_set1(12582912.0f))); /* in the lowest bits */
    vf node = vf_lookup(nodes, nearest), t = vf_sub(a, node);
    vf y = vf_fma(vf_lookup(p[5], nearest), t, vf_lookup(p[4], nearest));
    y = vf_fma(y, t, vf_lookup(p[3], nearest));
    y = vf_fma(y, t, vf_lookup(p[2], nearest));
    y = vf_fma(y, t, vf_lookup(p[1], nearest));
    y = vf_fma(y, t, vf_lookup(p[0], nearest));
    y = vf_fma(y, t, vf_select(vf_eq(node, vf_zero()), a, vf_lookup(at, nearest)));
    return simd_copysign(y, x);
}

/* x mod pi/2 for any finite |x| >= 2^17 (Payne and Hanek, 1983): multiply the 24-bit significand by the window of 2/pi that
 * matters modulo 4.  Returns the remainder in [-pi/4, pi/4], *quadrant its multiple modulo 4. */
static inline float simd_big_angle(float x, int32_t *quadrant)
{
    static const uint32_t two_over_pi[8] = {0, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0, 0xdb629599, 0x3c439041, 0xfe5163ab};
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    int exponent = (int)(bits >> 23 & 0xff) - 150; /* |x| = significand * 2^exponent */
    *quadrant = 0;
    if (exponent == 105)
        return x - x; /* infinity or NaN */
    uint64_t significand = (bits & 0x7fffff) | 0x800000;
    unsigned at = (unsigned)(exponent + 30), word = at >> 5, shift = at & 31; /* window starts two bits above the units */
    uint64_t w[4];
    for (unsigned i = 0; i < 4; i++)
        w[i] = word + i < 8 ? two_over_pi[word + i] : 0;
    uint64_t high = w[0] << 32 | w[1], low = w[2] << 32 | w[3];
    uint64_t top = shift ? high << shift | low >> (64 - shift) : high, next = (uint32_t)((low << shift) >> 32);
    uint64_t turn = significand * top + (significand * next >> 32); /* 64-bit fraction of a full turn */
    uint64_t q = (turn + (UINT64_C(1) << 61)) >> 62;
    double r = (double)(int64_t)(turn - (q << 62)) * (6.283185307179586 / 18446744073709551616.0);
    int negative = bits >> 31;
    *quadrant = (int32_t)(negative ? 4 - q : q) & 3;
    return (float)(negative ? -r : r);
}

/* Remainder of x by pi/2 and its multiple.  Below 2^17 double precision is enough: the first constant has 25 bits, so
 * n times it is exact. */
static inline vf simd_angle(vf x, vi *quadrant)
{
    vf n = vf_round(vf_mul(x, vf_set1(0.636619772f)));
    vd nd = vd_from_vf(n);
    vd rd = vd_sub(vd_sub(vd_from_vf(x), vd_mul(nd, vd_set1(1.5707963109016418))), vd_mul(nd, vd_set1(1.5893254773528196e-8)));
    vf r = vf_from_vd(rd);
    vi q = vi_from_vf(n);
    vm big = vm_not(vf_lt(vf_abs(x), vf_set1(131072.0f)));
    if (vm_any(big)) {
        float lane_x[VL], lane_r[VL];
        int32_t lane_q[VL];
        vf_store(lane_x, x);
        vf_store(lane_r, r);
        vi_store(lane_q, q);
        for (int i = 0; i < VL; i++)
            if (!(lane_x[i] > -131072.0f && lane_x[i] < 131072.0f))
                lane_r[i] = simd_big_angle(lane_x[i], &lane_q[i]);
        r = vf_load(lane_r);
        q = vi_load(lane_q);
    }
    *quadrant = q;
    return r;
}

/* sin r = r + r^3 S(r^2), fit 2^-32.6; cos r = 1 - r^2/2 + r^4 C(r^2), fit 2^-33.1; |r| <= pi/4. */
static inline vf simd_sin_quadrant(vf r, vi q)
{
    vf z = vf_mul(r, r);
    vf s = vf_fma(vf_set1(2.83754275e-06f), z, vf_set1(-0.000198535126f));
    s = vf_fma(s, z, vf_set1(0.00833338033f));
    s = vf_fma(s, z, vf_set1(-0.166666672f));
    s = vf_fma(vf_mul(r, z), s, r);
    vf c = vf_fma(vf_set1(2.44306611e-05f), z, vf_set1(-0.00138873013f));
    c = vf_fma(c, z, vf_set1(0.0416666456f));
    c = vf_fma(vf_mul(z, z), c, vf_fnma(vf_set1(0.5f), z, vf_set1(1.0f)));
    vf y = vf_select(vi_eq(vi_and(q, vi_set1(1)), vi_set1(0)), s, c);
    return vi_as_vf(vi_xor(vf_as_vi(y), vi_shl(vi_and(q, vi_set1(2)), 30)));
}
static inline vf vf_sin(vf x)
{
    vi q;
    vf r = simd_angle(x, &q);
    return vf_select(vf_eq(x, vf_zero()), x, simd_sin_quadrant(r, q));
}
static inline vf vf_cos(vf x)
{
    vi q;
    vf r = simd_angle(x, &q);
    return simd_sin_quadrant(r, vi_add(q, vi_set1(1)));
}

/* 2^(y log2 |x|), the logarithm and the product in double precision (the exponent's error is magnified 128 times), with
 * C99's special cases.  log2 m = 2/ln2 * atanh-series in s = (m - 1) / (m + 1), |s| <= 0.1716: 8 terms leave 2^-44. */
static inline vf vf_pow(vf x, vf y)
{
    vf ax = vf_abs(x), zero = vf_zero(), one = vf_set1(1.0f), inf = vf_set1(SIMD_INF);
    vf e, m = simd_split(ax, &e);
    vd md = vd_from_vf(m), s = vd_div(vd_sub(md, vd_set1(1.0)), vd_add(md, vd_set1(1.0))), z = vd_mul(s, s);
    vd p = vd_set1(0.19235933878519512);
    p = vd_add(vd_mul(p, z), vd_set1(0.22195308321368667));
    p = vd_add(vd_mul(p, z), vd_set1(0.2623081892525388));
    p = vd_add(vd_mul(p, z), vd_set1(0.3205988979753252));
    p = vd_add(vd_mul(p, z), vd_set1(0.4121985831111324));
    p = vd_add(vd_mul(p, z), vd_set1(0.5770780163555853));
    p = vd_add(vd_mul(p, z), vd_set1(0.9617966939259756));
    p = vd_add(vd_mul(p, z), vd_set1(2.8853900817779268));
    vd t = vd_mul(vd_from_vf(y), vd_add(vd_from_vf(e), vd_mul(s, p)));
    vm infinite = vm_or(vf_eq(ax, zero), vf_eq(ax, inf)); /* the logarithm is */
    vf tf = vf_select(infinite, vf_mul(y, vf_select(vf_eq(ax, zero), vf_neg(inf), inf)), vf_from_vd(t));
    vf n = vf_round(vf_max_fast(vf_set1(-160.0f), vf_min_fast(vf_set1(160.0f), tf)));
    vf f = vf_select(infinite, zero, vf_from_vd(vd_sub(t, vd_from_vf(n))));
    f = vf_max_fast(vf_set1(-0.75f), vf_min_fast(vf_set1(0.75f), f)); /* only past overflow or underflow */
    vf r = vf_fma(vf_set1(0.000154628768f), f, vf_set1(0.00133909844f)); /* 2^f = 1 + f R(f), |f| <= 1/2, fit 2^-28.3 */
    r = vf_fma(r, f, vf_set1(0.00961806253f));
    r = vf_fma(r, f, vf_set1(0.0555035956f));
    r = vf_fma(r, f, vf_set1(0.240226507f));
    r = vf_fma(r, f, vf_set1(0.693147182f));
    r = vf_ldexp(vf_fma(r, f, one), n);

    vf half = vf_mul(y, vf_set1(0.5f));
    vm whole = vf_eq(vf_trunc(y), y), odd = vm_and(whole, vf_ne(vf_trunc(half), half));
    vf flip = vi_as_vf(vi_and(vf_as_vi(x), vi_set1(INT32_MIN)));
    r = vf_select(odd, vi_as_vf(vi_xor(vf_as_vi(r), vf_as_vi(flip))), r);
    vm below = vm_and(vf_lt(x, zero), vf_gt(x, vf_neg(inf)));
    r = vf_select(vm_and(below, vm_not(whole)), vf_set1(SIMD_NAN), r);
    r = vf_select(vm_or(vf_ne(x, x), vf_ne(y, y)), vf_add(x, y), r);
    r = vf_select(vm_and(vf_eq(x, vf_set1(-1.0f)), vf_eq(vf_abs(y), inf)), one, r);
    return vf_select(vm_or(vf_eq(y, zero), vf_eq(x, one)), one, r);
}

#define SIMD_SCALAR(name)                                                                                                  \
    static inline float sf_##name(float x) { return vf_first(vf_##name(vf_set1(x))); }
SIMD_SCALAR(exp)
SIMD_SCALAR(log)
SIMD_SCALAR(tanh)
SIMD_SCALAR(erf)
SIMD_SCALAR(sigmoid)
SIMD_SCALAR(sin)
SIMD_SCALAR(cos)
SIMD_SCALAR(sqrt)
SIMD_SCALAR(floor)
SIMD_SCALAR(ceil)
SIMD_SCALAR(round)
SIMD_SCALAR(trunc)
SIMD_SCALAR(abs)
#undef SIMD_SCALAR
static inline float sf_pow(float x, float y) { return vf_first(vf_pow(vf_set1(x), vf_set1(y))); }
static inline float sf_fma(float a, float b, float c) { return vf_first(vf_fma(vf_set1(a), vf_set1(b), vf_set1(c))); }
static inline float sf_min(float a, float b) { return vf_first(vf_min(vf_set1(a), vf_set1(b))); }
static inline float sf_max(float a, float b) { return vf_first(vf_max(vf_set1(a), vf_set1(b))); }
static inline float sf_at_most(float x, float bound) { return vf_first(vf_at_most(vf_set1(x), vf_set1(bound))); }
static inline float sf_at_least(float x, float bound) { return vf_first(vf_at_least(vf_set1(x), vf_set1(bound))); }

#endif
