// SPDX-License-Identifier: GPL-2.0
/*
 * For how long the host let a processor of this VM wait. A bound in time is one for what the kernel
 * does, and on a host with other work no time of the kernel's own passes meanwhile.
 */
#define _GNU_SOURCE
#include "host_stall.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define BEAT_NS		1000000ULL
/* What the kernel itself may take to let the thread run, under emulation. */
#define LATE_NS		(2 * BEAT_NS)
#define MAX_CPUS	8
#define MAX_STALLS	8192

/* From when to when a processor was not there. */
struct stall {
	__u64 from, to;
};

struct heart {
	pthread_t thread;
	int cpu;
	atomic_bool beats;
};

static struct heart hearts[MAX_CPUS];
static int nr_hearts;
/* Of all processors, in no order. */
static struct stall stalls[MAX_STALLS];
static atomic_size_t nr_stalls;
static atomic_bool stop;
/* What comes before all hearts beat does not count. */
static atomic_ullong since;

static void *beat(void *arg)
{
	const struct sched_param highest = { .sched_priority = 99 };
	struct heart *heart = arg;
	cpu_set_t cpu;

	CPU_ZERO(&cpu);
	CPU_SET(heart->cpu, &cpu);
	/* Where it may not have these it measures too much or nothing. */
	if (sched_setaffinity(0, sizeof(cpu), &cpu) ||
	    sched_setscheduler(0, SCHED_FIFO, &highest)) {
		atomic_store(&heart->beats, true);
		return NULL;
	}
	while (!atomic_load(&stop)) {
		__u64 next = now_ns() + BEAT_NS, from, now;
		const struct timespec at = { next / 1000000000, next % 1000000000 };

		atomic_store(&heart->beats, true);
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		now = now_ns();
		from = atomic_load(&since);
		if (from < next)
			from = next;
		if (now >= next + LATE_NS && now > from) {
			size_t i = atomic_fetch_add(&nr_stalls, 1);

			if (i < MAX_STALLS)
				stalls[i] = (struct stall) { from, now };
		}
	}
	return NULL;
}

void host_stall_start(void)
{
	long nr = sysconf(_SC_NPROCESSORS_ONLN);

	atomic_store(&stop, false);
	atomic_store(&nr_stalls, 0);
	atomic_store(&since, UINT64_MAX);
	for (nr_hearts = 0; nr_hearts < nr && nr_hearts < MAX_CPUS; nr_hearts++) {
		struct heart *heart = &hearts[nr_hearts];

		*heart = (struct heart) { .cpu = nr_hearts };
		must(!pthread_create(&heart->thread, NULL, beat, heart), "cannot make a thread");
		while (!atomic_load(&heart->beats))
			sched_yield();
	}
	atomic_store(&since, now_ns());
}

static int by_start(const void *one, const void *other)
{
	const struct stall *a = one, *b = other;

	return (a->from > b->from) - (a->from < b->from);
}

/*
 * What is measured goes from one processor to another, and waits for each that it needs: that one
 * was away and then the other adds up. Both at a time count once.
 */
static __u64 any_away(size_t nr)
{
	__u64 ns = 0, until = 0;
	size_t i;

	qsort(stalls, nr, sizeof(*stalls), by_start);
	for (i = 0; i < nr; i++) {
		__u64 from = stalls[i].from > until ? stalls[i].from : until;

		if (stalls[i].to <= from)
			continue;
		ns += stalls[i].to - from;
		until = stalls[i].to;
	}
	return ns;
}

__u64 host_stall_stop(void)
{
	size_t nr;

	atomic_store(&stop, true);
	while (nr_hearts--)
		pthread_join(hearts[nr_hearts].thread, NULL);
	nr = atomic_load(&nr_stalls);
	return any_away(nr < MAX_STALLS ? nr : MAX_STALLS);
}
