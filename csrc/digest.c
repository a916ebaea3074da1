/* The plan's 64-bit digest; ir/plan_digest.py says why it finds every flipped bit. */
#include "runtime.h"

#include <string.h>

#define BLOCK_WORDS (ST_DIGEST_BLOCK / 8)
#define WORD UINT64_C(0x9E3779B97F4A7C15)
#define BLOCKS UINT64_C(0xD1B54A32D192ED03)
#define LENGTH UINT64_C(0x8CB92BA72F3D8DD7)

static inline uint64_t odd(uint64_t mixed)
{
    return (mixed ^ mixed >> 32) | 1;
}

static inline uint64_t load(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word); /* weights are aligned, plan.bin in a test may not be */
    return word;
}

static uint64_t block(const uint8_t *data, uint64_t words)
{
    uint64_t a = 0, b = 0, c = 0, d = 0, mixed = WORD, i = 0;
    for (; i + 4 <= words; i += 4, mixed += 4 * WORD) {
        a += load(data + 8 * i) * odd(mixed);
        b += load(data + 8 * i + 8) * odd(mixed + WORD);
        c += load(data + 8 * i + 16) * odd(mixed + 2 * WORD);
        d += load(data + 8 * i + 24) * odd(mixed + 3 * WORD);
    }
    for (; i < words; i++, mixed += WORD)
        a += load(data + 8 * i) * odd(mixed);
    return a + b + c + d;
}

uint64_t st_digest_share(const void *data, uint64_t bytes, uint64_t first_block)
{
    const uint8_t *at = data;
    uint64_t sum = 0, number = first_block + 1;
    for (; bytes >= ST_DIGEST_BLOCK; at += ST_DIGEST_BLOCK, bytes -= ST_DIGEST_BLOCK)
        sum += block(at, BLOCK_WORDS) * odd(number++ * BLOCKS);
    if (bytes) {
        uint64_t inner = block(at, bytes / 8), last = 0;
        if (bytes % 8) {
            memcpy(&last, at + bytes / 8 * 8, bytes % 8);
            inner += last * odd((bytes / 8 + 1) * WORD);
        }
        sum += inner * odd(number * BLOCKS);
    }
    return sum;
}

uint64_t st_digest_factor(uint64_t word)
{
    return odd((word % BLOCK_WORDS + 1) * WORD) * odd((word / BLOCK_WORDS + 1) * BLOCKS);
}

uint64_t st_digest_finish(uint64_t sum, uint64_t bytes)
{
    sum += bytes * LENGTH;
    sum = (sum ^ sum >> 32) * WORD;
    return sum ^ sum >> 29;
}

uint64_t st_digest64(const void *data, uint64_t bytes)
{
    return st_digest_finish(st_digest_share(data, bytes, 0), bytes);
}
