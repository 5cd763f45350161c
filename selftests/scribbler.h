/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A thread that changes memory while the kernel reads it: word by word between two values, and its
 * mapping as well.
 */
#ifndef MLOCK_RS_SCRIBBLER_H
#define MLOCK_RS_SCRIBBLER_H

#include <linux/types.h>
#include <stddef.h>

#define SCRIBBLER_WORDS	64

/* Words that become one or the other of two values. */
struct scribble {
	__u64 *words;
	size_t nr_words;
	__u64 value[2][SCRIBBLER_WORDS];
	/* What was written last, and so what is there while nobody else writes. */
	__u64 last[SCRIBBLER_WORDS];
};

struct scribbler;

/*
 * The page at @page is protected and unmapped now and then; @restore maps it again. Returns NULL if
 * there can be no such thread.
 */
struct scribbler *scribbler_start(__u64 seed, void *page, void (*restore)(void *arg), void *arg);

/* From now on, until scribbler_rest() returns. */
void scribbler_scribble(struct scribbler *s, struct scribble *what, size_t nr);
void scribbler_rest(struct scribbler *s);

void scribbler_stop(struct scribbler *s);

#endif /* MLOCK_RS_SCRIBBLER_H */
