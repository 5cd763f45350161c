// SPDX-License-Identifier: GPL-2.0
/*
 * Whether a history is what the contract allows: whether there is an instant for each call, between
 * its begin and its end, so that in the order of the instants the model gives the answers that the
 * calls got.
 *
 * The search is that of Wing and Gong, with the memory of Lowe: depth first through all orders
 * that keep a call that ended before another one began in front of it, and never twice through the
 * same state (which calls are done, and what the pages are).
 *
 * What has an instant. Everything but LOCK and LOCKV changes and answers at one. To others who
 * change mappings a LOCK is one as well, as nobody gets the mmap lock for writing from its VMA edit
 * until it is through. Only a QUERY can tell the two apart: it takes the lock for reading, so that
 * it may find the VMAs locked and the pages on their way. So the search gives a LOCK two instants,
 * edit and end, and puts nothing between them but QUERYs and ends of LOCKs with YIELD.
 *
 * A LOCK or LOCKV with YIELD has two instants as well, edit and end, and anything may come between
 * them. Which pages it has brought in by then the model leaves open. Its end needs the lock for
 * reading only, so that it may come between the two of a LOCK, as a QUERY may.
 *
 * What a QUERY sees while a LOCK is at work. Mappings and flags do not change while it looks, but
 * residency does: it looks at one page after the other while LOCK brings in one page after the
 * other, in the order of their addresses. Still the number of resident pages that it finds is that
 * of an instant. The number of pages of its range that are there when it begins is a lower bound,
 * the number when it ends an upper one, for a page that came never goes; between the two the number
 * grew in steps of one, so it was once what was found. Hence an exact comparison, with as many
 * pages brought in before it as make it true; the fewest that do are the best choice, because they
 * leave every later QUERY all that any other choice would leave.
 *
 * With helpers the pages come in any order, and also behind one at which the call fails: which of
 * them have come the model leaves open as well.
 */
#include "linearize.h"
#include "kselftest.h"

#include <stdlib.h>
#include <string.h>

#include "mlock_rs_test.h"

#define NOBODY		HISTORY_THREADS
#define TABLE_SIZE	262144

/* Where the search stands. Compared as bytes: no padding. */
struct state {
	unsigned char done[HISTORY_THREADS];
	/* The thread whose LOCK has done its edit and is not through. */
	unsigned char locker;
	/* Whether a thread's LOCK with YIELD has done its edit and is not through. */
	unsigned char yields[HISTORY_THREADS];
	unsigned char page[MODEL_PAGES - HISTORY_THREADS - 6];
	__u64 pending;
};

/* The states that led nowhere, in a hash table that is emptied by a new generation. */
static struct slot {
	struct state state;
	__u64 generation;
} *table;

static __u64 generation;
static unsigned long nr_states;

struct walk {
	const struct history *h;
	/* Each thread's calls, as places in history.call. */
	unsigned char call[HISTORY_THREADS][HISTORY_CALLS];
	unsigned char nr_calls[HISTORY_THREADS];
	struct search *search;
	unsigned char order[HISTORY_CALLS];
	size_t depth;
};

static __u64 hash(const struct state *s)
{
	__u64 word, h = 0;
	size_t i;

	for (i = 0; i < sizeof(*s); i += sizeof(word)) {
		memcpy(&word, (const char *)s + i, sizeof(word));
		h ^= word;
		h = random_number(&h);
	}
	return h;
}

/* Returns false if the search was there before. */
static bool visit(const struct state *s)
{
	size_t i = hash(s) % TABLE_SIZE;

	while (table[i].generation == generation) {
		if (!memcmp(&table[i].state, s, sizeof(*s)))
			return false;
		i = (i + 1) % TABLE_SIZE;
	}
	/* A history that is too large to be judged is a fault of the test. */
	if (++nr_states > TABLE_SIZE / 2) {
		ksft_print_msg("too many states\n");
		abort();
	}
	table[i].state = *s;
	table[i].generation = generation;
	return true;
}

static const struct call *next_call(const struct walk *w, const struct state *s,
				    unsigned int thread)
{
	if (s->done[thread] == w->nr_calls[thread])
		return NULL;
	return &w->h->call[w->call[thread][s->done[thread]]];
}

/* A call that begins after this has to wait: another one that is not done ends before. */
static __u64 horizon(const struct walk *w, const struct state *s)
{
	__u64 first_end = UINT64_MAX;
	unsigned int thread;

	for (thread = 0; thread < HISTORY_THREADS; thread++) {
		const struct call *call = next_call(w, s, thread);

		if (call && call->end < first_end)
			first_end = call->end;
	}
	return first_end;
}

static void to_model(const struct walk *w, const struct state *s, struct model *m)
{
	*m = (struct model) {
		.start = w->h->start,
		.nr_pages = w->h->nr_pages,
		.limit_pages = w->h->limit_pages,
		.pending = s->pending,
	};
	memcpy(m->page, s->page, m->nr_pages);
}

static void from_model(struct state *s, const struct model *m)
{
	memcpy(s->page, m->page, m->nr_pages);
	s->pending = m->pending;
}

/* Has LOCK bring in pages until the QUERY finds as many as it did. */
static bool query_while_locking(const struct call *call, struct model *m, bool *inside)
{
	const __u64 pending = m->pending;
	struct answer expected;

	for (;;) {
		call_on_model(call, m, &expected);
		if (answer_allows(&expected, &call->answer))
			break;
		if (!m->pending)
			return false;
		model_populate_next(m);
	}
	*inside = m->pending && m->pending != pending;
	return true;
}

/* The LOCKs with YIELD that are between their two instants may bring in what others have left. */
static void go_on(const struct walk *w, const struct state *s, struct model *m)
{
	unsigned int thread, nr = 0;

	for (thread = 0; thread < HISTORY_THREADS; thread++) {
		const struct call *call = next_call(w, s, thread);

		if (!s->yields[thread])
			continue;
		model_yield_goes_on(m, call->range, call->nr_ranges);
		nr++;
	}
	if (!nr)
		model_nobody_yields(m);
}

/* The first instant of a LOCK with YIELD, which may be the only one. */
static bool begin_to_yield(const struct call *call, struct state *s, unsigned int thread,
			   struct model *m)
{
	struct answer expected;

	call_on_model(call, m, &expected);
	s->yields[thread] = expected.max_vmas > 0;
	if (!s->yields[thread])
		return answer_allows(&expected, &call->answer);
	/* How it ends is to be seen. */
	return expected.changed == call->answer.changed &&
	       expected.min_vmas <= call->answer.min_vmas &&
	       call->answer.max_vmas <= expected.max_vmas;
}

/*
 * The next instant of @thread, if it may be now and the call's answer is that of the model. Sets
 * @inside after a QUERY that has seen a LOCK at work.
 */
static bool step(const struct walk *w, struct state *s, unsigned int thread, bool *inside)
{
	const struct call *call = next_call(w, s, thread);
	struct answer expected;
	struct model m;

	to_model(w, s, &m);
	if (s->locker == thread) {
		model_populate(&m);
		s->locker = NOBODY;
	} else if (s->yields[thread]) {
		if (!model_yield_end(&m, call->range, call->nr_ranges, &call->answer))
			return false;
		s->yields[thread] = false;
	} else if (s->locker != NOBODY) {
		if (!call_only_looks(call) || !query_while_locking(call, &m, inside))
			return false;
	} else if (call_yields(call)) {
		if (!begin_to_yield(call, s, thread, &m))
			return false;
	} else {
		call_on_model(call, &m, &expected);
		if (!answer_allows(&expected, &call->answer))
			return false;
		if (call->nr_helpers && expected.max_vmas)
			model_helped(&m, call->range, call->nr_ranges);
		if (m.pending)
			s->locker = thread;
	}
	if (s->locker != thread && !s->yields[thread])
		s->done[thread]++;
	go_on(w, s, &m);
	from_model(s, &m);
	return true;
}

static void remember_longest(struct walk *w)
{
	if (w->depth <= w->search->explained)
		return;
	w->search->explained = w->depth;
	memcpy(w->search->order, w->order, sizeof(w->order));
}

static bool explore(struct walk *w, const struct state *s)
{
	__u64 wait_after = horizon(w, s);
	unsigned int thread;

	if (wait_after == UINT64_MAX)
		return true;
	if (!visit(s))
		return false;
	for (thread = 0; thread < HISTORY_THREADS; thread++) {
		const struct call *call = next_call(w, s, thread);
		struct state next = *s;
		bool begins = s->locker != thread && !s->yields[thread];
		bool inside = false, found;

		if (!call || call->begin > wait_after || !step(w, &next, thread, &inside))
			continue;
		if (begins) {
			w->order[w->depth++] = call - w->h->call;
			remember_longest(w);
		}
		found = explore(w, &next);
		w->depth -= begins;
		if (found) {
			w->search->looks_inside += inside;
			return true;
		}
	}
	return false;
}

bool linearizable(const struct history *h, struct search *search)
{
	struct state begin = { .locker = NOBODY };
	struct search unwanted;
	struct walk w = { .h = h, .search = search ?: &unwanted };
	bool found;
	size_t i;

	if (!table)
		table = calloc(TABLE_SIZE, sizeof(*table));
	if (!table || h->nr_pages > sizeof(begin.page) || h->nr_calls > HISTORY_CALLS)
		abort();
	memset(w.search, 0, sizeof(*w.search));
	for (i = 0; i < h->nr_calls; i++) {
		unsigned int thread = h->call[i].thread;

		w.call[thread][w.nr_calls[thread]++] = i;
	}
	generation++;
	nr_states = 0;
	found = explore(&w, &begin);
	w.search->states = nr_states;
	return found;
}

void search_print(const struct history *h, const struct search *search)
{
	struct model m = {
		.start = h->start,
		.nr_pages = h->nr_pages,
		.limit_pages = h->limit_pages,
	};
	char states[MODEL_PAGES + 1];
	size_t i;

	ksft_print_msg("%zu of %zu calls can be explained, in the order of their begins:",
		       search->explained, h->nr_calls);
	for (i = 0; i < search->explained; i++) {
		const struct call *call = &h->call[search->order[i]];
		struct answer answer;

		printf(" %llu", call->begin);
		model_populate(&m);
		call_on_model(call, &m, &answer);
		if (call_yields(call) && answer.max_vmas)
			model_yield_end(&m, call->range, call->nr_ranges, &call->answer);
	}
	model_populate(&m);
	model_states(&m, states);
	printf("\n");
	ksft_print_msg("which leaves the pages as %s\n", states);
}
