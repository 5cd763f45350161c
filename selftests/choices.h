/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random numbers that can be made again, but for some of them: what a test case was made up from is
 * recorded, so that another one can be made that is nearly the same.
 */
#ifndef MLOCK_RS_CHOICES_H
#define MLOCK_RS_CHOICES_H

#include <linux/types.h>
#include <stddef.h>

/* Numbers behind these are random each time. */
#define MAX_CHOICES	96

struct choices {
	__u64 value[MAX_CHOICES];
	/* How many are recorded, and how many of them were asked for. */
	size_t nr, at;
};

/* The next one: as recorded, or a new one, made from @random. */
__u64 choices_next(struct choices *c, __u64 *random);

/* Ends with what was asked for, and begins from the start. */
void choices_end(struct choices *c);

/* Changes a few. Some may come from @other. */
void choices_mutate(struct choices *c, const struct choices *other, __u64 *random);

#endif /* MLOCK_RS_CHOICES_H */
