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
		  MLOCK_RS_FEATURE_QUERY | MLOCK_RS_FEATURE_YIELD |
		  MLOCK_RS_FEATURE_INTERRUPTIBLE | MLOCK_RS_FEATURE_PROGRESS |
		  MLOCK_RS_FEATURE_WORKERS, abi.features);
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
#define LOCK_FLAGS \
	(MLOCK_RS_LOCK_ONFAULT | MLOCK_RS_LOCK_YIELD | MLOCK_RS_LOCK_INTERRUPTIBLE)

FIXTURE_VARIANT(ioctl)
{
	unsigned long cmd;
	/* Of the first version, and of the newest one. */
	size_t first_size, size;
	/* Offsets. */
	size_t flags, reserved, result, error;
	/* What was added to the result since the first version, up to the end. */
	size_t more_result;
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
	.size = sizeof(struct mlock_rs_lock),
	.flags = offsetof(struct mlock_rs_lock, flags),
	.reserved = offsetof(struct mlock_rs_lock, __reserved),
	.result = offsetof(struct mlock_rs_lock, locked),
	.error = offsetof(struct mlock_rs_lock, error),
	.more_result = offsetof(struct mlock_rs_lock, nr_helpers),
	.known_flags = LOCK_FLAGS,
	.bytes = offsetof(struct mlock_rs_lock, locked) };
FIXTURE_VARIANT_ADD(ioctl, unlock) {
	.cmd = MLOCK_RS_UNLOCK, .first_size = MLOCK_RS_UNLOCK_SIZE_VER0,
	.size = sizeof(struct mlock_rs_unlock), .more_result = NONE,
	.flags = offsetof(struct mlock_rs_unlock, flags),
	.reserved = offsetof(struct mlock_rs_unlock, __reserved),
	.result = offsetof(struct mlock_rs_unlock, unlocked),
	.error = offsetof(struct mlock_rs_unlock, error),
	.bytes = offsetof(struct mlock_rs_unlock, unlocked), .unlocks = true };
FIXTURE_VARIANT_ADD(ioctl, lockv) {
	.cmd = MLOCK_RS_LOCKV, .first_size = MLOCK_RS_LOCKV_SIZE_VER0,
	.size = sizeof(struct mlock_rs_lockv),
	.flags = offsetof(struct mlock_rs_lockv, flags), .reserved = NONE,
	.result = offsetof(struct mlock_rs_lockv, locked),
	.error = offsetof(struct mlock_rs_lockv, error),
	.more_result = offsetof(struct mlock_rs_lockv, nr_helpers),
	.known_flags = LOCK_FLAGS,
	.bytes = offsetof(struct mlock_rs_lockv, locked), .vector = true };
FIXTURE_VARIANT_ADD(ioctl, unlockv) {
	.cmd = MLOCK_RS_UNLOCKV, .first_size = MLOCK_RS_UNLOCKV_SIZE_VER0,
	.size = sizeof(struct mlock_rs_unlockv), .more_result = NONE,
	.flags = offsetof(struct mlock_rs_unlockv, flags), .reserved = NONE,
	.result = offsetof(struct mlock_rs_unlockv, unlocked),
	.error = offsetof(struct mlock_rs_unlockv, error),
	.bytes = offsetof(struct mlock_rs_unlockv, unlocked), .unlocks = true, .vector = true };
FIXTURE_VARIANT_ADD(ioctl, query) {
	.cmd = MLOCK_RS_QUERY, .first_size = MLOCK_RS_QUERY_SIZE_VER0,
	.size = sizeof(struct mlock_rs_query), .more_result = NONE,
	.flags = offsetof(struct mlock_rs_query, flags),
	.reserved = offsetof(struct mlock_rs_query, __reserved),
	.result = offsetof(struct mlock_rs_query, mapped),
	.error = offsetof(struct mlock_rs_query, error),
	.bytes = offsetof(struct mlock_rs_query, mapped) };
FIXTURE_VARIANT_ADD(ioctl, abi) {
	.cmd = MLOCK_RS_ABI, .first_size = MLOCK_RS_ABI_SIZE_VER0,
	.size = sizeof(struct mlock_rs_abi), .more_result = NONE,
	.flags = NONE, .reserved = NONE, .result = 0, .error = NONE, .bytes = NONE };
FIXTURE_VARIANT_ADD(ioctl, progress) {
	.cmd = MLOCK_RS_PROGRESS, .first_size = MLOCK_RS_PROGRESS_SIZE_VER0,
	.size = sizeof(struct mlock_rs_progress), .more_result = NONE,
	.flags = offsetof(struct mlock_rs_progress, flags),
	.reserved = offsetof(struct mlock_rs_progress, __reserved),
	.result = offsetof(struct mlock_rs_progress, wanted), .error = NONE, .bytes = NONE };
/* clang-format on */

static bool has_range(const FIXTURE_VARIANT(ioctl) * variant)
{
	return variant->cmd != MLOCK_RS_ABI && variant->cmd != MLOCK_RS_PROGRESS;
}

/* A request for the whole region; the result fields are all ones, so that a zero is an answer. */
static void fill(FIXTURE_DATA(ioctl) * self, const FIXTURE_VARIANT(ioctl) * variant)
{
	memset(self->arg, 0, MAX_SIZE + 1);
	memset(self->arg + variant->result, 0xff, variant->first_size - variant->result);
	if (variant->more_result != NONE)
		memset(self->arg + variant->more_result, 0xff,
		       variant->size - variant->more_result);
	if (variant->vector) {
		/* LOCKV and UNLOCKV begin in the same way. */
		struct mlock_rs_lockv *arg = (void *)self->arg;

		arg->ranges = (uintptr_t)self->range;
		arg->nr_ranges = 1;
	} else if (has_range(variant)) {
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

/*
 * The call has done its work and has written the result of a success, as far as a caller knows that
 * was built with a structure of @size.
 */
static void expect_result_of(struct __test_metadata *_metadata, FIXTURE_DATA(ioctl) * self,
			     const FIXTURE_VARIANT(ioctl) * variant, const unsigned char *arg,
			     size_t size)
{
	__u64 bytes = NR_PAGES * page_size;

	if (variant->cmd == MLOCK_RS_ABI) {
		EXPECT_EQ(MLOCK_RS_ABI_VERSION,
			  u32_at(arg, offsetof(struct mlock_rs_abi, version)));
	} else if (variant->cmd == MLOCK_RS_PROGRESS) {
		/* Nothing is under way. */
		EXPECT_EQ(0, u32_at(arg, offsetof(struct mlock_rs_progress, wanted)));
		EXPECT_EQ(0, u32_at(arg, offsetof(struct mlock_rs_progress, populated)));
		EXPECT_EQ(0, u32_at(arg, offsetof(struct mlock_rs_progress, nr_calls)));
		EXPECT_EQ(0, u32_at(arg, offsetof(struct mlock_rs_progress, __reserved_out)));
	} else {
		EXPECT_EQ(0, u32_at(arg, variant->error));
		EXPECT_EQ(0, memcmp(arg + variant->bytes, &bytes, sizeof(bytes)));
	}
	/* Nobody helps with so little, and the lock is not given up. */
	if (variant->more_result != NONE && size >= variant->more_result + 8) {
		EXPECT_EQ(0, u32_at(arg, variant->more_result));
		EXPECT_EQ(0, u32_at(arg, variant->more_result + 4));
	}
	EXPECT_EQ(vmlck_after(variant, self->before.vmlck), vmlck());
}

static void expect_result(struct __test_metadata *_metadata, FIXTURE_DATA(ioctl) * self,
			  const FIXTURE_VARIANT(ioctl) * variant, const unsigned char *arg)
{
	expect_result_of(_metadata, self, variant, arg, variant->size);
}

/* Undoes the call, as far as the next one would notice. */
static void start_afresh(struct __test_metadata *_metadata, FIXTURE_DATA(ioctl) * self,
			 const FIXTURE_VARIANT(ioctl) * variant)
{
	int ret = variant->unlocks ? mlock_2(self->addr, NR_PAGES * page_size) :
				     munlock(self->addr, NR_PAGES * page_size);

	ASSERT_EQ(0, ret);
	fill(self, variant);
}

TEST_F(ioctl, newest_version)
{
	/* The proof for all that follows: this call is a good one. */
	EXPECT_EQ(0, call(self, variant, self->arg, variant->size));
	expect_result(_metadata, self, variant, self->arg);
	/* What lies behind the structure is none of the kernel's business. */
	EXPECT_EQ(0, self->arg[variant->size]);
}

TEST_F(ioctl, each_shorter_version_there_is_or_could_have_been)
{
	size_t size;

	/* A caller of the first version is one of them. */
	for (size = variant->first_size; size < variant->size; size++) {
		/* Neither read nor written. */
		memset(self->arg + size, 0xff, variant->size - size);
		EXPECT_EQ(0, call(self, variant, self->arg, size)) {
			TH_LOG("size %zu", size);
		}
		expect_result_of(_metadata, self, variant, self->arg, size);
		EXPECT_EQ(0xff, self->arg[size]);
		EXPECT_EQ(0xff, self->arg[variant->size - 1]);
		start_afresh(_metadata, self, variant);
	}
}

TEST_F(ioctl, what_was_asked_for_is_not_overwritten)
{
	unsigned char request[128];

	memcpy(request, self->arg, variant->size);
	EXPECT_EQ(0, call(self, variant, self->arg, variant->size));
	EXPECT_EQ(0, memcmp(request, self->arg, variant->result));
	/* What was added since then can be asked for, too. */
	if (variant->more_result != NONE)
		EXPECT_EQ(0, memcmp(request + variant->first_size,
				    self->arg + variant->first_size,
				    variant->more_result - variant->first_size));
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
	self->arg[variant->size + 1] = 1;
	EXPECT_EQ(0, call(self, variant, self->arg, variant->size + 1));
	expect_result(_metadata, self, variant, self->arg);
	EXPECT_EQ(0, self->arg[variant->size]);
	EXPECT_EQ(1, self->arg[variant->size + 1]);
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
	size_t at[] = { variant->size, variant->size + 7, 4095, MAX_SIZE - 1 };
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
		EXPECT_EQ(-EINVAL, call(self, variant, self->arg, variant->size)) {
			TH_LOG("flag %#x", bit);
		}
		if (variant->error == NONE)
			continue;
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
		EXPECT_EQ(-EINVAL, call(self, variant, self->arg, variant->size)) {
			TH_LOG("bit %#x", bit);
		}
		if (variant->error != NONE)
			EXPECT_EQ(EINVAL, u32_at(self->arg, variant->error));
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, argument_that_is_not_mapped)
{
	void *bad[] = { NULL, self->addr - page_size, (void *)-page_size, (void *)(1UL << 63) };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, call(self, variant, bad[i], variant->size)) {
			TH_LOG("argument at %p", bad[i]);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, argument_that_ends_where_nothing_is_mapped)
{
	unsigned char *end = self->arg + 8 * page_size;
	size_t inside;

	for (inside = 1; inside < variant->size; inside++) {
		/* Behind the last page is PROT_NONE. */
		memmove(end - inside, self->arg, inside);
		EXPECT_EQ(-EFAULT, call(self, variant, end - inside, variant->size)) {
			TH_LOG("%zu bytes inside", inside);
		}
	}
	EXPECT_UNCHANGED();
	/* All of it inside, and not a byte more. */
	memmove(end - inside, self->arg, inside);
	EXPECT_EQ(0, call(self, variant, end - inside, variant->size));
	expect_result(_metadata, self, variant, end - inside);
}

TEST_F(ioctl, tail_that_is_not_mapped)
{
	unsigned char *at = self->arg + 8 * page_size - variant->size;

	/* It cannot be read, so nobody knows whether it is zero. */
	memmove(at, self->arg, variant->size);
	EXPECT_EQ(-EFAULT, call(self, variant, at, variant->size + 8));
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, argument_that_cannot_be_written)
{
	ASSERT_EQ(0, mprotect(self->arg, 8 * page_size, PROT_READ));
	/* The caller learns that it got no result; the work was done before. */
	EXPECT_EQ(-EFAULT, call(self, variant, self->arg, variant->size));
	EXPECT_EQ(vmlck_after(variant, self->before.vmlck), vmlck());
}

/* The structure can be read, and the part of it that the result is written to cannot be written. */
TEST_F(ioctl, result_that_cannot_be_written_after_the_range_has_failed)
{
	if (!has_range(variant) || variant->cmd == MLOCK_RS_QUERY)
		return;
	ASSERT_EQ(0, munmap(self->addr + page_size, page_size));
	take_snapshot(&self->before);
	/* The proof that the range fails. */
	EXPECT_EQ(-ENOMEM, call(self, variant, self->arg, variant->size));
	ASSERT_EQ(0, mprotect(self->arg, 8 * page_size, PROT_READ));
	/* What is wrong with the range is worth more to the caller than where the answer is. */
	EXPECT_EQ(-ENOMEM, call(self, variant, self->arg, variant->size));
	ASSERT_EQ(0, mprotect(self->arg, 8 * page_size, PROT_READ | PROT_WRITE));
	EXPECT_UNCHANGED();
}

/* The same for an argument that is refused before anything is looked at. */
TEST_F(ioctl, result_that_cannot_be_written_after_a_bad_argument)
{
	if (variant->flags == NONE)
		return;
	put_u32(self->arg, variant->flags, 1U << 31);
	ASSERT_EQ(0, mprotect(self->arg, 8 * page_size, PROT_READ));
	EXPECT_EQ(-EINVAL, call(self, variant, self->arg, variant->size));
	EXPECT_EQ(self->before.vmlck, vmlck());
}

TEST_F(ioctl, argument_at_an_odd_address)
{
	memmove(self->arg + 3, self->arg, variant->size);
	EXPECT_EQ(0, call(self, variant, self->arg + 3, variant->size));
	expect_result(_metadata, self, variant, self->arg + 3);
}

TEST_F(ioctl, direction_is_part_of_the_number)
{
	unsigned long dirs[] = { _IOC_NONE, _IOC_READ, _IOC_WRITE };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		EXPECT_EQ(-1, ioctl(self->dev, _IOC(dirs[i], MLOCK_RS_IOC_MAGIC,
						    _IOC_NR(variant->cmd), variant->size),
				    self->arg));
		EXPECT_EQ(ENOTTY, errno);
	}
	EXPECT_UNCHANGED();
}

/* What LOCK and LOCKV have had since their second version. */

static bool has_workers(const FIXTURE_VARIANT(ioctl) * variant)
{
	return variant->more_result != NONE;
}

/* The two numbers stand together, right behind the first version. */
static int call_with(FIXTURE_DATA(ioctl) * self, const FIXTURE_VARIANT(ioctl) * variant,
		     __u32 flags, __u32 nr_workers, __u32 slice_us)
{
	fill(self, variant);
	put_u32(self->arg, variant->flags, flags);
	put_u32(self->arg, variant->first_size, nr_workers);
	put_u32(self->arg, variant->first_size + 4, slice_us);
	return call(self, variant, self->arg, variant->size);
}

TEST_F(ioctl, workers_up_to_the_limit)
{
	if (!has_workers(variant))
		return;
	EXPECT_EQ(0, call_with(self, variant, 0, 1, 0));
	EXPECT_EQ(0, call_with(self, variant, 0, MLOCK_RS_MAX_WORKERS, 0));
	EXPECT_EQ(0, call_with(self, variant, MLOCK_RS_LOCK_ONFAULT, MLOCK_RS_MAX_WORKERS, 0));
}

TEST_F(ioctl, too_many_workers)
{
	const __u32 numbers[] = { MLOCK_RS_MAX_WORKERS + 1, 1U << 16, 1U << 31, -1U };
	size_t i;

	if (!has_workers(variant))
		return;
	for (i = 0; i < ARRAY_SIZE(numbers); i++) {
		EXPECT_EQ(-EINVAL, call_with(self, variant, 0, numbers[i], 0)) {
			TH_LOG("%u workers", numbers[i]);
		}
		EXPECT_EQ(EINVAL, u32_at(self->arg, variant->error));
		EXPECT_EQ(0, u32_at(self->arg, variant->more_result));
		EXPECT_EQ(0, u32_at(self->arg, variant->more_result + 4));
	}
	EXPECT_UNCHANGED();
}

TEST_F(ioctl, slice)
{
	const __u32 yield = MLOCK_RS_LOCK_YIELD, max = MLOCK_RS_MAX_SLICE_US;

	if (!has_workers(variant))
		return;
	/* Not without YIELD, */
	EXPECT_EQ(-EINVAL, call_with(self, variant, 0, 0, 1));
	EXPECT_EQ(-EINVAL, call_with(self, variant, MLOCK_RS_LOCK_INTERRUPTIBLE, 0, max));
	/* nor too long; */
	EXPECT_EQ(-EINVAL, call_with(self, variant, yield, 0, max + 1));
	EXPECT_EQ(-EINVAL, call_with(self, variant, yield, 0, -1));
	EXPECT_UNCHANGED();
	EXPECT_EQ(0, call_with(self, variant, yield, 0, 0));
	expect_result(_metadata, self, variant, self->arg);
	EXPECT_EQ(0, call_with(self, variant, yield, 0, 1));
	EXPECT_EQ(0, call_with(self, variant, yield, 0, max));
}

TEST_F(ioctl, flags_go_together)
{
	__u32 flags;

	if (!has_workers(variant))
		return;
	for (flags = 0; flags <= LOCK_FLAGS; flags++) {
		EXPECT_EQ(0, call_with(self, variant, flags, 0, 0)) {
			TH_LOG("flags %#x", flags);
		}
		EXPECT_EQ(NR_PAGES * page_size, vmlck());
	}
}

TEST_HARNESS_MAIN
