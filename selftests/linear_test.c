// SPDX-License-Identifier: GPL-2.0
/*
 * Four threads at once lock, unlock, query, unmap, map and protect the same few pages, a few calls
 * each. For what they were answered, and for what is left of the pages, there has to be an order of
 * the calls that the contract allows (linearize.c), and in which a call that ended before another
 * one began comes first.
 *
 * $STORM_SECONDS is how long to go on; without it, a number of histories. History by history the
 * seed is one more, so that $SEED, as a refused history prints it, begins with the same calls.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "linearize.h"
#include "mlock_rs_test.h"

/* Far more than any number of histories takes: only a hang gets here. */
#define HANG_SECONDS	3600

#define NR_PAGES	6UL
#define NR_THREADS	(HISTORY_THREADS - 1)
#define MAX_CALLS	4
/* Calls of the test itself, before the threads begin. */
#define FIRST_CALLS	4
#define LIMIT_PAGES	4UL

/* Each thread records its own calls; when all are done they become a history. */
struct thread {
	struct arena *arena;
	pthread_t thread;
	__u64 random;
	size_t nr_calls;
	struct call call[MAX_CALLS];
	unsigned int delay[MAX_CALLS];
};

struct arena {
	int dev;
	__u64 start;
	/* What all threads agree on is the order in which they got their numbers from here. */
	atomic_ullong clock;
	pthread_barrier_t begin, end;
	atomic_uint ready;
	bool quit;
	/* The first one, thread 0 in the history, is the test itself. */
	struct thread thread[HISTORY_THREADS];
	struct history history;
};

static __u64 below(__u64 *random, __u64 n)
{
	return random_number(random) % n;
}

static struct mlock_rs_range random_range(const struct arena *a, __u64 *random)
{
	size_t first = below(random, NR_PAGES);
	size_t nr = 1 + below(random, NR_PAGES - first);

	return (struct mlock_rs_range) { a->start + first * page_size, nr * page_size };
}

/* One of each kind for as often as it comes. */
static const enum call_kind kinds[] = {
	CALL_LOCK, CALL_LOCK, CALL_LOCK, CALL_LOCK_YIELD, CALL_LOCK_YIELD, CALL_LOCK_YIELD,
	CALL_LOCK_ONFAULT, CALL_LOCKV, CALL_LOCKV, CALL_LOCKV_YIELD, CALL_LOCKV_YIELD,
	CALL_LOCKV, CALL_UNLOCK, CALL_UNLOCK, CALL_UNLOCKV, CALL_QUERY, CALL_QUERY, CALL_QUERY,
	CALL_QUERY, CALL_MUNMAP, CALL_MMAP, CALL_MMAP, CALL_MMAP, CALL_MPROTECT,
};

static struct call random_call(const struct arena *a, unsigned int thread, __u64 *random)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	struct call call = {
		.kind = kinds[below(random, ARRAY_SIZE(kinds))],
		.nr_ranges = 1,
		.prot = prots[below(random, ARRAY_SIZE(prots))],
		.thread = thread,
	};
	unsigned int i;

	if (call_is_vector(&call))
		call.nr_ranges = 1 + below(random, CALL_RANGES);
	for (i = 0; i < call.nr_ranges; i++)
		call.range[i] = random_range(a, random);
	/* A hole is refused at once: short ones, so that there are some, but not everywhere. */
	if (call.kind == CALL_MUNMAP)
		call.range[0].len = page_size;
	return call;
}

static void make_call(struct arena *a, struct call *call)
{
	call->begin = atomic_fetch_add(&a->clock, 1);
	call_on_kernel(call, a->dev);
	call->end = atomic_fetch_add(&a->clock, 1);
}

static void spin(unsigned int times)
{
	while (times--)
		asm volatile ("");
}

/* The barrier wakes the threads one after the other: wait until all are on their way. */
static void start_together(struct arena *a)
{
	atomic_fetch_add(&a->ready, 1);
	while (atomic_load(&a->ready) % NR_THREADS)
		sched_yield();
}

static void *make_calls(void *arg)
{
	struct thread *t = arg;
	struct arena *a = t->arena;
	size_t i;

	for (;;) {
		pthread_barrier_wait(&a->begin);
		if (a->quit)
			return NULL;
		start_together(a);
		for (i = 0; i < t->nr_calls; i++) {
			spin(t->delay[i]);
			make_call(a, &t->call[i]);
		}
		pthread_barrier_wait(&a->end);
	}
}

static void add_to_history(struct history *h, const struct call *call)
{
	h->call[h->nr_calls++] = *call;
}

static void call_before(struct arena *a, struct call call)
{
	make_call(a, &call);
	add_to_history(&a->history, &call);
}

/* From fresh pages to some state at random. What brings them there is part of the history. */
static void prepare_pages(struct arena *a, __u64 *random)
{
	struct call fresh = {
		.kind = CALL_MMAP, .nr_ranges = 1, .range = { { a->start, NR_PAGES * page_size } },
	};
	size_t i;

	call_before(a, fresh);
	for (i = 1; i < FIRST_CALLS; i++)
		call_before(a, random_call(a, 0, random));
}

static void prepare_thread(struct arena *a, unsigned int thread, __u64 *random)
{
	struct thread *t = &a->thread[thread];
	size_t i;

	t->nr_calls = 3 + below(random, MAX_CALLS - 2);
	for (i = 0; i < t->nr_calls; i++) {
		t->call[i] = random_call(a, thread, random);
		/* Often none: that is when they meet. */
		t->delay[i] = below(random, 2) * below(random, 2000);
	}
}

/* A look at each page by itself: what the calls have left has to fit, too. */
static void look_at_pages(struct arena *a)
{
	size_t i;

	for (i = 0; i < NR_PAGES; i++)
		call_before(a, (struct call) {
			.kind = CALL_QUERY, .nr_ranges = 1,
			.range = { { a->start + i * page_size, page_size } },
		});
}

static void record_history(struct arena *a, __u64 seed)
{
	struct history *h = &a->history;
	unsigned int thread;
	size_t i;

	h->nr_calls = 0;
	atomic_store(&a->clock, 1);
	for (thread = 1; thread <= NR_THREADS; thread++)
		prepare_thread(a, thread, &seed);
	prepare_pages(a, &seed);

	pthread_barrier_wait(&a->begin);
	pthread_barrier_wait(&a->end);

	for (thread = 1; thread <= NR_THREADS; thread++)
		for (i = 0; i < a->thread[thread].nr_calls; i++)
			add_to_history(h, &a->thread[thread].call[i]);
	look_at_pages(a);
}

static void count_stale(const struct history *h, unsigned int *stale, unsigned int *vectors)
{
	size_t i;

	for (i = 0; i < h->nr_calls; i++) {
		bool is_stale = h->call[i].answer.error == ESTALE;

		*stale += is_stale;
		*vectors += is_stale && call_is_vector(&h->call[i]);
	}
}

static unsigned int nr_helped(const struct history *h)
{
	unsigned int nr = 0;
	size_t i;

	for (i = 0; i < h->nr_calls; i++)
		nr += !!h->call[i].nr_helpers;
	return nr;
}

static bool enough(unsigned int histories, __u64 begin)
{
	const char *seconds = getenv("STORM_SECONDS");

	if (!seconds || !*seconds)
		return histories >= (is_debug_kernel() ? 100 : 1500);
	return now_ns() - begin >= strtoull(seconds, NULL, 10) * 1000000000ULL;
}

FIXTURE(linear)
{
	__u64 seed;
	struct arena arena;
};

FIXTURE_VARIANT(linear)
{
	/* RLIMIT_MEMLOCK, which two calls can compete for. */
	size_t limit_pages;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(linear, no_limit) { .limit_pages = NO_LIMIT };
FIXTURE_VARIANT_ADD(linear, at_the_limit) { .limit_pages = LIMIT_PAGES };
/* clang-format on */

FIXTURE_SETUP(linear)
{
	const struct rlimit limit = { LIMIT_PAGES * page_size, LIMIT_PAGES * page_size };
	struct arena *a = &self->arena;
	unsigned int i;

	a->dev = mlock_rs_open();
	ASSERT_LE(0, a->dev);
	ASSERT_EQ(0, vmlck());
	self->seed = seed();
	TH_LOG("SEED=%llu", self->seed);
	if (variant->limit_pages != NO_LIMIT) {
		ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
		ASSERT_EQ(0, drop_privileges(0));
	}
	a->start = (uintptr_t)map_region_across(NR_PAGES);
	a->history.start = a->start;
	a->history.nr_pages = NR_PAGES;
	a->history.limit_pages = variant->limit_pages;

	ASSERT_EQ(0, pthread_barrier_init(&a->begin, NULL, NR_THREADS + 1));
	ASSERT_EQ(0, pthread_barrier_init(&a->end, NULL, NR_THREADS + 1));
	for (i = 1; i <= NR_THREADS; i++) {
		a->thread[i].arena = a;
		ASSERT_EQ(0, pthread_create(&a->thread[i].thread, NULL, make_calls,
					    &a->thread[i]));
	}
}

FIXTURE_TEARDOWN(linear)
{
	struct arena *a = &self->arena;
	unsigned int i;

	a->quit = true;
	pthread_barrier_wait(&a->begin);
	for (i = 1; i <= NR_THREADS; i++)
		pthread_join(a->thread[i].thread, NULL);
	close(a->dev);
}

TEST_F_TIMEOUT(linear, every_history_has_an_order, HANG_SECONDS)
{
	unsigned int histories = 0, overlapping = 0, looks_inside = 0, stale = 0, helped = 0,
		     stale_vectors = 0;
	const struct history *h = &self->arena.history;
	unsigned long calls = 0, most_states = 0;
	__u64 begin = now_ns();

	for (; !enough(histories, begin); histories++) {
		__u64 seed = self->seed + histories;
		struct search search;

		record_history(&self->arena, seed);
		calls += h->nr_calls;
		overlapping += history_overlaps(h);
		count_stale(h, &stale, &stale_vectors);
		helped += nr_helped(h);
		ASSERT_TRUE(linearizable(h, &search)) {
			TH_LOG("no order explains history %u: SEED=%llu", histories, seed);
			history_print(h);
			search_print(h, &search);
		}
		looks_inside += search.looks_inside;
		if (search.states > most_states)
			most_states = search.states;
	}
	TH_LOG("%u histories of %lu calls in %llu ms: %u overlap, %u QUERYs found a LOCK at work",
	       histories, calls, (now_ns() - begin) / 1000000, overlapping, looks_inside);
	TH_LOG("%u calls with YIELD lost a page, %u of them LOCKV, %u had help", stale,
	       stale_vectors, helped);
	TH_LOG("at most %lu states looked at", most_states);
	/* One call after the other would be a test of the model only. */
	EXPECT_LT(histories / 10, overlapping);
	if (histories >= 1000)
		EXPECT_LT(0, stale_vectors);
	if (mlock_rs_has(self->arena.dev, MLOCK_RS_FEATURE_WORKERS))
		EXPECT_LT(histories / 10, helped);
}

TEST_HARNESS_MAIN
