/* The register tiles: every row count up to ST_MR, by one vector, or one, two or four panels.
 *
 * Row addresses are a0, a0+s, a0+2s, a0+3s, a0+4s from three base pointers five rows apart, which x86 addressing modes
 * reach with five registers in all; one pointer per row would spill.
 *
 * Whoever includes this says what is multiplied: ST_MULTIPLY(a, b, c) adds the product of two vectors to a third,
 * ST_MULTIPLY_LANE(a, lane, b, c), where an instruction does that, the product of one lane of a and a vector,
 * ST_ADD(a, b) how sums are added, ST_FINISHES whether they are floats, which may have a target, and the functions are found
 * in ST_TABLE.
 */

#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Makes the compiler believe that p changed.  It would compute the address of every row before the loop, and keep them where
 * there is room: in vector registers, from where they come back behind all multiply-adds that wait. */
#define FORGET(p) __asm__ volatile("" : "+r"(p));
#define ROW(i) ((i < 5 ? a0 : i < 10 ? a1 : a2) + i % 5 * lda)
#define COLUMN(j) (j / ST_NV * panel + j % ST_NV * VL)
#define LINE ST_MAX(16 / VL, 1) /* vectors of a line of the cache */

#ifdef ST_MULTIPLY_LANE
/* VL steps of k at a time: a vector of every row of A, whose lanes multiply one after the other.  Broadcasts would take the
 * vector units' time, and three loads for two multiplications. */
#define BY_LANES(MR, NV)                                                                                                   \
    for (; k >= VL; k -= VL, a0 += VL, a1 += VL, a2 += VL) {                                                               \
        vf av[MR];                                                                                                         \
        UNROLL for (int i = 0; i < MR; i++) av[i] = vf_load(ROW(i));                                                       \
        UNROLL for (int lane = 0; lane < VL; lane++, b += ldb) UNROLL for (int j = 0; j < NV; j++)                         \
        {                                                                                                                  \
            vf bv = vf_load(b + COLUMN(j));                                                                                \
            UNROLL for (int i = 0; i < MR; i++) acc[i][j] = ST_MULTIPLY_LANE(av[i], lane, bv, acc[i][j]);                  \
        }                                                                                                                  \
    }
#else
#define BY_LANES(MR, NV)
#endif

/* Column by column of vectors, so that bounds and bias are all that is kept beside the sums. */
#define FINISH(MR, NV)                                                                                                     \
    const st_target *target = left->target;                                                                                \
    const vf low = vf_set1(target->low), high = vf_set1(target->high);                                                     \
    UNROLL for (int j = 0; j < NV; j++)                                                                                    \
    {                                                                                                                      \
        const int64_t lanes = j + 1 < NV ? VL : ST_MIN(target->columns - j * VL, (int64_t)VL);                             \
        float *to = target->c + j * VL;                                                                                    \
        const float *add = target->add;                                                                                    \
        if (target->bias) {                                                                                                \
            const vf bias = lanes == VL ? vf_load(target->bias + j * VL) : vf_load_n(target->bias + j * VL, lanes);        \
            UNROLL for (int i = 0; i < MR; i++) acc[i][j] = vf_add(acc[i][j], bias);                                       \
        }                                                                                                                  \
        if (add) {                                                                                                         \
            add += j * VL;                                                                                                 \
            UNROLL for (int i = 0; i < MR; i++, add += target->add_row)                                                    \
            {                                                                                                              \
                FORGET(add)                                                                                                \
                acc[i][j] = vf_add(acc[i][j], lanes == VL ? vf_load(add) : vf_load_n(add, lanes));                         \
            }                                                                                                              \
        }                                                                                                                  \
        UNROLL for (int i = 0; i < MR; i++, to += target->c_row)                                                           \
        {                                                                                                                  \
            FORGET(to)                                                                                                     \
            const vf v = vf_at_most(vf_at_least(acc[i][j], low), high);                                                    \
            lanes == VL ? vf_store(to, v) : vf_store_n(to, v, lanes);                                                      \
        }                                                                                                                  \
    }

#define MICRO(MR, NV)                                                                                                      \
    static void micro_##MR##x##NV(const st_left *left, const float *b, int64_t ldb, int64_t panel, float *c, int64_t ldc,  \
                                  int resume)                                                                              \
    {                                                                                                                      \
        vf acc[MR][NV];                                                                                                    \
        int64_t lda = left->row, runs = left->runs, stretch = left->length;                                                \
        const float *a0 = left->a, *a1 = a0 + 5 * lda, *a2 = a0 + 10 * lda;                                                \
        const char *ahead = left->ahead;                                                                                   \
        const int64_t pace = left->pace, rest = left->eager ? 0 : 3;                                                       \
        (void)a1, (void)a2, (void)panel;                                                                                   \
        for (int64_t room = ST_CHAIN - left->into; runs > 0; room = ST_CHAIN, resume = 1) {                                \
            UNROLL for (int i = 0; i < MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = vf_zero();                 \
            while (room > 0 && runs > 0) {                                                                                 \
                int64_t k = ST_MIN(room, stretch);                                                                         \
                room -= k, stretch -= k;                                                                                   \
                BY_LANES(MR, NV)                                                                                           \
                for (; k > 0; k--, a0++, a1++, a2++, b += ldb) {                                                           \
                    vf bv[NV];                                                                                             \
                    if ((k & rest) == 0) {                                                                                 \
                        UNROLL for (int j = 0; j < NV && NV <= ST_NV; j += LINE) __builtin_prefetch(ahead + 4 * VL * j, 0, 2);\
                        ahead += pace;                                                                                     \
                    }                                                                                                      \
                    UNROLL for (int j = 0; j < NV; j++) bv[j] = vf_load(b + COLUMN(j));                                    \
                    UNROLL for (int i = 0; i < MR; i++)                                                                    \
                    {                                                                                                      \
                        vf av = vf_set1(*ROW(i));                                                                          \
                        UNROLL for (int j = 0; j < NV; j++) acc[i][j] = ST_MULTIPLY(av, bv[j], acc[i][j]);                 \
                    }                                                                                                      \
                }                                                                                                          \
                if (stretch == 0) {                                                                                        \
                    const int64_t skip = left->jump - left->length;                                                        \
                    runs--, stretch = left->length, a0 += skip, a1 += skip, a2 += skip;                                    \
                }                                                                                                          \
            }                                                                                                              \
            if (resume) {                                                                                                  \
                const float *to = c;                                                                                       \
                UNROLL for (int i = 0; i < MR; i++, to += ldc)                                                             \
                {                                                                                                          \
                    FORGET(to)                                                                                             \
                    UNROLL for (int j = 0; j < NV; j++) acc[i][j] = ST_ADD(vf_load(to + j * VL), acc[i][j]);               \
                }                                                                                                          \
            }                                                                                                              \
            if (ST_FINISHES && left->target && runs == 0) {                                                                \
                FINISH(MR, NV)                                                                                             \
                return;                                                                                                    \
            }                                                                                                              \
            float *to = c;                                                                                                 \
            UNROLL for (int i = 0; i < MR; i++, to += ldc)                                                                 \
            {                                                                                                              \
                FORGET(to)                                                                                                 \
                UNROLL for (int j = 0; j < NV; j++) vf_store(to + j * VL, acc[i][j]);                                      \
            }                                                                                                              \
        }                                                                                                                  \
    }

#if VL == 16
#define ROWS_FOUR(M) M(1, 8) M(2, 8) M(3, 8)
#define ROWS_TWO(M) M(1, 4) M(2, 4) M(3, 4) M(4, 4) M(5, 4) M(6, 4)
#define ROWS_ONE(M, V) M(1, V) M(2, V) M(3, V) M(4, V) M(5, V) M(6, V) M(7, V) M(8, V) M(9, V) M(10, V) M(11, V) M(12, V) M(13, V) M(14, V)
#elif VL == 8
#define ROWS_FOUR(M) M(1, 8)
#define ROWS_TWO(M) M(1, 4) M(2, 4) M(3, 4)
#define ROWS_ONE(M, V) M(1, V) M(2, V) M(3, V) M(4, V) M(5, V) M(6, V)
#elif defined(SIMD_BY_LANE)
#define ROWS_FOUR(M) M(1, 8) M(2, 8)
#define ROWS_TWO(M) M(1, 4) M(2, 4) M(3, 4) M(4, 4) M(5, 4)
#define ROWS_ONE(M, V) M(1, V) M(2, V) M(3, V) M(4, V) M(5, V) M(6, V) M(7, V) M(8, V)
#else
#define ROWS_FOUR(M) M(1, 8)
#define ROWS_TWO(M) M(1, 4) M(2, 4)
#define ROWS_ONE(M, V) M(1, V) M(2, V) M(3, V) M(4, V)
#endif
ROWS_ONE(MICRO, 1)
ROWS_ONE(MICRO, 2)
ROWS_TWO(MICRO)
ROWS_FOUR(MICRO)

#define IN_HALF(MR, NV) [MR][ST_HALF] = micro_##MR##x##NV,
#define IN_ONE(MR, NV) [MR][ST_ONE] = micro_##MR##x##NV,
#define IN_TWO(MR, NV) [MR][ST_TWO] = micro_##MR##x##NV,
#define IN_FOUR(MR, NV) [MR][ST_FOUR] = micro_##MR##x##NV,
const st_micro_fn ST_TABLE[ST_MR + 1][4] = {ROWS_ONE(IN_HALF, 1) ROWS_ONE(IN_ONE, 2) ROWS_TWO(IN_TWO) ROWS_FOUR(IN_FOUR)};
