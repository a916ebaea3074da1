/* Every kernel family against its naive twin over drawn sizes, strides, callbacks and parts, with buffers of exactly the
 * promised size (so that a sanitizer sees any access beyond).  Usage: sweep FAMILY FIRST_SEED CASES, FAMILY with the ending
 * _tiles for operands in parts of bf16, _bfp for block floating point, _narrow for a left operand that is stored as bf16.  Prints one
 * line per failure, and a digest of all results.
 *
 * Checked for each case: close to the twin; the same bits for every number of parts; every output written exactly once;
 * nothing else written.  With the ending _shared as well, parts split rows for one another before they meet.
 */
#define _DEFAULT_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AMX_TILE__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "../../csrc/kernels/reference.h"
#include "sweep_pack.h"

static uint64_t state;
static uint32_t draw(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}
static int64_t between(int64_t low, int64_t high) { return low + (int64_t)(draw() % (uint64_t)(high - low + 1)); }
static int64_t one_of(const int64_t *list, int count) { return list[draw() % (unsigned)count]; }
#define ONE_OF(...) one_of((const int64_t[]){__VA_ARGS__}, (int)(sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))

static float *numbers(int64_t count)
{
    float *p = malloc(sizeof(float) * (size_t)count + 1);
    for (int64_t i = 0; i < count; i++)
        p[i] = (float)((int)(draw() % 2001) - 1000) / 1000.0f;
    return p;
}

static int tiles;   /* parts of bf16 of this case's operands, 4 or 5 for block floating point, or 0 */
static int narrow;  /* the left operand is of bf16 */
static int sharing; /* parts call what comes before the kernel, and meet */

/* One case in eight carries infinities and NaNs. */
static void spoil(float *p, int64_t count)
{
    const float odd[] = {INFINITY, -INFINITY, NAN, sharing ? 1e38f : 3e38f, 1e-40f}; /* 3e38 may be infinite as the sum of rounded parts */
    if (draw() % 8 == 0 && count > 0)
        for (int i = 0; i < 3; i++)
            p[draw() % (uint64_t)count] = odd[draw() % 5];
}

/* The same as bf16, and the floats cut off to it. */
static uint16_t *cut(float *p, int64_t count)
{
    uint16_t *cut = malloc(sizeof(uint16_t) * (size_t)count + 1);
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &p[i], sizeof bits);
        bits &= 0xffff0000u;
        memcpy(&p[i], &bits, sizeof bits);
        cut[i] = (uint16_t)(bits >> 16);
    }
    return cut;
}

/* Outputs are written through one record, by the callback or by the kernel itself. */
typedef struct sink {
    float *out;
    int *written;
    int64_t batch, row, size;
} sink;
static sink new_sink(int64_t batch_stride, int64_t row_stride, int64_t size)
{
    sink s = {malloc(sizeof(float) * (size_t)size + 1), calloc((size_t)size + 1, sizeof(int)), batch_stride, row_stride, size};
    for (int64_t i = 0; i < size; i++)
        s.out[i] = 12345.0f;
    return s;
}
static void free_sink(sink s)
{
    free(s.out);
    free(s.written);
}
static void store(const void *ctx, int64_t batch, int64_t row, int64_t rows, int64_t col, int64_t cols, const float *tile, int64_t ld)
{
    const sink *s = ctx;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            int64_t at = batch * s->batch + (row + i) * s->row + col + j;
            s->out[at] = tile[i * ld + j];
            s->written[at]++;
        }
}

static int shared_cases;
static int failures;
static uint64_t digest = 1469598103934665603u;
static void digest_add(const sink *s)
{
    for (int64_t i = 0; i < s->size; i++) {
        uint32_t bits = 0x7fc00000; /* whatever kind of NaN */
        if (!isnan(s->out[i]))
            memcpy(&bits, &s->out[i], sizeof bits);
        digest = (digest ^ bits) * 1099511628211u;
    }
}

/* What a mode loses of a product beside f32, in steps of 2e-6. */
static double loss(void) { return tiles == 1 ? 4000.0 : tiles == 2 ? 10.0 : tiles == 5 ? 60.0 : 1.0; }

static void compare(const char *what, const sink *got, const sink *want, const sink *first, double scale, int check_written)
{
    for (int64_t i = 0; i < got->size; i++) {
        double g = got->out[i], w = want->out[i];
        int bad = isnan(w) ? !isnan(g) : isinf(w) ? g != w : !(fabs(g - w) <= loss() * (2e-6 * scale + 1e-5 * fabs(w)));
        int differs = first && memcmp(&got->out[i], &first->out[i], sizeof(float)) && !isnan(w);
        int times = check_written && got->written[i] != want->written[i];
        if (bad || differs || times) {
            printf("%s: element %lld is %.9g, expected %.9g%s%s\n", what, (long long)i, g, w, differs ? ", differs between parts" : "",
                   times ? ", not written exactly once" : "");
            failures++;
            return;
        }
    }
}

typedef struct left {
    const float *a;
    int64_t batch, row, col;
} left;
static void load(const void *ctx, int64_t batch, int64_t row, int64_t k, int64_t count, float *out)
{
    const left *l = ctx;
    for (int64_t i = 0; i < count; i++)
        out[i] = 2.0f * l->a[batch * l->batch + row * l->row + (k + i) * l->col];
}

static const int all_parts[] = {1, 2, 3, 4, 7, 64};
enum { PART_COUNTS = sizeof all_parts / sizeof *all_parts };

typedef void kernel(const void *call, int part, int parts);

/* All parts of a kernel, each with a workspace of `bytes`, whose address in the call is `workspace`.  Where rows are shared the
 * workspaces lie in one room, as far apart as `step` of the call says, and all parts go before the first of them follows. */
static void run_parts(kernel *run, kernel *before, const void *call, void **workspace, int64_t *step, int64_t bytes, int parts)
{
    char *room = NULL;
    *step = sharing ? (bytes + 63) / 64 * 64 : 0;
    if (sharing) {
        const int64_t size = *step * parts;
        room = aligned_alloc(64, (size_t)size);
        memset(room, 0x5a, (size_t)size);
        for (int part = 0; part < parts; part++)
            *workspace = room + part * *step, before(call, part, parts);
        for (int64_t i = 0; i < size; i++)
            if (room[i] != 0x5a) {
                shared_cases++;
                break;
            }
    }
    for (int part = 0; part < parts; part++) {
        *workspace = sharing ? room + part * *step : malloc((size_t)bytes);
        run(call, part, parts);
        if (!sharing)
            free(*workspace);
    }
    free(room);
}
static void run_gemm(const void *g, int part, int parts) { st_gemm_f32(g, part, parts); }
static void run_gemm_rows(const void *g, int part, int parts) { st_gemm_rows(g, part, parts); }
static void run_conv(const void *c, int part, int parts) { st_conv_f32(c, part, parts); }
static void run_conv_rows(const void *c, int part, int parts) { st_conv_rows(c, part, parts); }
static void run_winograd(const void *c, int part, int parts) { st_winograd_f32(c, part, parts); }
static void run_depthwise(const void *c, int part, int parts) { st_depthwise_f32(c, part, parts); }

/* Offset of the last element plus one. */
static int64_t extent(int64_t n0, int64_t s0, int64_t n1, int64_t s1, int64_t n2, int64_t s2)
{
    return n0 && n1 && n2 ? (n0 - 1) * s0 + (n1 - 1) * s1 + (n2 - 1) * s2 + 1 : 0;
}

static void gemm_case(const char *name)
{
    st_gemm g = {.batch = ONE_OF(1, 1, 1, 2, 3, 5, 0)};
    g.m = ONE_OF(0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 13, 14, 15, 16, 17, 28, 29, 43, 61, 113, 131);
    g.n = ONE_OF(0, 1, 1, 2, 3, 8, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 97, 128, 129, 160, 257);
    g.k = ONE_OF(0, 1, 2, 3, 7, 15, 16, 17, 31, 64, 100, 511, 512, 513, 640, 768, 769, 1025, 2049);
    if (sharing)
        g.batch = 1, g.m = between(25, ONE_OF(70, 130, 264)), g.n = ONE_OF(48, 160, 257, 320, 513);
    if (narrow) { /* blocks of k and of columns, rows in place or not */
        g.m = ONE_OF(1, 5, 16, 31, 33, 64, 97, 128, 131, 197), g.n = ONE_OF(1, 31, 128, 129, 160, 257, 300, 513);
        g.k = ONE_OF(1, 17, 64, 100, 192, 224, 320, 352, 354, 640, 1024);
    }
    if (g.m * g.n * g.k * g.batch > (narrow ? 40000000 : 4000000))
        g.k = g.k % 37;
    int layout = narrow ? 2 * (int)between(0, 1) : (int)between(0, 3);
    g.a_row = layout == 0 ? g.k : layout == 1 ? 1 : layout == 2 ? g.k + between(0, 9) : 3 * (g.k + 2);
    g.a_col = layout == 1 ? g.m + between(0, 3) : layout == 3 ? 3 : 1;
    if (draw() % 6 == 0)
        g.a_col = 1, g.a_row = 1024 * (1 + (g.k - 1) / 1024);
    int64_t a_size = extent(1, 0, g.m, g.a_row, g.k, g.a_col);
    g.a_batch = draw() % 3 ? a_size + between(0, 5) : 0;
    float *a = numbers(extent(g.batch, g.a_batch, g.m, g.a_row, g.k, g.a_col));
    const int64_t elements = extent(g.batch, g.a_batch, g.m, g.a_row, g.k, g.a_col);
    spoil(a, elements);
    double scale = 1.0 + sqrt((double)g.k), largest = 1.0;
    for (int64_t i = 0; i < elements; i++)
        largest = isfinite(a[i]) ? fmax(largest, fabs(a[i])) : largest;
    if (tiles >= 4) /* as of winograd below */
        scale *= largest;
    left source = {a, g.a_batch, g.a_row, g.a_col};
    uint16_t *const halves = narrow ? cut(a, elements) : NULL;
    if (!narrow && draw() % 4 == 0 && !sharing)
        g.load = load, g.load_ctx = &source, g.a_row = g.a_col = -1000000;
    else
        g.a = a;

    int transposed = draw() % 2 == 0, gap = draw() % 4 == 0;
    int64_t b_row = transposed ? 1 : (gap ? 2 : 1) * g.n + between(0, 3), b_col = transposed ? g.k + between(0, 3) : gap ? 2 : 1;
    int64_t b_size = extent(1, 0, g.k, b_row, g.n, b_col), b_step = draw() % 3 ? b_size + between(0, 5) : 0;
    float *b = numbers(extent(g.batch, b_step, g.k, b_row, g.n, b_col)), *packed = NULL;
    if (tiles >= 4 && draw() % 4 == 0 && g.batch * g.k * g.n > 0) /* the greatest of others hides no column's elements */
        for (int i = 0; i < 3; i++)
            b[draw() % (uint64_t)b_size] = (float[]){INFINITY, -INFINITY, NAN, 1e-40f}[draw() % 4];
    g.b = b, g.b_batch = b_step, g.b_row = b_row, g.b_col = b_col;
    if (tiles) {
        int64_t size = tiles_words(tiles, g.k, g.n), copies = b_step || !g.batch ? g.batch : 1;
        packed = malloc(sizeof(float) * (size_t)(size * copies) + 1);
        for (int64_t i = 0; i < copies; i++)
            pack_tiles(tiles, b + i * b_step, g.k, g.n, b_row, b_col, (uint32_t *)packed + i * size);
        g.b_packed = 1, g.tiles = tiles, g.b = packed, g.b_batch = b_step ? size : 0, g.b_row = g.b_col = -1000000;
    } else if (draw() % 2 == 0) {
        int64_t size = (g.n + st_panel() - 1) / st_panel() * st_panel() * g.k;
        int64_t copies = b_step || !g.batch ? g.batch : 1;
        packed = malloc(sizeof(float) * (size_t)(size * copies) + 1);
        for (int64_t i = 0; i < copies; i++)
            st_pack_f32(b + i * b_step, g.k, g.n, b_row, b_col, packed + i * size);
        g.b_packed = 1, g.b = packed, g.b_batch = b_step ? size : 0, g.b_row = g.b_col = -1000000;
    }
    g.c_row = g.n + between(0, 5);
    g.c_batch = g.m * g.c_row + between(0, 5);
    int64_t size = extent(g.batch, g.c_batch, g.m, g.c_row, g.n, 1);
    int callback = draw() % 2;
    if (callback)
        g.store = store;
    sink want = new_sink(g.c_batch, g.c_row, size), first = new_sink(g.c_batch, g.c_row, size);
    g.c = want.out, g.store_ctx = &want;
    st_gemm twin = g;
    if (narrow)
        g.a = NULL, g.narrow = halves;
    twin.b = b, twin.b_batch = b_step, twin.b_row = b_row, twin.b_col = b_col, twin.b_packed = 0;
    st_ref_gemm_f32(&twin);
    for (int p = 0; p < PART_COUNTS; p++) {
        sink got = p ? new_sink(g.c_batch, g.c_row, size) : first;
        g.c = callback ? NULL : got.out, g.store_ctx = &got;
        const int64_t bytes = st_gemm_workspace(g.m, g.n, g.k, g.b_packed, 0, tiles);
        run_parts(run_gemm, run_gemm_rows, &g, &g.workspace, &g.shared, bytes, all_parts[p]);
        char what[200];
        snprintf(what, sizeof what, "gemm %s batch %lld m %lld n %lld k %lld layout %d packed %d load %d store %d parts %d", name,
                 (long long)g.batch, (long long)g.m, (long long)g.n, (long long)g.k, layout, g.b_packed, g.load != NULL, callback, all_parts[p]);
        compare(what, &got, &want, p ? &first : NULL, scale, callback);
        if (p)
            free_sink(got);
    }
    digest_add(&first);
    /* A row's bits do not depend on the rows around it. */
    if (!g.load && size) {
        int64_t row = between(0, g.m - 1), batch = between(0, g.batch - 1);
        st_gemm one = g;
        one.batch = one.m = 1, one.b += batch * g.b_batch;
        if (narrow)
            one.narrow += batch * g.a_batch + row * g.a_row;
        else
            one.a += batch * g.a_batch + row * g.a_row;
        one.shared = 0, one.store = NULL, one.c = malloc(sizeof(float) * (size_t)g.n);
        one.workspace = malloc((size_t)st_gemm_workspace(1, g.n, g.k, g.b_packed, 0, tiles));
        st_gemm_f32(&one, 0, 1);
        for (int64_t j = 0; j < g.n; j++) {
            float in_full = first.out[batch * g.c_batch + row * g.c_row + j];
            if (memcmp(&one.c[j], &in_full, sizeof(float)) && !isnan(in_full)) {
                printf("gemm %s row %lld alone: column %lld is %.9g, among others %.9g\n", name, (long long)row, (long long)j, one.c[j], in_full);
                failures++;
                break;
            }
        }
        free(one.c), free(one.workspace);
    }
    free_sink(want), free_sink(first);
    free(a), free(b), free(packed), free(halves);
}

static void conv_case(const char *name, const char *family)
{
    const int depthwise = !strcmp(family, "depthwise"), winograd = !strcmp(family, "winograd");
    st_window w = {.n = ONE_OF(0, 1, 1, 1, 2, 3), .h = between(1, 14), .w = ONE_OF(1, 2, 5, 7, 9, 16, 17, 31, 60)};
    w.kh = ONE_OF(1, 1, 2, 3, 3, 5), w.kw = ONE_OF(1, 1, 2, 3, 3, 5, 7);
    w.stride_h = between(1, 3), w.stride_w = ONE_OF(1, 1, 2, 3), w.dilation_h = ONE_OF(1, 1, 2), w.dilation_w = ONE_OF(1, 1, 2);
    w.pad_top = between(0, 2), w.pad_left = between(0, 3);
    if (draw() % 4 == 0) /* pointwise, in place */
        w.kh = w.kw = w.stride_h = w.stride_w = w.dilation_h = w.dilation_w = 1, w.pad_top = w.pad_left = 0;
    if (winograd)
        w.kh = w.kw = 3, w.stride_h = w.stride_w = w.dilation_h = w.dilation_w = 1;
    int64_t high = w.h + w.pad_top + between(0, 2) - (w.kh - 1) * w.dilation_h - 1;
    int64_t wide = w.w + w.pad_left + between(0, 3) - (w.kw - 1) * w.dilation_w - 1;
    w.oh = high < 0 ? 1 : high / w.stride_h + 1; /* a window wholly in the padding is a fair case too */
    w.ow = wide < 0 ? 1 : wide / w.stride_w + 1;
    if (draw() % 4 == 0)
        w.oh = w.h, w.ow = w.w;
    if (sharing)
        w.n = 1, w.oh = between(3, 9), w.ow = between(9, 25);
    w.groups = winograd ? 1 : depthwise ? ONE_OF(1, 3, 4, 8, 15, 16, 17, 32, 33, 96, 257, 300) : sharing ? 1 : ONE_OF(1, 1, 1, 2, 3);
    w.cg = depthwise ? 1 : ONE_OF(1, 3, 3, 4, 16, 19, 64), w.og = depthwise ? 1 : sharing ? ONE_OF(64, 130, 257, 520) : ONE_OF(1, 4, 16, 17, 32, 40, 64, 130);
    w.x_w = w.groups * w.cg + ONE_OF(0, 0, 0, 5);
    w.x_h = w.w * w.x_w + ONE_OF(0, 0, 7);
    w.x_n = w.h * w.x_h + ONE_OF(0, 0, 3);
    int64_t k = w.kh * w.kw * w.cg, channels = w.groups * w.og;
    int64_t x_size = w.n ? extent(w.n, w.x_n, w.h, w.x_h, w.w, w.x_w) - 1 + w.groups * w.cg : 0;
    float *x = numbers(x_size);
    spoil(x, x_size);
    double scale = 1.0 + sqrt((double)k), largest = 1.0;
    for (int64_t i = 0; i < x_size; i++)
        if (isfinite(x[i]))
            largest = fmax(largest, fabs(x[i]));
    if (winograd || tiles >= 4) /* a window's pixels are added up, or filters rounded: errors are relative to the largest of them */
        scale *= largest;
    float *filter = numbers(k * channels), *packed = NULL;
    st_conv c = {.window = w, .x = x, .filter = filter};
    if (tiles) {
        c.direct = tiles < 4 && !sharing && draw() % 3 != 0; /* the number of steps comes below */
        const int64_t run = !c.direct ? k : w.kh * w.kw > 1 && w.cg % 32 && w.dilation_w == 1 ? w.kw * w.cg : w.cg;
        const int64_t padded = c.direct ? (run + 31) / 32 * 32 : run, deep = k / run * padded, size = tiles_words(tiles, deep, w.og);
        c.direct = c.direct ? deep / 32 : 0;
        float *apart = calloc((size_t)(deep * channels + 1), sizeof *apart);
        for (int64_t i = 0; i < k; i++)
            memcpy(apart + (i / run * padded + i % run) * channels, filter + i * channels, sizeof(float) * (size_t)channels);
        packed = malloc(sizeof(float) * (size_t)(size * w.groups));
        for (int64_t group = 0; group < w.groups; group++)
            pack_tiles(tiles, apart + group * w.og, deep, w.og, channels, 1, (uint32_t *)packed + group * size);
        free(apart);
        c.filter = packed, c.tiles = tiles;
    } else if (!depthwise) {
        int64_t size = k * ((w.og + st_panel() - 1) / st_panel() * st_panel());
        packed = malloc(sizeof(float) * (size_t)(size * w.groups));
        for (int64_t group = 0; group < w.groups; group++)
            st_pack_f32(filter + group * w.og, k, w.og, channels, 1, packed + group * size);
        c.filter = packed;
    }
    c.c_row = channels + between(0, 3);
    int64_t rows = w.n * w.oh * w.ow, size = extent(1, 0, rows, c.c_row, channels, 1);
    int callback = draw() % 2;
    if (callback)
        c.store = store;
    float *bias = numbers(channels), *beside = numbers(size);
    const int finish = !callback && !tiles && !winograd && draw() % 4, add = finish && !depthwise ? (int)between(0, 2) : 0;
    if (finish) {
        c.finish = (st_finish){.on = 1, .bias = draw() % 4 ? bias : NULL, .add = add ? beside : NULL, .add_row = c.c_row};
        c.finish.low = draw() % 2 ? -0.5f : -INFINITY;
        c.finish.high = draw() % 2 ? 1.25f : INFINITY;
    }
    sink want = new_sink(0, c.c_row, size), first = new_sink(0, c.c_row, size);
    c.c = want.out, c.store_ctx = &want;
    st_conv twin = c;
    float *plain = NULL;
    if (tiles) {
        int64_t size = k * ((w.og + st_panel() - 1) / st_panel() * st_panel());
        twin.filter = plain = malloc(sizeof(float) * (size_t)(size * w.groups));
        for (int64_t group = 0; group < w.groups; group++)
            st_pack_f32(filter + group * w.og, k, w.og, channels, 1, plain + group * size);
    }
    (depthwise ? st_ref_depthwise_f32 : st_ref_conv_f32)(&twin);
    free(plain);
    float *points = winograd ? at_points(filter, w.cg, w.og) : NULL;
    if (winograd)
        c.filter = points;
    for (int p = 0; p < PART_COUNTS; p++) {
        sink got = p ? new_sink(0, c.c_row, size) : first;
        c.c = callback ? NULL : got.out, c.store_ctx = &got;
        if (add == 2) { /* in place, but for what lies between rows */
            for (int64_t i = 0; i < size; i++)
                got.out[i] = i % c.c_row < channels ? beside[i] : got.out[i];
            c.finish.add = got.out;
        }
        const int64_t bytes = depthwise ? 0 : winograd ? st_winograd_workspace(w.cg) : st_conv_workspace(k, w.og, 0, tiles, c.direct);
        kernel *run = depthwise ? run_depthwise : winograd ? run_winograd : run_conv;
        run_parts(run, run_conv_rows, &c, &c.workspace, &c.shared, bytes, all_parts[p]);
        char what[250];
        snprintf(what, sizeof what, "%s%s %s n %lld %lldx%lld cg %lld og %lld groups %lld kernel %lldx%lld stride %lld,%lld out %lldx%lld store %d finish %d parts %d",
                 family, c.direct ? " direct" : "", name, (long long)w.n, (long long)w.h, (long long)w.w, (long long)w.cg, (long long)w.og,
                 (long long)w.groups, (long long)w.kh, (long long)w.kw, (long long)w.stride_h, (long long)w.stride_w, (long long)w.oh,
                 (long long)w.ow, callback, finish ? 1 + add : 0, all_parts[p]);
        compare(what, &got, &want, p ? &first : NULL, scale, callback);
        if (p)
            free_sink(got);
    }
    digest_add(&first);
    free_sink(want), free_sink(first);
    free(x), free(filter), free(packed), free(points), free(bias), free(beside);
}

static void mask_scores(const void *ctx, int64_t batch, int64_t head, int64_t query, int64_t queries, int64_t key, int64_t keys,
                        float *scores, int64_t ld)
{
    (void)ctx;
    for (int64_t i = 0; i < queries; i++)
        for (int64_t j = 0; j < keys; j++) {
            int64_t at = 3 * batch + 5 * head + 7 * (query + i) + 11 * (key + j);
            scores[i * ld + j] = (query + i) % 5 == 3 || at % 4 == 1 ? -INFINITY : scores[i * ld + j] + 0.25f * (float)(at % 3);
        }
}

/* Adds what depends on the batch and the key alone: infinite or finite padding at either end or in the middle, or a number. */
typedef struct padding {
    float value;
    int64_t from, to, every; /* keys [from, to) of a batch are hidden, and all others of every so many batches */
} padding;
static void mask_keys(const void *ctx, int64_t batch, int64_t head, int64_t query, int64_t queries, int64_t key, int64_t keys,
                      float *scores, int64_t ld)
{
    const padding *p = ctx;
    (void)head, (void)query;
    for (int64_t i = 0; i < queries; i++)
        for (int64_t j = 0; j < keys; j++) {
            int64_t at = key + j;
            int hidden = (at >= p->from && at < p->to) || batch % p->every == 1;
            scores[i * ld + j] += hidden ? p->value : 0.125f * (float)(at % 3);
        }
}

static void attention_case(const char *name)
{
    st_attention a = {.batch = ONE_OF(1, 1, 2, 0), .kv_heads = ONE_OF(1, 1, 2, 3)};
    a.heads = a.kv_heads * ONE_OF(1, 1, 2, 4);
    a.queries = ONE_OF(1, 1, 2, 7, 16, 29, 56, 57, 65, 113), a.keys = ONE_OF(0, 1, 2, 15, 16, 17, 32, 33, 64, 100, 129, 500);
    if (draw() % 6 == 0)
        a.queries = ONE_OF(1, 3, 7, 31, 64), a.keys = ONE_OF(513, 600, 1030, 1500, 2048), a.heads = a.kv_heads * ONE_OF(1, 2);
    if (draw() % 40 == 0)
        a.queries = 1100, a.keys = 530, a.batch = a.heads = a.kv_heads = 1; /* more rows than there is room for unfinished ones */
    a.dim = ONE_OF(1, 4, 16, 17, 24, 64, 80, 256), a.v_dim = ONE_OF(1, 8, 32, 33, 64, 80, 96, 112);
    a.causal = draw() % 2;
    a.scale = 1.0f / sqrtf((float)a.dim);
    if (tiles)
        a.tiles = tiles;
    else
        a.pairs = draw() % 4 == 0;
    padding pad = {.every = ONE_OF(2, 1000)};
    const float values[] = {-INFINITY, -INFINITY, -3.4e38f, -10000.0f, -2000.0f, -1.0f, NAN, INFINITY};
    pad.value = values[draw() % 8];
    pad.from = between(0, a.keys), pad.to = ONE_OF(0, a.keys, a.keys, pad.from + 70);
    if (draw() % 2)
        pad.to = pad.from, pad.from = 0;
    int masked = (int)(draw() % 5);
    if (masked == 0)
        a.score = mask_scores;
    else if (masked <= 2)
        a.score = mask_keys, a.score_ctx = &pad, a.score_by_key = draw() % 4 != 0;
    a.q_row = a.dim + ONE_OF(0, 3), a.q_head = a.queries * a.q_row, a.q_batch = a.heads * a.q_head;
    if (draw() % 2) /* heads innermost, as a projection leaves them */
        a.k_head = a.dim, a.k_row = a.kv_heads * a.dim, a.v_head = a.v_dim, a.v_row = a.kv_heads * a.v_dim;
    else
        a.k_row = a.dim + 1, a.k_head = a.keys * a.k_row, a.v_row = a.v_dim + 2, a.v_head = a.keys * a.v_row;
    a.k_batch = extent(1, 0, a.kv_heads, a.k_head, a.keys, a.k_row) + a.dim, a.v_batch = extent(1, 0, a.kv_heads, a.v_head, a.keys, a.v_row) + a.v_dim;
    int64_t q_size = extent(a.batch, a.q_batch, a.heads, a.q_head, a.queries, a.q_row) + a.dim - 1;
    float *q = numbers(q_size);
    float *k = numbers(extent(a.batch, a.k_batch, a.kv_heads, a.k_head, a.keys, a.k_row) + a.dim - 1);
    float *v = numbers(extent(a.batch, a.v_batch, a.kv_heads, a.v_head, a.keys, a.v_row) + a.v_dim - 1);
    for (int64_t i = 0; i < q_size / 2; i++)
        q[i] *= 8.0f; /* peaked rows too */
    /* Rounding decides between scores of 1e37; whether NaN shows where the mask hides every key is not defined. */
    if (!a.pairs && !(a.score_by_key && pad.value == -INFINITY))
        spoil(q, q_size);
    if (!a.score && !a.pairs)
        spoil(k, extent(a.batch, a.k_batch, a.kv_heads, a.k_head, a.keys, a.k_row));
    if (!a.causal && !a.score && !a.pairs) /* whether NaN in a value row that has no weight shows is not defined */
        spoil(v, extent(a.batch, a.v_batch, a.kv_heads, a.v_head, a.keys, a.v_row));
    a.q = q, a.k = k, a.v = v;
    a.out_row = a.v_dim + ONE_OF(0, 2), a.out_head = a.queries * a.out_row, a.out_batch = a.heads * a.out_head;
    int64_t size = a.batch ? extent(a.batch, a.out_batch, a.heads, a.out_head, a.queries, a.out_row) + a.v_dim - 1 : 0;
    int callback = draw() % 2;
    if (callback)
        a.store = store;
    sink want = new_sink(a.out_head, a.out_row, size), first = new_sink(a.out_head, a.out_row, size);
    a.out = want.out, a.store_ctx = &want;
    st_ref_attention_f32(&a);
    for (int p = 0; p < PART_COUNTS; p++) {
        sink got = p ? new_sink(a.out_head, a.out_row, size) : first;
        a.out = callback ? NULL : got.out, a.store_ctx = &got;
        for (int part = 0; part < all_parts[p]; part++) {
            a.workspace = malloc((size_t)st_attention_workspace(a.queries * (a.heads / a.kv_heads), a.keys, a.dim, a.v_dim, a.tiles));
            st_attention_f32(&a, part, all_parts[p]);
            free(a.workspace);
        }
        char what[250];
        snprintf(what, sizeof what, "attention %s batch %lld heads %lld/%lld queries %lld keys %lld dim %lld v_dim %lld causal %d score %d,%d pairs %d store %d parts %d",
                 name, (long long)a.batch, (long long)a.heads, (long long)a.kv_heads, (long long)a.queries, (long long)a.keys,
                 (long long)a.dim, (long long)a.v_dim, a.causal, masked, a.score_by_key, a.pairs, callback, all_parts[p]);
        compare(what, &got, &want, p ? &first : NULL, a.pairs ? 2e4 : 8.0, callback);
        if (p)
            free_sink(got);
    }
    digest_add(&first);
    free_sink(want), free_sink(first);
    free(q), free(k), free(v);
}

/* Sequences one after the other, heads innermost, some of them empty. */
static void ragged_case(const char *name)
{
    st_attention a = {.batch = ONE_OF(0, 1, 2, 5), .kv_heads = ONE_OF(1, 1, 2, 3), .ends_step = ONE_OF(1, 1, 2)};
    a.heads = a.kv_heads * ONE_OF(1, 1, 2, 4);
    a.queries = a.keys = ONE_OF(1, 7, 16, 57, 65, 130, 600);
    a.dim = ONE_OF(1, 16, 17, 64), a.v_dim = ONE_OF(1, 8, 32, 33);
    a.causal = draw() % 2;
    a.tiles = tiles;
    a.scale = 1.0f / sqrtf((float)a.dim);
    int64_t *ends = calloc((size_t)(a.batch * a.ends_step + 1), sizeof *ends), rows = 0;
    for (int64_t b = 0; b < a.batch; b++)
        ends[b * a.ends_step] = rows += draw() % 4 ? between(0, a.keys) : a.keys * (draw() % 2);
    a.ends = ends;
    a.q_head = a.dim, a.q_row = a.heads * a.dim + ONE_OF(0, 3), a.k_head = a.dim, a.k_row = a.kv_heads * a.dim;
    a.v_head = a.v_dim, a.v_row = a.kv_heads * a.v_dim, a.out_head = a.v_dim, a.out_row = a.heads * a.v_dim;
    a.q_batch = a.k_batch = a.v_batch = a.out_batch = -1000000; /* never read */
    float *q = numbers(rows * a.q_row), *k = numbers(rows * a.k_row), *v = numbers(rows * a.v_row);
    a.q = q, a.k = k, a.v = v;
    sink want = new_sink(0, 0, rows * a.out_row), first = new_sink(0, 0, rows * a.out_row);
    a.out = want.out;
    st_ref_attention_f32(&a);
    for (int p = 0; p < PART_COUNTS; p++) {
        sink got = p ? new_sink(0, 0, rows * a.out_row) : first;
        a.out = got.out;
        for (int part = 0; part < all_parts[p]; part++) {
            a.workspace = malloc((size_t)st_attention_workspace(a.queries * (a.heads / a.kv_heads), a.keys, a.dim, a.v_dim, a.tiles));
            st_attention_f32(&a, part, all_parts[p]);
            free(a.workspace);
        }
        char what[200];
        snprintf(what, sizeof what, "ragged %s batch %lld heads %lld/%lld longest %lld rows %lld dim %lld v_dim %lld causal %d parts %d",
                 name, (long long)a.batch, (long long)a.heads, (long long)a.kv_heads, (long long)a.keys, (long long)rows,
                 (long long)a.dim, (long long)a.v_dim, a.causal, all_parts[p]);
        compare(what, &got, &want, p ? &first : NULL, 8.0, 0);
        if (p)
            free_sink(got);
    }
    digest_add(&first);
    free_sink(want), free_sink(first);
    free(q), free(k), free(v), free(ends);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
#if defined(__AMX_TILE__) && !defined(AMX_TRAP)
    if (syscall(SYS_arch_prctl, 0x1023, 18)) { /* as csrc/features.c asks for tiles */
        perror("arch_prctl");
        return 3;
    }
#endif
    for (int i = 0; i < atoi(argv[3]); i++) {
        char name[32];
        snprintf(name, sizeof name, "seed %d:", atoi(argv[2]) + i);
        state = (uint64_t)(atoi(argv[2]) + i) * 2654435761u + 12345;
        draw(), draw();
        sharing = strstr(argv[1], "_shared") != NULL;
        narrow = strstr(argv[1], "_narrow") != NULL;
        tiles = strstr(argv[1], "_tiles") ? 1 + (int)(draw() % 3) : strstr(argv[1], "_bfp") ? 4 + (int)(draw() % 2) : narrow;
        if (!strncmp(argv[1], "gemm", 4))
            gemm_case(name);
        else if (!strncmp(argv[1], "attention", 9))
            attention_case(name);
        else if (!strncmp(argv[1], "ragged", 6))
            ragged_case(name);
        else
            conv_case(name, argv[1]);
    }
    if (sharing && !shared_cases && atoi(argv[3]) >= 10) {
        puts("no case shared rows");
        failures++;
    }
    printf("%d failures, digest %016llx\n", failures, (unsigned long long)digest);
    return failures != 0;
}
