/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Delta debugging: makes a program that fails as small as it can be while it still fails.
 */
#ifndef MLOCK_RS_SHRINK_H
#define MLOCK_RS_SHRINK_H

#include "program.h"

/* Whether a program fails, in the same way as the one that is shrunk. */
typedef bool (*fails_fn)(const struct program *p, void *arg);

/* Returns how many programs it has run. */
unsigned int shrink(struct program *p, fails_fn fails, void *arg);

#endif /* MLOCK_RS_SHRINK_H */
