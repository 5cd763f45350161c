// SPDX-License-Identifier: GPL-2.0
/*
 * The ioctl as an interface: which arguments are refused, what comes back, and how the structure
 * can grow. A refused argument changes nothing.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "mlock_rs_test.h"

#define NR_PAGES	8UL
#define KNOWN_FLAGS	(MLOCK_RS_LOCK_ONFAULT | MLOCK_RS_LOCK_YIELD | MLOCK_RS_LOCK_INTERRUPTIBLE)

FIXTURE(abi)
{
	int dev;
	char *addr;
	struct snapshot before, after;
};

FIXTURE_SETUP(abi)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	take_snapshot(&self->before);
}

FIXTURE_TEARDOWN(abi)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

#define EXPECT_UNCHANGED() do {								\
	take_snapshot(&self->after);							\
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));			\
	EXPECT_STREQ(all('u', NR_PAGES), states(self->addr, NR_PAGES));			\
} while (0)

/* LOCK of the region with the structure at @arg, of which the caller says that it has @size. */
static int lock_sized(int dev, void *arg, size_t size)
{
	unsigned long cmd = _IOC(_IOC_READ | _IOC_WRITE, MLOCK_RS_IOC_MAGIC, 1, size);

	return ioctl(dev, cmd, arg) ? -errno : 0;
}

static struct mlock_rs_lock request(const char *addr)
{
	return (struct mlock_rs_lock) { .addr = (uintptr_t)addr, .len = NR_PAGES * page_size };
}

TEST_F(abi, any_open_mode_will_do)
{
	int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(modes); i++) {
		int fd = open(MLOCK_RS_DEVICE, modes[i] | O_CLOEXEC);

		ASSERT_LE(0, fd);
		EXPECT_EQ(0, mlock_rs(fd, self->addr, page_size, NULL));
		close(fd);
	}
}

TEST_F(abi, unknown_flag)
{
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		struct mlock_rs_lock arg = request(self->addr);

		arg.flags = 1U << bit;
		arg.locked = 1;
		if (arg.flags & KNOWN_FLAGS)
			continue;
		EXPECT_EQ(-EINVAL, lock_sized(self->dev, &arg, sizeof(arg))) {
			TH_LOG("flag %#x", arg.flags);
		}
		/* The result is written after a failure as well. */
		EXPECT_EQ(EINVAL, arg.error);
		EXPECT_EQ(0, arg.locked);
		EXPECT_EQ(0, arg.fail_addr);
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, reserved_field)
{
	unsigned int bit;

	for (bit = 0; bit < 32; bit++) {
		struct mlock_rs_lock arg = request(self->addr);

		arg.__reserved = 1U << bit;
		EXPECT_EQ(-EINVAL, lock_sized(self->dev, &arg, sizeof(arg)));
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, shorter_than_the_first_version)
{
	size_t size;

	for (size = 0; size < MLOCK_RS_LOCK_SIZE_VER0; size++) {
		struct mlock_rs_lock arg = request(self->addr);

		EXPECT_EQ(-EINVAL, lock_sized(self->dev, &arg, size)) {
			TH_LOG("size %zu", size);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, longer_with_a_tail_of_zeroes)
{
	size_t sizes[] = { sizeof(struct mlock_rs_lock) + 1, sizeof(struct mlock_rs_lock) + 8,
			   4096, (1 << _IOC_SIZEBITS) - 1 };
	size_t i;

	/* A program that was built with a newer header, and uses nothing of what is new. */
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		static union {
			struct mlock_rs_lock arg;
			char bytes[1 << _IOC_SIZEBITS];
		} u;

		memset(&u, 0, sizeof(u));
		u.arg = request(self->addr);
		/* What lies behind the structure is none of the kernel's business. */
		u.bytes[sizes[i]] = 1;
		EXPECT_EQ(0, lock_sized(self->dev, &u, sizes[i])) {
			TH_LOG("size %zu", sizes[i]);
		}
		EXPECT_EQ(NR_PAGES * page_size, u.arg.populated);
		EXPECT_EQ(1, u.bytes[sizes[i]]);
		munlock(self->addr, NR_PAGES * page_size);
	}
}

TEST_F(abi, longer_with_something_in_the_tail)
{
	size_t at[] = { sizeof(struct mlock_rs_lock), sizeof(struct mlock_rs_lock) + 7, 2000,
			4095 };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(at); i++) {
		static union {
			struct mlock_rs_lock arg;
			char bytes[4096];
		} u;

		memset(&u, 0, sizeof(u));
		u.arg = request(self->addr);
		u.bytes[at[i]] = 1;
		EXPECT_EQ(-E2BIG, lock_sized(self->dev, &u, sizeof(u))) {
			TH_LOG("byte %zu", at[i]);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, longer_than_what_is_mapped)
{
	/* The tail cannot be read, so nobody knows whether it is zero. */
	char *edge = self->addr + NR_PAGES * page_size - sizeof(struct mlock_rs_lock);
	struct mlock_rs_lock arg = request(self->addr);

	memcpy(edge, &arg, sizeof(arg));
	EXPECT_EQ(-EFAULT, lock_sized(self->dev, edge, sizeof(arg) + 8));
	EXPECT_EQ(0, vmlck());
}

TEST_F(abi, unknown_ioctl)
{
	struct mlock_rs_lock arg = request(self->addr);
	const unsigned int rw = _IOC_READ | _IOC_WRITE;
	unsigned long cmds[] = {
		_IOC(rw, MLOCK_RS_IOC_MAGIC, 0, sizeof(arg)),
		_IOC(rw, MLOCK_RS_IOC_MAGIC, 255, sizeof(arg)),
		_IOC(rw, MLOCK_RS_IOC_MAGIC + 1, 1, sizeof(arg)),
		/* The direction is part of the number. */
		_IOC(_IOC_NONE, MLOCK_RS_IOC_MAGIC, 1, sizeof(arg)),
		_IOC(_IOC_READ, MLOCK_RS_IOC_MAGIC, 1, sizeof(arg)),
		_IOC(_IOC_WRITE, MLOCK_RS_IOC_MAGIC, 1, sizeof(arg)),
		0x5401 /* TCGETS: isatty() asks for it. */
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		EXPECT_EQ(-1, ioctl(self->dev, cmds[i], &arg));
		EXPECT_EQ(ENOTTY, errno) {
			TH_LOG("ioctl %#lx", cmds[i]);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, argument_that_is_not_mapped)
{
	void *bad[] = { NULL, (void *)8, self->addr - page_size, (void *)-page_size,
			(void *)(1UL << 63) };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(-EFAULT, lock_sized(self->dev, bad[i], MLOCK_RS_LOCK_SIZE_VER0)) {
			TH_LOG("argument at %p", bad[i]);
		}
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, argument_half_of_which_is_not_mapped)
{
	struct mlock_rs_lock arg = request(self->addr);
	char *page = map_region(1);
	size_t inside;

	/* The page behind @page is PROT_NONE: whatever part of the argument lies there. */
	take_snapshot(&self->before);
	for (inside = 1; inside < sizeof(arg); inside++) {
		char *at = page + page_size - inside;

		memcpy(at, &arg, inside);
		EXPECT_EQ(-EFAULT, lock_sized(self->dev, at, sizeof(arg)));
	}
	EXPECT_UNCHANGED();
}

TEST_F(abi, argument_that_cannot_be_written)
{
	struct mlock_rs_lock *arg = (void *)map_region(1);

	*arg = request(self->addr);
	ASSERT_EQ(0, mprotect(arg, page_size, PROT_READ));
	/* The work is done before the result can be. The caller learns that it got no result. */
	EXPECT_EQ(-EFAULT, lock_sized(self->dev, arg, sizeof(*arg)));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(0, arg->populated);
}

TEST_F(abi, argument_inside_of_the_range)
{
	struct mlock_rs_lock *arg = (void *)(self->addr + 3 * page_size);

	*arg = request(self->addr);
	EXPECT_EQ(0, lock_sized(self->dev, arg, sizeof(*arg)));
	EXPECT_EQ(NR_PAGES * page_size, arg->populated);
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(abi, argument_at_an_odd_address)
{
	struct mlock_rs_lock arg = request(self->addr);
	char *odd = self->addr + page_size + 3;

	memcpy(odd, &arg, sizeof(arg));
	EXPECT_EQ(0, lock_sized(self->dev, odd, sizeof(arg)));
	memcpy(&arg, odd, sizeof(arg));
	EXPECT_EQ(NR_PAGES * page_size, arg.populated);
}

TEST_F(abi, range_that_wraps_around)
{
	struct mlock_rs_lock res;

	EXPECT_EQ(-EINVAL, mlock_2(self->addr, -(size_t)self->addr + 1));
	EXPECT_EQ(-EINVAL, mlock_rs(self->dev, self->addr, -(size_t)self->addr + 1, &res));
	EXPECT_EQ(EINVAL, res.error);
	EXPECT_EQ(0, res.fail_addr);
	EXPECT_EQ(-EINVAL, mlock_rs(self->dev, (void *)-page_size, 2 * page_size, NULL));
	EXPECT_UNCHANGED();
}

TEST_F(abi, length_that_wraps_when_rounded_up)
{
	/*
	 * Rounded up to a page this is 0, and mlock(2) returns success without having locked
	 * anything. A LOCK that succeeds has locked the range: it refuses.
	 */
	EXPECT_EQ(0, mlock_2(self->addr, SIZE_MAX));
	EXPECT_EQ(-EINVAL, mlock_rs(self->dev, self->addr, SIZE_MAX, NULL));
	EXPECT_EQ(-EINVAL, mlock_rs(self->dev, self->addr + 1, SIZE_MAX - page_size, NULL));
	EXPECT_UNCHANGED();
}

TEST_F(abi, address_above_user_space)
{
	const char *above = (char *)(1UL << 63);
	struct mlock_rs_lock res;

	/* No VMA can ever be there, but to mlock(2) it is a hole like any other. */
	EXPECT_EQ(-ENOMEM, mlock_2(above, page_size));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, above, page_size, &res));
	EXPECT_EQ((uintptr_t)above, res.fail_addr);
	EXPECT_UNCHANGED();
}

TEST_F(abi, range_that_ends_above_user_space)
{
	struct mlock_rs_lock res;

	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, 1UL << 62, &res));
	/* The PROT_NONE page behind the region is mapped; what comes next is not our business. */
	EXPECT_LT((uintptr_t)self->addr, res.fail_addr);
	EXPECT_UNCHANGED();
}

#ifdef __x86_64__
/*
 * int 0x80 reaches the 32-bit entry of the kernel from a 64-bit program, so that the 32-bit ABI is
 * tested without a 32-bit compiler.
 */
static sigjmp_buf no_int80;

static void on_segv(int signal)
{
	(void)signal;
	siglongjmp(no_int80, 1);
}

static int ioctl_32(int fd, unsigned int cmd, void *arg)
{
	long ret;

	asm volatile ("int $0x80"
		      : "=a" (ret)
		      : "0" (54 /* ioctl */), "b" (fd), "c" (cmd), "d" (arg)
		      : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

TEST_F(abi, caller_of_32_bits)
{
	struct mlock_rs_lock *arg = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	char *low = mmap(NULL, NR_PAGES * page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	ASSERT_NE(MAP_FAILED, arg);
	ASSERT_NE(MAP_FAILED, low);
	signal(SIGSEGV, on_segv);
	if (sigsetjmp(no_int80, 1))
		SKIP(return, "no 32-bit system calls");

	*arg = request(low);
	EXPECT_EQ(0, ioctl_32(self->dev, MLOCK_RS_LOCK, arg));
	EXPECT_EQ(NR_PAGES * page_size, arg->locked);
	EXPECT_EQ(NR_PAGES * page_size, arg->populated);
	EXPECT_STREQ(all('L', NR_PAGES), states(low, NR_PAGES));

	arg->flags = ~KNOWN_FLAGS;
	EXPECT_EQ(-EINVAL, ioctl_32(self->dev, MLOCK_RS_LOCK, arg));
}
#endif

TEST_HARNESS_MAIN
