/* The error of soft_exp and of soft_power against e^x in double, over floats of [-87, 0].  Usage: soft STEP.  Looks at every STEP-th
 * float and prints the greatest error in ULP of the result for x >= -1 and for all x, and that in ULP of one for all x; that of
 * soft_power in ULP of the result for x >= -1, its relative error for one part, and how many of its results another shift changes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../csrc/kernels/soft.h"

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    double near = 0, all = 0, weight = 0, power = 0, rough = 0;
    int changed = 0;
    for (uint32_t bits = 0x80000000u, step = (uint32_t)atoi(argv[1]); bits <= 0xc2ae0000u; bits += step * VL) {
        float x[VL], y[VL];
        for (uint32_t i = 0; i < VL; i++) {
            const uint32_t at = bits + i * step < 0xc2ae0000u ? bits + i * step : 0xc2ae0000u; /* -87 */
            memcpy(x + i, &at, sizeof at);
        }
        float whole[VL], moved[VL], one[VL];
        vf_store(y, soft_exp(vf_load(x)));
        vf_store(whole, soft_power(vf_load(x), soft_scale_of(0.0f), 3));
        vf_store(moved, soft_power(vf_load(x), soft_scale_of(-31.0f), 3));
        vf_store(one, soft_power(vf_load(x), soft_scale_of(0.0f), 1));
        for (int i = 0; i < VL; i++) {
            int exponent;
            const double exact = exp(x[i]), off = fabs(y[i] - exact);
            frexp(exact, &exponent);
            const double ulp = off / ldexp(1.0, exponent - 24);
            near = x[i] >= -1 ? fmax(near, ulp) : near;
            all = fmax(all, ulp);
            power = x[i] >= -1 ? fmax(power, fabs(whole[i] - exact) / ldexp(1.0, exponent - 24)) : power;
            rough = x[i] >= -86 ? fmax(rough, fabs(one[i] / exact - 1)) : rough;
            changed += x[i] >= -86 && moved[i] != ldexpf(whole[i], 31);
            weight = fmax(weight, off / ldexp(1.0, -23));
        }
    }
    const float odd[] = {-87.5f, -1e4f, -3.4e38f, -SIMD_INF, SIMD_NAN, -SIMD_NAN, 0.0f};
    for (int i = 0; i < 7; i++)
        printf("%g ", vf_first(soft_exp(vf_set1(odd[i]))));
    printf("%.3f %.3f %.3f %.3f %.3g %d\n", near, all, weight, power, rough, changed);
    return 0;
}
