/* Error texts: bounded, never half a format. */
#include "runtime.h"

#include <stdio.h>
#include <string.h>

int st_fail(st_error *error, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(error->text, sizeof error->text, format, list);
    va_end(list);
    return status;
}

void st_append(char *text, size_t bytes, const char *format, ...)
{
    const size_t used = strlen(text);
    va_list list;
    va_start(list, format);
    vsnprintf(text + used, bytes - used, format, list);
    va_end(list);
}

void st_append_shape(char *text, size_t bytes, int rank, const int64_t *shape)
{
    st_append(text, bytes, "[");
    for (int axis = 0; axis < rank; axis++)
        st_append(text, bytes, axis ? ", %lld" : "%lld", (long long)shape[axis]);
    st_append(text, bytes, "]");
}
