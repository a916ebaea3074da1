/* Right operands packed as csrc/kernels/kernels.h and winograd.c say, element by element: twins of codegen/pack.py for sweep.c.
 * `tiles` as of st_gemm: parts of bf16, or 4 and 5 for block floating point. */
#ifndef STRATAC_TESTS_SWEEP_PACK_H
#define STRATAC_TESTS_SWEEP_PACK_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../csrc/kernels/kernels.h"

static uint32_t rounded(float value, int down)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value))
        return bits >> 16 | 0x40;
    uint32_t near = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return down ? bits >> 16 : near;
}

static int64_t bfp_block(int64_t k)
{
    const int64_t most = 768;
    int64_t blocks = k > most ? (k + most - 1) / most : 1, each = ((k + blocks - 1) / blocks + 63) / 64 * 64;
    return each ? each : 64;
}

static int64_t tiles_words(int tiles, int64_t k, int64_t n)
{
    if (tiles >= 4)
        return (n + 31) / 32 * 2 * ((k ? (k + 63) / 64 : 1) * 256 * (7 - tiles) + (k ? (k + bfp_block(k) - 1) / bfp_block(k) : 1) * 16);
    return (n + 31) / 32 * ((k + 31) / 32) * (tiles == 3 ? 2 : tiles) * 512;
}

/* In block floating point: see kernels.h. */
static void pack_bfp(int tiles, const float *b, int64_t k, int64_t n, int64_t b_row, int64_t b_col, unsigned char *to)
{
    const int64_t each = bfp_block(k);
    const int bytes = 7 - tiles, least = 8 * bytes - 128, most = bytes == 3 ? 8355711 : 32639;
    memset(to, 0, (size_t)(4 * tiles_words(tiles, k, n)));
    for (int64_t j0 = 0; j0 < (n + 31) / 32 * 32; j0 += 16)
        for (int64_t k0 = 0; k0 == 0 || k0 < k; k0 += each) {
            const int64_t count = k - k0 < each ? k - k0 : each, steps = count ? (count + 63) / 64 : 1;
            for (int64_t j = j0; j < j0 + 16; j++) {
                float greatest = 0, stored;
                int e = least, odd = 0;
                for (int64_t i = 0; j < n && i < count; i++) {
                    const float x = b[(k0 + i) * b_row + j * b_col];
                    odd |= !isfinite(x);
                    greatest = isfinite(x) ? fmaxf(greatest, fabsf(x)) : greatest;
                }
                if (greatest > 0)
                    frexp(greatest * 1.004, &e);
                e = e < least ? least : e;
                const float unit = j % 2 && e > least ? greatest / (float)most : (float)ldexp(1, e - 8 * bytes + 1); /* one or the other */
                for (int64_t i = 0; j < n && i < count; i++) {
                    const float x = b[(k0 + i) * b_row + j * b_col];
                    int32_t q = isfinite(x) ? (int32_t)rint(x / (double)unit) : -(1 << (8 * bytes - 1)) + (isnan(x) ? 0 : x > 0 ? 1 : 2);
                    if (q == 0 && x != 0)
                        q = x > 0 ? 1 : -1;
                    unsigned char *at = to + i / 64 * bytes * 1024 + i % 16 * 64 + j % 16 * 4 + i % 64 / 16;
                    for (int part = bytes - 1; part >= 0; part--) {
                        const int8_t low = (int8_t)(uint8_t)q;
                        at[part * 1024] = (unsigned char)low;
                        q = (q - low) / 256;
                    }
                }
                stored = unit * (bytes == 3 ? 65536 : 256) * (odd ? -1 : 1);
                memcpy(to + steps * bytes * 1024 + j % 16 * 4, &stored, sizeof stored);
            }
            to += steps * bytes * 1024 + 64;
        }
}

/* b[k*b_row + j*b_col] as kernels.h says panels for tiles are packed. */
static void pack_tiles(int tiles, const float *b, int64_t k, int64_t n, int64_t b_row, int64_t b_col, uint32_t *packed)
{
    if (tiles >= 4) {
        pack_bfp(tiles, b, k, n, b_row, b_col, (unsigned char *)packed);
        return;
    }
    int64_t steps = (k + 31) / 32;
    memset(packed, 0, (size_t)(4 * tiles_words(tiles, k, n)));
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < n; j++) {
            float rest = b[i * b_row + j * b_col];
            if (tiles == 3) {
                memcpy(packed + (((j / 32 * steps + i / 32) * 16 + i % 32 / 2) * 2 + j % 32 / 16) * 32 + i % 2 * 16 + j % 16, &rest, sizeof rest);
                continue;
            }
            int down = tiles > 1 && isfinite(rest) && (rounded(rest, 0) & 0x7fff) == 0x7f80;
            for (int part = 0; part < tiles; part++) {
                uint32_t near = rounded(rest, down), bits = near << 16;
                float value;
                memcpy(&value, &bits, sizeof value);
                packed[(((j / 32 * steps + i / 32) * tiles + part) * 16 + i % 32 / 2) * 32 + j % 32] |= i % 2 ? bits : near;
                rest = isfinite(value) ? rest - value : 0.0f;
            }
        }
}

/* 3x3 filters g[ky][kx][channel][out] at the 16 points of the transform, packed. */
static float *at_points(const float *filter, int64_t cg, int64_t og)
{
    static const double G[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
    int64_t size = cg * ((og + st_panel() - 1) / st_panel() * st_panel());
    float *packed = malloc(sizeof(float) * (size_t)(16 * size)), *point = malloc(sizeof(float) * (size_t)(cg * og + 1));
    for (int p = 0; p < 16; p++) {
        for (int64_t e = 0; e < cg * og; e++) {
            double sum = 0;
            for (int tap = 0; tap < 9; tap++)
                sum += G[p / 4][tap / 3] * G[p % 4][tap % 3] * filter[tap * cg * og + e];
            point[e] = (float)sum;
        }
        st_pack_f32(point, cg, og, og, 1, packed + p * size);
    }
    free(point);
    return packed;
}

#endif
