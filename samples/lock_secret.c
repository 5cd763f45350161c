// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps a key out of swap and core dumps: the page is locked before anything is written to it, and
 * zeroed before it is unlocked.
 *
 *	cc -I../include/uapi -o lock_secret lock_secret.c && ./lock_secret
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
#include <sys/random.h>
#include <unistd.h>

#define KEY_LEN	32

static int fail(const char *what)
{
	fprintf(stderr, "lock_secret: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

int main(void)
{
	size_t len = sysconf(_SC_PAGESIZE), i;
	struct mlock_rs_lock lock = { .len = len };
	struct mlock_rs_query query = { .len = len };
	unsigned char *key, used = 0, rest = 0;
	int dev;

	dev = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fail(MLOCK_RS_DEVICE);

	/* A page of its own: locks do not stack, so a neighbour's munlock would unlock it too. */
	key = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (key == MAP_FAILED)
		return fail("mmap");
	/* Not in a core dump, not in a child. */
	if (madvise(key, len, MADV_DONTDUMP) || madvise(key, len, MADV_WIPEONFORK))
		return fail("madvise");
	lock.addr = (unsigned long)key;
	if (ioctl(dev, MLOCK_RS_LOCK, &lock))
		return fail("lock");

	if (getrandom(key, KEY_LEN, 0) != KEY_LEN)
		return fail("getrandom");
	for (i = 0; i < KEY_LEN; i++)
		used |= key[i];

	query.addr = (unsigned long)key;
	if (ioctl(dev, MLOCK_RS_QUERY, &query))
		return fail("query");
	printf("a key of %d bytes, %s, %s\n", KEY_LEN, used ? "in use" : "not there",
	       query.state & MLOCK_RS_QUERY_LOCKED_RESIDENT ? "locked and in memory" :
							      "not locked");

	explicit_bzero(key, len);
	for (i = 0; i < len; i++)
		rest |= key[i];
	if (munmap(key, len))
		return fail("munmap");
	printf("%s\n", rest ? "something of it was left" : "zeroed and gone");
	return EXIT_SUCCESS;
}
