/* What the runtime asks of the processor itself: waiting politely, and floating point with its usual modes. */
#ifndef STRATAC_PROCESSOR_H
#define STRATAC_PROCESSOR_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

/* Between two looks at a word that another thread will change. */
static inline void st_relax(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory"); /* `yield` is a no-op on most cores */
#else
    __asm__ volatile("" ::: "memory");
#endif
}

/* Rounding and denormal modes as a program finds them at its start, so that kernels give the same bits whatever the caller's
 * are; st_modes_back restores the caller's, and the flags raised before. */
#if defined(__x86_64__)
typedef unsigned st_modes;
enum { ST_MODE_BITS = 0xffc0, ST_MODES_USUAL = 0x1f80 }; /* rounding, masks, flush-to-zero, denormals-are-zero */
static inline st_modes st_modes_usual(void)
{
    const st_modes before = _mm_getcsr();
    if ((before & ST_MODE_BITS) != ST_MODES_USUAL)
        _mm_setcsr(ST_MODES_USUAL);
    return before;
}
static inline void st_modes_back(st_modes before)
{
    if ((before & ST_MODE_BITS) != ST_MODES_USUAL)
        _mm_setcsr(before);
}
#elif defined(__aarch64__)
typedef uint64_t st_modes;
static inline st_modes st_modes_usual(void)
{
    st_modes before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (before)
        __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}
static inline void st_modes_back(st_modes before)
{
    if (before)
        __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
#else
typedef fenv_t st_modes;
static inline st_modes st_modes_usual(void)
{
    st_modes before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
static inline void st_modes_back(st_modes before) { fesetenv(&before); }
#endif

#endif
