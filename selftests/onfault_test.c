// SPDX-License-Identifier: GPL-2.0
/*
 * LOCK with MLOCK_RS_LOCK_ONFAULT: the same as mlock2(MLOCK_ONFAULT), which locks what is resident
 * and lets later faults lock the rest.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "mlock_rs_test.h"

#define NR_PAGES	12UL
#define ONFAULT		MLOCK_RS_LOCK_ONFAULT

FIXTURE(onfault)
{
	int dev;
	/* Two regions that look the same: one for each of mlock_rs and mlock2(2). */
	char *addr, *twin;
	struct mlock_rs_lock res;
};

FIXTURE_SETUP(onfault)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	self->twin = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(onfault)
{
	unmap_region(self->twin, NR_PAGES);
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* Several VMAs, some of them locked or locked on fault, some pages resident. */
static void mix(struct __test_metadata *_metadata, char *addr)
{
	ASSERT_EQ(0, mprotect(addr + 4 * page_size, 2 * page_size, PROT_READ));
	ASSERT_EQ(0, mlock_2(addr + 6 * page_size, 2 * page_size));
	ASSERT_EQ(0, mlock_onfault(addr + 8 * page_size, page_size));
	memset(addr + 2 * page_size, 1, page_size);
	memset(addr + 9 * page_size, 1, page_size);
	ASSERT_STREQ("uuUuuuLLfUuu", states(addr, NR_PAGES));
}

TEST_F(onfault, same_as_mlock2)
{
	size_t before;

	mix(_metadata, self->addr);
	mix(_metadata, self->twin);

	before = vmlck();
	EXPECT_EQ(0, mlock_onfault(self->twin + page_size, 10 * page_size));
	EXPECT_EQ(7 * page_size, vmlck() - before);
	before = vmlck();
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr + page_size, 10 * page_size, ONFAULT,
				    &self->res));
	EXPECT_EQ(7 * page_size, vmlck() - before);

	EXPECT_STREQ("ufFfffFFfFfu", states(self->twin, NR_PAGES));
	EXPECT_STREQ("ufFfffFFfFfu", states(self->addr, NR_PAGES));
	/* The three pages that were locked before are not new. */
	EXPECT_EQ(7 * page_size, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
	EXPECT_EQ(5, self->res.nr_vmas);
	EXPECT_EQ(0, self->res.fail_addr);
	EXPECT_EQ(0, self->res.error);
}

TEST_F(onfault, nothing_is_populated)
{
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT,
				    &self->res));
	EXPECT_STREQ(all('f', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(NR_PAGES * page_size, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
}

TEST_F(onfault, resident_pages_are_locked_at_once)
{
	memset(self->addr, 1, 5 * page_size);
	drain_lru();
	ASSERT_EQ(0, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));

	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT, NULL));
	drain_lru();
	EXPECT_EQ(5, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));
	EXPECT_STREQ("FFFFFfffffff", states(self->addr, NR_PAGES));
}

TEST_F(onfault, later_faults_lock)
{
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT, NULL));
	memset(self->addr + 3 * page_size, 1, 2 * page_size);
	drain_lru();
	EXPECT_EQ(2, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));
	EXPECT_STREQ("fffFFfffffff", states(self->addr, NR_PAGES));
	/* Locked means that it stays: MADV_DONTNEED refuses locked memory. */
	EXPECT_EQ(-1, madvise(self->addr, NR_PAGES * page_size, MADV_DONTNEED));
	EXPECT_EQ(EINVAL, errno);
}

TEST_F(onfault, prot_none_does_not_matter)
{
	/* LOCK fails because it cannot populate; this has nothing to populate. */
	ASSERT_EQ(0, mprotect(self->addr, NR_PAGES * page_size, PROT_NONE));
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT, NULL));
	EXPECT_STREQ(all('f', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(onfault, lock_over_it_makes_resident)
{
	ASSERT_EQ(0, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT, NULL));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + 2 * page_size, 5 * page_size, &self->res));
	EXPECT_STREQ("ffLLLLLfffff", states(self->addr, NR_PAGES));
	/* VmLck had these pages before. */
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(5 * page_size, self->res.populated);

	ASSERT_EQ(0, mlock_onfault(self->twin, NR_PAGES * page_size));
	ASSERT_EQ(0, mlock_2(self->twin + 2 * page_size, 5 * page_size));
	EXPECT_STREQ("ffLLLLLfffff", states(self->twin, NR_PAGES));
}

TEST_F(onfault, over_lock_keeps_what_is_resident)
{
	size_t before;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	before = vmlck();
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr + 2 * page_size, 5 * page_size, ONFAULT,
				    &self->res));
	EXPECT_STREQ("LLFFFFFLLLLL", states(self->addr, NR_PAGES));
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(before, vmlck());
	drain_lru();
	EXPECT_EQ(NR_PAGES, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));

	ASSERT_EQ(0, mlock_2(self->twin, NR_PAGES * page_size));
	ASSERT_EQ(0, mlock_onfault(self->twin + 2 * page_size, 5 * page_size));
	EXPECT_STREQ("LLFFFFFLLLLL", states(self->twin, NR_PAGES));
}

TEST_F(onfault, limit_counts_what_is_not_resident)
{
	struct rlimit limit = { .rlim_cur = 4 * page_size, .rlim_max = 4 * page_size };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(-ENOMEM, mlock_onfault(self->twin, 5 * page_size));
	EXPECT_EQ(-ENOMEM, mlock_rs_flags(self->dev, self->addr, 5 * page_size, ONFAULT,
					  &self->res));
	/* The limit has no address. */
	EXPECT_EQ(0, self->res.fail_addr);
	EXPECT_STREQ(all('u', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr, 4 * page_size, ONFAULT, NULL));
	EXPECT_STREQ("ffffuuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(onfault, hole)
{
	struct snapshot before, after;

	ASSERT_EQ(0, munmap(self->addr + 7 * page_size, page_size));
	ASSERT_EQ(0, munmap(self->twin + 7 * page_size, page_size));
	take_snapshot(&before);
	EXPECT_EQ(-ENOMEM, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT,
					  &self->res));
	take_snapshot(&after);
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_EQ((uintptr_t)self->addr + 7 * page_size, self->res.fail_addr);
	EXPECT_EQ(0, self->res.nr_vmas);

	/* mlock2(2) marks what lies before the hole. */
	EXPECT_EQ(-ENOMEM, mlock_onfault(self->twin, NR_PAGES * page_size));
	EXPECT_STREQ("fffffff.uuuu", states(self->twin, NR_PAGES));
}

TEST_F(onfault, is_not_inherited)
{
	pid_t child;
	int status;

	ASSERT_EQ(0, mlock_rs_flags(self->dev, self->addr, NR_PAGES * page_size, ONFAULT, NULL));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(vmlck() || strcmp(all('u', NR_PAGES), states(self->addr, NR_PAGES)));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_HARNESS_MAIN
