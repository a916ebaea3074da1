/* A session: an open plan, the memory it runs in, and what is bound. */
#ifndef STRATAC_SESSION_H
#define STRATAC_SESSION_H

#include "storage.h"

#include <pthread.h>
#include <sys/types.h>

typedef struct st_binding {
    char *data;
    int64_t bytes;
    int bound;
    int64_t *shape; /* what the caller gave */
} st_binding;

/* An argument that changes with what is bound. */
typedef struct st_patch {
    uint32_t arg; /* number of the argument among all */
    uint32_t direction;
    uint32_t index;
} st_patch;

/* A buffer of a scratch arena, and the stretches between barriers in which it is in use. */
typedef struct st_place {
    const stp_buffer *buffer;
    uint32_t from, to;
} st_place;

/* layout.c: where buffers lie. */
typedef struct st_layout {
    st_place *places;  /* arena by arena, from the lowest planned offset up */
    uint64_t count;
    uint32_t *stretch; /* of each instruction */
    uint64_t stretches;
    uint64_t *tops;    /* of each stretch: bytes taken so far */
    uint64_t *offsets; /* of each buffer */
    int64_t *symbols;  /* that the offsets are for; ST_UNKNOWN: set during the run */
} st_layout;

struct st_session {
    st_plan plan;
    st_block file;    /* plan.bin */
    st_block weights; /* the resident part of weights.bin: read, then mapped */
    st_block ring;    /* where reads put streamed weights */
    st_block memory;  /* scratch arenas, workspaces */
    st_block states;  /* what stays between runs */
    st_block tables;  /* everything below that has no fixed size, and the pool */
    st_storage storage; /* weights.bin */
    void *io_place;     /* of the queue of reads, in the tables */
    pid_t process;
    int resolved; /* the symbols have values and the output shapes are known */
    int ready;    /* all is bound and checked */
    int found;    /* that has run: the symbols have the values of the run */
    int torn;     /* a run began and failed: the states are neither as before nor as after it */
    uint32_t patch_count;
    st_program program;
    st_step *steps;
    st_region *regions;
    st_loop *loops;
    void **args;
    st_patch *patches;
    int64_t *symbols;
    st_layout layout;
    uint8_t *seen;                /* input extents that have been compared */
    int64_t *output_shapes;       /* the room of all outputs, one after another */
    int64_t **output_shape;       /* of each output */
    st_binding *bindings[2];
    _Atomic int busy;
    pthread_mutex_t lock; /* guards `error` only */
    st_error error;
};

/* Keep the text for st_last_error; returns `status`. */
int st_session_keep(st_session *session, int status, const st_error *error);
/* Nothing but one comparison tells a second caller off; st_leave ends what st_enter began. */
int st_enter(st_session *session);
void st_leave(st_session *session);

/* session.c: where an arena begins. */
char *st_arena_base(const st_session *session, uint32_t arena);

/* state.c: their memory; where one lies; all as they start; ST_STATE where they are torn. */
int st_states_open(st_session *session, st_error *error);
char *st_state_place(const st_session *session, uint64_t index);
void st_states_fill(st_session *session);
int st_states_check(const st_session *session, st_error *error);

/* layout.c: ST_DAMAGED where buffers share bytes that are in use at once.  The tables are laid. */
int st_layout_open(st_session *session, st_error *error);
/* Move the buffers to where they lie at the symbols' values. */
void st_layout_fit(st_session *session);

/* resident.c: put the pages of weights that are mapped in their place behind those that are read. */
int st_resident_map(st_session *session, st_error *error);
/* Read the others; check the digest of both. */
int st_resident_load(st_session *session, int digest, st_error *error);
/* The same for the weights that kernels read by themselves, without keeping them. */
int st_sources_verify(st_session *session, st_error *error);

#endif
