/* Recurrent layers, one element type after the other.
 *
 * At each step the rows of a part advance together: a panel of R stays in the second cache while all rows use it, and up to
 * ROWS of them share each vector that is loaded.  A gate is one chain of fused multiply-adds over the hidden units in order,
 * whichever rows share its panel.
 */
#include "recurrent.h"

#include <math.h>
#include <string.h>

#include "../simd/simd.h"

#define PANEL ST_RECURRENT_PANEL
#define NV 4 /* vectors side by side */
#if VL == 8
#define ROWS 2 /* 8 accumulators, 4 vectors of R and a broadcast: 13 of 16 registers */
#else
#define ROWS 4
#endif

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* gates[i * ld + c] += sum of h[i * hd + k] * panel[k * PANEL + c] for NV vectors of columns. */
ALWAYS_INLINE void columns(const float *h, int64_t hd, const float *panel, int64_t depth, float *gates, int64_t ld, const int rows)
{
    vf acc[ROWS][NV];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < NV; v++)
            acc[i][v] = vf_load(gates + i * ld + v * VL);
    for (int64_t k = 0; k < depth; k++, panel += PANEL) {
        vf b[NV];
        for (int v = 0; v < NV; v++)
            b[v] = vf_load(panel + v * VL);
        for (int i = 0; i < rows; i++) {
            const vf a = vf_set1(h[i * hd + k]);
            for (int v = 0; v < NV; v++)
                acc[i][v] = vf_fma(a, b[v], acc[i][v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < NV; v++)
            vf_store(gates + i * ld + v * VL, acc[i][v]);
}

/* gates[i * ld + c] += sum of h[i * hd + k] * r[p][k][c] for all panels p. */
static void panels_f32(const float *h, int64_t hd, const float *r, int64_t depth, int64_t panels, float *gates, int64_t ld,
                       int64_t rows)
{
    for (int64_t p = 0; p < panels; p++, r += depth * PANEL, gates += PANEL)
        for (int64_t c = 0; c < PANEL; c += NV * VL) {
            int64_t i = 0;
            for (; i + ROWS <= rows; i += ROWS)
                columns(h + i * hd, hd, r + c, depth, gates + i * ld + c, ld, ROWS);
            for (; i < rows; i++)
                columns(h + i * hd, hd, r + c, depth, gates + i * ld + c, ld, 1);
        }
}

static void panels_f64(const double *h, int64_t hd, const double *r, int64_t depth, int64_t panels, double *gates, int64_t ld,
                       int64_t rows)
{
    for (int64_t p = 0; p < panels; p++)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t k = 0; k < depth; k++)
                for (int64_t c = 0; c < PANEL; c++)
                    gates[i * ld + p * PANEL + c] += h[i * hd + k] * r[(p * depth + k) * PANEL + c];
}

static double function_of(const st_activation *a, double x)
{
    switch (a->function) {
    case ST_RELU:
        return x > 0 || x != x ? x : 0;
    case ST_TANH:
        return tanh(x);
    case ST_SIGMOID:
        return 1 / (1 + exp(-x));
    case ST_AFFINE:
        return a->alpha * x + a->beta;
    case ST_LEAKY_RELU:
        return x < 0 ? a->alpha * x : x;
    case ST_THRESHOLDED_RELU:
        return x > a->alpha || x != x ? x : 0;
    case ST_SCALED_TANH:
        return a->alpha * tanh(a->beta * x);
    case ST_HARD_SIGMOID:
        x = a->alpha * x + a->beta;
        return x < 0 ? 0 : x > 1 ? 1 : x;
    case ST_ELU:
        return x < 0 ? a->alpha * expm1(x) : x;
    case ST_SOFTSIGN:
        return x / (1 + fabs(x));
    default: /* ST_SOFTPLUS */
        return (x > 0 ? x : 0) + log1p(exp(-fabs(x)));
    }
}

static void activate_f32(const st_activation *a, double clip, float *x, int64_t count)
{
    if (clip < INFINITY)
        for (int64_t j = 0; j < count; j++)
            x[j] = x[j] > (float)clip ? (float)clip : x[j] < -(float)clip ? -(float)clip : x[j];
    if (a->function == ST_TANH || a->function == ST_SIGMOID)
        for (int64_t j = 0; j < count; j += VL) {
            const int64_t n = count - j < VL ? count - j : VL;
            const vf v = vf_load_n(x + j, n);
            vf_store_n(x + j, a->function == ST_TANH ? vf_tanh(v) : vf_sigmoid(v), n);
        }
    else
        for (int64_t j = 0; j < count; j++)
            x[j] = (float)function_of(a, x[j]);
}

static void activate_f64(const st_activation *a, double clip, double *x, int64_t count)
{
    for (int64_t j = 0; j < count; j++)
        x[j] = function_of(a, x[j] > clip ? clip : x[j] < -clip ? -clip : x[j]);
}

#define REAL float
#define NAME(name) name##_f32
#include "recurrent_steps.h"
#undef REAL
#undef NAME
#define REAL double
#define NAME(name) name##_f64
#include "recurrent_steps.h"
