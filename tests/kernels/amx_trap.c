/* AMX on processors without it: the instructions trap as illegal, and a signal handler carries them out from the bytes of the
 * code, as Intel documents them (Software Developer's Manual, volumes 1 chapter 18 and 2).  It knows what tiles.c uses, shares nothing
 * with csrc/simd/simd_tiles.h, and aborts where a processor would fault.  Linked with a program or preloaded. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

static _Thread_local struct {
    int configured;
    uint8_t rows[8];
    uint16_t row_bytes[8];
    uint8_t at[8][16][64];
} unit;
static unsigned long long carried_out;

static void stop(const char *why)
{
    if (write(2, "amx_trap: ", 10) < 0 || write(2, why, strlen(why)) < 0 || write(2, "\n", 1) < 0)
        _exit(3);
    abort();
}
#define MUST(condition)                                                                                                    \
    do {                                                                                                                   \
        if (!(condition))                                                                                                  \
            stop(#condition);                                                                                              \
    } while (0)

static int64_t reg(const ucontext_t *u, int number)
{
    static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    return u->uc_mcontext.gregs[order[number]];
}

static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
static float half_of(const uint8_t *p)
{
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return flushed(value);
}

static void dot(int c, int a, int b)
{
    MUST(c != a && a != b && c != b);
    MUST(unit.rows[c] == unit.rows[a] && unit.rows[b] == unit.row_bytes[a] / 4 && unit.row_bytes[c] == unit.row_bytes[b]);
    for (int m = 0; m < unit.rows[c]; m++) {
        float even[16] = {0}, odd[16] = {0};
        for (int k = 0; k < unit.row_bytes[a] / 4; k++)
            for (int n = 0; n < unit.row_bytes[b] / 4; n++) {
                even[n] = flushed(fmaf(half_of(&unit.at[a][m][4 * k]), half_of(&unit.at[b][k][4 * n]), even[n]));
                odd[n] = flushed(fmaf(half_of(&unit.at[a][m][4 * k + 2]), half_of(&unit.at[b][k][4 * n + 2]), odd[n]));
            }
        for (int n = 0; n < unit.row_bytes[b] / 4; n++) {
            float old;
            memcpy(&old, &unit.at[c][m][4 * n], sizeof old);
            old = flushed(flushed(old) + flushed(even[n] + odd[n]));
            memcpy(&unit.at[c][m][4 * n], &old, sizeof old);
        }
    }
}

static void dot_i8(int c, int a, int b)
{
    MUST(c != a && a != b && c != b);
    MUST(unit.rows[c] == unit.rows[a] && unit.rows[b] == unit.row_bytes[a] / 4 && unit.row_bytes[c] == unit.row_bytes[b]);
    for (int m = 0; m < unit.rows[c]; m++)
        for (int n = 0; n < unit.row_bytes[b] / 4; n++) {
            uint32_t sum;
            memcpy(&sum, &unit.at[c][m][4 * n], sizeof sum);
            for (int k = 0; k < unit.row_bytes[a]; k++)
                sum += (uint32_t)((int8_t)unit.at[a][m][k] * (int8_t)unit.at[b][k / 4][4 * n + k % 4]);
            memcpy(&unit.at[c][m][4 * n], &sum, sizeof sum);
        }
}

static void configure(const uint8_t *from)
{
    memset(&unit, 0, sizeof unit);
    MUST(from[0] == 1 && from[1] == 0);
    for (int i = 2; i < 16; i++)
        MUST(from[i] == 0);
    for (int n = 0; n < 16; n++) {
        int row_bytes = from[16 + 2 * n] | from[17 + 2 * n] << 8, rows = from[48 + n];
        MUST(n < 8 ? rows <= 16 && row_bytes <= 64 && !rows == !row_bytes : !rows && !row_bytes);
        if (n < 8)
            unit.rows[n] = (uint8_t)rows, unit.row_bytes[n] = (uint16_t)row_bytes;
    }
    unit.configured = 1;
}

static void on_illegal(int signal_, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    const uint8_t *code = (const uint8_t *)u->uc_mcontext.gregs[REG_RIP];
    (void)signal_, (void)info;
    /* three-byte VEX, map 0F38, W 0, 128 bits */
    MUST(code[0] == 0xc4 && (code[1] & 0x1f) == 2 && (code[2] & 0x84) == 0);
    const int r = ~code[1] >> 4 & 8, x = ~code[1] >> 3 & 8, b = ~code[1] >> 2 & 8; /* high bits, stored inverted */
    const int third = ~code[2] >> 3 & 15, prefix = code[2] & 3, op = code[3], mod = code[4] >> 6, rm = code[4] & 7;
    const int tile = (code[4] >> 3 & 7) | r;
    int length = 5;
    const uint8_t *address = NULL;
    int64_t index = 0;
    if (mod != 3) {
        int64_t base = 0;
        int sib = rm == 4, low = rm;
        if (sib) {
            const int i = (code[5] >> 3 & 7) | x;
            low = code[5] & 7, length = 6;
            index = i == 4 ? 0 : reg(u, i) << (code[5] >> 6);
        }
        int displacement = mod == 1 ? 1 : mod == 2 ? 4 : low == 5 ? 4 : 0;
        int32_t wide = 0;
        if (displacement == 1)
            wide = (int8_t)code[length];
        else if (displacement == 4)
            memcpy(&wide, code + length, 4);
        length += displacement;
        if (mod || low != 5)
            base = reg(u, low | b);
        else if (!sib)
            base = (int64_t)(code + length); /* relative to the next instruction */
        address = (const uint8_t *)base + wide;
        if (op == 0x4b)
            MUST(sib);
        else
            address += index;
    }
    if (op == 0x49 && prefix == 0 && mod != 3 && tile == 0) {
        configure(address);
    } else if (op == 0x49 && prefix == 0 && code[4] == 0xc0) {
        memset(&unit, 0, sizeof unit);
    } else {
        MUST(unit.configured && tile < 8);
        if (op == 0x49 && prefix == 3 && mod == 3 && rm == 0) {
            MUST(unit.rows[tile]);
            memset(unit.at[tile], 0, sizeof unit.at[tile]);
        } else if (op == 0x4b && (prefix == 3 || prefix == 1)) {
            MUST(unit.rows[tile] && third == 0);
            memset(unit.at[tile], 0, sizeof unit.at[tile]);
            for (int i = 0; i < unit.rows[tile]; i++)
                memcpy(unit.at[tile][i], address + i * index, unit.row_bytes[tile]);
        } else if (op == 0x4b && prefix == 2) {
            MUST(unit.rows[tile] && third == 0);
            for (int i = 0; i < unit.rows[tile]; i++)
                memcpy((uint8_t *)(uintptr_t)address + i * index, unit.at[tile][i], unit.row_bytes[tile]);
        } else if (op == 0x5c && prefix == 2 && mod == 3) {
            dot(tile, rm | b, third);
        } else if (op == 0x5e && prefix == 3 && mod == 3) {
            dot_i8(tile, rm | b, third);
        } else {
            stop("an instruction that is not known here");
        }
    }
    carried_out++;
    u->uc_mcontext.gregs[REG_RIP] += length;
}

static __attribute__((constructor)) void catch_illegal(void)
{
    struct sigaction action = {.sa_sigaction = on_illegal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGILL, &action, NULL);
}

/* Threads that block all signals (those of csrc/pool.c) must not block this one: a blocked trap ends the process. */
int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    sigset_t others;
    if (set && how != SIG_UNBLOCK) {
        others = *set;
        sigdelset(&others, SIGILL);
        set = &others;
    }
    return sigprocmask(how, set, old) ? errno : 0; /* on Linux of the calling thread */
}

/* On a processor that has AMX nothing traps: say which it was. */
static __attribute__((destructor)) void tell(void)
{
    if (getenv("AMX_TRAP_TELL"))
        fprintf(stderr, "amx_trap: %llu instructions\n", carried_out);
}
