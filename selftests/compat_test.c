// SPDX-License-Identifier: GPL-2.0
/*
 * A 32-bit program: every ioctl, through the compat entry of a 64-bit kernel, with the same layout.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/ioctl.h>
#include <sys/utsname.h>

#include "layout.h"
#include "mlock_rs_test.h"

#define NR_PAGES	8UL

static_assert(sizeof(void *) == 4, "to be built with -m32");

FIXTURE(compat)
{
	int dev;
	char *addr;
};

FIXTURE_SETUP(compat)
{
	struct utsname u;

	/* Under a 64-bit kernel, or this would not test what it is for. */
	ASSERT_EQ(0, uname(&u));
	ASSERT_STREQ("x86_64", u.machine);
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(compat)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

TEST_F(compat, abi)
{
	struct mlock_rs_abi abi = {};

	EXPECT_EQ(0, ioctl(self->dev, MLOCK_RS_ABI, &abi));
	EXPECT_EQ(MLOCK_RS_ABI_VERSION, abi.version);
	EXPECT_EQ(MLOCK_RS_MAX_RANGES, abi.max_ranges);
	EXPECT_TRUE(abi.features & MLOCK_RS_FEATURE_LOCK);
}

TEST_F(compat, lock)
{
	struct mlock_rs_lock res;

	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + page_size, 3 * page_size, &res));
	EXPECT_STREQ("uLLLuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(3 * page_size, res.locked);
	EXPECT_EQ(3 * page_size, res.populated);
	EXPECT_EQ(0, res.fail_addr);
	EXPECT_EQ(1, res.nr_vmas);
	EXPECT_EQ(0, res.error);
}

TEST_F(compat, lock_onfault)
{
	struct mlock_rs_lock res;

	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->addr, 2 * page_size, MLOCK_RS_LOCK_ONFAULT,
				    &res));
	EXPECT_STREQ("ffuuuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(2 * page_size, res.locked);
	EXPECT_EQ(0, res.populated);
}

TEST_F(compat, unlock)
{
	struct mlock_rs_unlock res;

	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, mlock_rs_unlock(self->dev, self->addr + page_size, 3 * page_size, &res));
	EXPECT_STREQ("LUUULLLL", states(self->addr, NR_PAGES));
	EXPECT_EQ(3 * page_size, res.unlocked);
	EXPECT_EQ(1, res.nr_vmas);
	EXPECT_EQ(0, res.error);
}

TEST_F(compat, lockv_and_unlockv)
{
	struct mlock_rs_range ranges[] = {
		{ .addr = (uintptr_t)self->addr + 5 * page_size, .len = 2 * page_size },
		{ .addr = (uintptr_t)self->addr + page_size, .len = page_size },
	};
	struct mlock_rs_unlockv unres;
	struct mlock_rs_lockv res;

	EXPECT_EQ(0, mlock_rs_lockv(self->dev, ranges, 2, 0, &res));
	EXPECT_STREQ("uLuuuLLu", states(self->addr, NR_PAGES));
	EXPECT_EQ(3 * page_size, res.locked);
	EXPECT_EQ(3 * page_size, res.populated);
	EXPECT_EQ(2, res.nr_vmas);
	EXPECT_EQ(0, res.error);

	EXPECT_EQ(0, mlock_rs_unlockv(self->dev, ranges, 1, &unres));
	EXPECT_STREQ("uLuuuUUu", states(self->addr, NR_PAGES));
	EXPECT_EQ(2 * page_size, unres.unlocked);
	EXPECT_EQ(0, unres.error);
}

TEST_F(compat, query)
{
	struct mlock_rs_query res;

	ASSERT_EQ(0, mlock_2(self->addr, 2 * page_size));
	ASSERT_EQ(0, mlock_onfault(self->addr + 2 * page_size, 3 * page_size));
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr, NR_PAGES * page_size, &res));
	EXPECT_EQ(NR_PAGES * page_size, res.mapped);
	EXPECT_EQ(5 * page_size, res.locked);
	EXPECT_EQ(3 * page_size, res.onfault);
	EXPECT_EQ(2 * page_size, res.resident);
	EXPECT_EQ(3, res.nr_vmas);
	EXPECT_EQ(0, res.state);
	EXPECT_EQ(0, mlock_rs_query(self->dev, self->addr, 2 * page_size, &res));
	EXPECT_EQ(MLOCK_RS_QUERY_LOCKED_RESIDENT, res.state);
}

TEST_F(compat, all_that_can_be_asked_for)
{
	struct mlock_rs_lock arg = {
		.addr = (uintptr_t)self->addr,
		.len = NR_PAGES * page_size,
		.flags = MLOCK_RS_LOCK_YIELD | MLOCK_RS_LOCK_INTERRUPTIBLE,
		.nr_workers = 1,
		.slice_us = 500,
	};

	EXPECT_EQ(0, mlock_rs_call(self->dev, &arg));
	EXPECT_STREQ("LLLLLLLL", states(self->addr, NR_PAGES));
	EXPECT_EQ(NR_PAGES * page_size, arg.populated);
	EXPECT_EQ(1, arg.nr_workers);
	EXPECT_EQ(500, arg.slice_us);
	EXPECT_EQ(0, arg.nr_helpers);
	EXPECT_EQ(0, arg.nr_gaps);
}

TEST_F(compat, first_version)
{
	struct mlock_rs_lock arg = {
		.addr = (uintptr_t)self->addr,
		.len = NR_PAGES * page_size,
		/* Behind the first version, and so not read, and not written. */
		.nr_workers = -1,
		.slice_us = -1,
		.nr_helpers = -1,
		.nr_gaps = -1,
	};

	EXPECT_EQ(0, ioctl(self->dev, _IOC(_IOC_READ | _IOC_WRITE, MLOCK_RS_IOC_MAGIC, 1,
					   MLOCK_RS_LOCK_SIZE_VER0), &arg));
	EXPECT_EQ(NR_PAGES * page_size, arg.populated);
	EXPECT_EQ(-1U, arg.nr_workers);
	EXPECT_EQ(-1U, arg.nr_gaps);
}

TEST_F(compat, progress)
{
	struct mlock_rs_progress res;

	EXPECT_EQ(0, mlock_rs_progress(self->dev, &res));
	EXPECT_EQ(0, res.wanted);
	EXPECT_EQ(0, res.populated);
	EXPECT_EQ(0, res.nr_calls);
	EXPECT_EQ(0, res.__reserved_out);
}

TEST_F(compat, fail_addr)
{
	struct mlock_rs_lock res;

	ASSERT_EQ(0, munmap(self->addr + 5 * page_size, page_size));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, &res));
	EXPECT_EQ((uintptr_t)self->addr + 5 * page_size, res.fail_addr);
	EXPECT_EQ(ENOMEM, res.error);
	EXPECT_STREQ("uuuuu.uu", states(self->addr, NR_PAGES));
}

TEST_F(compat, range_above_4_gib)
{
	struct mlock_rs_lock arg = { .addr = 1ULL << 40, .len = page_size };

	/*
	 * The fields have 64 bits here, too: it is an address where a 32-bit program has nothing,
	 * not what is left of it in 32 bits.
	 */
	EXPECT_EQ(-1, ioctl(self->dev, MLOCK_RS_LOCK, &arg));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(1ULL << 40, arg.fail_addr);

	arg.addr = (uintptr_t)self->addr | 1ULL << 40;
	EXPECT_EQ(-1, ioctl(self->dev, MLOCK_RS_LOCK, &arg));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(0, vmlck());
}

TEST_F(compat, ranges_above_4_gib)
{
	struct mlock_rs_range range = { .addr = (uintptr_t)self->addr, .len = page_size };
	struct mlock_rs_lockv arg = {
		.ranges = (uintptr_t)&range | 1ULL << 40,
		.nr_ranges = 1,
	};

	EXPECT_EQ(-1, ioctl(self->dev, MLOCK_RS_LOCKV, &arg));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, vmlck());
}

TEST_F(compat, refusals)
{
	struct mlock_rs_lock arg = { .addr = (uintptr_t)self->addr, .len = page_size };

	EXPECT_EQ(-EINVAL, mlock_rs_flags(self->dev, self->addr, page_size, 1U << 31, NULL));
	EXPECT_EQ(-1, ioctl(self->dev, _IOC(_IOC_READ | _IOC_WRITE, MLOCK_RS_IOC_MAGIC, 1,
					    MLOCK_RS_LOCK_SIZE_VER0 - 1), &arg));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, ioctl(self->dev, MLOCK_RS_LOCK, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->dev, _IOC(_IOC_READ | _IOC_WRITE, MLOCK_RS_IOC_MAGIC, 255,
					    sizeof(arg)), &arg));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(0, vmlck());
}

TEST_HARNESS_MAIN
