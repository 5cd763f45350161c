/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether a history is what the contract allows: whether there is an instant for each call, between
 * its begin and its end, so that in the order of the instants the model gives the answers that the
 * calls got.
 */
#ifndef MLOCK_RS_LINEARIZE_H
#define MLOCK_RS_LINEARIZE_H

#include "history.h"

struct search {
	/* States of the model that were looked at. */
	unsigned long states;
	/* QUERYs that can only have seen a LOCK that was still bringing pages in. */
	unsigned int looks_inside;
	/* The most calls that an order was found for, and that order, as places in history.call. */
	size_t explained;
	unsigned char order[HISTORY_CALLS];
};

/* @search (may be NULL) gets how it went. */
bool linearizable(const struct history *h, struct search *search);

/* After a refusal: how far it can be explained, and what there is then, in the test's log. */
void search_print(const struct history *h, const struct search *search);

#endif /* MLOCK_RS_LINEARIZE_H */
