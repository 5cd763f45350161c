// SPDX-License-Identifier: GPL-2.0
/*
 * PROGRESS: how far the calls are that run through an open file, as another thread and another
 * process see it that have the same file; and nothing of a call that is over, however it ended.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>

#include "held_call.h"
#include "held_ops.h"
#include "mlock_rs_test.h"

#define HELD_PAGE	5UL

/* In the process in which the call is. */
static int look_inside(struct held_call *h)
{
	return mlock_rs_progress(h->dev, &h->progress);
}

FIXTURE(progress)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(progress)
{
	__u32 flags;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(progress, strict) { };
FIXTURE_VARIANT_ADD(progress, yield) { .flags = MLOCK_RS_LOCK_YIELD };
/* clang-format on */

FIXTURE_SETUP(progress)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->held = held_start(self->dev, 1U << HELD_PAGE);
	if (!self->held)
		SKIP(return, "no FUSE: %s", strerror(errno));
	self->held->flags = variant->flags;
	self->held->nr_workers = 1;
}

FIXTURE_TEARDOWN(progress)
{
	if (self->held)
		held_stop(self->held);
	close(self->dev);
}

static void expect_progress(struct __test_metadata *_metadata, const struct mlock_rs_progress *res,
			    size_t pages_wanted, size_t pages_populated, unsigned int nr_calls)
{
	EXPECT_EQ(pages_wanted * page_size, res->wanted);
	EXPECT_EQ(pages_populated * page_size, res->populated);
	EXPECT_EQ(nr_calls, res->nr_calls);
	EXPECT_EQ(0, res->__reserved_out);
}

static void expect_nothing(struct __test_metadata *_metadata, int dev)
{
	struct mlock_rs_progress res;

	ASSERT_EQ(0, mlock_rs_progress(dev, &res));
	expect_progress(_metadata, &res, 0, 0, 0);
}

TEST_F_TIMEOUT(progress, while_a_page_is_held_back, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	struct mlock_rs_progress res;
	int other = mlock_rs_open();

	ASSERT_LE(0, other);
	expect_nothing(_metadata, self->dev);
	/* Its code and its data are there from now on. */
	held_go(h, THIRD, look_inside);
	ASSERT_TRUE(held_returns(h, THIRD));
	ASSERT_EQ(0, h->thread[THIRD].ret);

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	/* From another process, with the same open file, */
	ASSERT_EQ(0, mlock_rs_progress(self->dev, &res));
	expect_progress(_metadata, &res, HELD_NR_PAGES, HELD_PAGE, 1);
	/* and not with another one; */
	expect_nothing(_metadata, other);
	/* and from another thread, although somebody waits for the mmap lock in strict mode. */
	held_go(h, OTHER, op_mmap_elsewhere);
	ASSERT_TRUE(variant->flags ? held_returns(h, OTHER) : held_waits_to_write(h, OTHER));
	held_go(h, THIRD, look_inside);
	ASSERT_TRUE(held_returns(h, THIRD));
	ASSERT_EQ(0, h->thread[THIRD].ret);
	expect_progress(_metadata, &h->progress, HELD_NR_PAGES, HELD_PAGE, 1);
	EXPECT_FALSE(held_returned(h, CALL));

	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	expect_nothing(_metadata, self->dev);
	ASSERT_TRUE(held_returns(h, OTHER));
	close(other);
}

/* The end of a call that fails, and of one that never returns. */
TEST_F_TIMEOUT(progress, is_over_when_the_call_has_failed, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	/* The file ends before the page, when it comes. */
	fuse_shorten(h->server, HELD_PAGE);
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(-ENOMEM, h->thread[CALL].ret);
	expect_nothing(_metadata, self->dev);
}

TEST_F_TIMEOUT(progress, is_over_when_the_caller_was_killed, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	int status;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_EQ(0, kill(h->pid, SIGKILL));
	ASSERT_EQ(h->pid, waitpid(h->pid, &status, 0));
	h->pid = 0;
	expect_nothing(_metadata, self->dev);
}

/* Two calls at once are one sum. In strict mode the second one would wait for the first. */
TEST_F_TIMEOUT(progress, of_two_calls, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	unsigned long long begin = now_ns();
	struct mlock_rs_progress res;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, held_lock);
	if (variant->flags) {
		do {
			ASSERT_EQ(0, mlock_rs_progress(self->dev, &res));
			ASSERT_FALSE(give_up(begin));
		} while (res.populated < 2 * HELD_PAGE * page_size);
		expect_progress(_metadata, &res, 2 * HELD_NR_PAGES, 2 * HELD_PAGE, 2);
	} else {
		ASSERT_TRUE(held_waits_to_write(h, OTHER));
		ASSERT_EQ(0, mlock_rs_progress(self->dev, &res));
		expect_progress(_metadata, &res, HELD_NR_PAGES, HELD_PAGE, 1);
	}
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	ASSERT_TRUE(held_returns(h, OTHER));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_EQ(0, h->thread[OTHER].ret);
	expect_nothing(_metadata, self->dev);
}

/* Memory that waits for nothing: the numbers grow while it comes in. */

#define NR_PAGES	8192UL

struct watch {
	int dev;
	atomic_bool quit;
	/* Looks that found a call in the middle, and that found less than the look before. */
	unsigned int inside, backwards, too_much;
};

static void *watch_progress(void *arg)
{
	struct mlock_rs_progress res;
	struct watch *w = arg;
	__u64 before = 0;

	while (!atomic_load(&w->quit)) {
		if (mlock_rs_progress(w->dev, &res))
			abort();
		w->inside += res.populated && res.populated < res.wanted;
		w->too_much += res.populated > res.wanted;
		/* Only one call is made. */
		w->backwards += res.wanted && res.populated < before;
		if (res.wanted)
			before = res.populated;
	}
	return NULL;
}

FIXTURE(growth)
{
	int dev;
	char *addr;
};

FIXTURE_VARIANT(growth)
{
	__u32 flags, nr_workers;
	bool vector;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(growth, alone) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(growth, lockv) { .nr_workers = 1, .vector = true };
FIXTURE_VARIANT_ADD(growth, with_a_helper) { .nr_workers = 2 };
FIXTURE_VARIANT_ADD(growth, yield) { .flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 };
/* clang-format on */

FIXTURE_SETUP(growth)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	no_huge_pages(self->addr, NR_PAGES * page_size);
}

FIXTURE_TEARDOWN(growth)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

static int lock_all(FIXTURE_DATA(growth) * self, const FIXTURE_VARIANT(growth) * variant)
{
	const struct mlock_rs_range range = { (uintptr_t)self->addr, NR_PAGES * page_size };
	struct mlock_rs_lock arg = {
		.addr = range.addr,
		.len = range.len,
		.flags = variant->flags,
		.nr_workers = variant->nr_workers,
	};

	if (variant->vector)
		return mlock_rs_lockv(self->dev, &range, 1, variant->flags, NULL);
	return mlock_rs_call(self->dev, &arg);
}

TEST_F_TIMEOUT(growth, never_backwards_and_never_too_much, SLOW_SECONDS)
{
	struct watch watch = { .dev = self->dev };
	int rounds;

	for (rounds = 0; rounds < MOST_ROUNDS && !watch.inside; rounds++) {
		pthread_t thread;

		ASSERT_EQ(0, munlock(self->addr, NR_PAGES * page_size));
		ASSERT_EQ(0, madvise(self->addr, NR_PAGES * page_size, MADV_DONTNEED));
		atomic_store(&watch.quit, false);
		ASSERT_EQ(0, pthread_create(&thread, NULL, watch_progress, &watch));
		EXPECT_EQ(0, lock_all(self, variant));
		atomic_store(&watch.quit, true);
		pthread_join(thread, NULL);
		EXPECT_EQ(0, watch.backwards);
		EXPECT_EQ(0, watch.too_much);
		expect_nothing(_metadata, self->dev);
	}
	TH_LOG("%u looks found the call at work, in round %d", watch.inside, rounds);
	EXPECT_LT(0, watch.inside);
}

/* Nothing is populated, and nothing was: no call that can be followed. */
TEST(calls_that_populate_nothing_do_not_count)
{
	char *addr = map_region(4);
	int dev = mlock_rs_open();

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, mlock_rs_flags(dev, addr, 4 * page_size, MLOCK_RS_LOCK_ONFAULT, NULL));
	expect_nothing(_metadata, dev);
	ASSERT_EQ(0, mlock_rs_unlock(dev, addr, 4 * page_size, NULL));
	expect_nothing(_metadata, dev);
	/* And a call that was refused. */
	ASSERT_EQ(0, munmap(addr + page_size, page_size));
	ASSERT_EQ(-ENOMEM, mlock_rs(dev, addr, 4 * page_size, NULL));
	expect_nothing(_metadata, dev);
	close(dev);
}

TEST_HARNESS_MAIN
