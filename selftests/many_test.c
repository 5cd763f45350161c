// SPDX-License-Identifier: GPL-2.0
/*
 * Many VMAs: ranges over a thousand of them in every lock state, and calls that have to split a VMA
 * when the process may not have one more (vm.max_map_count).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "mlock_rs_test.h"

/* Every page of @addr becomes a VMA of its own. */
static int one_vma_per_page(char *addr, size_t nr_pages)
{
	size_t i;

	for (i = 1; i < nr_pages; i += 2)
		if (mprotect(addr + i * page_size, page_size, PROT_READ))
			return -errno;
	return 0;
}

FIXTURE(many)
{
	int dev;
	struct mlock_rs_lock res;
};

FIXTURE_SETUP(many)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(many)
{
	close(self->dev);
}

TEST_F_TIMEOUT(many, alternating_lock_states, 120)
{
	const size_t nr = 1000;
	char *addr = map_region(nr);
	size_t before = vmlck(), locked = 0, i;
	struct snapshot now;

	ASSERT_EQ(0, one_vma_per_page(addr, nr));
	for (i = 0; i < nr; i++) {
		if (i % 3 && i % 5)
			continue;
		ASSERT_EQ(0, i % 3 ? mlock_onfault(addr + i * page_size, page_size) :
				     mlock_2(addr + i * page_size, page_size));
		locked += page_size;
	}
	ASSERT_EQ(locked, vmlck() - before);

	ASSERT_EQ(0, mlock_rs(self->dev, addr, nr * page_size, &self->res));
	EXPECT_STREQ(all('L', nr), states(addr, nr));
	EXPECT_EQ(nr, self->res.nr_vmas);
	EXPECT_EQ(nr * page_size - locked, self->res.locked);
	EXPECT_EQ(nr * page_size, self->res.populated);
	EXPECT_EQ(nr * page_size, vmlck() - before);
	take_snapshot(&now);
	EXPECT_EQ(locked_bytes(&now), vmlck());

	unmap_region(addr, nr);
	EXPECT_EQ(before, vmlck());
}

TEST_F_TIMEOUT(many, hole_behind_a_thousand_vmas, 120)
{
	const size_t nr = 1000;
	char *addr = map_region(nr);
	struct snapshot before, after;
	size_t i;

	ASSERT_EQ(0, one_vma_per_page(addr, nr));
	for (i = 0; i < nr; i += 7) {
		ASSERT_EQ(0, i % 2 ? mlock_2(addr + i * page_size, page_size) :
				     mlock_onfault(addr + i * page_size, page_size));
	}
	ASSERT_EQ(0, munmap(addr + (nr - 1) * page_size, page_size));

	take_snapshot(&before);
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, addr, nr * page_size, &self->res));
	take_snapshot(&after);
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_EQ((uintptr_t)addr + (nr - 1) * page_size, self->res.fail_addr);
}

FIXTURE(map_count)
{
	int dev;
	long limit;
	char *addr;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(map_count)
{
	/* Splits that are still allowed. */
	int spare;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(map_count, none_left) { .spare = 0 };
FIXTURE_VARIANT_ADD(map_count, one_left) { .spare = 1 };
/* clang-format on */

#define NR_PAGES	12UL

FIXTURE_SETUP(map_count)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->limit = read_number(MAX_MAP_COUNT_PATH);
	ASSERT_LT(0, self->limit);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN_PARENT(map_count)
{
	/* For the whole machine: also put back when the test has failed. */
	if (self->limit > 0)
		write_number(MAX_MAP_COUNT_PATH, self->limit);
}

/* Lock @nr pages from page @first on, which takes one split more than is allowed. */
static void expect_nothing_changed(struct __test_metadata *_metadata,
				   FIXTURE_DATA(map_count) * self, size_t first, size_t nr)
{
	struct snapshot before, after;
	const char *pages;

	take_snapshot(&before);
	pages = states(self->addr, NR_PAGES);
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr + first * page_size, nr * page_size,
				    &self->res));
	take_snapshot(&after);
	EXPECT_STREQ("", lock_diff(&before, &after));
	EXPECT_STREQ(pages, states(self->addr, NR_PAGES));
	/* There is memory to merge what was split, and no neighbour to merge with. */
	EXPECT_STREQ("", snapshot_diff(&before, &after));
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
	EXPECT_EQ(ENOMEM, self->res.error);
}

TEST_F(map_count, inside_of_one_vma)
{
	/* Two splits, at 3 and at 6. The kernel does not say at which of them it failed. */
	ASSERT_EQ(0, allow_more_vmas(variant->spare));
	expect_nothing_changed(_metadata, self, 3, 3);
	EXPECT_TRUE(self->res.fail_addr == (uintptr_t)self->addr + 3 * page_size ||
		    self->res.fail_addr == (uintptr_t)self->addr + 6 * page_size);
}

TEST_F(map_count, last_vma_has_to_be_split)
{
	/* Whole VMAs in every lock state come first; the last one ends behind the range. */
	ASSERT_EQ(0, mprotect(self->addr + 2 * page_size, 2 * page_size, PROT_READ));
	ASSERT_EQ(0, mlock_2(self->addr + 2 * page_size, 2 * page_size));
	ASSERT_EQ(0, mlock_onfault(self->addr + 4 * page_size, 2 * page_size));
	ASSERT_STREQ("uuLLffuuuuuu", states(self->addr, NR_PAGES));
	ASSERT_EQ(0, allow_more_vmas(variant->spare));
	if (variant->spare) {
		/* The one split that it takes is allowed. */
		EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 9 * page_size, NULL));
		EXPECT_STREQ("LLLLLLLLLuuu", states(self->addr, NR_PAGES));
		return;
	}
	expect_nothing_changed(_metadata, self, 0, 9);
	EXPECT_EQ((uintptr_t)self->addr + 9 * page_size, self->res.fail_addr);
	EXPECT_STREQ("uuLLffuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(map_count, first_and_last_vma_have_to_be_split)
{
	ASSERT_EQ(0, mprotect(self->addr + 4 * page_size, 2 * page_size, PROT_READ));
	ASSERT_EQ(0, mlock_2(self->addr + 4 * page_size, 2 * page_size));
	ASSERT_STREQ("uuuuLLuuuuuu", states(self->addr, NR_PAGES));
	ASSERT_EQ(0, allow_more_vmas(variant->spare));
	expect_nothing_changed(_metadata, self, 2, 6);
	EXPECT_EQ((uintptr_t)self->addr + (variant->spare ? 8 : 2) * page_size,
		  self->res.fail_addr);
}

TEST_F(map_count, no_split_no_limit)
{
	/* Where the ends of the range are ends of VMAs, nothing has to be split. */
	ASSERT_EQ(0, mprotect(self->addr + 4 * page_size, 4 * page_size, PROT_READ));
	ASSERT_EQ(0, allow_more_vmas(0));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(map_count, part_of_locked_memory_needs_no_split)
{
	/* It has its flag already: the ends of the range need not become ends of VMAs. */
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, allow_more_vmas(0));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + 3 * page_size, 3 * page_size, &self->res));
	EXPECT_EQ(0, self->res.locked);
}

TEST_F(map_count, as_many_as_are_needed)
{
	ASSERT_EQ(0, allow_more_vmas(2));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + 3 * page_size, 3 * page_size, NULL));
	EXPECT_STREQ("uuuLLLuuuuuu", states(self->addr, NR_PAGES));
}

TEST_HARNESS_MAIN
