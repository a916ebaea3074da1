/* The layout of plan.bin. Generated from ir/plan_binary.py by `python -m stratac.ir.plan_binary`; do not edit. */
#ifndef STRATAC_PLAN_FORMAT_H
#define STRATAC_PLAN_FORMAT_H

#include <stdint.h>

#define STP_MAGIC UINT64_C(0x0a43415441525453)
#define STP_FORMAT_VERSION 1
#define STP_ALIGNMENT 64
#define STP_DIM_DEPTH 32
#define STP_DIM_CODE 4096

enum {
    STP_SECTION_STRING = 0,
    STP_SECTION_DIM_OP = 1,
    STP_SECTION_DIM = 2,
    STP_SECTION_TYPE = 3,
    STP_SECTION_SYMBOL = 4,
    STP_SECTION_FEATURE = 5,
    STP_SECTION_INPUT = 6,
    STP_SECTION_OUTPUT = 7,
    STP_SECTION_ARENA = 8,
    STP_SECTION_BUFFER = 9,
    STP_SECTION_WEIGHT = 10,
    STP_SECTION_KERNEL = 11,
    STP_SECTION_QUEUE = 12,
    STP_SECTION_CALL = 13,
    STP_SECTION_ARG = 14,
    STP_SECTION_NOTE = 15,
    STP_SECTION_COUNT
};
enum {
    STP_ARENA_SCRATCH = 0,
    STP_ARENA_WORKSPACE = 1,
    STP_ARENA_COUNT
};
enum {
    STP_SPACE_INPUT = 0,
    STP_SPACE_OUTPUT = 1,
    STP_SPACE_BUFFER = 2,
    STP_SPACE_WEIGHT = 3,
    STP_SPACE_WORKSPACE = 4,
    STP_SPACE_COUNT
};
enum {
    STP_CALL_KERNEL = 0,
    STP_CALL_COUNT
};
enum {
    STP_DIM_CONST = 0,
    STP_DIM_SYMBOL = 1,
    STP_DIM_ADD = 2,
    STP_DIM_MUL = 3,
    STP_DIM_FLOORDIV = 4,
    STP_DIM_MOD = 5,
    STP_DIM_MIN = 6,
    STP_DIM_MAX = 7,
    STP_DIM_COUNT
};

/* Element types: X(name, code, bits). The codes are ONNX's. */
#define STP_DTYPES(X) \
    X(f64, 11, 64) \
    X(f32, 1, 32) \
    X(f16, 10, 16) \
    X(bf16, 16, 16) \
    X(f8e4m3, 17, 8) \
    X(f8e4m3fnuz, 18, 8) \
    X(f8e5m2, 19, 8) \
    X(f8e5m2fnuz, 20, 8) \
    X(f8e8m0, 24, 8) \
    X(f4e2m1, 23, 4) \
    X(i64, 7, 64) \
    X(i32, 6, 32) \
    X(i16, 5, 16) \
    X(i8, 3, 8) \
    X(i4, 22, 4) \
    X(i2, 26, 2) \
    X(u64, 13, 64) \
    X(u32, 12, 32) \
    X(u16, 4, 16) \
    X(u8, 2, 8) \
    X(u4, 21, 4) \
    X(u2, 25, 2) \
    X(bool, 9, 8) \
    X(string, 8, 64) \
    X(c64, 14, 64) \
    X(c128, 15, 128)

typedef struct stp_header {
    uint64_t magic;
    uint32_t format_version;
    uint32_t header_bytes;
    uint64_t file_bytes;
    uint64_t digest;
    uint64_t plan_id;
    uint64_t weights_bytes;
    uint64_t weights_digest;
    uint32_t name;
    uint32_t target;
    uint32_t threads;
    uint32_t sections;
} stp_header;
_Static_assert(sizeof(stp_header) == 72, "layout of stp_header");

typedef struct stp_section {
    uint32_t kind;
    uint32_t record_bytes;
    uint64_t offset;
    uint64_t count;
} stp_section;
_Static_assert(sizeof(stp_section) == 24, "layout of stp_section");

typedef struct stp_dim_op {
    uint32_t op;
    uint32_t reserved;
    int64_t value;
} stp_dim_op;
_Static_assert(sizeof(stp_dim_op) == 16, "layout of stp_dim_op");

typedef struct stp_dim {
    uint32_t first;
    uint32_t count;
} stp_dim;
_Static_assert(sizeof(stp_dim) == 8, "layout of stp_dim");

typedef struct stp_type {
    uint32_t dtype;
    uint32_t rank;
    uint32_t first_dim;
    uint32_t text;
} stp_type;
_Static_assert(sizeof(stp_type) == 16, "layout of stp_type");

typedef struct stp_symbol {
    uint32_t name;
    uint32_t reserved;
    int64_t min;
    int64_t typical;
    int64_t max;
} stp_symbol;
_Static_assert(sizeof(stp_symbol) == 32, "layout of stp_symbol");

typedef struct stp_feature {
    uint32_t name;
} stp_feature;
_Static_assert(sizeof(stp_feature) == 4, "layout of stp_feature");

typedef struct stp_input {
    uint32_t name;
    uint32_t type;
} stp_input;
_Static_assert(sizeof(stp_input) == 8, "layout of stp_input");

typedef struct stp_output {
    uint32_t name;
    uint32_t type;
} stp_output;
_Static_assert(sizeof(stp_output) == 8, "layout of stp_output");

typedef struct stp_arena {
    uint32_t name;
    uint32_t kind;
    uint32_t tier;
    uint32_t reserved;
    uint64_t bytes;
} stp_arena;
_Static_assert(sizeof(stp_arena) == 24, "layout of stp_arena");

typedef struct stp_buffer {
    uint32_t name;
    uint32_t arena;
    uint64_t offset;
    uint64_t bytes;
    int64_t first;
    int64_t last;
    uint32_t type;
    uint32_t why;
} stp_buffer;
_Static_assert(sizeof(stp_buffer) == 48, "layout of stp_buffer");

typedef struct stp_weight {
    uint32_t name;
    uint32_t format;
    uint32_t label;
    uint32_t reserved;
    uint64_t offset;
    uint64_t bytes;
} stp_weight;
_Static_assert(sizeof(stp_weight) == 32, "layout of stp_weight");

typedef struct stp_kernel {
    uint32_t name;
} stp_kernel;
_Static_assert(sizeof(stp_kernel) == 4, "layout of stp_kernel");

typedef struct stp_queue {
    uint32_t name;
    uint32_t first_call;
    uint32_t calls;
    uint32_t reserved;
} stp_queue;
_Static_assert(sizeof(stp_queue) == 16, "layout of stp_queue");

typedef struct stp_call {
    uint32_t kind;
    uint32_t kernel;
    uint32_t first_arg;
    uint32_t args;
    uint32_t barrier;
    int32_t parts;
    uint32_t label;
    uint32_t reserved;
    double seconds;
    double flops;
    double bytes;
} stp_call;
_Static_assert(sizeof(stp_call) == 56, "layout of stp_call");

typedef struct stp_arg {
    uint32_t space;
    uint32_t index;
} stp_arg;
_Static_assert(sizeof(stp_arg) == 8, "layout of stp_arg");

typedef struct stp_note {
    uint32_t key;
    uint32_t value;
} stp_note;
_Static_assert(sizeof(stp_note) == 8, "layout of stp_note");

/* Bytes of a record and name of each section. */
#define STP_RECORD_BYTES {1, 16, 8, 16, 32, 4, 8, 8, 24, 48, 32, 4, 16, 56, 8, 8}
#define STP_SECTION_NAMES \
    {"string", "dim_op", "dim", "type", "symbol", "feature", "input", "output", "arena", "buffer", "weight", "kernel", "queue", "call", "arg", "note"}

#endif
