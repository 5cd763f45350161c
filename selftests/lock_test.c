// SPDX-License-Identifier: GPL-2.0
/*
 * What a LOCK that succeeds does: every page of the range is resident and locked, the result says
 * what was done, and status, smaps, mincore and kpageflags say the same.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include "mlock_rs_test.h"

#define NR_PAGES	16UL

/* A directory on a real disk, if the machine has one. */
#define DISK_ENV	"TEST_DISK"

enum backing {
	ANON,
	SHARED_ANON,
	TMPFS,
	EXT4,
};

FIXTURE(kind)
{
	int dev;
	size_t len;
	char *room, *addr;
};

FIXTURE_VARIANT(kind)
{
	enum backing backing;
	int prot;
	int flags;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(kind, anon) {
	.backing = ANON, .prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(kind, shared_anon) {
	.backing = SHARED_ANON, .prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(kind, tmpfs_shared) {
	.backing = TMPFS, .prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(kind, tmpfs_private) {
	.backing = TMPFS, .prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(kind, tmpfs_read_only) {
	.backing = TMPFS, .prot = PROT_READ, .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(kind, ext4_shared) {
	.backing = EXT4, .prot = PROT_READ | PROT_WRITE, .flags = MAP_SHARED };
FIXTURE_VARIANT_ADD(kind, ext4_private) {
	.backing = EXT4, .prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE };
FIXTURE_VARIANT_ADD(kind, ext4_read_only) {
	.backing = EXT4, .prot = PROT_READ, .flags = MAP_PRIVATE };
/* clang-format on */

/* A new file of @len bytes, all written, without a name. */
static int new_file(const char *dir, size_t len)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/mlock_rs_XXXXXX", dir);
	fd = mkstemp(path);
	if (fd < 0)
		return -errno;
	unlink(path);
	for (; len; len -= page_size) {
		char page[page_size];

		memset(page, 'x', sizeof(page));
		if (write(fd, page, sizeof(page)) != (ssize_t)sizeof(page))
			return -errno;
	}
	return fd;
}

static const char *disk(void)
{
	const char *dir = getenv(DISK_ENV);
	struct statfs fs;

	return dir && !statfs(dir, &fs) && fs.f_type == EXT4_SUPER_MAGIC ? dir : NULL;
}

/*
 * The first @len bytes of twice as many for which one page table will do. The kernel counts a large
 * folio as mlocked if all of it is mapped at once, which takes just one: __folio_add_file_rmap().
 */
static char *in_one_page_table(char *room, size_t len)
{
	uintptr_t next = ((uintptr_t)room + HUGE_SIZE) & ~(HUGE_SIZE - 1);

	return (uintptr_t)room + len > next ? (char *)next : room;
}

FIXTURE_SETUP(kind)
{
	int fd = -1, flags = variant->flags;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->len = NR_PAGES * page_size;

	switch (variant->backing) {
	case ANON:
	case SHARED_ANON:
		flags |= MAP_ANONYMOUS;
		break;
	case TMPFS:
		fd = new_file("/tmp", self->len);
		ASSERT_LE(0, fd);
		break;
	case EXT4:
		if (!disk())
			SKIP(return, "no ext4 directory in " DISK_ENV);
		fd = new_file(disk(), self->len);
		ASSERT_LE(0, fd);
		/* Clean pages can leave the page cache: the call has to read them back. */
		ASSERT_EQ(0, fsync(fd));
		ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
		break;
	}
	self->room = mmap(NULL, 2 * self->len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->room);
	self->addr = in_one_page_table(self->room, self->len);
	ASSERT_EQ(self->addr, mmap(self->addr, self->len, variant->prot, flags | MAP_FIXED, fd, 0));
	no_huge_pages(self->addr, self->len);
	if (fd >= 0)
		close(fd);
}

FIXTURE_TEARDOWN(kind)
{
	munmap(self->room, 2 * self->len);
	close(self->dev);
}

TEST_F(kind, every_page_becomes_locked_and_resident)
{
	/* Nobody has touched the memory: what is resident afterwards was populated by LOCK. */
	ASSERT_STREQ(all('u', NR_PAGES), states(self->addr, NR_PAGES));

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, NULL));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(kind, result_says_what_was_done)
{
	struct mlock_rs_lock res;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, &res));
	EXPECT_EQ(self->len, res.locked);
	EXPECT_EQ(self->len, res.populated);
	EXPECT_EQ(1, res.nr_vmas);
	EXPECT_EQ(0, res.error);
	EXPECT_EQ(0, res.fail_addr);
	/* The request comes back as it was. */
	EXPECT_EQ((uintptr_t)self->addr, res.addr);
	EXPECT_EQ(self->len, res.len);
}

TEST_F(kind, witnesses_agree)
{
	size_t before = vmlck();
	unsigned char vec[NR_PAGES];
	size_t i, resident = 0;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, NULL));

	EXPECT_EQ(self->len, vmlck() - before);
	EXPECT_EQ(self->len, smaps_bytes(self->addr, self->len, "Rss:"));
	EXPECT_EQ(self->len, smaps_bytes(self->addr, self->len, "Locked:"));
	ASSERT_EQ(0, mincore(self->addr, self->len, vec));
	for (i = 0; i < NR_PAGES; i++)
		resident += vec[i] & 1;
	EXPECT_EQ(NR_PAGES, resident);
	/* The folios themselves are counted as mlocked, and reclaim does not look at them. */
	EXPECT_EQ(NR_PAGES, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));
	drain_lru();
	EXPECT_EQ(NR_PAGES, count_kpageflag(self->addr, NR_PAGES, KPF_UNEVICTABLE_BIT));
}

TEST_F(kind, munlock_takes_it_back)
{
	size_t before = vmlck();

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, NULL));
	ASSERT_EQ(0, munlock(self->addr, self->len));
	EXPECT_EQ(before, vmlck());
	EXPECT_STREQ(all('U', NR_PAGES), states(self->addr, NR_PAGES));
	/* mlock counts per folio are balanced, or the pages would stay mlocked for ever. */
	drain_lru();
	EXPECT_EQ(0, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));
}

TEST_F(kind, second_lock_counts_nothing_twice)
{
	struct mlock_rs_lock res;
	size_t once;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, NULL));
	once = vmlck();

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, &res));
	EXPECT_EQ(once, vmlck());
	EXPECT_EQ(0, res.locked);
	EXPECT_EQ(self->len, res.populated);

	/* Locks do not stack (mlock(2)): one munlock is enough. */
	ASSERT_EQ(0, munlock(self->addr, self->len));
	/* A CPU batches the pages that are no longer locked. */
	drain_lru();
	EXPECT_EQ(0, count_kpageflag(self->addr, NR_PAGES, KPF_MLOCKED_BIT));
}

TEST_F(kind, content_is_kept)
{
	const bool is_file = variant->backing == TMPFS || variant->backing == EXT4;
	const bool writable = variant->prot & PROT_WRITE;
	size_t i;

	/* Every second page is resident and dirty (a private file page even copied) before. */
	for (i = 0; writable && i < NR_PAGES; i += 2)
		memset(self->addr + i * page_size, 'a' + i, page_size);

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, self->len, NULL));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
	for (i = 0; i < NR_PAGES; i++) {
		char content = is_file ? 'x' : 0;

		if (writable && i % 2 == 0)
			content = 'a' + i;
		EXPECT_EQ(content, self->addr[i * page_size]);
		EXPECT_EQ(content, self->addr[(i + 1) * page_size - 1]);
	}
}

FIXTURE(range)
{
	int dev;
	char *addr;
};

FIXTURE_SETUP(range)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(range)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

TEST_F(range, middle_of_a_vma)
{
	struct mlock_rs_lock res;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 4 * page_size, 3 * page_size, &res));
	EXPECT_STREQ("uuuuLLLuuuuuuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(1, res.nr_vmas);
	EXPECT_EQ(3 * page_size, res.locked);
}

TEST_F(range, several_protections)
{
	struct mlock_rs_lock res;

	/* Each of these is a VMA of its own: rw, r, rx, w, rw. */
	ASSERT_EQ(0, mprotect(self->addr + 3 * page_size, 3 * page_size, PROT_READ));
	ASSERT_EQ(0, mprotect(self->addr + 6 * page_size, page_size, PROT_READ | PROT_EXEC));
	ASSERT_EQ(0, mprotect(self->addr + 7 * page_size, page_size, PROT_WRITE));

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + page_size, 9 * page_size, &res));
	EXPECT_STREQ("uLLLLLLLLLuuuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(5, res.nr_vmas);
	EXPECT_EQ(9 * page_size, res.locked);
	EXPECT_EQ(9 * page_size, res.populated);
}

TEST_F(range, neighbours_merge)
{
	struct snapshot before, after;

	/*
	 * Locked piece by piece, it is one VMA again in the end. (Resident before, because pieces
	 * that are populated apart get an anon_vma each, and do not merge.)
	 */
	memset(self->addr, 1, NR_PAGES * page_size);
	take_snapshot(&before);
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, 5 * page_size, NULL));
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 9 * page_size, 7 * page_size, NULL));
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 5 * page_size, 4 * page_size, NULL));
	take_snapshot(&after);
	EXPECT_EQ(before.nr_vmas, after.nr_vmas);
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(range, unaligned_ends_round_outwards)
{
	struct mlock_rs_lock res;

	/* Two bytes in two pages. */
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 3 * page_size - 1, 2, &res));
	EXPECT_STREQ("uuLLuuuuuuuuuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(2 * page_size, res.locked);
	EXPECT_EQ(2 * page_size, res.populated);

	/* The last byte of a page does not reach into the next one. */
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 6 * page_size + 1, page_size - 1, NULL));
	EXPECT_STREQ("uuLLuuLuuuuuuuuu", states(self->addr, NR_PAGES));
}

TEST_F(range, unaligned_ends_round_like_mlock)
{
	size_t offsets[] = { 0, 1, page_size / 2, page_size - 1 };
	size_t lens[] = { 1, page_size - 1, page_size, page_size + 1, 3 * page_size };
	size_t o, l;

	for (o = 0; o < ARRAY_SIZE(offsets); o++) {
		for (l = 0; l < ARRAY_SIZE(lens); l++) {
			char *mine = map_region(6), *theirs = map_region(6);

			ASSERT_EQ(0, mlock_2(theirs + page_size + offsets[o], lens[l]));
			ASSERT_EQ(0, mlock_rs(self->dev, mine + page_size + offsets[o], lens[l],
					      NULL));
			EXPECT_STREQ(states(theirs, 6), states(mine, 6)) {
				TH_LOG("offset %zu, length %zu", offsets[o], lens[l]);
			}
			unmap_region(mine, 6);
			unmap_region(theirs, 6);
		}
	}
}

TEST_F(range, nothing_to_lock)
{
	struct mlock_rs_lock res;
	struct snapshot before, after;

	take_snapshot(&before);
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, 0, &res));
	EXPECT_EQ(0, res.locked);
	EXPECT_EQ(0, res.populated);
	EXPECT_EQ(0, res.nr_vmas);
	/* As for mlock(2), it does not matter whether the address is mapped. */
	EXPECT_EQ(0, mlock_2(NULL, 0));
	EXPECT_EQ(0, mlock_rs(self->dev, NULL, 0, NULL));
	take_snapshot(&after);
	EXPECT_STREQ("", snapshot_diff(&before, &after));
}

TEST_F(range, no_bytes_of_a_page)
{
	struct mlock_rs_lock res;

	/* mlock(2) rounds the start down first: 0 bytes inside of a page are that page. */
	ASSERT_EQ(0, mlock_2(self->addr + 1, 0));
	EXPECT_EQ('L', states(self->addr, 1)[0]);
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 4 * page_size + 1, 0, &res));
	EXPECT_EQ('L', states(self->addr + 4 * page_size, 1)[0]);
	EXPECT_EQ(page_size, res.locked);
}

TEST_F(range, partly_locked_before)
{
	struct mlock_rs_lock res;
	size_t before = vmlck();

	ASSERT_EQ(0, mlock_2(self->addr + 4 * page_size, 4 * page_size));
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 2 * page_size, 4 * page_size, &res));
	EXPECT_STREQ("uuLLLLLLuuuuuuuu", states(self->addr, NR_PAGES));
	/* Two of the four pages were in VmLck. */
	EXPECT_EQ(2 * page_size, res.locked);
	EXPECT_EQ(4 * page_size, res.populated);
	EXPECT_EQ(6 * page_size, vmlck() - before);
}

TEST_F(range, locked_on_fault_before)
{
	struct mlock_rs_lock res;
	size_t before = vmlck();

	/* ONFAULT memory is in VmLck already, but not resident. LOCK makes it fully locked. */
	ASSERT_EQ(0, mlock_onfault(self->addr, 8 * page_size));
	ASSERT_STREQ("ffffffffuuuuuuuu", states(self->addr, NR_PAGES));

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr + 4 * page_size, 8 * page_size, &res));
	EXPECT_STREQ("ffffLLLLLLLLuuuu", states(self->addr, NR_PAGES));
	EXPECT_EQ(4 * page_size, res.locked);
	EXPECT_EQ(8 * page_size, res.populated);
	EXPECT_EQ(12 * page_size, vmlck() - before);
}

TEST_F(range, locked_but_not_resident)
{
	struct mlock_rs_lock res;

	/* MADV_DONTNEED_LOCKED takes the pages away and leaves the flag: LOCK brings them back. */
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	if (madvise(self->addr, 4 * page_size, 24 /* MADV_DONTNEED_LOCKED */))
		SKIP(return, "no MADV_DONTNEED_LOCKED");
	ASSERT_STREQ("llllLLLLLLLLLLLL", states(self->addr, NR_PAGES));

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, &res));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(0, res.locked);
}

TEST_F(range, future_memory_is_not_locked)
{
	char *later;

	/* LOCK is about a range. Only mlockall(MCL_FUTURE) is about what comes. */
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	later = map_region(4);
	EXPECT_STREQ("uuuu", states(later, 4));
	unmap_region(later, 4);
}

TEST_F(range, replaced_memory_is_not_locked)
{
	size_t before = vmlck();

	/* The lock belongs to the mapping: a new mapping at the same address is unlocked. */
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	ASSERT_NE(MAP_FAILED, mmap(self->addr + page_size, page_size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	EXPECT_STREQ("LuLLLLLLLLLLLLLL", states(self->addr, NR_PAGES));
	EXPECT_EQ((NR_PAGES - 1) * page_size, vmlck() - before);
}

TEST_F(range, huge_page)
{
	size_t huge = 2UL << 20, len = 2 * huge;
	char *map = mmap(NULL, len + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	char *addr = (char *)(((uintptr_t)map + huge - 1) & ~(huge - 1));
	struct mlock_rs_lock res;

	ASSERT_NE(MAP_FAILED, map);
	if (madvise(addr, len, MADV_HUGEPAGE))
		SKIP(return, "no transparent huge pages");

	/* The range ends in the middle of the second huge page. */
	ASSERT_EQ(0, mlock_rs(self->dev, addr, len - huge / 2, &res));
	EXPECT_EQ(len - huge / 2, res.locked);
	EXPECT_EQ(len - huge / 2, res.populated);
	EXPECT_STREQ(all('L', (len - huge / 2) / page_size),
		     states(addr, (len - huge / 2) / page_size));
	ASSERT_EQ(0, munmap(map, len + huge));
	EXPECT_EQ(0, vmlck());
}

TEST_HARNESS_MAIN
