// SPDX-License-Identifier: GPL-2.0
/*
 * When a page cannot be populated: the VMAs stay locked as mlock(2) leaves them, and the result
 * says how far the call came. Each test does the same to a twin with mlock(2).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "mlock_rs_test.h"
#include "twin.h"

#define NR_PAGES	8UL

FIXTURE(populate)
{
	int dev;
	/* Memory for LOCK and its twin for mlock(2). */
	char *mine, *theirs;
	struct mlock_rs_lock res;
};

FIXTURE_SETUP(populate)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->mine = map_region(NR_PAGES);
	self->theirs = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(populate)
{
	unmap_region(self->mine, NR_PAGES);
	unmap_region(self->theirs, NR_PAGES);
	close(self->dev);
}

static int lock_all(struct __test_metadata *_metadata, FIXTURE_DATA(populate) * self)
{
	return lock_twins(_metadata, self->dev, self->mine, self->theirs, NR_PAGES, &self->res);
}

TEST_F(populate, prot_none_in_the_middle)
{
	ASSERT_EQ(0, mprotect(self->mine + 3 * page_size, 2 * page_size, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->theirs + 3 * page_size, 2 * page_size, PROT_NONE));

	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	/* All of it has the flag; what comes before the page is resident. */
	EXPECT_STREQ("LLLlllll", states(self->mine, NR_PAGES));
	EXPECT_EQ((uintptr_t)self->mine + 3 * page_size, self->res.fail_addr);
	EXPECT_EQ(3 * page_size, self->res.populated);
	EXPECT_EQ(3, self->res.nr_vmas);
}

TEST_F(populate, prot_none_at_the_start)
{
	ASSERT_EQ(0, mprotect(self->mine, page_size, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->theirs, page_size, PROT_NONE));

	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	EXPECT_STREQ("llllllll", states(self->mine, NR_PAGES));
	EXPECT_EQ((uintptr_t)self->mine, self->res.fail_addr);
	EXPECT_EQ(0, self->res.populated);
}

TEST_F(populate, prot_none_with_pages)
{
	/* The pages are there, but not accessible. */
	memset(self->mine, 1, NR_PAGES * page_size);
	memset(self->theirs, 1, NR_PAGES * page_size);
	ASSERT_EQ(0, mprotect(self->mine + page_size, page_size, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->theirs + page_size, page_size, PROT_NONE));

	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	EXPECT_EQ((uintptr_t)self->mine + page_size, self->res.fail_addr);
	EXPECT_EQ(page_size, self->res.populated);
}

TEST_F(populate, guard_region)
{
	const int madv_guard_install = 102;

	if (madvise(self->mine + 5 * page_size, page_size, madv_guard_install))
		SKIP(return, "no guard regions");
	ASSERT_EQ(0, madvise(self->theirs + 5 * page_size, page_size, madv_guard_install));

	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	EXPECT_EQ((uintptr_t)self->mine + 5 * page_size, self->res.fail_addr);
	EXPECT_EQ(5 * page_size, self->res.populated);
}

static void map_file(struct __test_metadata *_metadata, char *addr, size_t file_pages, int prot,
		     int flags)
{
	char page[page_size];
	int fd = memfd_create("mlock_rs", MFD_CLOEXEC);

	memset(page, 'x', sizeof(page));
	ASSERT_LE(0, fd);
	while (file_pages--)
		ASSERT_EQ((ssize_t)sizeof(page), write(fd, page, sizeof(page)));
	ASSERT_NE(MAP_FAILED, mmap(addr, NR_PAGES * page_size, prot, flags | MAP_FIXED, fd, 0));
	no_huge_pages(addr, NR_PAGES * page_size);
	close(fd);
}

TEST_F(populate, past_the_end_of_a_shared_file)
{
	map_file(_metadata, self->mine, 6, PROT_READ | PROT_WRITE, MAP_SHARED);
	map_file(_metadata, self->theirs, 6, PROT_READ | PROT_WRITE, MAP_SHARED);

	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	EXPECT_STREQ("LLLLLLll", states(self->mine, NR_PAGES));
	EXPECT_EQ((uintptr_t)self->mine + 6 * page_size, self->res.fail_addr);
	EXPECT_EQ(6 * page_size, self->res.populated);
}

TEST_F(populate, past_the_end_of_a_private_file)
{
	map_file(_metadata, self->mine, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	map_file(_metadata, self->theirs, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);

	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	EXPECT_EQ((uintptr_t)self->mine + 6 * page_size, self->res.fail_addr);
}

TEST_F(populate, private_file_after_cow)
{
	size_t i;

	map_file(_metadata, self->mine, NR_PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	map_file(_metadata, self->theirs, NR_PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	for (i = 0; i < NR_PAGES; i += 3) {
		self->mine[i * page_size] = 'y';
		self->theirs[i * page_size] = 'y';
	}

	EXPECT_EQ(0, lock_all(_metadata, self));
	EXPECT_STREQ("LLLLLLLL", states(self->mine, NR_PAGES));
	/* A writable private page is copied now, so that a write to locked memory is no fault. */
	EXPECT_EQ(NR_PAGES * page_size,
		  smaps_bytes(self->mine, NR_PAGES * page_size, "Anonymous:"));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(i % 3 ? 'x' : 'y', self->mine[i * page_size]);
}

TEST_F(populate, shared_file_is_not_dirtied)
{
	const int prot = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;
	const size_t size = NR_PAGES * page_size;
	const char *dir = getenv("TEST_DISK");
	char path[256];
	int fd;

	if (!dir)
		SKIP(return, "needs a file on a disk: TEST_DISK=");
	snprintf(path, sizeof(path), "%s/mlock_rs_XXXXXX", dir);
	fd = mkstemp(path);
	ASSERT_LE(0, fd);
	unlink(path);
	/* On the disk, so that no page is dirty; pages of tmpfs always are. */
	ASSERT_EQ(0, write_cold(fd, 2 * NR_PAGES));
	ASSERT_EQ(self->mine, mmap(self->mine, size, prot, flags, fd, 0));
	ASSERT_EQ(self->theirs, mmap(self->theirs, size, prot, flags, fd, size));

	EXPECT_EQ(0, lock_all(_metadata, self));
	EXPECT_EQ(0, count_kpageflag(self->theirs, NR_PAGES, KPF_DIRTY_BIT));
	EXPECT_EQ(0, count_kpageflag(self->mine, NR_PAGES, KPF_DIRTY_BIT));
	/* What is written is. */
	self->mine[0] = 'y';
	EXPECT_EQ(1, count_kpageflag(self->mine, NR_PAGES, KPF_DIRTY_BIT));
	close(fd);
}

TEST_F(populate, never_written_and_read_only)
{
	/* Populated by reading: the page is the zero page, which is locked by nature. */
	ASSERT_EQ(0, mprotect(self->mine, NR_PAGES * page_size, PROT_READ));
	ASSERT_EQ(0, mprotect(self->theirs, NR_PAGES * page_size, PROT_READ));

	EXPECT_EQ(0, lock_all(_metadata, self));
	EXPECT_EQ(count_kpageflag(self->theirs, NR_PAGES, KPF_MLOCKED_BIT),
		  count_kpageflag(self->mine, NR_PAGES, KPF_MLOCKED_BIT));
}

TEST_F(populate, only_executable)
{
	ASSERT_EQ(0, mprotect(self->mine, NR_PAGES * page_size, PROT_EXEC));
	ASSERT_EQ(0, mprotect(self->theirs, NR_PAGES * page_size, PROT_EXEC));
	/* Where the CPU has protection keys the kernel cannot read it either: -ENOMEM. */
	lock_all(_metadata, self);
}

TEST_F(populate, only_writable)
{
	ASSERT_EQ(0, mprotect(self->mine, NR_PAGES * page_size, PROT_WRITE));
	ASSERT_EQ(0, mprotect(self->theirs, NR_PAGES * page_size, PROT_WRITE));
	EXPECT_EQ(0, lock_all(_metadata, self));
	EXPECT_STREQ("LLLLLLLL", states(self->mine, NR_PAGES));
}

TEST_F(populate, only_writable_and_shared)
{
	/* Faulted in for reading, by force: a write fault would dirty it. */
	map_file(_metadata, self->mine, NR_PAGES, PROT_WRITE, MAP_SHARED);
	map_file(_metadata, self->theirs, NR_PAGES, PROT_WRITE, MAP_SHARED);

	EXPECT_EQ(0, lock_all(_metadata, self));
	EXPECT_STREQ("LLLLLLLL", states(self->mine, NR_PAGES));
}

TEST_F(populate, read_before_it_is_written)
{
	size_t i;

	/* The zero page is mapped. A locked writable page has to be one of its own. */
	for (i = 0; i < NR_PAGES; i++) {
		ASSERT_EQ(0, self->mine[i * page_size]);
		ASSERT_EQ(0, self->theirs[i * page_size]);
	}
	EXPECT_EQ(0, lock_all(_metadata, self));
	EXPECT_EQ(NR_PAGES * page_size,
		  smaps_bytes(self->mine, NR_PAGES * page_size, "Anonymous:"));
	EXPECT_EQ(NR_PAGES, count_kpageflag(self->mine, NR_PAGES, KPF_MLOCKED_BIT));
}

TEST_F(populate, locked_on_fault_with_prot_none)
{
	ASSERT_EQ(0, mlock_onfault(self->mine, NR_PAGES * page_size));
	ASSERT_EQ(0, mlock_onfault(self->theirs, NR_PAGES * page_size));
	ASSERT_EQ(0, mprotect(self->mine + page_size, page_size, PROT_NONE));
	ASSERT_EQ(0, mprotect(self->theirs + page_size, page_size, PROT_NONE));

	/* Nothing new in VmLck, and yet no longer on fault. */
	EXPECT_EQ(-ENOMEM, lock_all(_metadata, self));
	EXPECT_EQ(0, self->res.locked);
	EXPECT_STREQ("Llllllll", states(self->mine, NR_PAGES));
}

TEST_HARNESS_MAIN
