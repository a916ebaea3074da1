/* What the kernels must compute, as plain loops over the same structs; used by tests only.  Sums are in double, so that a
 * test's tolerance speaks about the kernel alone. */
#include "reference.h"

#include <math.h>
#include <stdlib.h>

void st_ref_gemm_f32(const st_gemm *g)
{
    int64_t panel = g->b_packed ? st_panel() : 1;
    float *row = malloc(sizeof(float) * (size_t)(g->k + 1)), *out = malloc(sizeof(float) * (size_t)(g->n + 1));
    for (int64_t b = 0; b < g->batch; b++)
        for (int64_t i = 0; i < g->m; i++) {
            if (g->load)
                g->load(g->load_ctx, b, i, 0, g->k, row);
            for (int64_t j = 0; j < g->n; j++) {
                double sum = 0;
                for (int64_t k = 0; k < g->k; k++) {
                    double left = g->load ? row[k] : g->a[b * g->a_batch + i * g->a_row + k * g->a_col];
                    int64_t at = g->b_packed ? (j / panel * g->k + k) * panel + j % panel : k * g->b_row + j * g->b_col;
                    sum += left * g->b[b * g->b_batch + at];
                }
                out[j] = (float)sum;
            }
            if (g->store)
                g->store(g->store_ctx, b, i, 1, 0, g->n, out, g->n);
            for (int64_t j = 0; j < g->n && !g->store; j++)
                g->c[b * g->c_batch + i * g->c_row + j] = out[j];
        }
    free(row);
    free(out);
}

static float finished(const st_finish *f, int64_t row, int64_t col, float sum)
{
    double x = sum;
    x += f->bias ? f->bias[col] : 0.0f;
    x += f->add ? f->add[row * f->add_row + col] : 0.0f;
    return x < f->low ? f->low : x > f->high ? f->high : (float)x;
}

/* filter index of (group, tap, input channel, output channel) is the only difference between the two convolutions. */
static void convolve(const st_conv *c, int depthwise)
{
    int64_t panel = st_panel(), channels = c->window.groups * c->window.og, k_all = c->window.kh * c->window.kw * c->window.cg;
    float *out = malloc(sizeof(float) * (size_t)(channels + 1));
    for (int64_t r = 0; r < c->window.n * c->window.oh * c->window.ow; r++) {
        int64_t x = r % c->window.ow, y = r / c->window.ow % c->window.oh, n = r / c->window.ow / c->window.oh;
        for (int64_t ch = 0; ch < channels; ch++) {
            int64_t group = ch / c->window.og, o = ch % c->window.og;
            double sum = 0;
            for (int64_t ky = 0; ky < c->window.kh; ky++)
                for (int64_t kx = 0; kx < c->window.kw; kx++)
                    for (int64_t i = 0; i < c->window.cg; i++) {
                        int64_t iy = y * c->window.stride_h - c->window.pad_top + ky * c->window.dilation_h;
                        int64_t ix = x * c->window.stride_w - c->window.pad_left + kx * c->window.dilation_w;
                        if (iy < 0 || iy >= c->window.h || ix < 0 || ix >= c->window.w)
                            continue;
                        int64_t tap = ky * c->window.kw + kx, k = tap * c->window.cg + i;
                        int64_t packed = group * k_all * ((c->window.og + panel - 1) / panel * panel) + (o / panel * k_all + k) * panel + o % panel;
                        double w = c->filter[depthwise ? tap * c->window.groups + ch : packed];
                        sum += w * c->x[n * c->window.x_n + iy * c->window.x_h + ix * c->window.x_w + group * c->window.cg + i];
                    }
            out[ch] = (float)sum;
        }
        if (c->store)
            c->store(c->store_ctx, 0, r, 1, 0, channels, out, channels);
        for (int64_t ch = 0; ch < channels && !c->store; ch++)
            c->c[r * c->c_row + ch] = c->finish.on ? finished(&c->finish, r, ch, out[ch]) : out[ch];
    }
    free(out);
}

void st_ref_conv_f32(const st_conv *c) { convolve(c, 0); }
void st_ref_depthwise_f32(const st_conv *c) { convolve(c, 1); }

/* Sequences that lie one after the other: each as a batch of its own. */
static void attend_ragged(const st_attention *a)
{
    for (int64_t b = 0, start = 0; b < a->batch; start = a->ends[b++ * a->ends_step]) {
        st_attention one = *a;
        one.batch = 1;
        one.ends = NULL;
        one.queries = one.keys = a->ends[b * a->ends_step] - start;
        one.q += start * a->q_row;
        one.k += start * a->k_row;
        one.v += start * a->v_row;
        one.out += start * a->out_row;
        st_ref_attention_f32(&one);
    }
}

void st_ref_attention_f32(const st_attention *a)
{
    if (a->ends) {
        attend_ragged(a);
        return;
    }
    float *scores = malloc(sizeof(float) * (size_t)(a->keys + 1)), *out = malloc(sizeof(float) * (size_t)(a->v_dim + 1));
    for (int64_t b = 0; b < a->batch; b++)
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t i = 0; i < a->queries; i++) {
                int64_t kv = h / (a->heads / a->kv_heads), seen = a->keys;
                if (a->causal && i + a->keys - a->queries + 1 < seen)
                    seen = i + a->keys - a->queries + 1;
                if (seen < 0)
                    seen = 0;
                for (int64_t j = 0; j < seen; j++) {
                    double dot = 0;
                    for (int64_t d = 0; d < a->dim; d++)
                        dot += (double)a->q[b * a->q_batch + h * a->q_head + i * a->q_row + d] *
                               a->k[b * a->k_batch + kv * a->k_head + j * a->k_row + d];
                    scores[j] = (float)(a->scale * dot);
                }
                if (a->score && seen)
                    a->score(a->score_ctx, b, h, i, 1, 0, seen, scores, a->keys);
                double top = -INFINITY, total = 0;
                for (int64_t j = 0; j < seen; j++)
                    top = scores[j] > top ? scores[j] : top;
                for (int64_t j = 0; j < seen; j++)
                    total += exp(scores[j] - (top == -INFINITY ? 0 : top));
                for (int64_t e = 0; e < a->v_dim; e++) {
                    double sum = 0;
                    for (int64_t j = 0; j < seen; j++)
                        sum += exp(scores[j] - (top == -INFINITY ? 0 : top)) * a->v[b * a->v_batch + kv * a->v_head + j * a->v_row + e];
                    out[e] = total == 0 ? 0 : (float)(sum / total);
                }
                if (a->store)
                    a->store(a->store_ctx, b * a->heads + h, i, 1, 0, a->v_dim, out, a->v_dim);
                for (int64_t e = 0; e < a->v_dim && !a->store; e++)
                    a->out[b * a->out_batch + h * a->out_head + i * a->out_row + e] = out[e];
            }
    free(scores);
    free(out);
}
