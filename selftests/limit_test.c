// SPDX-License-Identifier: GPL-2.0
/*
 * RLIMIT_MEMLOCK and CAP_IPC_LOCK decide as they do for mlock(2), and a call that they refuse has
 * changed nothing.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <linux/capability.h>
#include <sched.h>
#include <sys/resource.h>

#include "mlock_rs_test.h"

#define NR_PAGES	16UL

FIXTURE(limit)
{
	int dev;
	char *addr;
	struct snapshot before, after;
};

FIXTURE_SETUP(limit)
{
	/* The device is opened before: as a node of root's, or as the udev rule has it. */
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(limit)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

static int set_limit(rlim_t bytes)
{
	struct rlimit limit = { .rlim_cur = bytes, .rlim_max = bytes };

	return setrlimit(RLIMIT_MEMLOCK, &limit) ? -errno : 0;
}

TEST_F(limit, over_the_limit_nothing_changes)
{
	struct mlock_rs_lock res;

	ASSERT_EQ(0, set_limit(4 * page_size));
	ASSERT_EQ(0, drop_privileges(0));
	take_snapshot(&self->before);

	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 5 * page_size, &res));

	take_snapshot(&self->after);
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
	EXPECT_STREQ(all('u', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(ENOMEM, res.error);
	EXPECT_EQ(0, res.locked);
	/* No page is to blame. */
	EXPECT_EQ(0, res.fail_addr);
}

TEST_F(limit, exactly_at_the_limit)
{
	ASSERT_EQ(0, set_limit(4 * page_size));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 4 * page_size, NULL));
	EXPECT_STREQ("LLLLuuuuuuuuuuuu", states(self->addr, NR_PAGES));
	/* The next page is one too many. */
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + 4 * page_size, 1, NULL));
	EXPECT_STREQ("LLLLuuuuuuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(limit, counts_pages_not_bytes)
{
	/* The limit is rounded down, the range is rounded out. */
	ASSERT_EQ(0, set_limit(2 * page_size - 1));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + page_size - 1, 2, NULL));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 1, NULL));
}

TEST_F(limit, less_than_a_page)
{
	/* Not 0, so it is no question of permission; but no page fits. */
	ASSERT_EQ(0, set_limit(1));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 1, NULL));
	EXPECT_EQ(-ENOMEM, mlock_2(self->addr, 1));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 0, NULL));
}

TEST_F(limit, over_a_lowered_limit_not_even_an_empty_range)
{
	ASSERT_EQ(0, mlock_2(self->addr, 2 * page_size));
	ASSERT_EQ(0, set_limit(page_size));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(-ENOMEM, mlock_2(self->addr, 0));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 0, NULL));
	/* To unlock is free. */
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr, 0, NULL));
}

TEST_F(limit, locked_memory_elsewhere_counts)
{
	ASSERT_EQ(0, set_limit(4 * page_size));
	ASSERT_EQ(0, drop_privileges(0));
	ASSERT_EQ(0, mlock_2(self->addr + 8 * page_size, 3 * page_size));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 2 * page_size, NULL));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, page_size, NULL));
}

TEST_F(limit, overlap_is_credited)
{
	ASSERT_EQ(0, set_limit(6 * page_size));
	ASSERT_EQ(0, drop_privileges(0));
	ASSERT_EQ(0, mlock_2(self->addr + 2 * page_size, 4 * page_size));

	/* 4 pages are locked, 4 of the 6 asked for are the same: 2 new ones fit. */
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + page_size, 6 * page_size, NULL));
	EXPECT_STREQ("uLLLLLLuuuuuuuuu", states(self->addr, NR_PAGES));
	/* Once more: nothing new. */
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + page_size, 6 * page_size, NULL));
	/* One new page does not fit, and mlock(2) is of the same opinion. */
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + page_size, 7 * page_size, NULL));
	EXPECT_EQ(-ENOMEM, mlock_2(self->addr + page_size, 7 * page_size));
	EXPECT_STREQ("uLLLLLLuuuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(limit, overlap_of_several_vmas_is_credited)
{
	ASSERT_EQ(0, set_limit(8 * page_size));
	ASSERT_EQ(0, drop_privileges(0));
	/* The range begins and ends within locked VMAs, and a third one lies in between. */
	ASSERT_EQ(0, mlock_2(self->addr, 2 * page_size));
	ASSERT_EQ(0, mlock_onfault(self->addr + 4 * page_size, page_size));
	ASSERT_EQ(0, mlock_2(self->addr + 7 * page_size, 2 * page_size));

	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + page_size, 9 * page_size, NULL));
	EXPECT_STREQ("LLuufuuLLuuuuuuu", states(self->addr, NR_PAGES));
	ASSERT_EQ(0, munlock(self->addr, page_size));
	/* 4 pages are locked, 4 of the 7 asked for are new: exactly 8. */
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + page_size, 7 * page_size, NULL));
	EXPECT_STREQ("ULLLLLLLLuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(limit, zero_is_no_permission)
{
	struct mlock_rs_lock res;

	ASSERT_EQ(0, set_limit(0));
	ASSERT_EQ(0, drop_privileges(0));
	take_snapshot(&self->before);
	EXPECT_EQ(-EPERM, mlock_rs(self->dev, self->addr, page_size, &res));
	EXPECT_EQ(EPERM, res.error);
	EXPECT_EQ(0, res.fail_addr);
	/* It comes before anything else is looked at. */
	EXPECT_EQ(-EPERM, mlock_rs(self->dev, self->addr, 0, NULL));
	EXPECT_EQ(-EPERM, mlock_2(self->addr, 0));
	EXPECT_EQ(-EPERM, mlock_rs(self->dev, NULL, page_size, NULL));
	take_snapshot(&self->after);
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
}

TEST_F(limit, zero_and_all_of_it_locked_before)
{
	/* The limit was lowered later: even memory that is locked cannot be locked again. */
	ASSERT_EQ(0, mlock_2(self->addr, page_size));
	ASSERT_EQ(0, set_limit(0));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(-EPERM, mlock_2(self->addr, page_size));
	EXPECT_EQ(-EPERM, mlock_rs(self->dev, self->addr, page_size, NULL));
	EXPECT_EQ('L', states(self->addr, 1)[0]);
}

TEST_F(limit, cap_ipc_lock_is_above_the_limit)
{
	ASSERT_EQ(0, set_limit(page_size));
	/* This one capability and no other. */
	ASSERT_EQ(0, drop_privileges(1ULL << CAP_IPC_LOCK));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(limit, cap_ipc_lock_and_a_limit_of_zero)
{
	ASSERT_EQ(0, set_limit(0));
	ASSERT_EQ(0, drop_privileges(1ULL << CAP_IPC_LOCK));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
}

TEST_F(limit, other_capabilities_do_not_help)
{
	ASSERT_EQ(0, set_limit(page_size));
	ASSERT_EQ(0, drop_privileges(~(1ULL << CAP_IPC_LOCK) & 0x1ffffffffffULL));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
}

TEST_F(limit, capability_in_a_user_namespace_does_not_help)
{
	ASSERT_EQ(0, set_limit(page_size));
	ASSERT_EQ(0, drop_privileges(0));
	/* All capabilities, but only over what belongs to the new namespace. */
	if (unshare(CLONE_NEWUSER))
		SKIP(return, "no user namespaces");
	EXPECT_EQ(-ENOMEM, mlock_2(self->addr, 2 * page_size));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 2 * page_size, NULL));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, page_size, NULL));
}

TEST_F(limit, the_callers_limit_counts_not_the_openers)
{
	/* Opened by root, who needs no limit, and used by somebody with one: no way around it. */
	ASSERT_EQ(0, set_limit(2 * page_size));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 3 * page_size, NULL));
}

TEST_F(limit, no_limit)
{
	ASSERT_EQ(0, set_limit(RLIM_INFINITY));
	ASSERT_EQ(0, drop_privileges(0));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
}

TEST_HARNESS_MAIN
