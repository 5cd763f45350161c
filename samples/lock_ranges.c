// SPDX-License-Identifier: GPL-2.0
/*
 * Locks three buffers at one instant with LOCKV; and shows that a list with a mistake changes
 * nothing.
 *
 *	cc -I../include/uapi -o lock_ranges lock_ranges.c && ./lock_ranges
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mlock_rs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define NR	3

static int fail(const char *what)
{
	fprintf(stderr, "lock_ranges: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

static int show(int dev, const struct mlock_rs_range *ranges)
{
	int i;

	for (i = 0; i < NR; i++) {
		struct mlock_rs_query query = { .addr = ranges[i].addr, .len = ranges[i].len };

		if (ioctl(dev, MLOCK_RS_QUERY, &query))
			return fail("query");
		printf("buffer %d: %llu KiB mapped, %llu KiB locked\n", i + 1, query.mapped >> 10,
		       query.locked >> 10);
	}
	return EXIT_SUCCESS;
}

int main(void)
{
	struct mlock_rs_range ranges[NR] = { { .len = 64 << 10 }, { .len = 256 << 10 },
					     { .len = 128 << 10 } };
	struct mlock_rs_lockv lock = { .ranges = (unsigned long)ranges, .nr_ranges = NR };
	int dev, i;

	dev = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fail(MLOCK_RS_DEVICE);
	for (i = 0; i < NR; i++) {
		void *addr = mmap(NULL, ranges[i].len, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (addr == MAP_FAILED)
			return fail("mmap");
		ranges[i].addr = (unsigned long)addr;
	}

	/* The last page of the second one goes: a hole in the list. */
	if (munmap((void *)(unsigned long)(ranges[1].addr + (252 << 10)), 4 << 10))
		return fail("munmap");
	if (!ioctl(dev, MLOCK_RS_LOCKV, &lock))
		return fprintf(stderr, "lock_ranges: a hole was locked\n"), EXIT_FAILURE;
	printf("with a hole %llu KiB into buffer 2: %s\n", (lock.fail_addr - ranges[1].addr) >> 10,
	       strerror(errno));
	if (show(dev, ranges))
		return EXIT_FAILURE;

	ranges[1].len = 252 << 10;
	if (ioctl(dev, MLOCK_RS_LOCKV, &lock))
		return fail("lock");
	printf("without: %llu KiB locked at once\n", lock.locked >> 10);
	return show(dev, ranges);
}
