// SPDX-License-Identifier: GPL-2.0
/*
 * All or nothing: a range with a hole fails, says where the hole is, and leaves the address space
 * exactly as it was. mlock(2) locks what lies before the hole and then fails.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "mlock_rs_test.h"

#define NR_PAGES	12UL

FIXTURE(hole)
{
	int dev;
	char *addr;
	struct snapshot before, after;
};

FIXTURE_VARIANT(hole)
{
	/* Pages that are unmapped, and the range that is asked for. */
	size_t hole, nr_hole;
	size_t first, nr;
	/* Part of the range is locked or locked on fault before. */
	bool locked;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(hole, at_the_start) { .hole = 2, .nr_hole = 1, .first = 2, .nr = 6 };
FIXTURE_VARIANT_ADD(hole, in_the_middle) { .hole = 5, .nr_hole = 2, .first = 2, .nr = 6 };
FIXTURE_VARIANT_ADD(hole, in_the_last_page) { .hole = 7, .nr_hole = 1, .first = 2, .nr = 6 };
FIXTURE_VARIANT_ADD(hole, after_the_last_vma) { .hole = 9, .nr_hole = 3, .first = 2, .nr = 10 };
FIXTURE_VARIANT_ADD(hole, everywhere) { .hole = 2, .nr_hole = 6, .first = 2, .nr = 6 };
FIXTURE_VARIANT_ADD(hole, over_both_ends) { .hole = 0, .nr_hole = 12, .first = 2, .nr = 6 };
FIXTURE_VARIANT_ADD(hole, after_locked_memory) {
	.hole = 8, .nr_hole = 1, .first = 1, .nr = 9, .locked = true };
/* clang-format on */

FIXTURE_SETUP(hole)
{
	char *addr;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	addr = map_region(NR_PAGES);
	self->addr = addr;
	/* More than one VMA on both sides of the hole. */
	ASSERT_EQ(0, mprotect(addr + 3 * page_size, page_size, PROT_READ));
	ASSERT_EQ(0, mprotect(addr + 10 * page_size, page_size, PROT_READ));
	if (variant->locked) {
		ASSERT_EQ(0, mlock_2(addr + 2 * page_size, page_size));
		ASSERT_EQ(0, mlock_onfault(addr + 4 * page_size, 2 * page_size));
	}
	ASSERT_EQ(0, munmap(addr + variant->hole * page_size, variant->nr_hole * page_size));
}

FIXTURE_TEARDOWN(hole)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

TEST_F(hole, nothing_changes)
{
	char *range = self->addr + variant->first * page_size;
	struct mlock_rs_lock res;
	const char *before;

	take_snapshot(&self->before);
	before = states(self->addr, NR_PAGES);
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, range, variant->nr * page_size, &res));
	take_snapshot(&self->after);

	/* Not one flag, not one boundary, and no page was brought in either. */
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
	EXPECT_STREQ(before, states(self->addr, NR_PAGES));
	EXPECT_EQ(0, res.locked);
	EXPECT_EQ(0, res.populated);
	EXPECT_EQ(ENOMEM, res.error);
}

TEST_F(hole, address_is_the_first_page_that_is_missing)
{
	size_t first = variant->first > variant->hole ? variant->first : variant->hole;
	struct mlock_rs_lock res;

	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + variant->first * page_size,
				    variant->nr * page_size, &res));
	EXPECT_EQ((uintptr_t)self->addr + first * page_size, res.fail_addr);
}

TEST_F(hole, address_of_an_unaligned_range_is_a_page_too)
{
	size_t first = variant->first > variant->hole ? variant->first : variant->hole;
	struct mlock_rs_lock res;

	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + variant->first * page_size + 77,
				    variant->nr * page_size - 99, &res));
	EXPECT_EQ((uintptr_t)self->addr + first * page_size, res.fail_addr);
}

TEST_F(hole, fails_where_mlock_fails)
{
	EXPECT_EQ(-ENOMEM, mlock_2(self->addr + variant->first * page_size,
				   variant->nr * page_size));
}

TEST_F(hole, closed_again_it_locks)
{
	size_t i;

	/* The failure left nothing behind that stands in the way of the next call. */
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + variant->first * page_size,
				    variant->nr * page_size, NULL));
	for (i = 0; i < variant->nr_hole; i++) {
		ASSERT_NE(MAP_FAILED, mmap(self->addr + (variant->hole + i) * page_size, page_size,
					   PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
					   -1, 0));
	}
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + variant->first * page_size,
			      variant->nr * page_size, NULL));
	EXPECT_STREQ(all('L', variant->nr),
		     states(self->addr + variant->first * page_size, variant->nr));
}

/*
 * The difference that the tests above are about, and the proof that their witnesses would see it.
 */
TEST(mlock_locks_the_part_before_a_hole)
{
	struct snapshot before, after;
	char *addr = map_region(8);

	ASSERT_EQ(0, munmap(addr + 5 * page_size, page_size));
	take_snapshot(&before);
	EXPECT_EQ(-ENOMEM, mlock_2(addr, 8 * page_size));
	take_snapshot(&after);
	EXPECT_STREQ("lllll.uu", states(addr, 8));
	EXPECT_STRNE("", snapshot_diff(&before, &after));
	EXPECT_STRNE("", lock_diff(&before, &after));
}

TEST_HARNESS_MAIN
