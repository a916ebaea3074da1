/* The steps of recurrent layers in the element type REAL; included once for each by recurrent.c.
 *
 * A row's state: gates [gates * padded] and two vectors of `padded` for the state and one for what a product or an activation
 * takes, `padded` being `hidden` rounded up to panels.
 */

typedef struct NAME(rows) {
    const st_recurrence *s;
    int64_t direction, first, count; /* rows of the batch */
    int64_t padded, gate_count;
    REAL *gates, *h, *c, *extra; /* [count][gate_count * padded], [count][padded] each */
    const REAL *r;
} NAME(rows);

/* Steps of a row of the batch; lengths come from the caller, so they are brought within bounds. */
static inline int64_t NAME(length)(const st_recurrence *s, int64_t row)
{
    const int64_t length = s->lengths ? s->lengths[row] : s->steps;
    return length < 0 ? 0 : length > s->steps ? s->steps : length;
}

/* gates [from, to) of all rows += what the state gives through R. */
static void NAME(multiply)(const NAME(rows) *w, const REAL *state, int64_t from, int64_t to)
{
    const int64_t panels = w->padded / PANEL, ld = w->gate_count * w->padded, depth = w->s->hidden;
    const REAL *r = w->r + from * panels * depth * PANEL;
    NAME(panels)(state, w->padded, r, depth, (to - from) * panels, w->gates + from * w->padded, ld, w->count);
}

static void NAME(step_gru)(const NAME(rows) *w, const st_activation *f)
{
    const st_recurrence *s = w->s;
    const int64_t n = s->hidden, padded = w->padded;
    const int linear = s->cell == ST_CELL_GRU_LINEAR;
    const REAL *bias = s->bias ? (const REAL *)s->bias + w->direction * n : 0;
    for (int64_t i = 0; i < w->count && linear; i++) { /* what R adds to the hidden gate stays apart from what x brought */
        REAL *hidden = w->gates + (3 * i + 2) * padded, *kept = w->extra + i * padded;
        for (int64_t j = 0; j < n; j++)
            kept[j] = hidden[j], hidden[j] = bias ? bias[j] : 0;
    }
    NAME(multiply)(w, w->h, 0, linear ? 3 : 2);
    for (int64_t i = 0; i < w->count; i++) {
        REAL *z = w->gates + 3 * i * padded, *reset = z + padded, *hidden = reset + padded;
        REAL *extra = w->extra + i * padded;
        const REAL *h = w->h + i * padded;
        NAME(activate)(&f[0], s->clip, z, n);
        NAME(activate)(&f[0], s->clip, reset, n);
        for (int64_t j = 0; j < n; j++)
            if (linear)
                hidden[j] = extra[j] + reset[j] * hidden[j];
            else
                extra[j] = reset[j] * h[j];
    }
    if (!linear)
        NAME(multiply)(w, w->extra, 2, 3);
    for (int64_t i = 0; i < w->count; i++) {
        const REAL *z = w->gates + 3 * i * padded;
        REAL *hidden = w->gates + (3 * i + 2) * padded, *extra = w->extra + i * padded;
        const REAL *h = w->h + i * padded;
        NAME(activate)(&f[1], s->clip, hidden, n);
        for (int64_t j = 0; j < n; j++)
            extra[j] = (1 - z[j]) * hidden[j] + z[j] * h[j];
    }
}

static void NAME(step_lstm)(const NAME(rows) *w, const st_activation *f)
{
    const st_recurrence *s = w->s;
    const int64_t n = s->hidden, padded = w->padded;
    const REAL *peep = s->peepholes ? (const REAL *)s->peepholes + w->direction * 3 * n : 0;
    NAME(multiply)(w, w->h, 0, 4);
    for (int64_t i = 0; i < w->count; i++) {
        REAL *in = w->gates + 4 * i * padded, *out = in + padded, *forget = out + padded, *cell = forget + padded;
        REAL *c = w->c + i * padded, *extra = w->extra + i * padded;
        for (int64_t j = 0; j < n && peep; j++)
            in[j] += peep[j] * c[j], forget[j] += peep[2 * n + j] * c[j];
        NAME(activate)(&f[0], s->clip, in, n);
        if (s->cell == ST_CELL_LSTM_COUPLED)
            for (int64_t j = 0; j < n; j++)
                forget[j] = 1 - in[j];
        else
            NAME(activate)(&f[0], s->clip, forget, n);
        NAME(activate)(&f[1], s->clip, cell, n);
        for (int64_t j = 0; j < n; j++)
            cell[j] = forget[j] * c[j] + in[j] * cell[j]; /* the new cell, and its activation */
        for (int64_t j = 0; j < n; j++)
            extra[j] = cell[j], out[j] += peep ? peep[n + j] * cell[j] : 0;
        NAME(activate)(&f[0], s->clip, out, n);
        NAME(activate)(&f[2], INFINITY, extra, n);
        for (int64_t j = 0; j < n; j++)
            extra[j] *= out[j];
    }
}

static void NAME(walk)(const NAME(rows) *w)
{
    const st_recurrence *s = w->s;
    const int64_t n = s->hidden, padded = w->padded, batch = s->batch, g = w->gate_count;
    const int back = w->direction ? 1 : s->backward;
    const int functions = s->cell == ST_CELL_RNN ? 1 : s->cell >= ST_CELL_LSTM ? 3 : 2;
    const st_activation *f = s->activations + w->direction * functions;
    for (int64_t i = 0; i < w->count; i++) {
        const int64_t at = (w->direction * batch + w->first + i) * n;
        memset(w->h + i * padded, 0, sizeof(REAL) * (size_t)padded);
        memset(w->c + i * padded, 0, sizeof(REAL) * (size_t)padded);
        if (s->h0)
            memcpy(w->h + i * padded, (const REAL *)s->h0 + at, sizeof(REAL) * (size_t)n);
        if (s->c0)
            memcpy(w->c + i * padded, (const REAL *)s->c0 + at, sizeof(REAL) * (size_t)n);
    }
    memset(w->gates, 0, sizeof(REAL) * (size_t)(w->count * g * padded));
    for (int64_t step = 0; step < s->steps; step++) {
        for (int64_t i = 0; i < w->count; i++) {
            const int64_t row = w->first + i, length = NAME(length)(s, row);
            if (step >= length)
                continue; /* the gates keep what is there: finite or not, nobody reads what comes of them */
            const int64_t t = back ? length - 1 - step : step;
            const REAL *x = (const REAL *)s->x + ((t * batch + row) * s->directions + w->direction) * g * n;
            for (int64_t k = 0; k < g; k++)
                memcpy(w->gates + (i * g + k) * padded, x + k * n, sizeof(REAL) * (size_t)n);
        }
        if (s->cell == ST_CELL_RNN) {
            NAME(multiply)(w, w->h, 0, 1);
            for (int64_t i = 0; i < w->count; i++) {
                memcpy(w->extra + i * padded, w->gates + i * padded, sizeof(REAL) * (size_t)n);
                NAME(activate)(&f[0], s->clip, w->extra + i * padded, n);
            }
        } else if (s->cell >= ST_CELL_LSTM)
            NAME(step_lstm)(w, f);
        else
            NAME(step_gru)(w, f);
        for (int64_t i = 0; i < w->count; i++) {
            const int64_t row = w->first + i, length = NAME(length)(s, row);
            const int64_t t = step >= length ? step : back ? length - 1 - step : step;
            REAL *y = s->y ? (REAL *)s->y + ((t * s->directions + w->direction) * batch + row) * n : 0;
            if (step >= length) {
                if (y)
                    memset(y, 0, sizeof(REAL) * (size_t)n);
                continue;
            }
            memcpy(w->h + i * padded, w->extra + i * padded, sizeof(REAL) * (size_t)n);
            if (s->cell >= ST_CELL_LSTM)
                memcpy(w->c + i * padded, w->gates + (i * g + 3) * padded, sizeof(REAL) * (size_t)n);
            if (y)
                memcpy(y, w->extra + i * padded, sizeof(REAL) * (size_t)n);
        }
    }
    for (int64_t i = 0; i < w->count; i++) {
        const int64_t at = (w->direction * batch + w->first + i) * n;
        if (s->last_h)
            memcpy((REAL *)s->last_h + at, w->h + i * padded, sizeof(REAL) * (size_t)n);
        if (s->last_c)
            memcpy((REAL *)s->last_c + at, w->c + i * padded, sizeof(REAL) * (size_t)n);
    }
}

void NAME(st_recurrence)(const st_recurrence *s, int part, int parts)
{
    const int64_t groups = (s->batch + ROWS - 1) / ROWS, units = groups * s->directions;
    const int64_t begin = units * part / parts, end = units * (part + 1) / parts;
    const int64_t g = s->cell == ST_CELL_RNN ? 1 : s->cell >= ST_CELL_LSTM ? 4 : 3;
    const int64_t padded = (s->hidden + PANEL - 1) / PANEL * PANEL;
    for (int64_t unit = begin; unit < end;) {
        const int64_t direction = unit / groups, next = end < (direction + 1) * groups ? end : (direction + 1) * groups;
        const int64_t first = (unit - direction * groups) * ROWS, last = (next - direction * groups) * ROWS;
        const int64_t count = (last < s->batch ? last : s->batch) - first;
        REAL *at = (REAL *)s->workspace;
        const NAME(rows) w = {s,
                              direction,
                              first,
                              count,
                              padded,
                              g,
                              at,
                              at + count * g * padded,
                              at + count * (g + 1) * padded,
                              at + count * (g + 2) * padded,
                              (const REAL *)s->r + direction * g * padded * s->hidden};
        NAME(walk)(&w);
        unit = next;
    }
}
