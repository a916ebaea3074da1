/* Does this CPU, and this operating system, have what the kernels were compiled for?  Asked before any kernel runs: the
 * runtime's own files are compiled for the architecture's baseline. */
#include "runtime.h"

#include <errno.h>
#include <string.h>
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };
#define XCR0_AVX 0x6u      /* SSE and AVX state */
#define XCR0_AVX512 0xe6u  /* and opmask, upper halves, upper registers */
#define XCR0_AMX 0x60000u  /* tile configuration and data */

/* Names as /proc/cpuinfo spells them, and the registers the operating system must save for them. */
static const struct {
    const char *name;
    uint32_t leaf, subleaf;
    int reg, bit;
    uint32_t xcr0;
} table[] = {
    {"sse3", 1, 0, ECX, 0, 0},
    {"pni", 1, 0, ECX, 0, 0},
    {"ssse3", 1, 0, ECX, 9, 0},
    {"sse4_1", 1, 0, ECX, 19, 0},
    {"sse4_2", 1, 0, ECX, 20, 0},
    {"popcnt", 1, 0, ECX, 23, 0},
    {"movbe", 1, 0, ECX, 22, 0},
    {"fma", 1, 0, ECX, 12, XCR0_AVX},
    {"avx", 1, 0, ECX, 28, XCR0_AVX},
    {"f16c", 1, 0, ECX, 29, XCR0_AVX},
    {"bmi1", 7, 0, EBX, 3, 0},
    {"avx2", 7, 0, EBX, 5, XCR0_AVX},
    {"bmi2", 7, 0, EBX, 8, 0},
    {"avx512f", 7, 0, EBX, 16, XCR0_AVX512},
    {"avx512dq", 7, 0, EBX, 17, XCR0_AVX512},
    {"avx512ifma", 7, 0, EBX, 21, XCR0_AVX512},
    {"avx512cd", 7, 0, EBX, 28, XCR0_AVX512},
    {"avx512bw", 7, 0, EBX, 30, XCR0_AVX512},
    {"avx512vl", 7, 0, EBX, 31, XCR0_AVX512},
    {"avx512vbmi", 7, 0, ECX, 1, XCR0_AVX512},
    {"avx512_vbmi2", 7, 0, ECX, 6, XCR0_AVX512},
    {"avx512_vnni", 7, 0, ECX, 11, XCR0_AVX512},
    {"avx512_bf16", 7, 1, EAX, 5, XCR0_AVX512},
    {"avx512_fp16", 7, 0, EDX, 23, XCR0_AVX512},
    {"avx_vnni", 7, 1, EAX, 4, XCR0_AVX},
    {"amx_bf16", 7, 0, EDX, 22, XCR0_AMX},
    {"amx_int8", 7, 0, EDX, 25, XCR0_AMX},
    {"amx_tile", 7, 0, EDX, 24, XCR0_AMX},
    {"amx_int8", 7, 0, EDX, 25, XCR0_AMX},
    {"lzcnt", 0x80000001u, 0, ECX, 5, 0},
    {"abm", 0x80000001u, 0, ECX, 5, 0},
};

static uint32_t saved_registers(void)
{
    uint32_t a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1))
        return 0; /* the operating system has not enabled xgetbv */
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* 1: there; 0: missing; -1: this runtime does not know the name. */
static int present(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        uint32_t r[4] = {0, 0, 0, 0};
        if (strcmp(table[i].name, name) != 0)
            continue;
        if (!__get_cpuid_count(table[i].leaf, table[i].subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
            return 0;
        return (r[table[i].reg] >> table[i].bit & 1) && (saved_registers() & table[i].xcr0) == table[i].xcr0;
    }
    return -1;
}

#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

static const struct {
    const char *name;
    unsigned long kind;
    int bit;
} table[] = {
    {"fp", AT_HWCAP, 0},      {"asimd", AT_HWCAP, 1},     {"aes", AT_HWCAP, 3},    {"crc32", AT_HWCAP, 7},
    {"atomics", AT_HWCAP, 8}, {"fphp", AT_HWCAP, 9},      {"asimdhp", AT_HWCAP, 10}, {"asimddp", AT_HWCAP, 20},
    {"sve", AT_HWCAP, 22},    {"asimdfhm", AT_HWCAP, 23}, {"sve2", AT_HWCAP2, 1},  {"i8mm", AT_HWCAP2, 13},
    {"bf16", AT_HWCAP2, 14},
};

static int present(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, name) == 0)
            return getauxval(table[i].kind) >> table[i].bit & 1;
    return -1;
}

#else

static int present(const char *name)
{
    (void)name;
    return -1;
}

#endif

/* Linux lets only those processes use tiles that ask for them (Documentation/arch/x86/xstate.rst); once granted, all their threads
 * may.  0, or the error. */
static int ask_for(const char *name)
{
#if defined(__x86_64__) && defined(__linux__)
    enum { ASK_PERMISSION = 0x1023, TILE_DATA = 18 }; /* of arch_prctl; the number of that part of the registers */
    if (strncmp(name, "amx_", 4) == 0 && syscall(SYS_arch_prctl, ASK_PERMISSION, TILE_DATA))
        return errno;
#endif
    (void)name;
    return 0;
}

int st_features_check(const st_plan *plan, st_error *error)
{
    char missing[ST_ERROR_BYTES / 2] = "";
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_FEATURE]; i++) {
        const char *name = plan->strings + plan->features[i].name;
        const int have = present(name);
        if (have != 1)
            st_append(missing, sizeof missing, "%s%.64s%s", *missing ? ", " : "", name,
                      have < 0 ? " (unknown to this runtime)" : "");
    }
    if (*missing)
        return st_fail(error, ST_MACHINE, "this CPU or its operating system lacks %s, which the plan's kernels need; "
                       "compile the plan with --target native on this machine", missing);
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_FEATURE]; i++) {
        const char *name = plan->strings + plan->features[i].name;
        const int refused = ask_for(name);
        if (refused)
            return st_fail(error, ST_MACHINE, "the operating system does not let this process use %.64s (arch_prctl: %s), which the plan's "
                           "kernels need; compile the plan with --precision exact, or for a target without it", name, strerror(refused));
    }
    return ST_OK;
}
