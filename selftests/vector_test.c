// SPDX-License-Identifier: GPL-2.0
/*
 * LOCKV and UNLOCKV: many ranges in one call and one hold of the mmap lock. Ranges may come in any
 * order, overlap and be empty; each page counts once. One bad range, and nothing changes.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "mlock_rs_test.h"
#include "trace.h"

#define NR_PAGES	32UL
#define MAX_RANGES	((size_t)MLOCK_RS_MAX_RANGES)

/* Pages of the region, and bytes by which the range begins later and ends earlier. */
struct pages {
	size_t first, nr, less;
};

static size_t to_ranges(struct mlock_rs_range *ranges, const char *addr, const struct pages *pages,
			size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		ranges[i].addr = (uintptr_t)addr + pages[i].first * page_size + pages[i].less;
		ranges[i].len = pages[i].nr * page_size - 2 * pages[i].less;
	}
	return nr;
}

FIXTURE(vector)
{
	int dev;
	char *addr;
	struct mlock_rs_range ranges[8];
	struct mlock_rs_lockv res;
	struct mlock_rs_unlockv unres;
};

FIXTURE_SETUP(vector)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(vector)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* Ways to ask for the same pages: 2 to 6, 10 to 13, and 20. */
#define ASKED_FOR	"uuLLLLLuuuLLLLuuuuuuLuuuuuuuuuuu"
#define NR_ASKED_FOR	10UL

FIXTURE(same)
{
	int dev;
	char *addr;
	size_t nr;
	struct mlock_rs_range ranges[8];
};

FIXTURE_VARIANT(same)
{
	struct pages pages[8];
	size_t nr;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(same, sorted) {
	.nr = 3, .pages = { { 2, 5, 0 }, { 10, 4, 0 }, { 20, 1, 0 } } };
FIXTURE_VARIANT_ADD(same, unsorted) {
	.nr = 3, .pages = { { 20, 1, 0 }, { 2, 5, 0 }, { 10, 4, 0 } } };
FIXTURE_VARIANT_ADD(same, touching) {
	.nr = 5, .pages = { { 2, 2, 0 }, { 4, 3, 0 }, { 12, 2, 0 }, { 10, 2, 0 }, { 20, 1, 0 } } };
FIXTURE_VARIANT_ADD(same, overlapping) {
	.nr = 5, .pages = { { 3, 4, 0 }, { 2, 3, 0 }, { 10, 3, 0 }, { 11, 3, 0 }, { 20, 1, 0 } } };
FIXTURE_VARIANT_ADD(same, one_inside_of_another) {
	.nr = 5, .pages = { { 2, 5, 0 }, { 3, 2, 0 }, { 6, 1, 0 }, { 10, 4, 0 }, { 20, 1, 0 } } };
FIXTURE_VARIANT_ADD(same, duplicates) {
	.nr = 7, .pages = { { 10, 4, 0 }, { 2, 5, 0 }, { 10, 4, 0 }, { 20, 1, 0 }, { 20, 1, 0 },
			    { 2, 5, 0 }, { 20, 1, 0 } } };
FIXTURE_VARIANT_ADD(same, with_empty_ones) {
	.nr = 6, .pages = { { 0, 0, 0 }, { 2, 5, 0 }, { 4, 0, 0 }, { 10, 4, 0 }, { 25, 0, 0 },
			    { 20, 1, 0 } } };
FIXTURE_VARIANT_ADD(same, unaligned) {
	.nr = 4, .pages = { { 2, 5, 99 }, { 10, 2, 1 }, { 11, 3, 1000 }, { 20, 1, 2047 } } };
/* clang-format on */

FIXTURE_SETUP(same)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	self->nr = to_ranges(self->ranges, self->addr, variant->pages, variant->nr);
}

FIXTURE_TEARDOWN(same)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

TEST_F(same, each_page_is_locked_and_counts_once)
{
	struct mlock_rs_lockv res;

	EXPECT_EQ(0, mlock_rs_lockv(self->dev, self->ranges, self->nr, 0, &res));
	EXPECT_STREQ(ASKED_FOR, states(self->addr, NR_PAGES));
	EXPECT_EQ(NR_ASKED_FOR * page_size, vmlck());
	EXPECT_EQ(NR_ASKED_FOR * page_size, res.locked);
	EXPECT_EQ(NR_ASKED_FOR * page_size, res.populated);
	/* One VMA, but three stretches of it. */
	EXPECT_EQ(3, res.nr_vmas);
	EXPECT_EQ(0, res.fail_addr);
	EXPECT_EQ(0, res.error);
}

TEST_F(same, each_page_is_unlocked_and_counts_once)
{
	struct mlock_rs_unlockv res;
	const char *now;
	size_t i;

	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, mlock_rs_unlockv(self->dev, self->ranges, self->nr, &res));
	now = states(self->addr, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++) {
		EXPECT_EQ(ASKED_FOR[i] == 'L' ? 'U' : 'L', now[i]) {
			TH_LOG("page %zu", i);
		}
	}
	EXPECT_EQ((NR_PAGES - NR_ASKED_FOR) * page_size, vmlck());
	EXPECT_EQ(NR_ASKED_FOR * page_size, res.unlocked);
	EXPECT_EQ(3, res.nr_vmas);
	EXPECT_EQ(0, res.error);
}

TEST_F(same, limit_is_for_the_union)
{
	struct rlimit limit = { .rlim_cur = NR_ASKED_FOR * page_size };
	struct mlock_rs_lockv res;

	limit.rlim_max = limit.rlim_cur;
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, self->ranges, self->nr, 0, NULL));
	EXPECT_STREQ(ASKED_FOR, states(self->addr, NR_PAGES));

	ASSERT_EQ(0, munlock(self->addr, NR_PAGES * page_size));
	limit.rlim_cur -= page_size;
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	EXPECT_EQ(-ENOMEM, mlock_rs_lockv(self->dev, self->ranges, self->nr, 0, &res));
	EXPECT_EQ(0, vmlck());
	EXPECT_EQ(0, res.fail_addr);
}

TEST_F(vector, onfault)
{
	struct pages pages[] = { { 9, 4, 0 }, { 2, 3, 0 } };

	memset(self->addr + 3 * page_size, 1, page_size);
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, self->ranges,
				    to_ranges(self->ranges, self->addr, pages, 2),
				    MLOCK_RS_LOCK_ONFAULT, &self->res));
	EXPECT_STREQ("uufFfuuuuffffuuuuuuuuuuuuuuuuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(7 * page_size, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
}

TEST_F(vector, locked_pages_do_not_count_twice)
{
	struct pages pages[] = { { 9, 4, 0 }, { 2, 3, 0 } };

	ASSERT_EQ(0, mlock_2(self->addr + 3 * page_size, 8 * page_size));
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, self->ranges,
				    to_ranges(self->ranges, self->addr, pages, 2), 0, &self->res));
	EXPECT_EQ(3 * page_size, self->res.locked);
	EXPECT_EQ(7 * page_size, self->res.populated);
	/* A VMA counts for each stretch of ranges in it: 2, 3 to 4, 9 to 10, 11 to 12. */
	EXPECT_EQ(4, self->res.nr_vmas);
	EXPECT_EQ(11 * page_size, vmlck());
}

TEST_F(vector, failure_while_populating_says_how_far_it_came)
{
	struct pages pages[] = { { 20, 4, 0 }, { 9, 4, 0 }, { 2, 3, 0 } };

	ASSERT_EQ(0, mprotect(self->addr + 11 * page_size, page_size, PROT_NONE));
	EXPECT_EQ(-ENOMEM, mlock_rs_lockv(self->dev, self->ranges,
					  to_ranges(self->ranges, self->addr, pages, 3), 0,
					  &self->res));
	/* In the order of addresses, not in that of the array. Then the flags stay. */
	EXPECT_EQ(5 * page_size, self->res.populated);
	EXPECT_EQ((uintptr_t)self->addr + 11 * page_size, self->res.fail_addr);
	EXPECT_EQ(11 * page_size, self->res.locked);
	EXPECT_EQ(ENOMEM, self->res.error);
	EXPECT_STREQ("uuLLLuuuuLLlluuuuuuulllluuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F_TIMEOUT(vector, most_ranges, 120)
{
	struct mlock_rs_range *ranges = calloc(MAX_RANGES, sizeof(*ranges));
	char *addr = map_region(2 * MAX_RANGES);
	size_t i;

	/* Backwards, and each of them away from all others: two splits for each. */
	for (i = 0; i < MAX_RANGES; i++) {
		ranges[i].addr = (uintptr_t)addr + 2 * (MAX_RANGES - 1 - i) * page_size;
		ranges[i].len = page_size;
	}
	ASSERT_EQ(0, mlock_rs_lockv(self->dev, ranges, MAX_RANGES, 0, &self->res));
	EXPECT_EQ(MAX_RANGES * page_size, vmlck());
	EXPECT_EQ(MAX_RANGES * page_size, self->res.locked);
	EXPECT_EQ(MAX_RANGES * page_size, self->res.populated);
	EXPECT_EQ(MAX_RANGES, self->res.nr_vmas);
	EXPECT_EQ(MAX_RANGES, count(states(addr, 2 * MAX_RANGES), 'L'));
	EXPECT_EQ(MAX_RANGES, count(states(addr, 2 * MAX_RANGES), 'u'));

	ASSERT_EQ(0, mlock_rs_unlockv(self->dev, ranges, MAX_RANGES, &self->unres));
	EXPECT_EQ(0, vmlck());
	EXPECT_EQ(MAX_RANGES * page_size, self->unres.unlocked);
	unmap_region(addr, 2 * MAX_RANGES);
}

/* The module copies 32 of them at a time: none is left out, and none is read behind the last. */
TEST_F(vector, any_number_of_ranges)
{
	const size_t nrs[] = { 31, 32, 33, 63 };
	struct mlock_rs_range ranges[64];
	char *addr = map_region(2 * ARRAY_SIZE(ranges));
	size_t i, n;

	for (i = 0; i < ARRAY_SIZE(ranges); i++)
		ranges[i] = (struct mlock_rs_range) { (uintptr_t)addr + 2 * i * page_size,
						      page_size };
	for (n = 0; n < ARRAY_SIZE(nrs); n++) {
		ASSERT_EQ(0, mlock_rs_lockv(self->dev, ranges, nrs[n], 0, &self->res));
		EXPECT_EQ(nrs[n] * page_size, self->res.locked);
		EXPECT_EQ(nrs[n], self->res.nr_vmas);
		EXPECT_EQ(nrs[n] * page_size, vmlck());
		EXPECT_EQ('L', states(addr + 2 * (nrs[n] - 1) * page_size, 1)[0]);
		ASSERT_EQ(0, mlock_rs_unlockv(self->dev, ranges, nrs[n], &self->unres));
		EXPECT_EQ(nrs[n] * page_size, self->unres.unlocked);
		EXPECT_EQ(0, vmlck());
	}
	unmap_region(addr, 2 * ARRAY_SIZE(ranges));
}

TEST_F(vector, too_many_ranges)
{
	size_t nrs[] = { MAX_RANGES + 1, 1 << 20, UINT32_MAX }, i;
	struct mlock_rs_range *ranges = calloc(MAX_RANGES + 1, sizeof(*ranges));

	for (i = 0; i < ARRAY_SIZE(nrs); i++) {
		ranges[0] = (struct mlock_rs_range) { (uintptr_t)self->addr, page_size };
		EXPECT_EQ(-EINVAL, mlock_rs_lockv(self->dev, ranges, nrs[i], 0, &self->res));
		EXPECT_EQ(EINVAL, self->res.error);
		EXPECT_EQ(-EINVAL, mlock_rs_unlockv(self->dev, ranges, nrs[i], &self->unres));
		EXPECT_EQ(EINVAL, self->unres.error);
	}
	EXPECT_EQ(0, vmlck());
}

TEST_F(vector, no_ranges)
{
	/* Then it does not matter where they are. */
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, NULL, 0, 0, &self->res));
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
	EXPECT_EQ(0, self->res.nr_vmas);
	EXPECT_EQ(0, self->res.error);
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, (void *)8, 0, 0, NULL));
	EXPECT_EQ(0, mlock_rs_unlockv(self->dev, NULL, 0, &self->unres));
	EXPECT_EQ(0, self->unres.unlocked);
	EXPECT_EQ(0, self->unres.nr_vmas);
}

TEST_F(vector, nothing_but_empty_ranges)
{
	/* Nobody looks at where they are, as with mlock(2) and length 0. */
	struct pages pages[] = { { 4, 0, 0 }, { 4, 0, 0 }, { 1000, 0, 0 } };

	EXPECT_EQ(0, mlock_2(self->addr + 1000 * page_size, 0));
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, self->ranges,
				    to_ranges(self->ranges, self->addr, pages, 3), 0, &self->res));
	EXPECT_EQ(0, self->res.nr_vmas);
	EXPECT_EQ(0, vmlck());
}

/* LOCKV and UNLOCKV of these ranges fail with @error and change nothing. */
static void expect_refused(struct __test_metadata *_metadata, FIXTURE_DATA(vector) * self,
			   const struct mlock_rs_range *ranges, size_t nr, int error,
			   __u64 fail_addr)
{
	struct snapshot before, after;

	take_snapshot(&before);
	EXPECT_EQ(error, mlock_rs_lockv(self->dev, ranges, nr, 0, &self->res));
	take_snapshot(&after);
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_STREQ(all('u', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
	EXPECT_EQ(0, self->res.nr_vmas);
	EXPECT_EQ(-error, self->res.error);
	EXPECT_EQ(fail_addr, self->res.fail_addr);

	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	take_snapshot(&before);
	EXPECT_EQ(error, mlock_rs_unlockv(self->dev, ranges, nr, &self->unres));
	take_snapshot(&after);
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_EQ(0, self->unres.unlocked);
	EXPECT_EQ(0, self->unres.nr_vmas);
	EXPECT_EQ(-error, self->unres.error);
	EXPECT_EQ(fail_addr, self->unres.fail_addr);
}

TEST_F(vector, array_that_is_not_mapped)
{
	expect_refused(_metadata, self, NULL, 1, -EFAULT, 0);
}

TEST_F(vector, array_above_user_space)
{
	expect_refused(_metadata, self, (void *)(1UL << 63), 4, -EFAULT, 0);
	EXPECT_EQ(-EFAULT, mlock_rs_lockv(self->dev, (void *)-8, 1, 0, NULL));
}

TEST_F(vector, array_half_of_which_is_not_mapped)
{
	/* Behind the page is PROT_NONE. What can be read is good, and is not enough. */
	char *page = map_region(1);
	struct mlock_rs_range *ranges = (void *)(page + page_size - 2 * sizeof(*ranges));
	struct pages pages[] = { { 2, 3, 0 }, { 9, 4, 0 } };

	to_ranges(ranges, self->addr, pages, 2);
	expect_refused(_metadata, self, ranges, 3, -EFAULT, 0);
	EXPECT_EQ(0, mlock_rs_unlockv(self->dev, ranges, 2, NULL));
}

TEST_F(vector, one_range_wraps_around)
{
	struct pages pages[] = { { 2, 3, 0 }, { 9, 4, 0 }, { 20, 4, 0 } };

	to_ranges(self->ranges, self->addr, pages, 3);
	self->ranges[2].len = -self->ranges[2].addr + 1;
	expect_refused(_metadata, self, self->ranges, 3, -EINVAL, 0);
}

TEST_F(vector, one_range_has_a_hole)
{
	struct pages pages[] = { { 2, 3, 0 }, { NR_PAGES - 1, 2, 0 }, { 9, 4, 0 } };

	/* The page behind the region, so that all pages of the region are there. */
	ASSERT_EQ(0, munmap(self->addr + NR_PAGES * page_size, page_size));
	to_ranges(self->ranges, self->addr, pages, 3);
	expect_refused(_metadata, self, self->ranges, 3, -ENOMEM,
		       (uintptr_t)self->addr + NR_PAGES * page_size);
}

TEST_F(vector, lowest_of_several_holes_is_told)
{
	struct pages pages[] = { { 20, 6, 0 }, { 12, 5, 0 }, { 2, 5, 0 } };

	ASSERT_EQ(0, munmap(self->addr + 14 * page_size, page_size));
	ASSERT_EQ(0, munmap(self->addr + 21 * page_size, page_size));
	to_ranges(self->ranges, self->addr, pages, 3);
	EXPECT_EQ(-ENOMEM, mlock_rs_lockv(self->dev, self->ranges, 3, 0, &self->res));
	EXPECT_EQ((uintptr_t)self->addr + 14 * page_size, self->res.fail_addr);
	EXPECT_EQ(-ENOMEM, mlock_rs_unlockv(self->dev, self->ranges, 3, &self->unres));
	EXPECT_EQ((uintptr_t)self->addr + 14 * page_size, self->unres.fail_addr);
	EXPECT_EQ(0, vmlck());
}

TEST_F(vector, hole_between_the_ranges_does_not_matter)
{
	struct pages pages[] = { { 9, 4, 0 }, { 2, 3, 0 } };

	ASSERT_EQ(0, munmap(self->addr + 6 * page_size, page_size));
	EXPECT_EQ(0, mlock_rs_lockv(self->dev, self->ranges,
				    to_ranges(self->ranges, self->addr, pages, 2), 0, NULL));
	EXPECT_STREQ("uuLLLu.uuLLLLuuuuuuuuuuuuuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(vector, unknown_flag)
{
	const __u32 known = MLOCK_RS_LOCK_ONFAULT | MLOCK_RS_LOCK_YIELD |
			    MLOCK_RS_LOCK_INTERRUPTIBLE;
	struct pages pages[] = { { 2, 3, 0 } };
	__u32 bit;

	to_ranges(self->ranges, self->addr, pages, 1);
	for (bit = 1; bit; bit <<= 1) {
		if (bit & known)
			continue;
		EXPECT_EQ(-EINVAL, mlock_rs_lockv(self->dev, self->ranges, 1, bit, NULL));
	}
	EXPECT_EQ(0, vmlck());
}

TEST_F(vector, permission_is_asked_for_even_without_ranges)
{
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	/* As mlock(2) does, which munlock(2) does not. */
	ASSERT_EQ(-EPERM, mlock_2(self->addr, 0));
	EXPECT_EQ(-EPERM, mlock_rs_lockv(self->dev, self->ranges, 0, 0, NULL));
	EXPECT_EQ(0, mlock_rs_unlockv(self->dev, self->ranges, 0, NULL));
}

/*
 * One hold of the mmap lock for all ranges.
 */
FIXTURE(vector_protocol)
{
	int dev;
	char *addr;
	pid_t tid;
	struct trace trace;
	/* The argument and the ranges in memory that is resident when the call is traced. */
	struct call {
		union {
			struct mlock_rs_lockv lockv;
			struct mlock_rs_unlockv unlockv;
		};
		struct mlock_rs_range ranges[4];
	} *call;
};

FIXTURE_SETUP(vector_protocol)
{
	struct pages pages[] = { { 20, 5, 0 }, { 2, 3, 0 }, { 9, 4, 0 }, { 3, 4, 0 } };
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->tid = gettid();
	ret = trace_open(&self->trace, &self->tid, 1);
	ASSERT_EQ(0, ret) {
		TH_LOG("no mmap_lock trace events: %s", strerror(-ret));
	}
	self->addr = map_region(NR_PAGES);
	ASSERT_EQ(0, mprotect(self->addr + 10 * page_size, 5 * page_size, PROT_READ));
	self->call = (void *)map_region(1);
	to_ranges(self->call->ranges, self->addr, pages, ARRAY_SIZE(pages));
	/* Once outside of any assertion: code and data of this program are resident afterwards. */
	trace_start(&self->trace);
	mlock_rs_lockv(self->dev, NULL, 0, 0, NULL);
	trace_stop(&self->trace);
}

FIXTURE_TEARDOWN(vector_protocol)
{
	trace_close(&self->trace);
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

static int traced(struct __test_metadata *_metadata, FIXTURE_DATA(vector_protocol) * self,
		  unsigned long cmd)
{
	int ret;

	self->call->lockv.ranges = (uintptr_t)self->call->ranges;
	self->call->lockv.nr_ranges = ARRAY_SIZE(self->call->ranges);
	ASSERT_EQ(0, trace_ioctl(&self->trace, self->dev, cmd, self->call, &ret));
	return ret;
}

TEST_F(vector_protocol, lockv_holds_it_once)
{
	EXPECT_EQ(0, traced(_metadata, self, MLOCK_RS_LOCKV));
	EXPECT_EQ(14 * page_size, self->call->lockv.populated);
	EXPECT_STREQ(TRACE_STRICT, full_sequence(&self->trace, self->tid));
}

TEST_F(vector_protocol, lockv_with_a_hole_never_downgrades)
{
	ASSERT_EQ(0, munmap(self->addr + 24 * page_size, page_size));
	EXPECT_EQ(-ENOMEM, traced(_metadata, self, MLOCK_RS_LOCKV));
	EXPECT_STREQ(TRACE_LOOKED, full_sequence(&self->trace, self->tid));
}

TEST_F(vector_protocol, unlockv_holds_it_once)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, traced(_metadata, self, MLOCK_RS_UNLOCKV));
	EXPECT_EQ(14 * page_size, self->call->unlockv.unlocked);
	EXPECT_STREQ(TRACE_LOOKED, full_sequence(&self->trace, self->tid));
}

/*
 * One instant for all ranges: a thread that replaces a page of the last range all the time does not
 * get in between the first VMA edit and the last page.
 */
#define INSTANT_PAGES	256UL
#define INSTANT_ROUNDS	10

FIXTURE(instant)
{
	int dev;
	char *addr[2];
	struct mlock_rs_range ranges[2];
	struct trace trace;
	pid_t tids[2];
	pthread_t thread;
	atomic_int tid;
	atomic_bool stop;
	atomic_ulong replaced;
};

static void *replace_page(void *arg)
{
	FIXTURE_DATA(instant) * self = arg;

	atomic_store(&self->tid, gettid());
	while (!atomic_load(&self->stop)) {
		if (mmap(self->addr[1] + 3 * page_size, page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			abort();
		atomic_fetch_add(&self->replaced, 1);
	}
	return NULL;
}

FIXTURE_SETUP(instant)
{
	size_t i;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	for (i = 0; i < 2; i++) {
		self->addr[i] = map_region(INSTANT_PAGES);
		self->ranges[i].addr = (uintptr_t)self->addr[i];
		self->ranges[i].len = INSTANT_PAGES * page_size;
	}
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, replace_page, self));
	while (!atomic_load(&self->tid))
		sched_yield();
	self->tids[0] = gettid();
	self->tids[1] = atomic_load(&self->tid);
	ASSERT_EQ(0, trace_open(&self->trace, self->tids, 2));
	/* Code and data of this program are resident afterwards: no fault will take the lock. */
	trace_start(&self->trace);
	mlock_rs_lockv(self->dev, self->ranges, 2, 0, NULL);
	mlock_rs(self->dev, self->addr[0], page_size, NULL);
	trace_stop(&self->trace);
}

FIXTURE_TEARDOWN(instant)
{
	atomic_store(&self->stop, true);
	pthread_join(self->thread, NULL);
	trace_close(&self->trace);
	close(self->dev);
}

/*
 * 1 if the other thread had the lock between the beginning and the end of the locking, 0 if not,
 * and -EOVERFLOW if it did so much while this one did not run that its trace is incomplete.
 */
static int traced_round(struct __test_metadata *_metadata, FIXTURE_DATA(instant) * self,
			bool vector)
{
	unsigned long replaced = atomic_load(&self->replaced);
	int ret[2] = { 0, 0 }, lost;

	munlock(self->addr[0], INSTANT_PAGES * page_size);
	munlock(self->addr[1], INSTANT_PAGES * page_size);
	madvise(self->addr[0], INSTANT_PAGES * page_size, MADV_DONTNEED);
	/* It is running, not about to begin. */
	while (atomic_load(&self->replaced) == replaced)
		sched_yield();

	trace_start(&self->trace);
	if (vector) {
		ret[0] = mlock_rs_lockv(self->dev, self->ranges, 2, 0, NULL);
	} else {
		ret[0] = mlock_rs(self->dev, self->addr[0], INSTANT_PAGES * page_size, NULL);
		ret[1] = mlock_rs(self->dev, self->addr[1], INSTANT_PAGES * page_size, NULL);
	}
	lost = trace_stop(&self->trace);
	EXPECT_EQ(0, ret[0]);
	EXPECT_EQ(0, ret[1]);
	return lost ? lost : other_writer_inside(&self->trace, self->tids[0]);
}

/* An incomplete trace shows nothing. On a busy host that happens, but not all the time. */
static bool round_of(struct __test_metadata *_metadata, FIXTURE_DATA(instant) * self, bool vector)
{
	int i, inside = -EOVERFLOW;

	for (i = 0; i < 10 && inside == -EOVERFLOW; i++)
		inside = traced_round(_metadata, self, vector);
	EXPECT_LE(0, inside);
	return inside > 0;
}

TEST_F_TIMEOUT(instant, nobody_gets_in_between_the_ranges, 120)
{
	unsigned long replaced = atomic_load(&self->replaced);
	int i;

	for (i = 0; i < INSTANT_ROUNDS; i++)
		EXPECT_FALSE(round_of(_metadata, self, true));
	/* It has tried. */
	EXPECT_LT(replaced + INSTANT_ROUNDS, atomic_load(&self->replaced));
}

/* The difference, and the proof that the test above would see it. */
TEST_F_TIMEOUT(instant, two_calls_are_two_instants, 120)
{
	int i, inside = 0;

	/* The first round will do as a rule; whether it does is up to the scheduler. */
	for (i = 0; i < 10 * INSTANT_ROUNDS && !inside; i++)
		inside += round_of(_metadata, self, false);
	EXPECT_LT(0, inside);
}

TEST_HARNESS_MAIN
