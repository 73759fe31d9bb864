/* What the examples share: every code is looked at. */
#ifndef COMMON_H
#define COMMON_H

#include <ringpost.h>
#include <stdio.h>
#include <stdlib.h>

#define SECOND 1000000000LL /* in nanoseconds */
#define LIMIT (10 * SECOND) /* the longest that anything here waits */

/* Ends the program with the text of the failure, unless `status` is RINGPOST_OK. */
static inline void need(ringpost_status status, const char *what) {
    if (status != RINGPOST_OK) {
        fprintf(stderr, "%s: %s (code %d)\n", what, ringpost_error_text(), (int)status);
        exit(1);
    }
}

#endif
