// SPDX-License-Identifier: GPL-2.0
/*
 * All or nothing: whatever a call fails at before it populates, afterwards the lock flags of every
 * VMA and VmLck are what they were. VMAs may have been split and merged again on the way.
 *
 * Each failure is brought about for every ioctl that changes lock flags, as late in it as can be.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <limits.h>
#include <sys/resource.h>

#include "fault_injection.h"
#include "mlock_rs_test.h"

#define NR_PAGES	24UL

/* More allocations than any of these calls makes: only a hang gets there. */
#define MOST_ALLOCATIONS	1000
/*
 * From call to call the checkers allocate more or less, so that the Nth allocation is not always
 * the same one: so often from the first one to the last, until the ones that matter were met.
 */
#define MOST_SWEEPS	10

FIXTURE(atomic)
{
	int dev;
	char *addr;
	struct mlock_rs_range ranges[3];
	struct snapshot before, after;
	long max_map_count;
	/* What the call said. */
	__u64 changed, fail_addr;
	__u32 error;
};

FIXTURE_VARIANT(atomic)
{
	bool vector, unlocks, was_onfault;
	__u32 flags;
	/* In pages. One range goes from the start of the first to the end of the last of them. */
	struct {
		size_t first, nr;
	} ranges[3];
	/* The pages at which VMAs have to be split, in the order of their addresses. */
	size_t splits[5], nr_splits;
	/* What states() says before and after success, and how many pages change their flag. */
	const char *before, *done;
	size_t nr_changed;
};

/*
 * The region is three VMAs of 8 pages, of which the one in the middle cannot be written to, and
 * pages 12 and 13 are in another state than the rest. All pages are resident, so that nothing that
 * fails has to do with populating.
 */
/* clang-format off */
FIXTURE_VARIANT_ADD(atomic, lock) {
	.ranges = { { 3, 3 }, { 9, 5 }, { 18, 4 } },
	.splits = { 3, 22 }, .nr_splits = 2, .nr_changed = 17,
	.before = "UUUUUUUUUUUUFFUUUUUUUUUU", .done = "UUULLLLLLLLLLLLLLLLLLLUU" };
FIXTURE_VARIANT_ADD(atomic, lock_onfault) {
	.flags = MLOCK_RS_LOCK_ONFAULT,
	.ranges = { { 3, 3 }, { 9, 5 }, { 18, 4 } },
	.splits = { 3, 22 }, .nr_splits = 2, .nr_changed = 17,
	.before = "UUUUUUUUUUUUFFUUUUUUUUUU", .done = "UUUFFFFFFFFFFFFFFFFFFFUU" };
FIXTURE_VARIANT_ADD(atomic, unlock) {
	.unlocks = true,
	.ranges = { { 3, 3 }, { 9, 5 }, { 18, 4 } },
	.splits = { 3, 22 }, .nr_splits = 2, .nr_changed = 19,
	.before = "LLLLLLLLLLLLFFLLLLLLLLLL", .done = "LLLUUUUUUUUUUUUUUUUUUULL" };
FIXTURE_VARIANT_ADD(atomic, lockv) {
	.vector = true,
	.ranges = { { 18, 4 }, { 3, 3 }, { 9, 5 } },
	.splits = { 3, 6, 9, 18, 22 }, .nr_splits = 5, .nr_changed = 10,
	.before = "UUUUUUUUUUUUFFUUUUUUUUUU", .done = "UUULLLUUULLLLLUUUULLLLUU" };
FIXTURE_VARIANT_ADD(atomic, lockv_onfault) {
	.vector = true, .flags = MLOCK_RS_LOCK_ONFAULT,
	.ranges = { { 18, 4 }, { 3, 3 }, { 9, 5 } },
	.splits = { 3, 6, 9, 18, 22 }, .nr_splits = 5, .nr_changed = 10,
	.before = "UUUUUUUUUUUUFFUUUUUUUUUU", .done = "UUUFFFUUUFFFFFUUUUFFFFUU" };
FIXTURE_VARIANT_ADD(atomic, lockv_after_onfault) {
	.vector = true, .was_onfault = true,
	.ranges = { { 18, 4 }, { 3, 3 }, { 9, 5 } },
	.splits = { 3, 6, 9, 18, 22 }, .nr_splits = 5, .nr_changed = 2,
	.before = "FFFFFFFFFFFFUUFFFFFFFFFF", .done = "FFFLLLFFFLLLLLFFFFLLLLFF" };
FIXTURE_VARIANT_ADD(atomic, unlockv) {
	.vector = true, .unlocks = true,
	.ranges = { { 18, 4 }, { 3, 3 }, { 9, 5 } },
	.splits = { 3, 6, 9, 18, 22 }, .nr_splits = 5, .nr_changed = 12,
	.before = "LLLLLLLLLLLLFFLLLLLLLLLL", .done = "LLLUUULLLUUUUULLLLUUUULL" };
/* clang-format on */

#define LAST_PAGE	21UL

/* Leaves in self->before what is mapped then. */
static void map_areas(struct __test_metadata *_metadata, FIXTURE_DATA(atomic) * self,
		      const FIXTURE_VARIANT(atomic) * variant)
{
	size_t i;

	self->addr = map_region(NR_PAGES);
	memset(self->addr, 1, NR_PAGES * page_size);
	ASSERT_EQ(0, mprotect(self->addr + 8 * page_size, 8 * page_size, PROT_READ));
	if (variant->unlocks)
		ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	if (variant->was_onfault) {
		ASSERT_EQ(0, mlock_onfault(self->addr, NR_PAGES * page_size));
		ASSERT_EQ(0, munlock(self->addr + 12 * page_size, 2 * page_size));
	} else {
		ASSERT_EQ(0, mlock_onfault(self->addr + 12 * page_size, 2 * page_size));
	}
	take_snapshot(&self->before);
	ASSERT_STREQ(variant->before, states_in(&self->before, self->addr, NR_PAGES));
	for (i = 0; i < ARRAY_SIZE(variant->ranges); i++) {
		self->ranges[i].addr = (uintptr_t)self->addr +
				       variant->ranges[i].first * page_size;
		self->ranges[i].len = variant->ranges[i].nr * page_size;
	}
}

FIXTURE_SETUP(atomic)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->max_map_count = read_number(MAX_MAP_COUNT_PATH);
	ASSERT_LT(0, self->max_map_count);
	map_areas(_metadata, self, variant);
}

FIXTURE_TEARDOWN_PARENT(atomic)
{
	/* For the whole machine: also put back when the test has failed. */
	if (self->max_map_count > 0)
		write_number(MAX_MAP_COUNT_PATH, self->max_map_count);
	fault_injection_off();
}

static void keep(FIXTURE_DATA(atomic) * self, __u64 changed, __u64 fail_addr, __u32 error)
{
	self->changed = changed;
	self->fail_addr = fail_addr;
	self->error = error;
}

static int call(FIXTURE_DATA(atomic) * self, const FIXTURE_VARIANT(atomic) * variant)
{
	const size_t nr = ARRAY_SIZE(self->ranges);
	const char *start = self->addr + 3 * page_size;
	const size_t len = (LAST_PAGE + 1 - 3) * page_size;
	int ret;

	if (variant->vector && variant->unlocks) {
		struct mlock_rs_unlockv res;

		ret = mlock_rs_unlockv(self->dev, self->ranges, nr, &res);
		keep(self, res.unlocked, res.fail_addr, res.error);
	} else if (variant->vector) {
		struct mlock_rs_lockv res;

		ret = mlock_rs_lockv(self->dev, self->ranges, nr, variant->flags, &res);
		keep(self, res.locked, res.fail_addr, res.error);
	} else if (variant->unlocks) {
		struct mlock_rs_unlock res;

		ret = mlock_rs_unlock(self->dev, start, len, &res);
		keep(self, res.unlocked, res.fail_addr, res.error);
	} else {
		struct mlock_rs_lock res;

		ret = mlock_rs_flags(self->dev, start, len, variant->flags, &res);
		keep(self, res.locked, res.fail_addr, res.error);
	}
	return ret;
}

static void expect_done(struct __test_metadata *_metadata, FIXTURE_DATA(atomic) * self,
			const FIXTURE_VARIANT(atomic) * variant)
{
	take_snapshot(&self->after);
	EXPECT_STREQ(variant->done, states_in(&self->after, self->addr, NR_PAGES));
	EXPECT_EQ(variant->nr_changed * page_size, self->changed);
	EXPECT_EQ(0, self->fail_addr);
	EXPECT_EQ(0, self->error);
	EXPECT_EQ(locked_bytes(&self->after), self->after.vmlck);
}

/* After a failure; self->before is from right before the call. */
static void expect_nothing_changed(struct __test_metadata *_metadata, FIXTURE_DATA(atomic) * self)
{
	take_snapshot(&self->after);
	EXPECT_STREQ("", lock_diff(&self->before, &self->after));
	EXPECT_EQ(0, self->changed);
	EXPECT_EQ(ENOMEM, self->error);
}

TEST_F(atomic, nothing_fails)
{
	/* The proof for all that follows: without a reason to fail it does all of it. */
	EXPECT_EQ(0, call(self, variant));
	expect_done(_metadata, self, variant);
}

TEST_F(atomic, hole_in_the_last_page)
{
	const char *pages;

	ASSERT_EQ(0, munmap(self->addr + LAST_PAGE * page_size, page_size));
	pages = states(self->addr, NR_PAGES);
	take_snapshot(&self->before);
	EXPECT_EQ(-ENOMEM, call(self, variant));
	expect_nothing_changed(_metadata, self);
	/* It looks before it splits: not even a boundary is another one. */
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
	EXPECT_STREQ(pages, states(self->addr, NR_PAGES));
	EXPECT_EQ((uintptr_t)self->addr + LAST_PAGE * page_size, self->fail_addr);
}

TEST_F(atomic, limit_is_one_page_too_low)
{
	size_t needed = vmlck() + variant->nr_changed * page_size;
	struct rlimit limit = { .rlim_cur = needed - page_size, .rlim_max = needed };

	/* Unlocking needs no limit. */
	if (variant->unlocks)
		limit.rlim_cur = 0;
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	if (!variant->unlocks) {
		take_snapshot(&self->before);
		EXPECT_EQ(-ENOMEM, call(self, variant));
		expect_nothing_changed(_metadata, self);
		EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
		EXPECT_EQ(0, self->fail_addr);

		limit.rlim_cur = needed;
		ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	}
	EXPECT_EQ(0, call(self, variant));
	expect_done(_metadata, self, variant);
}

TEST_F(atomic, max_map_count_is_reached_on_the_way)
{
	size_t spare;

	/* The first split is one too many, then the second one, and so on. */
	for (spare = 0; spare < variant->nr_splits; spare++) {
		take_snapshot(&self->before);
		ASSERT_EQ(0, allow_more_vmas(spare));
		EXPECT_EQ(-ENOMEM, call(self, variant));
		expect_nothing_changed(_metadata, self);
		EXPECT_STREQ(variant->before, states(self->addr, NR_PAGES));
		/* The lowest address at which it failed. */
		EXPECT_EQ((uintptr_t)self->addr + variant->splits[spare] * page_size,
			  self->fail_addr) {
			TH_LOG("room for %zu splits", spare);
		}
		/* With memory to merge them, no VMA stays split, or the count would be too high. */
		EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
	}
	ASSERT_EQ(0, allow_more_vmas(spare));
	EXPECT_EQ(0, call(self, variant));
	expect_done(_metadata, self, variant);
}

/*
 * Fault injection, where the kernel has it: the Nth allocation of the call fails, alone or with all
 * that follow.
 */

static void expect_refused(struct __test_metadata *_metadata, FIXTURE_DATA(atomic) * self,
			   const FIXTURE_VARIANT(atomic) * variant, unsigned int nth)
{
	expect_nothing_changed(_metadata, self);
	EXPECT_STREQ(variant->before, states_in(&self->after, self->addr, NR_PAGES)) {
		TH_LOG("allocation %u", nth);
	}
}

/* How many allocations were made to fail, and what came of it. */
struct failures {
	unsigned int allocations, refused, refused_in_split;
};

/* Each allocation of the call in turn fails. */
static void sweep(struct __test_metadata *_metadata, FIXTURE_DATA(atomic) * self,
		  const FIXTURE_VARIANT(atomic) * variant, enum fault_extent extent,
		  struct failures *seen)
{
	bool failed = true;
	unsigned int nth;

	for (nth = 1; failed; nth++) {
		int ret;

		ASSERT_GT(MOST_ALLOCATIONS, nth);
		/* Memory as new each time: what the last call has split stays split, perhaps. */
		unmap_region(self->addr, NR_PAGES);
		map_areas(_metadata, self, variant);

		fault_arm(nth, extent);
		ret = call(self, variant);
		failed = fault_disarm();
		seen->allocations += failed;
		if (!ret) {
			/* Nothing failed, or what can be done without: a merge, a checker. */
			expect_done(_metadata, self, variant);
			continue;
		}
		EXPECT_EQ(-ENOMEM, ret) {
			TH_LOG("allocation %u", nth);
		}
		EXPECT_TRUE(failed);
		expect_refused(_metadata, self, variant, nth);
		seen->refused++;
		seen->refused_in_split += !!self->fail_addr;
	}
}

static void fail_each(struct __test_metadata *_metadata, FIXTURE_DATA(atomic) * self,
		      const FIXTURE_VARIANT(atomic) * variant, enum fault_extent extent)
{
	struct failures seen = {};
	unsigned int sweeps;

	/* Once without a failure: what the program itself touches is resident afterwards. */
	fault_arm(INT_MAX, extent);
	ASSERT_EQ(0, call(self, variant));
	fault_disarm();

	for (sweeps = 0; sweeps < MOST_SWEEPS && !seen.refused_in_split; sweeps++)
		sweep(_metadata, self, variant, extent, &seen);
	/* It did fail, and in the VMA step at that. */
	EXPECT_LT(0, seen.refused);
	EXPECT_LT(0, seen.refused_in_split);
	TH_LOG("%u allocations, %u of them needed, %u to split", seen.allocations, seen.refused,
	       seen.refused_in_split);
}

TEST_F_TIMEOUT(atomic, one_allocation_fails, 300)
{
	int ret = fault_injection_on();

	if (ret)
		SKIP(return, "no fault injection here (KERNEL=debug has it): %s", strerror(-ret));
	fail_each(_metadata, self, variant, FAULT_ONE);
}

/* Then there is no memory for putting things back either. */
TEST_F_TIMEOUT(atomic, all_allocations_fail_from_one_on, 300)
{
	int ret = fault_injection_on();

	if (ret)
		SKIP(return, "no fault injection here (KERNEL=debug has it): %s", strerror(-ret));
	fail_each(_metadata, self, variant, FAULT_ALL_FROM);
}

/* The difference, and the proof that the test above would see it. */
TEST_F_TIMEOUT(atomic, one_allocation_fails_in_mlock, 300)
{
	unsigned int nth, sweeps = 0, refused = 0, half_done = 0;
	int error = fault_injection_on();
	bool failed;

	if (error)
		SKIP(return, "no fault injection here (KERNEL=debug has it): %s", strerror(-error));

	for (nth = 1; sweeps < MOST_SWEEPS && !half_done; nth = failed ? nth + 1 : 1) {
		const char *start;
		int ret;

		ASSERT_GT(MOST_ALLOCATIONS, nth);
		unmap_region(self->addr, NR_PAGES);
		map_areas(_metadata, self, variant);

		start = self->addr + 3 * page_size;
		fault_arm(nth, FAULT_ONE);
		ret = variant->unlocks ? munlock(start, 19 * page_size) :
					 mlock_2(start, 19 * page_size);
		failed = fault_disarm();
		take_snapshot(&self->after);
		refused += !!ret;
		half_done += ret && strcmp("", lock_diff(&self->before, &self->after));
		sweeps += !failed;
	}
	TH_LOG("failed %u times before it was half done", refused - half_done);
	EXPECT_LT(0, half_done);
}

TEST_HARNESS_MAIN
