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
#include <time.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define BEAT_NS		1000000ULL
/* What the kernel itself may take to let the thread run, under emulation. */
#define LATE_NS		(2 * BEAT_NS)
#define MAX_CPUS	8

struct heart {
	pthread_t thread;
	int cpu;
	atomic_bool beats;
	__u64 stalled;
};

static struct heart hearts[MAX_CPUS];
static int nr_hearts;
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
		if (now >= next + LATE_NS && now > from)
			heart->stalled += now - from;
	}
	return NULL;
}

void host_stall_start(void)
{
	long nr = sysconf(_SC_NPROCESSORS_ONLN);

	atomic_store(&stop, false);
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

__u64 host_stall_stop(void)
{
	__u64 most = 0;

	atomic_store(&stop, true);
	while (nr_hearts--) {
		pthread_join(hearts[nr_hearts].thread, NULL);
		if (hearts[nr_hearts].stalled > most)
			most = hearts[nr_hearts].stalled;
	}
	return most;
}
