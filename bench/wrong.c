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

static struct race call(struct racer *r, size_t victim, __u64 delay_ns)
{
	struct race race = {
		.lock = lock_as_contender,
		.nr_pages = bench->len / page_size,
		.victim = victim,
		.delay_ns = delay_ns,
	};

	race.addr = map_stripes(race.nr_pages, bench->nr);
	if (!race.addr)
		bench_die("mmap", errno);
	race_run(r, &race);
	return race;
}

int main(int argc, char **argv)
{
	unsigned int i, wrong = 0, failed = 0;
	__u64 random = seed(), typical = -1ULL;
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

	/* The first time is slow: under emulation code is translated. */
	for (i = 0; i < 3; i++) {
		race = call(r, NO_VICTIM, 0);
		munmap(race.addr, b.len);
		if (race.ret)
			bench_die(b.contender->name, -race.ret);
		if (race.ns < typical)
			typical = race.ns;
	}

	for (i = 0; i < b.calls; i++) {
		size_t victim = random_number(&random) % (b.len / page_size - 1);

		race = call(r, victim, random_number(&random) % (typical + 1));
		wrong += race_wrong_success(r, &race);
		failed += !!race.ret;
		munmap(race.addr, b.len);
	}
	racer_stop(r);

	result_begin(&b);
	result_number("ns", typical);
	result_number("calls", b.calls);
	result_number("wrong", wrong);
	result_number("failed", failed);
	result_end();
	return EXIT_SUCCESS;
}
