// SPDX-License-Identifier: GPL-2.0
/*
 * Locks a buffer with /dev/mlock_rs, asks whether it is locked, and unlocks it with munlock(2).
 *
 *	cc -I../include/uapi -o lock_buffer lock_buffer.c && ./lock_buffer [MiB]
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mlock_rs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int fail(const char *what)
{
	fprintf(stderr, "lock_buffer: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

/* What the kernel says of the range, at one instant. */
static int show(int dev, void *buffer, size_t len)
{
	struct mlock_rs_query query = { .addr = (unsigned long)buffer, .len = len };

	if (ioctl(dev, MLOCK_RS_QUERY, &query))
		return -1;
	printf("of %llu bytes %llu are locked and %llu in memory\n", query.mapped, query.locked,
	       query.resident);
	return 0;
}

int main(int argc, char **argv)
{
	size_t len = (argc > 1 ? strtoul(argv[1], NULL, 0) : 1) << 20;
	struct mlock_rs_lock lock = { .len = len };
	void *buffer;
	int dev;

	dev = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fail(MLOCK_RS_DEVICE);
	buffer = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		return fail("mmap");
	if (show(dev, buffer, len))
		return fail("query");

	/* The pages are faulted in by the call; nothing has to be written to them before. */
	lock.addr = (unsigned long)buffer;
	if (ioctl(dev, MLOCK_RS_LOCK, &lock)) {
		if (lock.fail_addr)
			fprintf(stderr, "lock_buffer: it failed at %#llx\n", lock.fail_addr);
		return fail("lock");
	}
	if (show(dev, buffer, len))
		return fail("query");

	if (munlock(buffer, len) || show(dev, buffer, len))
		return fail("munlock");
	return EXIT_SUCCESS;
}
