// SPDX-License-Identifier: GPL-2.0
/*
 * QUERY: says what smaps and pagemap say, in one hold of the mmap lock, and changes nothing.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#include "mlock_rs_test.h"
#include "trace.h"

#define NR_PAGES	16UL

FIXTURE(query)
{
	int dev;
	char *addr;
	struct mlock_rs_query res;
};

FIXTURE_SETUP(query)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(query)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* Ask about @nr pages from @first on, and compare with what the kernel's other witnesses say. */
static void expect_agreement(struct __test_metadata *_metadata, FIXTURE_DATA(query) * self,
			     size_t first, size_t nr)
{
	char *range = self->addr + first * page_size;
	const char *s = states(range, nr);
	size_t locked = count(s, 'l') + count(s, 'L') + count(s, 'f') + count(s, 'F');
	size_t resident = count(s, 'U') + count(s, 'L') + count(s, 'F');
	bool complete = locked == nr && resident == nr;

	EXPECT_EQ(0, mlock_rs_query(self->dev, range, nr * page_size, &self->res));
	EXPECT_EQ((nr - count(s, '.')) * page_size, self->res.mapped);
	EXPECT_EQ(locked * page_size, self->res.locked);
	EXPECT_EQ((count(s, 'f') + count(s, 'F')) * page_size, self->res.onfault);
	EXPECT_EQ(resident * page_size, self->res.resident) {
		TH_LOG("%zu pages from %zu on: %s", nr, first, s);
	}
	EXPECT_EQ(complete ? MLOCK_RS_QUERY_LOCKED_RESIDENT : 0, self->res.state);
	EXPECT_EQ(0, self->res.error);
	EXPECT_EQ(0, self->res.__reserved_out);
	/* And nothing has changed. */
	EXPECT_STREQ(s, states(range, nr));
}

TEST_F_TIMEOUT(query, every_part_of_a_mixed_range, SLOW_SECONDS)
{
	size_t first, nr;

	ASSERT_EQ(0, mlock_2(self->addr, 4 * page_size));
	ASSERT_EQ(0, mlock_onfault(self->addr + 4 * page_size, 4 * page_size));
	memset(self->addr + 5 * page_size, 1, 2 * page_size);
	ASSERT_EQ(0, munmap(self->addr + 8 * page_size, 2 * page_size));
	memset(self->addr + 11 * page_size, 1, page_size);
	memset(self->addr + 13 * page_size, 1, page_size);
	ASSERT_EQ(0, mprotect(self->addr + 13 * page_size, 2 * page_size, PROT_READ));
	ASSERT_STREQ("LLLLfFFf..uUuUuu", states(self->addr, NR_PAGES));

	for (first = 0; first < NR_PAGES; first++)
		for (nr = 1; first + nr <= NR_PAGES; nr++)
			expect_agreement(_metadata, self, first, nr);
}

TEST_F(query, number_of_vmas)
{
	ASSERT_EQ(0, mlock_2(self->addr + 2 * page_size, 4 * page_size));
	ASSERT_EQ(0, munmap(self->addr + 8 * page_size, page_size));
	/* uu LLLL uu . uuuuuuu */
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr, NR_PAGES * page_size, &self->res));
	EXPECT_EQ(4, self->res.nr_vmas);
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr + 3 * page_size, page_size, &self->res));
	EXPECT_EQ(1, self->res.nr_vmas);
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr + 8 * page_size, page_size, &self->res));
	EXPECT_EQ(0, self->res.nr_vmas);
}

TEST_F(query, state_says_that_all_of_it_is_locked_and_resident)
{
	size_t len = NR_PAGES * page_size;

	/* Locked and resident, one after the other, and then not mapped. */
	memset(self->addr, 1, len);
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(0, self->res.state);
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, len, NULL));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(MLOCK_RS_QUERY_LOCKED_RESIDENT, self->res.state);

	/* Locked on fault is locked, when it is resident. */
	ASSERT_EQ(0, mlock_onfault(self->addr + page_size, page_size));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(MLOCK_RS_QUERY_LOCKED_RESIDENT, self->res.state);

	/* One page at the end: first it is away, then it is not locked, then there is none. */
	ASSERT_EQ(0, madvise(self->addr + len - page_size, page_size, MADV_DONTNEED_LOCKED));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(0, self->res.state);
	memset(self->addr + len - page_size, 1, page_size);
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(MLOCK_RS_QUERY_LOCKED_RESIDENT, self->res.state);
	ASSERT_EQ(0, munlock(self->addr + len - page_size, page_size));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(0, self->res.state);
	ASSERT_EQ(0, munmap(self->addr + len - page_size, page_size));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(0, self->res.state);
	expect_agreement(_metadata, self, 0, NR_PAGES - 1);
	EXPECT_EQ(MLOCK_RS_QUERY_LOCKED_RESIDENT, self->res.state);
}

TEST_F(query, pages_that_the_caller_may_not_read)
{
	/* They are in the page table all the same. */
	memset(self->addr, 1, 3 * page_size);
	ASSERT_EQ(0, mprotect(self->addr, 4 * page_size, PROT_NONE));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(3 * page_size, self->res.resident);
}

TEST_F(query, pages_that_the_caller_may_only_execute)
{
	/* Where there are protection keys, such memory gets one that forbids to read it. */
	memset(self->addr, 1, 3 * page_size);
	ASSERT_EQ(0, mprotect(self->addr, 4 * page_size, PROT_EXEC));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(3 * page_size, self->res.resident);
}

TEST_F(query, pages_of_zeroes)
{
	/* Read but never written: the zero page is in the page table. */
	ASSERT_EQ(0, self->addr[3 * page_size]);
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(page_size, self->res.resident);
}

TEST_F(query, shared_memory_that_is_in_the_page_cache_only)
{
	int fd = memfd_create("query", 0);
	char *file;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, NR_PAGES * page_size));
	ASSERT_EQ((ssize_t)page_size, pwrite(fd, self->addr, page_size, 0));
	file = mmap(self->addr, NR_PAGES * page_size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_FIXED, fd, 0);
	ASSERT_EQ(self->addr, file);
	/* mincore(2) would count it; but it is not in the page table: the next access faults. */
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(0, self->res.resident);
	file[5 * page_size] = 1;
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(page_size, self->res.resident);
	close(fd);
}

TEST_F(query, huge_page)
{
	const size_t huge = 2UL << 20, len = 8 * huge;
	char *area = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *addr = (char *)(((uintptr_t)area + huge - 1) & ~(huge - 1));

	ASSERT_NE(MAP_FAILED, area);
	if (madvise(area, len, MADV_HUGEPAGE))
		SKIP(return, "no huge pages");
	/* One in a row may be out of luck. */
	addr[0] = 1;
	while (!smaps_bytes(area, len, "AnonHugePages:")) {
		addr += huge;
		ASSERT_GT(area + len - huge, addr);
		addr[0] = 1;
	}
	self->addr = addr;
	/* All of it, and parts of it. */
	expect_agreement(_metadata, self, 0, huge / page_size);
	EXPECT_EQ(huge, self->res.resident);
	expect_agreement(_metadata, self, 3, 7);
	EXPECT_EQ(7 * page_size, self->res.resident);
	EXPECT_EQ(huge, smaps_bytes(area, len, "AnonHugePages:"));
}

TEST_F(query, nothing_is_faulted_in)
{
	size_t before;

	ASSERT_EQ(0, mlock_onfault(self->addr, NR_PAGES * page_size));
	before = resident_pages(self->addr, NR_PAGES);
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr, NR_PAGES * page_size, &self->res));
	EXPECT_EQ(0, before);
	EXPECT_EQ(0, resident_pages(self->addr, NR_PAGES));
	EXPECT_EQ(0, self->res.resident);
}

TEST_F(query, ends_are_rounded_to_pages)
{
	ASSERT_EQ(0, mlock_2(self->addr + 3 * page_size, page_size));
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr + 2 * page_size + 77, 2 * page_size,
				    &self->res));
	EXPECT_EQ(3 * page_size, self->res.mapped);
	EXPECT_EQ(page_size, self->res.locked);
	/* As mlock(2): length 0 inside of a page is that page. */
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr + 3 * page_size + 1, 0, &self->res));
	EXPECT_EQ(page_size, self->res.mapped);
	EXPECT_EQ(MLOCK_RS_QUERY_LOCKED_RESIDENT, self->res.state);
}

TEST_F(query, empty_range)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr, 0, &self->res));
	EXPECT_EQ(0, self->res.mapped);
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.onfault);
	EXPECT_EQ(0, self->res.resident);
	EXPECT_EQ(0, self->res.nr_vmas);
	/* Nothing is not locked. */
	EXPECT_EQ(0, self->res.state);
	EXPECT_EQ(0, self->res.error);
}

TEST_F(query, nothing_but_holes)
{
	ASSERT_EQ(0, munmap(self->addr, NR_PAGES * page_size));
	expect_agreement(_metadata, self, 0, NR_PAGES);
	EXPECT_EQ(0, self->res.mapped);
	/* A hole like any other, also for LOCK. */
	EXPECT_EQ(0, mlock_rs_query(self->dev, (void *)(1UL << 63), page_size, &self->res));
	EXPECT_EQ(0, self->res.mapped);
}

TEST_F(query, all_of_user_space)
{
	struct snapshot now;
	size_t i, mapped = 0;

	ASSERT_EQ(0, mlock_2(self->addr, 5 * page_size));
	EXPECT_EQ(0, mlock_rs_query(self->dev, NULL, 1UL << 62, &self->res));
	take_snapshot(&now);
	for (i = 0; i < now.nr_vmas; i++)
		if (now.vma[i].start < 1UL << 62)
			mapped += now.vma[i].end - now.vma[i].start;
	EXPECT_EQ(mapped, self->res.mapped);
	EXPECT_EQ(vmlck(), self->res.locked);
}

TEST_F(query, range_that_wraps_around)
{
	EXPECT_EQ(-EINVAL, mlock_rs_query(self->dev, self->addr, -(size_t)self->addr + 1,
					  &self->res));
	EXPECT_EQ(EINVAL, self->res.error);
	EXPECT_EQ(0, self->res.mapped);
	EXPECT_EQ(0, self->res.state);
	EXPECT_EQ(-EINVAL, mlock_rs_query(self->dev, self->addr, SIZE_MAX, NULL));
}

TEST_F(query, needs_no_permission)
{
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };

	ASSERT_EQ(0, mlock_2(self->addr, 5 * page_size));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	ASSERT_EQ(-EPERM, mlock_rs(self->dev, self->addr, page_size, NULL));
	expect_agreement(_metadata, self, 0, NR_PAGES);
}

TEST_F(query, holds_the_lock_once_for_reading)
{
	struct mlock_rs_query *arg = (void *)map_region(1);
	pid_t tid = gettid();
	static struct trace trace;
	int ret;

	ASSERT_EQ(0, trace_open(&trace, &tid, 1));
	ASSERT_EQ(0, mlock_2(self->addr + 2 * page_size, 4 * page_size));
	/* Once without a range: code and data of this program are resident afterwards. */
	trace_ioctl(&trace, self->dev, MLOCK_RS_QUERY, arg, &ret);

	arg->addr = (uintptr_t)self->addr;
	arg->len = NR_PAGES * page_size;
	EXPECT_EQ(0, trace_ioctl(&trace, self->dev, MLOCK_RS_QUERY, arg, &ret));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(4 * page_size, arg->locked);
	/* Several VMAs and holes in the page table, and one hold for all of it. */
	EXPECT_STREQ(TRACE_READ, full_sequence(&trace, tid));
	trace_close(&trace);
}

/*
 * One hold: another thread locks and unlocks all of the range, which is made of many VMAs, all the
 * time. QUERY must see all of it locked or nothing, never a part.
 */
#define STORM_PAGES	128UL
#define STORM_QUERIES	2000

FIXTURE(query_storm)
{
	int dev;
	char *addr;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong rounds;
	atomic_int error;
};

static void *lock_and_unlock(void *arg)
{
	FIXTURE_DATA(query_storm) * self = arg;
	size_t len = STORM_PAGES * page_size;
	int ret = 0;

	while (!atomic_load(&self->stop) && !ret) {
		ret = mlock_rs(self->dev, self->addr, len, NULL);
		if (!ret)
			ret = mlock_rs_unlock(self->dev, self->addr, len, NULL);
		if (!ret && madvise(self->addr, len, MADV_DONTNEED))
			ret = -errno;
		atomic_fetch_add(&self->rounds, 1);
	}
	atomic_store(&self->error, ret);
	return NULL;
}

FIXTURE_SETUP(query_storm)
{
	size_t i;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(STORM_PAGES);
	for (i = 4; i < STORM_PAGES; i += 8)
		ASSERT_EQ(0, mprotect(self->addr + i * page_size, 4 * page_size, PROT_READ));
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, lock_and_unlock, self));
}

FIXTURE_TEARDOWN(query_storm)
{
	close(self->dev);
}

TEST_F_TIMEOUT(query_storm, all_or_nothing_is_locked, 300)
{
	size_t len = STORM_PAGES * page_size, locked = 0, unlocked = 0, complete = 0, i;

	/* Until each has been seen; only a hang never sees one of them. */
	for (i = 0; i < STORM_QUERIES || !locked || !unlocked || !complete; i++) {
		struct mlock_rs_query res;

		ASSERT_EQ(0, mlock_rs_query(self->dev, self->addr, len, &res));
		ASSERT_EQ(len, res.mapped);
		/* The flags of all VMAs are from one instant. */
		ASSERT_TRUE(res.locked == 0 || res.locked == len) {
			TH_LOG("%llu of %zu bytes locked", res.locked, len);
		}
		ASSERT_EQ(0, res.onfault);
		ASSERT_GE(len, res.resident);
		/* The state is what the sums say. */
		ASSERT_EQ(res.locked == len && res.resident == len,
			  res.state == MLOCK_RS_QUERY_LOCKED_RESIDENT);
		locked += res.locked == len;
		unlocked += !res.locked;
		complete += res.state == MLOCK_RS_QUERY_LOCKED_RESIDENT;
		if (atomic_load(&self->error))
			break;
	}
	atomic_store(&self->stop, true);
	pthread_join(self->thread, NULL);
	EXPECT_EQ(0, atomic_load(&self->error));
	TH_LOG("%zu queries, %zu locked, %zu of them complete, %lu rounds", i, locked, complete,
	       atomic_load(&self->rounds));
}

TEST_HARNESS_MAIN
