// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that are swapped out: LOCK brings them back as mlock(2) does, whatever kind of memory they
 * belong to, and afterwards they stay.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/shm.h>

#include "locker.h"
#include "memcg.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"
#include "thread_state.h"
#include "twin.h"

#define NR_PAGES	64UL
#define DISK_BYTES	(16UL << 20)

enum memory { ANONYMOUS, SYSTEM_V, MEMFD, PRIVATE_FILE };

FIXTURE(swap)
{
	int dev;
	struct slow_disk disk;
	struct memcg memcg;
	/* Memory for LOCK and its twin for mlock(2). */
	char *mine, *theirs;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(swap)
{
	enum memory memory;
	/* Every how many pages one is swapped out. */
	size_t step;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(swap, anonymous) { .memory = ANONYMOUS, .step = 1 };
FIXTURE_VARIANT_ADD(swap, anonymous_in_part) { .memory = ANONYMOUS, .step = 3 };
FIXTURE_VARIANT_ADD(swap, system_v) { .memory = SYSTEM_V, .step = 1 };
FIXTURE_VARIANT_ADD(swap, system_v_in_part) { .memory = SYSTEM_V, .step = 3 };
FIXTURE_VARIANT_ADD(swap, memfd) { .memory = MEMFD, .step = 1 };
FIXTURE_VARIANT_ADD(swap, private_file_after_cow) { .memory = PRIVATE_FILE, .step = 1 };
/* clang-format on */

static char *map_memory(struct __test_metadata *_metadata, enum memory memory)
{
	const size_t len = NR_PAGES * page_size;
	char *addr = map_region(NR_PAGES);
	size_t i;
	int fd;

	if (memory == SYSTEM_V) {
		fd = shmget(IPC_PRIVATE, len, IPC_CREAT | 0600);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, munmap(addr, len));
		ASSERT_EQ(addr, shmat(fd, addr, 0));
		ASSERT_EQ(0, shmctl(fd, IPC_RMID, NULL));
	} else if (memory != ANONYMOUS) {
		fd = memfd_create("swap_test", MFD_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ftruncate(fd, len));
		ASSERT_EQ(addr, mmap(addr, len, PROT_READ | PROT_WRITE,
				     (memory == MEMFD ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED,
				     fd, 0));
		close(fd);
	}
	no_huge_pages(addr, len);
	for (i = 0; i < NR_PAGES; i++)
		memset(addr + i * page_size, page_byte(i), page_size);
	return addr;
}

FIXTURE_SETUP(swap)
{
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, DISK_BYTES);
	if (!ret)
		ret = slow_disk_swapon(&self->disk);
	if (ret)
		SKIP(return, "no swap: %s", strerror(-ret));
	/* What is in the group can be reclaimed, and nothing else is. */
	ASSERT_EQ(0, memcg_create(&self->memcg, "swap_test"));
	ASSERT_EQ(0, memcg_enter(&self->memcg));
	self->mine = map_memory(_metadata, variant->memory);
	self->theirs = map_memory(_metadata, variant->memory);
}

FIXTURE_TEARDOWN(swap)
{
	memcg_leave();
	memcg_destroy(&self->memcg);
	if (self->mine)
		munmap(self->mine, NR_PAGES * page_size);
	if (self->theirs)
		munmap(self->theirs, NR_PAGES * page_size);
	slow_disk_destroy(&self->disk);
	close(self->dev);
}

/* Bytes that are in the swap. For shared memory only the file knows, and smaps asks it. */
static size_t swapped_bytes(const char *addr)
{
	return smaps_bytes(addr, NR_PAGES * page_size, "Swap:");
}

static void page_out(struct __test_metadata *_metadata, FIXTURE_DATA(swap) * self, char *addr,
		     size_t step)
{
	const size_t expected = (NR_PAGES + step - 1) / step * page_size;
	__u64 begin = now_ns();
	size_t i;

	do {
		for (i = 0; i < NR_PAGES; i += step)
			ASSERT_EQ(0, madvise(addr + i * page_size, page_size, MADV_PAGEOUT));
		/* Written pages stay cached until somebody reclaims them. */
		memcg_set(&self->memcg, "memory.reclaim", "64K");
		ASSERT_FALSE(give_up(begin)) {
			TH_LOG("%zu of %zu bytes swapped out", swapped_bytes(addr), expected);
		}
	} while (swapped_bytes(addr) < expected);
}

TEST_F(swap, comes_back_as_with_mlock)
{
	size_t i;

	page_out(_metadata, self, self->mine, variant->step);
	page_out(_metadata, self, self->theirs, variant->step);
	EXPECT_LT(0, count(states(self->mine, NR_PAGES), 'u'));

	EXPECT_EQ(0, lock_twins(_metadata, self->dev, self->mine, self->theirs, NR_PAGES,
				&self->res));
	EXPECT_EQ(NR_PAGES * page_size, self->res.locked);
	EXPECT_STREQ(all('L', NR_PAGES), states(self->mine, NR_PAGES));
	EXPECT_EQ(swapped_bytes(self->theirs), swapped_bytes(self->mine));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(page_byte(i), self->mine[i * page_size + 17]);
}

TEST_F(swap, does_not_go_out_again)
{
	const size_t len = NR_PAGES * page_size;
	int i;

	page_out(_metadata, self, self->mine, variant->step);
	ASSERT_EQ(0, mlock_rs(self->dev, self->mine, len, NULL));
	/*
	 * It is not for MADV_PAGEOUT, and reclaim passes it by. (Anonymous pages that come from the
	 * swap are not marked as mlocked before reclaim first looks at them, also with mlock(2).)
	 */
	for (i = 0; i < 10; i++) {
		EXPECT_EQ(-EINVAL, madvise(self->mine, len, MADV_PAGEOUT) ? -errno : 0);
		memcg_set(&self->memcg, "memory.reclaim", "16M");
	}
	EXPECT_STREQ(all('L', NR_PAGES), states(self->mine, NR_PAGES));
	/* Unlocked, it goes. */
	ASSERT_EQ(0, mlock_rs_unlock(self->dev, self->mine, len, NULL));
	page_out(_metadata, self, self->mine, 1);
	EXPECT_EQ(len, swapped_bytes(self->mine));
}

TEST_F(swap, locked_on_fault_stays_out)
{
	size_t len = NR_PAGES * page_size;

	page_out(_metadata, self, self->mine, 1);
	page_out(_metadata, self, self->theirs, 1);
	EXPECT_EQ(0, mlock_onfault(self->theirs, len));
	EXPECT_EQ(0, mlock_rs_flags(self->dev, self->mine, len, MLOCK_RS_LOCK_ONFAULT, NULL));
	EXPECT_EQ(len, swapped_bytes(self->mine));
	EXPECT_STREQ(states(self->theirs, NR_PAGES), states(self->mine, NR_PAGES));
	EXPECT_STREQ(all('f', NR_PAGES), states(self->mine, NR_PAGES));
	/* Until somebody wants it. */
	EXPECT_EQ(page_byte(3), self->mine[3 * page_size]);
	EXPECT_EQ('F', states(self->mine, NR_PAGES)[3]);
}

TEST_HARNESS_MAIN
