// SPDX-License-Identifier: GPL-2.0
/*
 * How often a call returns success although a page of the range was replaced during the call by one
 * that is not locked: --calls races, each with a page and a moment of its own. See race.c. What
 * takes several calls, with MADV_POPULATE_WRITE or touching before or after, counts as one.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mlock_rs_test.h"
#include "race.h"

static const struct bench *bench;

static int lock_as_contender(const struct race *race)
{
	struct mlock_rs_range range = {
		.addr = (uintptr_t)race->addr,
		.len = race->nr_pages * page_size,
	};
	struct memory m = {
		.addr = race->addr,
		.len = range.len,
		.prot = PROT_READ | PROT_WRITE,
		.fd = -1,
		.ranges = &range,
		.nr_ranges = 1,
	};

	return bench->contender->lock(bench, &m);
}

static char *map(void)
{
	char *addr = map_stripes(bench->len / page_size, bench->nr);

	if (!addr)
		bench_die("mmap", errno);
	return addr;
}

static struct race call(struct racer *r, size_t victim, __u64 delay_ns)
{
	struct race race = {
		.lock = lock_as_contender,
		.addr = map(),
		.nr_pages = bench->len / page_size,
		.victim = victim,
		.delay_ns = delay_ns,
	};

	race_run(r, &race);
	return race;
}

/* The length of a call, and its part in which VMAs are marked, after which a page can be lost. */
struct moments {
	__u64 ns, marking_begins, marking_ns;
};

/* How long it takes to mark VMAs that are resident, which is all that there is left to do then. */
static __u64 marking_last_ns(char *addr)
{
	__u64 begin;

	memset(addr, 1, bench->len);
	begin = now_ns();
	mlock_2(addr, bench->len);
	return now_ns() - begin;
}

/* The first time is slow: under emulation code is translated. The shortest of a few counts. */
static struct moments measure(struct racer *r)
{
	const bool last = bench->contender->marks_last;
	struct moments m = { .ns = -1ULL, .marking_ns = -1ULL };
	int i;

	for (i = 0; i < 3; i++) {
		struct race race = call(r, NO_VICTIM, 0);
		char *addr = map();
		__u64 ns = last ? marking_last_ns(addr) : marking_ns(addr, race.nr_pages);

		if (race.ret)
			bench_die(bench->contender->name, -race.ret);
		m.ns = race.ns < m.ns ? race.ns : m.ns;
		m.marking_ns = ns < m.marking_ns ? ns : m.marking_ns;
		munmap(addr, bench->len);
		munmap(race.addr, bench->len);
	}
	if (last && m.ns > m.marking_ns)
		m.marking_begins = m.ns - m.marking_ns;
	return m;
}

/* Three of four in that part: those who mark at once are hardly ever met there otherwise. */
static __u64 random_moment_of(const struct moments *m, __u64 *random)
{
	if (random_number(random) & 3)
		return m->marking_begins + random_number(random) % (m->marking_ns + 1);
	return random_number(random) % (m->ns + 1);
}

int main(int argc, char **argv)
{
	unsigned int i, wrong = 0, failed = 0;
	__u64 random = seed();
	struct moments moments;
	struct bench b = {};
	struct racer *r;
	struct race race;

	bench_init(&b, argc, argv);
	bench = &b;
	if (b.contender->maps)
		bench_skip(&b, "where the memory will be is not known before");
	r = racer_start();
	if (!r)
		bench_die("no second thread", errno);
	moments = measure(r);
	for (i = 0; i < b.calls; i++) {
		size_t victim = random_number(&random) % (b.len / page_size - 1);

		race = call(r, victim, random_moment_of(&moments, &random));
		wrong += race_wrong_success(r, &race);
		failed += !!race.ret;
		munmap(race.addr, b.len);
	}
	racer_stop(r);

	result_begin(&b);
	result_number("ns", moments.ns);
	result_number("calls", b.calls);
	result_number("wrong", wrong);
	result_number("failed", failed);
	result_end();
	return EXIT_SUCCESS;
}
