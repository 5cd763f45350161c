// SPDX-License-Identifier: GPL-2.0
/*
 * How often a call returns success although a page of the range was replaced during the call by one
 * that is not locked: --calls races, each with a page and a moment of its own. See race.c.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mlock_rs_test.h"
#include "race.h"

/* What race.c can do: mlock(2) and LOCK. */
static bool can_race(const struct contender *c)
{
	return !strcmp(c->name, "mlock") || !strcmp(c->name, "lock") || !strcmp(c->name, "yield");
}

static struct race call(const struct bench *b, struct racer *r, size_t victim, __u64 delay_ns)
{
	struct race race = {
		.dev = b->contender->needs ? b->dev : -1,
		.flags = strcmp(b->contender->name, "yield") ? 0 : MLOCK_RS_LOCK_YIELD,
		.nr_workers = b->workers,
		.slice_us = b->slice_us,
		.nr_pages = b->len / page_size,
		.victim = victim,
		.delay_ns = delay_ns,
	};

	race.addr = map_stripes(race.nr_pages, b->nr);
	if (!race.addr)
		bench_die("mmap", errno);
	race_run(r, &race);
	return race;
}

int main(int argc, char **argv)
{
	unsigned int i, wrong = 0, failed = 0;
	__u64 random = seed(), marking, typical;
	struct bench b = {};
	struct racer *r;
	struct race race;
	char *addr;

	bench_init(&b, argc, argv);
	if (!can_race(b.contender))
		bench_skip(&b, "nobody races with it");
	r = racer_start();
	if (!r)
		bench_die("no second thread", errno);

	race = call(&b, r, NO_VICTIM, 0);
	munmap(race.addr, b.len);
	if (race.ret)
		bench_die(b.contender->name, -race.ret);
	typical = race.ns;
	addr = map_stripes(b.len / page_size, b.nr);
	if (!addr)
		bench_die("mmap", errno);
	marking = marking_ns(addr, b.len / page_size);
	munmap(addr, b.len);

	for (i = 0; i < b.calls; i++) {
		size_t victim = random_number(&random) % (b.len / page_size - 1);

		race = call(&b, r, victim, random_moment(&random, marking, typical));
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
