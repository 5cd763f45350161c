// SPDX-License-Identifier: GPL-2.0
/*
 * While LOCK waits for a page, whoever only looks at the address space passes, from inside and from
 * outside. When a writer waits behind LOCK, whoever needs the mmap lock for reading waits behind
 * the writer; but /proc/PID/maps and smaps do not need it, nor do most page faults.
 *
 * Documentation/interleavings.md has the results in a table.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include "held_call.h"
#include "mlock_rs_test.h"

#define HELD_PAGE	5UL

/* Reads a file of /proc/PID from its start to its end. */
static int read_proc(const struct held_call *h, const char *name)
{
	static char buf[65536];
	char path[48];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", h->pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	n = n < 0 ? -errno : 0;
	close(fd);
	return n;
}

#define READ_PROC(name) \
	static int read_##name(struct held_call *h) \
	{ \
		return read_proc(h, #name); \
	}

READ_PROC(stat)
READ_PROC(status)
READ_PROC(maps)
READ_PROC(smaps)
READ_PROC(smaps_rollup)
READ_PROC(cmdline)
READ_PROC(environ)

/* Where the pages of the range are: it says which are there, whoever holds the lock. */
static int read_pagemap(struct held_call *h)
{
	__u64 entries[HELD_NR_PAGES];
	char path[48];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", h->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = pread(fd, entries, sizeof(entries), (uintptr_t)h->addr / page_size * sizeof(__u64));
	close(fd);
	if (n != sizeof(entries))
		return -EIO;
	return entries[HELD_READY_PAGE] >> 63 ? 0 : -EBADMSG;
}

/* A debugger's look. */
static int read_mem(struct held_call *h)
{
	char path[48], byte;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", h->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = pread(fd, &byte, 1, (uintptr_t)h->addr + HELD_READY_PAGE * page_size);
	close(fd);
	if (n != 1)
		return -EIO;
	return byte == page_byte(HELD_READY_PAGE) ? 0 : -EBADMSG;
}

static int query(struct held_call *h)
{
	struct mlock_rs_query res;
	int ret = mlock_rs_query(h->dev, h->addr, HELD_NR_PAGES * page_size, &res);

	return ret || res.locked == HELD_NR_PAGES * page_size ? ret : -EBADMSG;
}

static int touch(const char *addr, size_t page)
{
	return __atomic_load_n(addr, __ATOMIC_RELAXED) == page_byte(page) ? 0 : -EBADMSG;
}

/* A page that is there. */
static int touch_resident(struct held_call *h)
{
	return touch(h->addr + HELD_READY_PAGE * page_size, HELD_READY_PAGE);
}

/* A page fault that has to read. */
static int touch_cold_page(struct held_call *h)
{
	return touch(h->cold, HELD_NR_PAGES);
}

/* A page fault. */
static int touch_new_page(struct held_call *h)
{
	__atomic_store_n(h->anon + page_size, 1, __ATOMIC_RELAXED);
	return 0;
}

/* The same by the kernel, for a system call. */
static int touch_in_a_system_call(struct held_call *h)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, h->anon + 2 * page_size, 1);
	close(fd);
	return n == 1 ? 0 : -EIO;
}

/* The first one of a VMA, which has no anon_vma yet. */
static int touch_new_vma(struct held_call *h)
{
	__atomic_store_n(h->fresh, 1, __ATOMIC_RELAXED);
	return 0;
}

static int dontneed(struct held_call *h)
{
	return madvise(h->anon, page_size, MADV_DONTNEED) ? -errno : 0;
}

static int exit_thread(struct held_call *h)
{
	(void)h;
	return syscall(SYS_exit, 0);
}

/* What waits behind LOCK, so that others can wait behind it. */
static int change(struct held_call *h)
{
	return mprotect(h->elsewhere, page_size, PROT_READ) ? -errno : 0;
}

FIXTURE(reader)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(reader)
{
	enum held_thread_name who;
	int (*run)(struct held_call *h);
	/* Whether it waits behind a writer that waits. */
	bool waits;
	/* Whether it never returns when all is well. */
	bool exits;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(reader, stat) { .who = OUTSIDE, .run = read_stat };
FIXTURE_VARIANT_ADD(reader, status) { .who = OUTSIDE, .run = read_status };
FIXTURE_VARIANT_ADD(reader, maps) { .who = OUTSIDE, .run = read_maps };
FIXTURE_VARIANT_ADD(reader, smaps) { .who = OUTSIDE, .run = read_smaps };
FIXTURE_VARIANT_ADD(reader, smaps_rollup) {
	.who = OUTSIDE, .run = read_smaps_rollup, .waits = true };
FIXTURE_VARIANT_ADD(reader, pagemap) { .who = OUTSIDE, .run = read_pagemap, .waits = true };
FIXTURE_VARIANT_ADD(reader, cmdline) { .who = OUTSIDE, .run = read_cmdline, .waits = true };
FIXTURE_VARIANT_ADD(reader, environ) { .who = OUTSIDE, .run = read_environ, .waits = true };
FIXTURE_VARIANT_ADD(reader, mem) { .who = OUTSIDE, .run = read_mem, .waits = true };
FIXTURE_VARIANT_ADD(reader, query) { .who = THIRD, .run = query, .waits = true };
FIXTURE_VARIANT_ADD(reader, touch_resident) { .who = THIRD, .run = touch_resident };
FIXTURE_VARIANT_ADD(reader, touch_new_page) { .who = THIRD, .run = touch_new_page };
FIXTURE_VARIANT_ADD(reader, touch_in_a_system_call) {
	.who = THIRD, .run = touch_in_a_system_call, .waits = true };
FIXTURE_VARIANT_ADD(reader, touch_cold_page) {
	.who = THIRD, .run = touch_cold_page, .waits = true };
FIXTURE_VARIANT_ADD(reader, touch_new_vma) {
	.who = THIRD, .run = touch_new_vma, .waits = true };
FIXTURE_VARIANT_ADD(reader, dontneed) { .who = THIRD, .run = dontneed };
FIXTURE_VARIANT_ADD(reader, exit_thread) {
	.who = THIRD, .run = exit_thread, .waits = true, .exits = true };
/* clang-format on */

FIXTURE_SETUP(reader)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->held = held_start(self->dev, 1U << HELD_PAGE);
	if (!self->held)
		SKIP(return, "no FUSE: %s", strerror(errno));
}

FIXTURE_TEARDOWN(reader)
{
	if (self->held)
		held_stop(self->held);
	close(self->dev);
}

static void expect_read(struct __test_metadata *_metadata, const struct held_call *h,
			const FIXTURE_VARIANT(reader) * variant)
{
	EXPECT_EQ(variant->exits ? -EINPROGRESS : 0, h->thread[variant->who].ret);
}

TEST_F_TIMEOUT(reader, while_lock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, variant->who, variant->run);
	ASSERT_TRUE(held_returns(h, variant->who));
	expect_read(_metadata, h, variant);
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
}

TEST_F_TIMEOUT(reader, behind_a_writer_while_lock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, change);
	ASSERT_TRUE(held_waits_to_write(h, OTHER));
	held_go(h, variant->who, variant->run);
	ASSERT_TRUE(variant->waits ? held_waits_to_read(h, variant->who) :
				     held_returns(h, variant->who));
	EXPECT_EQ(!variant->waits, held_returned(h, variant->who));
	EXPECT_FALSE(held_returned(h, OTHER));
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	ASSERT_TRUE(held_returns(h, OTHER));
	ASSERT_TRUE(held_returns(h, variant->who));
	expect_read(_metadata, h, variant);
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_EQ(0, h->thread[OTHER].ret);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
}

/* No writer waits for mlock(2), so there is nothing to wait behind. */
TEST_F_TIMEOUT(reader, after_a_writer_while_mlock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_mlock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, change);
	ASSERT_TRUE(held_returns(h, OTHER));
	held_go(h, variant->who, variant->run);
	ASSERT_TRUE(held_returns(h, variant->who));
	expect_read(_metadata, h, variant);
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
}

TEST_HARNESS_MAIN
