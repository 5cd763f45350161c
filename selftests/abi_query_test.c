// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI ioctl, and what is the same for every ioctl: which sizes of its structure it takes, which
 * fields have to be zero, and what it does with an argument that it cannot read or write.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/ioctl.h>

#include "layout.h"
#include "mlock_rs_test.h"

#define NR_PAGES	4UL
#define MAX_SIZE	((1UL << _IOC_SIZEBITS) - 1)

TEST(version_and_features)
{
	struct mlock_rs_abi abi = { .features = -1, .version = -1, .max_ranges = -1 };
	int dev = mlock_rs_open();

	ASSERT_LE(0, dev);
	ASSERT_EQ(0, ioctl(dev, MLOCK_RS_ABI, &abi));
	EXPECT_EQ(MLOCK_RS_ABI_VERSION, abi.version);
	EXPECT_EQ(MLOCK_RS_MAX_RANGES, abi.max_ranges);
	/* All that the header knows, and no bit that it does not explain. */
	EXPECT_EQ(MLOCK_RS_FEATURE_LOCK | MLOCK_RS_FEATURE_ONFAULT | MLOCK_RS_FEATURE_VECTOR |
		  MLOCK_RS_FEATURE_QUERY, abi.features);
	close(dev);
}

FIXTURE(ioctl)
{
	int dev;
	char *addr;
	/* The argument, with room for the longest that an ioctl number can tell, and more. */
	unsigned char *arg;
	struct mlock_rs_range *range;
	struct snapshot before, after;
};

/* Where a structure has no such field. */
#define NONE	SIZE_MAX

FIXTURE_VARIANT(ioctl)
{
	unsigned long cmd;
	size_t first_size;
	/* Offsets. */
	size_t flags, reserved, result, error;
	__u32 known_flags;
	/* Of a result field that is NR_PAGES pages after success. */
	size_t bytes;
	/* The region has to be locked before. */
	bool unlocks;
	/* Takes an array of ranges. */
	bool vector;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(ioctl, lock) {
	.cmd = MLOCK_RS_LOCK, .first_size = MLOCK_RS_LOCK_SIZE_VER0,
	.flags = offsetof(struct mlock_rs_lock, flags),
	.reserved = offsetof(struct mlock_rs_lock, __reserved),
	.result = offsetof(struct mlock_rs_lock, locked),
	.error = offsetof(struct mlock_rs_lock, error),
	.known_flags = MLOCK_RS_LOCK_ONFAULT,
	.bytes = offsetof(struct mlock_rs_lock, locked) };
FIXTURE_VARIANT_ADD(ioctl, unlock) {
	.cmd = MLOCK_RS_UNLOCK, .first_size = MLOCK_RS_UNLOCK_SIZE_VER0,
	.flags = offsetof(struct mlock_rs_unlock, flags),
	.reserved = offsetof(struct mlock_rs_unlock, __reserved),
	.result = offsetof(struct mlock_rs_unlock, unlocked),
	.error = offsetof(struct mlock_rs_unlock, error),
	.bytes = offsetof(struct mlock_rs_unlock, unlocked), .unlocks = true };
FIXTURE_VARIANT_ADD(ioctl, lockv) {
	.cmd = MLOCK_RS_LOCKV, .first_size = MLOCK_RS_LOCKV_SIZE_VER0,
	.flags = offsetof(struct mlock_rs_lockv, flags), .reserved = NONE,
	.result = offsetof(struct mlock_rs_lockv, locked),
	.error = offsetof(struct mlock_rs_lockv, error),
	.known_flags = MLOCK_RS_LOCK_ONFAULT,
	.bytes = offsetof(struct mlock_rs_lockv, locked), .vector = true };
FIXTURE_VARIANT_ADD(ioctl, unlockv) {
	.cmd = MLOCK_RS_UNLOCKV, .first_size = MLOCK_RS_UNLOCKV_SIZE_VER0,
	.flags = offsetof(struct mlock_rs_unlockv, flags), .reserved = NONE,
	.result = offsetof(struct mlock_rs_unlockv, unlocked),
	.error = offsetof(struct mlock_rs_unlockv, error),
	.bytes = offsetof(struct mlock_rs_unlockv, unlocked), .unlocks = true, .vector = true };
FIXTURE_VARIANT_ADD(ioctl, query) {
	.cmd = MLOCK_RS_QUERY, .first_size = MLOCK_RS_QUERY_SIZE_VER0,
	.flags = offsetof(struct mlock_rs_query, flags),
	.reserved = offsetof(struct mlock_rs_query, __reserved),
	.result = offsetof(struct mlock_rs_query, mapped),
	.error = offsetof(struct mlock_rs_query, error),
	.bytes = offsetof(struct mlock_rs_query, mapped) };
FIXTURE_VARIANT_ADD(ioctl, abi) {
	.cmd = MLOCK_RS_ABI, .first_size = MLOCK_RS_ABI_SIZE_VER0,
	.flags = NONE, .reserved = NONE, .result = 0, .error = NONE, .bytes = NONE };
/* clang-format on */

/* A request for the whole region; the result fields are all ones, so that a zero is an answer. */
static void fill(FIXTURE_DATA(ioctl) * self, const FIXTURE_VARIANT(ioctl) * variant)
{
	memset(self->arg, 0, MAX_SIZE + 1);
	memset(self->arg + variant->result, 0xff, variant->first_size - variant->result);
	if (variant->vector) {
		/* LOCKV and UNLOCKV begin in the same way. */
		struct mlock_rs_lockv *arg = (void *)self->arg;

		arg->ranges = (uintptr_t)self->range;
		arg->nr_ranges = 1;
	} else if (variant->cmd != MLOCK_RS_ABI) {
		/* And so do LOCK, UNLOCK and QUERY. */
		struct mlock_rs_lock *arg = (void *)self->arg;

		arg->addr = (uintptr_t)self->addr;
		arg->len = NR_PAGES * page_size;
	}
}

FIXTURE_SETUP(ioctl)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	self->arg = (void *)map_region(8);
	self->range = (void *)map_region(1);
	self->range->addr = (uintptr_t)self->addr;
	self->range->len = NR_PAGES * page_size;
	ASSERT_GE(8 * page_size, MAX_SIZE + 1);
	if (variant->unlocks)
		ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	fill(self, variant);
	take_snapshot(&self->before);
}

FIXTURE_TEARDOWN(ioctl)
{
	close(self->dev);
}

/* The ioctl with the argument at @arg, of which the caller says that it has @size. */
static int call(FIXTURE_DATA(ioctl) * self, const FIXTURE_VARIANT(ioctl) * variant, void *arg,
		size_t size)
{
	unsigned long cmd = variant->cmd & ~IOCSIZE_MASK;

	return ioctl(self->dev, cmd | size << IOCSIZE_SHIFT, arg) ? -errno : 0;
}

static __u32 u32_at(const unsigned char *arg, size_t offset)
{
	__u32 value;

	memcpy(&value, arg + offset, sizeof(value));
	return value;
}

static void put_u32(unsigned char *arg, size_t offset, __u32 value)
{
	memcpy(arg + offset, &value, sizeof(value));
}

#define EXPECT_UNCHANGED() do {								\
	take_snapshot(&self->after);							\
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));			\
} while (0)

/* What the call leaves in VmLck; @before it there was that much. */
static size_t vmlck_after(const FIXTURE_VARIANT(ioctl) * variant, size_t before)
{
	if (variant->unlocks)
		return 0;
	if (variant->cmd == MLOCK_RS_LOCK || variant->cmd == MLOCK_RS_LOCKV)
		return NR_PAGES * page_size;
	return before;
}

/* The call has done its work and has written the result of a success. */
static void expect_result(struct __test_metadata *_metadata, FIXTURE_DATA(ioctl) * self,
			  const FIXTURE_VARIANT(ioctl) * variant, const unsigned char *arg)
{
	__u64 bytes = NR_PAGES * page_size;

	if (variant->error != NONE) {
		EXPECT_EQ(0, u32_at(arg, variant->error));
		EXPECT_EQ(0, memcmp(arg + variant->bytes, &bytes, sizeof(bytes)));
	} else {
		EXPECT_EQ(MLOCK_RS_ABI_VERSION,
			  u32_at(arg, offsetof(struct mlock_rs_abi, version)));
	}
	EXPECT_EQ(vmlck_after(variant, self->before.vmlck), vmlck());
}

TEST_F(ioctl, first_version)
{
	/* The proof for all that follows: this call is a good one. */
	EXPECT_EQ(0, call(self, variant, self->arg, variant->first_size));
	expect_result(_metadata, self, variant, self->arg);
	/* What lies behind the structure is none of the kernel's business. */
	EXPECT_EQ(0, self->arg[variant->first_size]);
}

TEST_F(ioctl, what_was_asked_for_is_not_overwritten)
{
	unsigned char request[128];

	memcpy(request, self->arg, variant->result);
	EXPECT_EQ(0, call(self, variant, self->arg, variant->first_size));
	EXPECT_EQ(0, memcmp(request, self->arg, variant->result));
}

TEST_F(ioctl, shorter_than_the_first_version)
{
	size_t size;

	for (size = 0; size < variant->first_size; size++) {
		EXPECT_EQ(-EINVAL, call(self, variant, self->arg, size)) {
			TH_LOG("size %zu", size);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, longer_by_one_byte_of_zero)
{
	self->arg[variant->first_size + 1] = 1;
	EXPECT_EQ(0, call(self, variant, self->arg, variant->first_size + 1));
	expect_result(_metadata, self, variant, self->arg);
	EXPECT_EQ(0, self->arg[variant->first_size]);
	EXPECT_EQ(1, self->arg[variant->first_size + 1]);
}

TEST_F(ioctl, as_long_as_can_be_with_zeroes)
{
	self->arg[MAX_SIZE] = 1;
	EXPECT_EQ(0, call(self, variant, self->arg, MAX_SIZE));
	expect_result(_metadata, self, variant, self->arg);
	EXPECT_EQ(1, self->arg[MAX_SIZE]);
}

TEST_F(ioctl, longer_with_something_in_the_tail)
{
	size_t at[] = { variant->first_size, variant->first_size + 7, 4095, MAX_SIZE - 1 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		fill(self, variant);
		self->arg[at[i]] = 1;
		EXPECT_EQ(-E2BIG, call(self, variant, self->arg, MAX_SIZE)) {
			TH_LOG("byte %zu", at[i]);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, unknown_flags)
{
	__u32 bit;

	if (variant->flags == NONE)
		/* Nothing to ask for, so nothing to ask for in a wrong way. */
		return;
	for (bit = 1; bit; bit <<= 1) {
		if (bit & variant->known_flags)
			continue;
		fill(self, variant);
		put_u32(self->arg, variant->flags, bit | variant->known_flags);
		EXPECT_EQ(-EINVAL, call(self, variant, self->arg, variant->first_size)) {
			TH_LOG("flag %#x", bit);
		}
		/* The result is written after a failure as well, and nothing was done. */
		EXPECT_EQ(EINVAL, u32_at(self->arg, variant->error));
		EXPECT_EQ(0, u32_at(self->arg, variant->bytes));
		EXPECT_EQ(0, u32_at(self->arg, variant->bytes + 4));
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, reserved_field)
{
	__u32 bit;

	if (variant->reserved == NONE)
		return;
	for (bit = 1; bit; bit <<= 1) {
		fill(self, variant);
		put_u32(self->arg, variant->reserved, bit);
		EXPECT_EQ(-EINVAL, call(self, variant, self->arg, variant->first_size)) {
			TH_LOG("bit %#x", bit);
		}
		EXPECT_EQ(EINVAL, u32_at(self->arg, variant->error));
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, argument_that_is_not_mapped)
{
	void *bad[] = { NULL, self->addr - page_size, (void *)-page_size, (void *)(1UL << 63) };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, call(self, variant, bad[i], variant->first_size)) {
			TH_LOG("argument at %p", bad[i]);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, argument_that_ends_where_nothing_is_mapped)
{
	unsigned char *end = self->arg + 8 * page_size;
	size_t inside;

	for (inside = 1; inside < variant->first_size; inside++) {
		/* Behind the last page is PROT_NONE. */
		memmove(end - inside, self->arg, inside);
		EXPECT_EQ(-EFAULT, call(self, variant, end - inside, variant->first_size)) {
			TH_LOG("%zu bytes inside", inside);
		}
	}
	EXPECT_UNCHANGED();
	/* All of it inside, and not a byte more. */
	memmove(end - inside, self->arg, inside);
	EXPECT_EQ(0, call(self, variant, end - inside, variant->first_size));
	expect_result(_metadata, self, variant, end - inside);
}

TEST_F(ioctl, tail_that_is_not_mapped)
{
	unsigned char *at = self->arg + 8 * page_size - variant->first_size;

	/* It cannot be read, so nobody knows whether it is zero. */
	memmove(at, self->arg, variant->first_size);
	EXPECT_EQ(-EFAULT, call(self, variant, at, variant->first_size + 8));
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, argument_that_cannot_be_written)
{
	ASSERT_EQ(0, mprotect(self->arg, 8 * page_size, PROT_READ));
	/* The caller learns that it got no result; the work was done before. */
	EXPECT_EQ(-EFAULT, call(self, variant, self->arg, variant->first_size));
	EXPECT_EQ(vmlck_after(variant, self->before.vmlck), vmlck());
}

TEST_F(ioctl, argument_at_an_odd_address)
{
	memmove(self->arg + 3, self->arg, variant->first_size);
	EXPECT_EQ(0, call(self, variant, self->arg + 3, variant->first_size));
	expect_result(_metadata, self, variant, self->arg + 3);
}

TEST_F(ioctl, direction_is_part_of_the_number)
{
	unsigned long dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		EXPECT_EQ(-1, ioctl(self->dev, _IOC(dirs[i], MLOCK_RS_IOC_MAGIC,
						    _IOC_NR(variant->cmd), variant->first_size),
				    self->arg));
		EXPECT_EQ(ENOTTY, errno);
	}
	EXPECT_UNCHANGED();
}

TEST_HARNESS_MAIN
