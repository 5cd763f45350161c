/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A history: calls of several threads on the same few pages, each with what it answered and with
 * when it began and ended, in the order that all threads agree on.
 */
#ifndef MLOCK_RS_HISTORY_H
#define MLOCK_RS_HISTORY_H

#include "lock_model.h"

enum call_kind {
	CALL_LOCK, CALL_LOCK_YIELD, CALL_LOCK_ONFAULT, CALL_UNLOCK, CALL_LOCKV, CALL_LOCKV_YIELD,
	CALL_UNLOCKV, CALL_QUERY, CALL_MUNMAP, CALL_MMAP, CALL_MPROTECT,
};

#define CALL_RANGES	3

struct call {
	enum call_kind kind;
	/* Of whole pages; more than one only if call_is_vector(). */
	struct mlock_rs_range range[CALL_RANGES];
	unsigned int nr_ranges;
	/* mprotect(2) */
	int prot;
	unsigned int thread;
	/* It took effect somewhere between these two. No two of a history are the same. */
	__u64 begin, end;
	struct answer answer;
	/* What no model knows: how many threads helped. */
	unsigned int nr_helpers;
};

#define HISTORY_THREADS	5
#define HISTORY_CALLS	48

struct history {
	/* The pages are these, all of them holes before the first call. */
	__u64 start;
	size_t nr_pages;
	size_t limit_pages;
	/* The calls of a thread are in the order in which it made them. */
	size_t nr_calls;
	struct call call[HISTORY_CALLS];
};

/*
 * What the call does at its instant, or its first one. LOCK and LOCKV leave pages pending, LOCK
 * with YIELD begins.
 */
void call_on_model(const struct call *call, struct model *m, struct answer *answer);

/* Makes the call, and sets its answer. */
void call_on_kernel(struct call *call, int dev);

/* LOCKV and UNLOCKV. */
bool call_is_vector(const struct call *call);
/* LOCK or LOCKV with YIELD. */
bool call_yields(const struct call *call);
/* Whether it leaves all pages and their lock flags as they are. */
bool call_only_looks(const struct call *call);

/* Two threads were in calls that have a page in common, of which one is more than a look. */
bool history_overlaps(const struct history *h);

/* As a table in the test's log, in the order in which the calls began. */
void history_print(const struct history *h);

#endif /* MLOCK_RS_HISTORY_H */
