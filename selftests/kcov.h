/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What code of the module a call runs through, as KCOV says: only the module is
 * instrumented. What is new about it is told in features: a step from one basic block to another
 * one, together with how often it was taken, roughly.
 */
#ifndef MLOCK_RS_KCOV_H
#define MLOCK_RS_KCOV_H

#include <stdbool.h>
#include <stddef.h>

struct kcov;

/* Needs the right to open debugfs. Returns NULL with errno: ENOENT without KCOV in the kernel. */
struct kcov *kcov_open(void);
void kcov_close(struct kcov *k);

/* It is about the calls of this thread. Returns 0 or -errno. */
int kcov_enable(struct kcov *k);

/* From here on the way of a call is recorded... */
void kcov_begin(struct kcov *k);
/* ...up to here. Returns how many features nobody has seen before. */
size_t kcov_end(struct kcov *k);

/* All that were seen: features, and basic blocks. */
size_t kcov_features(const struct kcov *k);
size_t kcov_blocks(const struct kcov *k);

#endif /* MLOCK_RS_KCOV_H */
