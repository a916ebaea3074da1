/* Recurrent layers: what generated code may call.
 *
 * Every row of the batch and direction is a chain of its own; a part takes a share of them and walks all steps, so no part
 * waits for another, and a row's bits depend on no other row.
 */
#ifndef STRATAC_RECURRENT_H
#define STRATAC_RECURRENT_H

#include <stdint.h>

#define ST_RECURRENT_PANEL 64 /* columns of a panel of the recurrent matrices */

enum { ST_CELL_RNN, ST_CELL_GRU, ST_CELL_GRU_LINEAR, ST_CELL_LSTM, ST_CELL_LSTM_COUPLED };
enum {
    ST_RELU, ST_TANH, ST_SIGMOID, ST_AFFINE, ST_LEAKY_RELU, ST_THRESHOLDED_RELU, ST_SCALED_TANH, ST_HARD_SIGMOID, ST_ELU,
    ST_SOFTSIGN, ST_SOFTPLUS
};

typedef struct st_activation {
    int function;
    double alpha, beta;
} st_activation;

/* All arrays are dense and of one element type, f32 or f64. Gates stand in the order of ONNX: rnn one, gru z r h, lstm i o f c. */
typedef struct st_recurrence {
    int cell;
    int64_t steps, batch, directions, hidden;
    int backward;                 /* the first direction goes from the last step to the first; a second one always does */
    const void *x;                /* [steps][batch][directions][gates][hidden]: projected inputs with their biases */
    const void *r;                /* [directions][gates][panels][hidden][ST_RECURRENT_PANEL]: R transposed, columns in panels */
    const void *bias;             /* [directions][hidden] of the hidden gate of ST_CELL_GRU_LINEAR, or NULL */
    const void *h0, *c0;          /* [directions][batch][hidden], NULL: zeros */
    const void *peepholes;        /* [directions][3][hidden] of the gates i o f, or NULL */
    const int32_t *lengths;       /* [batch] steps of each row, NULL: all; beyond them y is zero and the state stays */
    void *y;                      /* [steps][directions][batch][hidden], or NULL */
    void *last_h, *last_c;        /* [directions][batch][hidden], or NULL */
    double clip;                  /* what the activations of gates take is kept within -clip .. clip */
    const st_activation *activations; /* for each direction 1 (rnn), 2 (gru) or 3 (lstm) */
    void *workspace;              /* (gates + 3) * hidden, rounded up to panels, elements for each row of the batch */
} st_recurrence;

void st_recurrence_f32(const st_recurrence *s, int part, int parts);
void st_recurrence_f64(const st_recurrence *s, int part, int parts);

#endif
