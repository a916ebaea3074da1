/* fuzz PLAN ROUNDS SEED: damage plan.bin in many ways, make its digest right again, and load it.  The sanitizers watch:
 * every outcome but a crash is fine.  What loads is described, evaluated and (where it is small) opened and bound as well. */
#define _GNU_SOURCE
#include "../../../csrc/runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t state;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t interesting(void)
{
    static const uint64_t values[] = {0,          1,          2,          7,          8,         63,        64,
                                      255,        0x7fffffff, 0x80000000, 0xffffffff, 1ull << 32, 1ull << 62, 1ull << 63,
                                      ~0ull - 63, ~0ull};
    return draw() % 3 ? values[draw() % (sizeof values / sizeof *values)] : draw() % 4096;
}

static void repair(uint8_t *bytes, uint64_t size)
{
    stp_header *header = (stp_header *)(void *)bytes;
    if (size < sizeof *header)
        return;
    if (draw() % 8)
        header->file_bytes = size;
    header->digest = 0;
    header->digest = st_digest64(bytes, size);
}

static uint64_t damage(uint8_t *bytes, uint64_t size)
{
    for (uint64_t left = 1 + draw() % 4; left && size > 16; left--) {
        /* half of the damage goes to the header and the section table, where it reaches furthest */
        const uint64_t reach = draw() % 2 && size > 512 ? 512 : size, at = draw() % reach;
        uint64_t value = interesting();
        switch (draw() % 6) {
        case 0:
            bytes[at] ^= (uint8_t)(1u << draw() % 8);
            break;
        case 1:
            memcpy(bytes + at / 4 * 4, &value, at / 4 * 4 + 4 <= size ? 4 : 0);
            break;
        case 2:
            memcpy(bytes + at / 8 * 8, &value, at / 8 * 8 + 8 <= size ? 8 : 0);
            break;
        case 3:
            bytes[at] = (uint8_t)value;
            break;
        case 4: { /* a copy of another place */
            const uint64_t from = draw() % (size - 8);
            memmove(bytes + draw() % (size - 8), bytes + from, 8);
            break;
        }
        default:
            if (draw() % 8 == 0)
                size -= draw() % (size / 2);
        }
    }
    return size;
}

static void write_file(const char *folder, const char *name, const void *bytes, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file))
        abort();
}

static int small(const st_plan *plan)
{
    uint64_t total = plan->header->weights_bytes;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_ARENA]; i++)
        total += plan->arenas[i].bytes;
    return total < 1 << 22 && plan->header->weights_bytes < 1 << 16;
}

static int open_and_bind(const char *folder, const st_plan *plan, const uint8_t *bytes, uint64_t size)
{
    static char memory[1 << 16], text[256];
    int64_t shape[ST_MAX_RANK], symbols[64] = {0};
    st_session *s;
    st_port port;
    const st_options options = {.size = sizeof options, .threads = 1 + (int)(draw() % 2), .skip_weights = 1,
                                .io = (int)(draw() % 4)};
    write_file(folder, "plan.bin", bytes, size);
    write_file(folder, "weights.bin", memory, plan->header->weights_bytes);
    if (st_open(folder, &options, &s, text, sizeof text))
        return 0;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_SYMBOL] && i < 64; i++)
        symbols[i] = plan->symbols[i].typical;
    for (int i = 0; i < st_ports(plan, ST_INPUT); i++)
        if (!st_get_port(s, ST_INPUT, i, &port) && plan->counts[STP_SECTION_SYMBOL] <= 64 &&
            !st_shape_at(s, ST_INPUT, i, symbols, shape, ST_MAX_RANK))
            st_bind_input(s, i, memory, port.dtype, port.rank, shape);
    for (int i = 0; i < st_ports(plan, ST_OUTPUT); i++)
        st_output_shape(s, i, shape, ST_MAX_RANK), st_found_shape(s, i, shape, ST_MAX_RANK);
    st_last_error(s, text, sizeof text);
    st_close(s);
    return 1;
}

/* Touch everything that the rest of the runtime would. */
static void use(const st_plan *plan)
{
    int64_t shape[ST_MAX_RANK], *symbols = malloc((plan->counts[STP_SECTION_SYMBOL] + 1) * sizeof *symbols);
    st_error error;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_SYMBOL]; i++)
        symbols[i] = draw() % 4 ? plan->symbols[i].typical : plan->symbols[i].max;
    for (uint64_t i = 0; i < plan->counts[STP_SECTION_TYPE]; i++)
        if (!st_type_shape(plan, &plan->types[i], symbols, shape))
            st_shape_bytes(plan->types[i].dtype, (int)plan->types[i].rank, shape);
    st_features_check(plan, &error);
    st_plan_check_library(plan, st_plan_id, st_plan_kernel_count, st_plan_kernel_names, &error);
    free(symbols);
}

int main(int argc, char **argv)
{
    char path[512], folder[] = "/tmp/stratac-fuzz-XXXXXX";
    static uint8_t original[1 << 20];
    if (argc < 4 || !mkdtemp(folder))
        return 2;
    snprintf(path, sizeof path, "%s/plan.bin", argv[1]);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 2;
    const uint64_t whole = fread(original, 1, sizeof original, file);
    fclose(file);
    state = strtoull(argv[3], NULL, 0) * 0x9E3779B97F4A7C15ull + 1;
    long loaded = 0, opened = 0;
    for (long round = atol(argv[2]); round; round--) {
        /* an exact allocation: one byte too far is seen */
        uint8_t *bytes = malloc(whole);
        memcpy(bytes, original, whole);
        const uint64_t size = damage(bytes, whole);
        uint8_t *exact = malloc(size + !size);
        memcpy(exact, bytes, size);
        free(bytes);
        repair(exact, size);
        st_plan plan;
        st_error error;
        if (!st_plan_load(&plan, exact, size, &error)) {
            loaded++;
            use(&plan);
            if (loaded % 64 == 0 && small(&plan))
                opened += open_and_bind(folder, &plan, exact, size);
        } else if (!strstr(error.text, "plan")) {
            fprintf(stderr, "not an error text: %s\n", error.text);
            return 1;
        }
        free(exact);
    }
    snprintf(path, sizeof path, "%s/plan.bin", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/weights.bin", folder);
    unlink(path);
    rmdir(folder);
    printf("%ld loaded, %ld opened\n", loaded, opened);
    return 0;
}
