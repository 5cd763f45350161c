// SPDX-License-Identifier: GPL-2.0
/*
 * The race in short: one thread locks a buffer, another one replaces a page of it meanwhile. Did
 * the call return 0 although a page was replaced, during the call, by one that is not locked?
 *
 *	cc -pthread -I../include/uapi -o replaced_page replaced_page.c && ./replaced_page [CALLS]
 *
 * demo.c has more: many mappings, files, chosen moments, a table.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mlock_rs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Two of four pages are read-only, so that the kernel has many mappings to mark. */
#define PAGES	1024

static size_t page;
static char *buffer;
/* How long a call took, and when the page is replaced in the next one. */
static long long took_ns, delay_ns;
static atomic_bool begins;
/* After the replacement the last page was not there: so the call was not over. */
static bool during_the_call;

static void fail(const char *what)
{
	fprintf(stderr, "replaced_page: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Replaces a page in the middle, a little after the call has begun. */
static void *replace(void *unused)
{
	unsigned char last = 0;
	long long start;

	while (!atomic_load(&begins))
		;
	start = now();
	while (now() - start < delay_ns)
		;
	if (mmap(buffer + PAGES / 2 * page, page, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail("mmap");
	mincore(buffer + (PAGES - 1) * page, page, &last);
	during_the_call = !(last & 1);
	return unused;
}

static bool wrong_success(int dev, bool by_device)
{
	size_t len = PAGES * page, i;
	struct mlock_rs_lock lock = { .len = len };
	struct mlock_rs_query query = { .len = page };
	pthread_t thread;
	int ret;

	buffer = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (buffer == MAP_FAILED)
		fail("mmap");
	for (i = 0; i < PAGES; i += 4)
		mprotect(buffer + i * page, 2 * page, PROT_READ);
	atomic_store(&begins, false);
	if (pthread_create(&thread, NULL, replace, NULL))
		fail("no thread");

	lock.addr = (unsigned long)buffer;
	took_ns = -now();
	atomic_store(&begins, true);
	ret = by_device ? ioctl(dev, MLOCK_RS_LOCK, &lock) : mlock(buffer, len);
	took_ns += now();
	if (ret)
		fail("lock");
	pthread_join(thread, NULL);

	query.addr = (unsigned long)buffer + PAGES / 2 * page;
	if (ioctl(dev, MLOCK_RS_QUERY, &query))
		fail("query");
	munmap(buffer, len);
	return during_the_call && !query.locked;
}

int main(int argc, char **argv)
{
	int calls = argc > 1 ? atoi(argv[1]) : 200, wrong[2] = {}, i;
	int dev = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);

	if (dev < 0)
		fail(MLOCK_RS_DEVICE);
	page = sysconf(_SC_PAGESIZE);
	for (i = 0; i < 2 * calls; i++) {
		/* Early: this is when the kernel marks the mappings. */
		delay_ns = took_ns * (i / 2 % 16) / 128;
		wrong[i % 2] += wrong_success(dev, i % 2);
	}
	printf("mlock(2): %d of %d calls returned 0 with a page that is not locked\n", wrong[0],
	       calls);
	printf("mlock_rs: %d of %d calls returned 0 with a page that is not locked\n", wrong[1],
	       calls);
	return wrong[1] ? EXIT_FAILURE : EXIT_SUCCESS;
}
