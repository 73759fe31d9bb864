/* What the tests share. */
#ifndef EXPECT_H
#define EXPECT_H

#include "../examples/common.h"

#define EXPECT(code, call)                                                                               \
    do {                                                                                                 \
        ringpost_status got = (call);                                                                    \
        if (got != (code)) {                                                                             \
            fprintf(stderr, "line %d: %s gave %d, not %d: %s\n", __LINE__, #call, (int)got, (int)(code), \
                    ringpost_error_text());                                                              \
            exit(1);                                                                                     \
        }                                                                                                \
    } while (0)

#define CHECK(holds)                                                \
    do {                                                            \
        if (!(holds)) {                                             \
            fprintf(stderr, "line %d: not %s\n", __LINE__, #holds); \
            exit(1);                                                \
        }                                                           \
    } while (0)

#define MILLISECOND 1000000LL
#define ENOUGH (20 * SECOND) /* the limit of what does not wait for long, also where the machine stops now and then */

#endif
