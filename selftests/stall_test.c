// SPDX-License-Identifier: GPL-2.0
/*
 * LOCK with YIELD of memory that takes a while, and waits for nothing: who waits for the mmap lock
 * gets it when the slice is over, and not before; and if nobody waits, it is not given up.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "mlock_rs_test.h"

#define NR_PAGES	16384UL
/* Gives another thread a chance to come in many times. */
#define SLICE_US	500

/* A thread that takes the mmap lock for writing all the time. */
struct writer {
	atomic_bool in_call, quit;
	/* How often, and how often while the call was at work from the first to the last moment. */
	atomic_uint times, inside;
};

static void *write_all_the_time(void *arg)
{
	struct writer *w = arg;

	while (!atomic_load(&w->quit)) {
		bool begun_inside = atomic_load(&w->in_call);
		char *page = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (page == MAP_FAILED || munmap(page, page_size))
			abort();
		if (begun_inside && atomic_load(&w->in_call))
			atomic_fetch_add(&w->inside, 1);
		atomic_fetch_add(&w->times, 1);
	}
	return NULL;
}

FIXTURE(stall)
{
	int dev;
	char *addr;
};

FIXTURE_VARIANT(stall)
{
	__u32 nr_workers;
	bool vector;
	/* Of a tmpfs. */
	bool shared;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(stall, alone) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(stall, with_a_helper) { .nr_workers = 2 };
FIXTURE_VARIANT_ADD(stall, shared) { .nr_workers = 1, .shared = true };
FIXTURE_VARIANT_ADD(stall, lockv) { .nr_workers = 1, .vector = true };
/* clang-format on */

FIXTURE_SETUP(stall)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	if (variant->shared)
		ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size, PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	no_huge_pages(self->addr, NR_PAGES * page_size);
}

FIXTURE_TEARDOWN(stall)
{
	close(self->dev);
}

/* What both calls answer, as that of LOCK. */
static int lock_all(FIXTURE_DATA(stall) * self, const FIXTURE_VARIANT(stall) * variant,
		    __u32 flags, __u32 slice_us, struct mlock_rs_lock *res)
{
	/* Not one range: with a page in between that nobody locks. */
	const size_t half = NR_PAGES / 2 * page_size;
	const struct mlock_rs_range ranges[] = {
		{ (uintptr_t)self->addr, half - page_size }, { (uintptr_t)self->addr + half, half },
	};
	struct mlock_rs_lockv v = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = ARRAY_SIZE(ranges),
		.flags = flags,
		.nr_workers = variant->nr_workers,
		.slice_us = slice_us,
	};
	int ret;

	*res = (struct mlock_rs_lock) {
		.addr = (uintptr_t)self->addr,
		.len = NR_PAGES * page_size,
		.flags = flags,
		.nr_workers = variant->nr_workers,
		.slice_us = slice_us,
	};
	if (!variant->vector)
		return mlock_rs_call(self->dev, res);
	ret = ioctl(self->dev, MLOCK_RS_LOCKV, &v) ? -errno : 0;
	/* The page in between, as if it had been in it. */
	res->populated = v.populated + page_size;
	res->nr_gaps = v.nr_gaps;
	return ret ?: mlock_rs(self->dev, self->addr + half - page_size, page_size, NULL);
}

static void expect_all(struct __test_metadata *_metadata, FIXTURE_DATA(stall) * self,
		       const struct mlock_rs_lock *res)
{
	EXPECT_EQ(NR_PAGES * page_size, res->populated);
	EXPECT_EQ(NR_PAGES, resident_pages(self->addr, NR_PAGES));
	EXPECT_EQ(NR_PAGES * page_size, vmlck());
}

/* Calls with a writer beside them. Returns how long the call took. */
static __u64 lock_with_a_writer(struct __test_metadata *_metadata, FIXTURE_DATA(stall) * self,
				const FIXTURE_VARIANT(stall) * variant, __u32 flags,
				__u32 slice_us, struct mlock_rs_lock *res, unsigned int *inside)
{
	struct writer writer = {};
	pthread_t thread;
	__u64 begin, ns;

	ASSERT_EQ(0, pthread_create(&thread, NULL, write_all_the_time, &writer));
	while (atomic_load(&writer.times) < 3)
		sched_yield();
	begin = now_ns();
	atomic_store(&writer.in_call, true);
	EXPECT_EQ(0, lock_all(self, variant, flags, slice_us, res));
	atomic_store(&writer.in_call, false);
	ns = now_ns() - begin;
	atomic_store(&writer.quit, true);
	pthread_join(thread, NULL);
	*inside = atomic_load(&writer.inside);
	TH_LOG("%llu us, %u gaps, %u times another thread had the lock", ns / 1000, res->nr_gaps,
	       *inside);
	expect_all(_metadata, self, res);
	return ns;
}

TEST_F_TIMEOUT(stall, a_writer_gets_in_again_and_again, SLOW_SECONDS)
{
	struct mlock_rs_lock res = {};
	unsigned int inside = 0;
	int rounds;

	for (rounds = 0; rounds < MOST_ROUNDS && (res.nr_gaps <= 3 || inside <= 3); rounds++) {
		ASSERT_EQ(0, munlock(self->addr, NR_PAGES * page_size));
		ASSERT_EQ(0, madvise(self->addr, NR_PAGES * page_size,
				     variant->shared ? MADV_REMOVE : MADV_DONTNEED));
		lock_with_a_writer(_metadata, self, variant, MLOCK_RS_LOCK_YIELD, SLICE_US, &res,
				   &inside);
	}
	EXPECT_LT(3, res.nr_gaps);
	EXPECT_LT(3, inside);
}

TEST_F_TIMEOUT(stall, not_before_the_slice_is_over, SLOW_SECONDS)
{
	struct mlock_rs_lock res;
	unsigned int inside;
	__u64 ns;

	ns = lock_with_a_writer(_metadata, self, variant, MLOCK_RS_LOCK_YIELD,
				MLOCK_RS_MAX_SLICE_US, &res, &inside);
	/* One gap at most for each slice that was over. */
	EXPECT_GE(ns / 1000 / MLOCK_RS_MAX_SLICE_US, res.nr_gaps);
}

TEST_F_TIMEOUT(stall, not_without_yield, SLOW_SECONDS)
{
	struct mlock_rs_lock res;
	unsigned int inside;

	lock_with_a_writer(_metadata, self, variant, 0, 0, &res, &inside);
	/* protocol_test and the storms look at the lock itself. */
	EXPECT_EQ(0, res.nr_gaps);
}

TEST_F_TIMEOUT(stall, not_if_nobody_waits, SLOW_SECONDS)
{
	struct mlock_rs_lock res;

	EXPECT_EQ(0, lock_all(self, variant, MLOCK_RS_LOCK_YIELD, SLICE_US, &res));
	EXPECT_EQ(0, res.nr_gaps);
	expect_all(_metadata, self, &res);
}

TEST_HARNESS_MAIN
