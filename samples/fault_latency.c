// SPDX-License-Identifier: GPL-2.0
/*
 * A real-time loop that writes to one page of a buffer in each round: its page faults and the worst
 * round, with a buffer that is not locked and with one that is.
 *
 *	cc -I../include/uapi -o fault_latency fault_latency.c && sudo ./fault_latency
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mlock_rs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS		1000
#define PERIOD_NS	100000

/* A write that the compiler leaves where it is. */
#define WRITE_ONCE(x, value)	__atomic_store_n(&(x), value, __ATOMIC_RELAXED)

static int fail(const char *what)
{
	fprintf(stderr, "fault_latency: %s: %s\n", what, strerror(errno));
	return EXIT_FAILURE;
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void loop(const char *name, char *buffer, size_t page)
{
	struct timespec next;
	struct rusage before, after;
	long long worst = 0;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &next);
	getrusage(RUSAGE_THREAD, &before);
	for (i = 0; i < ROUNDS; i++) {
		long long start = now(), took;

		WRITE_ONCE(buffer[i * page], 1);
		took = now() - start;
		if (took > worst)
			worst = took;
		next.tv_nsec += PERIOD_NS;
		next.tv_sec += next.tv_nsec / 1000000000;
		next.tv_nsec %= 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	getrusage(RUSAGE_THREAD, &after);
	printf("%-10s %4ld page faults in %d rounds, worst access %lld us\n", name,
	       after.ru_minflt - before.ru_minflt + after.ru_majflt - before.ru_majflt, ROUNDS,
	       worst / 1000);
}

int main(void)
{
	struct sched_param priority = { .sched_priority = 50 };
	size_t page = sysconf(_SC_PAGESIZE), len = ROUNDS * page;
	struct mlock_rs_lock lock = { .len = len };
	char *buffers[2];
	int dev, i;

	dev = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return fail(MLOCK_RS_DEVICE);
	for (i = 0; i < 2; i++) {
		buffers[i] = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);
		if (buffers[i] == MAP_FAILED)
			return fail("mmap");
		/* Fails where there are none, as with PREEMPT_RT. */
		madvise(buffers[i], len, MADV_NOHUGEPAGE);
	}
	if (sched_setscheduler(0, SCHED_FIFO, &priority))
		fprintf(stderr, "fault_latency: no real-time priority: %s\n", strerror(errno));

	loop("not locked", buffers[0], page);

	/* Before the loop begins, not in it: this is where the page faults are taken. */
	lock.addr = (unsigned long)buffers[1];
	if (ioctl(dev, MLOCK_RS_LOCK, &lock))
		return fail("lock");
	loop("locked", buffers[1], page);
	return EXIT_SUCCESS;
}
