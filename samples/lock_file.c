// SPDX-License-Identifier: GPL-2.0
/*
 * Locks a file into memory, piece by piece, and says how far it is. The file stays there until the
 * program ends; with --wait that is when somebody ends it.
 *
 *	cc -I../include/uapi -o lock_file lock_file.c && ./lock_file FILE [--wait]
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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* One call locks so much: other threads' mmap waits no longer than for that. */
#define PIECE	(4UL << 20)

static int fail(const char *what)
{
	fprintf(stderr, "lock_file: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	double start = now();
	size_t done, len;
	struct stat st;
	void *addr;
	int dev, fd;

	if (argc < 2)
		return fprintf(stderr, "usage: lock_file FILE [--wait]\n"), EXIT_FAILURE;
	dev = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fail(MLOCK_RS_DEVICE);
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return fail(argv[1]);

	/* Shared and read-only: these are the pages of the page cache themselves. */
	addr = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (addr == MAP_FAILED)
		return fail(argv[1]);

	for (done = 0; done < (size_t)st.st_size; done += len) {
		struct mlock_rs_lock lock = { .addr = (unsigned long)addr + done };

		len = st.st_size - done < PIECE ? st.st_size - done : PIECE;
		lock.len = len;
		if (ioctl(dev, MLOCK_RS_LOCK, &lock)) {
			fprintf(stderr, "lock_file: after %zu bytes\n",
				done + (size_t)lock.populated);
			return fail(argv[1]);
		}
		printf("%3.0f %% %zu of %zu MiB, %.0f MiB/s\n",
		       100.0 * (done + len) / st.st_size, (done + len) >> 20,
		       (size_t)st.st_size >> 20, (done + len) / (now() - start) / (1 << 20));
	}
	if (argc > 2)
		pause();
	return EXIT_SUCCESS;
}
