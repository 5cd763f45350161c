// SPDX-License-Identifier: GPL-2.0
/*
 * UNLOCK: the rules of munlock(2), but a range with a hole is left as it is.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "mlock_rs_test.h"
#include "trace.h"

#define NR_PAGES	12UL

FIXTURE(unlock)
{
	int dev;
	/* Two regions that look the same: one for each of mlock_rs and munlock(2). */
	char *addr, *twin;
	struct mlock_rs_unlock res;
};

FIXTURE_SETUP(unlock)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	self->twin = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(unlock)
{
	unmap_region(self->twin, NR_PAGES);
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* Several VMAs in every lock state. */
static void mix(struct __test_metadata *_metadata, char *addr)
{
	ASSERT_EQ(0, mlock_2(addr, 6 * page_size));
	ASSERT_EQ(0, mprotect(addr + 4 * page_size, 4 * page_size, PROT_READ));
	ASSERT_EQ(0, mlock_onfault(addr + 9 * page_size, 3 * page_size));
	ASSERT_STREQ("LLLLLLuuufff", states(addr, NR_PAGES));
}

TEST_F(unlock, same_as_munlock)
{
	size_t before;

	mix(_metadata, self->addr);
	mix(_metadata, self->twin);
	before = vmlck();
	EXPECT_EQ(0, munlock(self->twin + 2 * page_size, 8 * page_size));
	EXPECT_EQ(5 * page_size, before - vmlck());
	before = vmlck();
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + 2 * page_size, 8 * page_size,
				     &self->res));
	EXPECT_EQ(5 * page_size, before - vmlck());

	/* Unlocked pages stay where they are. */
	EXPECT_STREQ("LLUUUUuuuuff", states(self->twin, NR_PAGES));
	EXPECT_STREQ("LLUUUUuuuuff", states(self->addr, NR_PAGES));
	/* Only what was locked can lose the flag. */
	EXPECT_EQ(5 * page_size, self->res.unlocked);
	EXPECT_EQ(5, self->res.nr_vmas);
	EXPECT_EQ(0, self->res.fail_addr);
	EXPECT_EQ(0, self->res.error);
}

TEST_F(unlock, pages_can_be_reclaimed_again)
{
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	drain_lru();
	ASSERT_EQ(NR_PAGES, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));

	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr, NR_PAGES * page_size, NULL));
	drain_lru();
	EXPECT_EQ(0, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));
	EXPECT_EQ(0, count_kpageflag(self->addr, NR_PAGES, KPF_UNEVICTABLE_BIT));
}

TEST_F(unlock, what_mlock_locked)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(0, vmlck());
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(0, munlock(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, vmlck());
}

TEST_F(unlock, locks_do_not_stack)
{
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(0, vmlck());
}

TEST_F(unlock, nothing_to_unlock)
{
	struct snapshot before, after;

	take_snapshot(&before);
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + page_size, 4 * page_size,
				     &self->res));
	take_snapshot(&after);
	/* No reason to split the VMA either. */
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_EQ(0, self->res.unlocked);
	EXPECT_EQ(1, self->res.nr_vmas);
}

TEST_F(unlock, ends_are_rounded_to_pages)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, mlock_2(self->twin, NR_PAGES * page_size));
	EXPECT_EQ(0, munlock(self->twin + 3 * page_size + 77, 2 * page_size));
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + 3 * page_size + 77, 2 * page_size,
				     &self->res));
	EXPECT_STREQ("LLLUUULLLLLL", states(self->twin, NR_PAGES));
	EXPECT_STREQ("LLLUUULLLLLL", states(self->addr, NR_PAGES));
	EXPECT_EQ(3 * page_size, self->res.unlocked);
}

TEST_F(unlock, length_0)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	/* At the start of a page nothing, inside of one that page: as munlock(2). */
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + 3 * page_size, 0, &self->res));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(0, self->res.nr_vmas);
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + 3 * page_size + 1, 0, &self->res));
	EXPECT_STREQ("LLLULLLLLLLL", states(self->addr, NR_PAGES));

	ASSERT_EQ(0, mlock_2(self->twin, NR_PAGES * page_size));
	EXPECT_EQ(0, munlock(self->twin + 3 * page_size, 0));
	EXPECT_EQ(0, munlock(self->twin + 3 * page_size + 1, 0));
	EXPECT_STREQ("LLLULLLLLLLL", states(self->twin, NR_PAGES));
}

TEST_F(unlock, needs_no_permission_and_no_limit)
{
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };

	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, mlock_2(self->twin, NR_PAGES * page_size));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	/* The proof that there is neither. */
	ASSERT_EQ(-EPERM, mlock_rs(self->dev, self->addr, page_size, NULL));

	EXPECT_EQ(0, munlock(self->twin + page_size, 2 * page_size));
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + page_size, 2 * page_size, NULL));
	EXPECT_STREQ("LUULLLLLLLLL", states(self->addr, NR_PAGES));
}

TEST_F(unlock, prot_none)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, mprotect(self->addr, NR_PAGES * page_size, PROT_NONE));
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_STREQ(all('U', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(unlock, holds_the_lock_once_for_writing)
{
	struct mlock_rs_unlock *arg = (void *)map_region(1);
	static struct trace trace;
	pid_t tid = gettid();
	int ret;

	ASSERT_EQ(0, trace_open(&trace, &tid, 1));
	/* Once without a range: code and data of this program are resident afterwards. */
	trace_ioctl(&trace, self->dev, MLOCK_RS_UNLOCK, arg, &ret);

	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	arg->addr = (uintptr_t)self->addr;
	arg->len = NR_PAGES * page_size;
	EXPECT_EQ(0, trace_ioctl(&trace, self->dev, MLOCK_RS_UNLOCK, arg, &ret));
	EXPECT_EQ(0, ret);
	EXPECT_EQ(NR_PAGES * page_size, arg->unlocked);
	/* Nothing to populate, so nothing to downgrade for. */
	EXPECT_STREQ(TRACE_LOOKED, full_sequence(&trace, tid));
	trace_close(&trace);
}

FIXTURE(unlock_hole)
{
	int dev;
	char *addr;
	struct mlock_rs_unlock res;
};

FIXTURE_VARIANT(unlock_hole)
{
	/* The page that is unmapped; the range goes from page 2 to page 9. */
	size_t hole;
	/* What munlock(2) makes of it. */
	const char *munlocked;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(unlock_hole, at_the_start) { .hole = 2, .munlocked = "LL.LLLLLLLff" };
FIXTURE_VARIANT_ADD(unlock_hole, in_the_middle) { .hole = 6, .munlocked = "LLUUUU.LLLff" };
FIXTURE_VARIANT_ADD(unlock_hole, in_the_last_page) { .hole = 9, .munlocked = "LLUUUUUUU.ff" };
/* clang-format on */

FIXTURE_SETUP(unlock_hole)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	ASSERT_EQ(0, mlock_2(self->addr, 10 * page_size));
	ASSERT_EQ(0, mlock_onfault(self->addr + 10 * page_size, 2 * page_size));
	ASSERT_EQ(0, mprotect(self->addr + 4 * page_size, page_size, PROT_READ));
	ASSERT_EQ(0, munmap(self->addr + variant->hole * page_size, page_size));
}

FIXTURE_TEARDOWN(unlock_hole)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

TEST_F(unlock_hole, nothing_changes)
{
	struct snapshot before, after;

	take_snapshot(&before);
	EXPECT_EQ(-ENOMEM, mlock_rs_unlock(self->dev, self->addr + 2 * page_size, 8 * page_size,
					   &self->res));
	take_snapshot(&after);
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_EQ(0, self->res.unlocked);
	EXPECT_EQ(0, self->res.nr_vmas);
	EXPECT_EQ(ENOMEM, self->res.error);
	EXPECT_EQ((uintptr_t)self->addr + variant->hole * page_size, self->res.fail_addr);
}

/* The difference, and the proof that the witnesses above would see it. */
TEST_F(unlock_hole, munlock_unlocks_the_part_before_it)
{
	EXPECT_EQ(-1, munlock(self->addr + 2 * page_size, 8 * page_size));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_STREQ(variant->munlocked, states(self->addr, NR_PAGES));
}

TEST_HARNESS_MAIN
