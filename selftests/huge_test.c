// SPDX-License-Identifier: GPL-2.0
/*
 * Huge pages. A transparent one that is locked as a whole stays whole; of one that is locked in
 * part, as much is counted as was asked for. A hugetlb page is populated and never counted. Each
 * test does the same to a twin with mlock(2).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "mlock_rs_test.h"
#include "twin.h"

#define GIGANTIC_SIZE	(512 * HUGE_SIZE)
#define NR_GIGANTIC	"/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"
#define MAP_GIGANTIC	(MAP_HUGETLB | 30 << 26)
/* MADV_COLLAPSE */
#define COLLAPSE	25

FIXTURE(huge)
{
	int dev;
	/* Three huge pages of space for LOCK and for mlock(2); the one in the middle is huge. */
	char *mine, *theirs;
	struct mlock_rs_lock res;
};

static char *map_aligned(void)
{
	char *addr = map_region(4 * HUGE_SIZE / page_size);

	return (char *)(((uintptr_t)addr + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
}

static bool make_huge(char *addr)
{
	memset(addr, 'x', HUGE_SIZE);
	/* A VMA of its own, and one that may have huge pages. */
	return !madvise(addr, HUGE_SIZE, MADV_HUGEPAGE) && !madvise(addr, HUGE_SIZE, COLLAPSE) &&
	       smaps_bytes(addr, HUGE_SIZE, "AnonHugePages:") == HUGE_SIZE;
}

FIXTURE_SETUP(huge)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->mine = map_aligned() + HUGE_SIZE;
	self->theirs = map_aligned() + HUGE_SIZE;
	if (!make_huge(self->mine) || !make_huge(self->theirs))
		SKIP(return, "no transparent huge pages");
}

FIXTURE_TEARDOWN(huge)
{
	close(self->dev);
}

/* smaps_bytes() wants the VMAs inside: the edges of the range may have been split off. */
static size_t huge_bytes(const char *addr)
{
	return smaps_bytes(addr - page_size, HUGE_SIZE + 2 * page_size, "AnonHugePages:");
}

static void same_as_mlock(struct __test_metadata *_metadata, FIXTURE_DATA(huge) * self,
			  size_t first, size_t nr_pages)
{
	const size_t all_pages = HUGE_SIZE / page_size, offset = first * page_size;
	size_t i;

	EXPECT_EQ(0, lock_twins(_metadata, self->dev, self->mine + offset, self->theirs + offset,
				nr_pages, &self->res));
	EXPECT_STREQ(states(self->theirs, all_pages), states(self->mine, all_pages));
	EXPECT_EQ(huge_bytes(self->theirs), huge_bytes(self->mine));
	drain_lru();
	EXPECT_EQ(count_kpageflag(self->theirs, all_pages, KPF_MLOCKED_BIT),
		  count_kpageflag(self->mine, all_pages, KPF_MLOCKED_BIT));
	for (i = 0; i < HUGE_SIZE; i += page_size)
		ASSERT_EQ('x', self->mine[i]);
}

TEST_F(huge, whole_page_stays_whole)
{
	same_as_mlock(_metadata, self, 0, HUGE_SIZE / page_size);
	EXPECT_EQ(HUGE_SIZE, huge_bytes(self->mine));
	EXPECT_EQ(HUGE_SIZE, self->res.locked);
}

TEST_F(huge, whole_page_among_small_ones)
{
	size_t before = vmlck();

	/* From the page before it to the page after it. */
	EXPECT_EQ(0, mlock_2(self->theirs - page_size, HUGE_SIZE + 2 * page_size));
	EXPECT_EQ(0, mlock_rs(self->dev, self->mine - page_size, HUGE_SIZE + 2 * page_size,
			      &self->res));
	EXPECT_EQ(HUGE_SIZE + 2 * page_size, self->res.locked);
	EXPECT_EQ(2 * (HUGE_SIZE + 2 * page_size), vmlck() - before);
	EXPECT_EQ(HUGE_SIZE, huge_bytes(self->mine));
}

TEST_F(huge, part_at_the_start)
{
	same_as_mlock(_metadata, self, 0, 64);
	EXPECT_EQ(64 * page_size, self->res.locked);
}

TEST_F(huge, part_in_the_middle)
{
	same_as_mlock(_metadata, self, 100, 64);
	EXPECT_EQ(64 * page_size, self->res.locked);
}

TEST_F(huge, part_at_the_end)
{
	same_as_mlock(_metadata, self, HUGE_SIZE / page_size - 1, 1);
	EXPECT_EQ(page_size, self->res.locked);
}

FIXTURE(gigantic)
{
	int dev;
	long before;
};

FIXTURE_SETUP(gigantic)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->before = read_number(NR_GIGANTIC);
	if (self->before < 1)
		write_number(NR_GIGANTIC, 1);
	if (read_number(NR_GIGANTIC) < 1)
		SKIP(return, "no hugetlb page of 1 GiB");
}

FIXTURE_TEARDOWN_PARENT(gigantic)
{
	if (self->before >= 0)
		write_number(NR_GIGANTIC, self->before);
}

/* There may be only one page: the twins take turns. Returns the answer. */
static int lock_gigantic(struct __test_metadata *_metadata, int dev, struct mlock_rs_lock *res,
			 size_t *counted, size_t *resident)
{
	const size_t before = vmlck();
	char *addr = mmap(NULL, GIGANTIC_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GIGANTIC, -1, 0);
	int ret;

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(0, resident_pages(addr, 1));
	ret = dev < 0 ? mlock_2(addr, GIGANTIC_SIZE) : mlock_rs(dev, addr, GIGANTIC_SIZE, res);
	*counted = vmlck() - before;
	*resident = resident_pages(addr, GIGANTIC_SIZE / page_size);
	/* All of it is there, and writable. */
	addr[0] = 'x';
	addr[GIGANTIC_SIZE - 1] = 'y';
	EXPECT_EQ(0, munmap(addr, GIGANTIC_SIZE));
	EXPECT_EQ(before, vmlck());
	return ret;
}

TEST_F_TIMEOUT(gigantic, is_populated_and_not_counted, 120)
{
	size_t counted[2], resident[2];
	struct mlock_rs_lock res;

	EXPECT_EQ(0, lock_gigantic(_metadata, -1, NULL, &counted[0], &resident[0]));
	EXPECT_EQ(0, lock_gigantic(_metadata, self->dev, &res, &counted[1], &resident[1]));
	EXPECT_EQ(0, counted[0]);
	EXPECT_EQ(counted[0], counted[1]);
	EXPECT_EQ(GIGANTIC_SIZE / page_size, resident[0]);
	EXPECT_EQ(resident[0], resident[1]);
	EXPECT_EQ(0, res.locked);
	EXPECT_EQ(GIGANTIC_SIZE, res.populated);
	EXPECT_EQ(1, res.nr_vmas);
}

/* The smallest unit is the page, of whatever size: no part of it can be locked. */
TEST_F_TIMEOUT(gigantic, part_of_it, 120)
{
	char *addr = mmap(NULL, GIGANTIC_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_GIGANTIC, -1, 0);
	const size_t len = 3 * page_size;
	struct mlock_rs_lock res;
	int answer;

	ASSERT_NE(MAP_FAILED, addr);
	answer = mlock_2(addr + 2 * page_size, len);
	EXPECT_EQ(answer, mlock_rs(self->dev, addr + 2 * page_size, len, &res));
	EXPECT_EQ(-answer, (int)res.error);
	EXPECT_EQ(answer ? 0 : len, res.populated);
	EXPECT_EQ(0, vmlck());
}

TEST_HARNESS_MAIN
