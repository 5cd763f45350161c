// SPDX-License-Identifier: GPL-2.0
/*
 * The ways to lock memory that are compared.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "kselftest.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "mlock_rs_test.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif

struct said said;

static char *range_addr(const struct memory *m, size_t i)
{
	return (char *)(uintptr_t)m->ranges[i].addr;
}

/* Nothing at all, for a second: what the probes see of the machine itself. */
static int lock_none(const struct bench *b, struct memory *m)
{
	struct timespec second = { .tv_sec = 1 };

	(void)b;
	(void)m;
	nanosleep(&second, NULL);
	return 0;
}

static int lock_mlock(const struct bench *b, struct memory *m)
{
	size_t i;

	(void)b;
	for (i = 0; i < m->nr_ranges; i++)
		if (mlock(range_addr(m, i), m->ranges[i].len))
			return -errno;
	return 0;
}

static void touch_ranges(const struct memory *m)
{
	size_t i;

	for (i = 0; i < m->nr_ranges; i++)
		memory_touch(m, range_addr(m, i), m->ranges[i].len);
}

/* mlock2(MLOCK_ONFAULT), and then the program touches it. */
static int lock_onfault(const struct bench *b, struct memory *m)
{
	size_t i;

	(void)b;
	for (i = 0; i < m->nr_ranges; i++) {
		int ret = mlock_onfault(range_addr(m, i), m->ranges[i].len);

		if (ret)
			return ret;
	}
	touch_ranges(m);
	return 0;
}

static int lock_map_populate(const struct bench *b, struct memory *m)
{
	(void)b;
	m->addr = mmap(NULL, m->len, m->prot, m->flags | MAP_LOCKED | MAP_POPULATE, m->fd, 0);
	if (m->addr == MAP_FAILED)
		return -errno;
	m->ranges[0].addr = (uintptr_t)m->addr;
	return 0;
}

struct part {
	pthread_t thread;
	char *addr;
	size_t len;
	int advice, ret;
};

static void *populate_part(void *arg)
{
	struct part *p = arg;

	/* A signal is no reason to stop; only EAGAIN says so here. */
	do
		p->ret = madvise(p->addr, p->len, p->advice) ? -errno : 0;
	while (p->ret == -EAGAIN);
	return NULL;
}

/* How virtual machine monitors prefault: threads share the range, and then it is locked. */
static int populate_with_threads(const struct memory *m, size_t range, unsigned int workers)
{
	int advice = m->prot & PROT_WRITE ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
	struct part parts[MLOCK_RS_MAX_WORKERS];
	size_t pages = m->ranges[range].len / page_size, done = 0;
	unsigned int i, started = 0;
	int ret = 0;

	if (!workers || workers > MLOCK_RS_MAX_WORKERS)
		return -EINVAL;
	for (i = 0; i < workers; i++) {
		size_t end = pages * (i + 1) / workers;

		parts[i] = (struct part) {
			.addr = range_addr(m, range) + done * page_size,
			.len = (end - done) * page_size,
			.advice = advice,
		};
		done = end;
	}
	for (i = 1; i < workers && !ret; i++) {
		ret = -pthread_create(&parts[i].thread, NULL, populate_part, &parts[i]);
		started += !ret;
	}
	populate_part(&parts[0]);
	for (i = 1; i <= started; i++)
		pthread_join(parts[i].thread, NULL);
	for (i = 0; i < workers && !ret; i++)
		ret = parts[i].ret;
	return ret;
}

static int lock_madvise(const struct bench *b, struct memory *m)
{
	size_t i;
	int ret;

	for (i = 0; i < m->nr_ranges; i++) {
		ret = populate_with_threads(m, i, b->workers);
		if (ret)
			return ret;
	}
	return lock_mlock(b, m);
}

/* A module of the first ABI version refuses any number of workers, also that of one. */
static unsigned int nr_workers(const struct bench *b)
{
	return b->features & MLOCK_RS_FEATURE_WORKERS ? b->workers : 0;
}

static int lock_each(const struct bench *b, struct memory *m, __u32 flags)
{
	size_t i;

	said = (struct said) {};
	for (i = 0; i < m->nr_ranges; i++) {
		struct mlock_rs_lock arg = {
			.addr = m->ranges[i].addr,
			.len = m->ranges[i].len,
			.flags = flags,
			.nr_workers = nr_workers(b),
			.slice_us = flags & MLOCK_RS_LOCK_YIELD ? b->slice_us : 0,
		};

		if (ioctl(b->dev, MLOCK_RS_LOCK, &arg))
			return -errno;
		said.helpers += arg.nr_helpers;
		said.gaps += arg.nr_gaps;
	}
	return 0;
}

static int lock_strict(const struct bench *b, struct memory *m)
{
	return lock_each(b, m, 0);
}

static int lock_yield(const struct bench *b, struct memory *m)
{
	return lock_each(b, m, MLOCK_RS_LOCK_YIELD);
}

/* The same as with mlock2(MLOCK_ONFAULT). */
static int lock_onfault_and_touch(const struct bench *b, struct memory *m)
{
	int ret = lock_each(b, m, MLOCK_RS_LOCK_ONFAULT);

	if (!ret)
		touch_ranges(m);
	return ret;
}

/* One call for so many ranges as it takes. */
static int lock_vector(const struct bench *b, struct memory *m)
{
	size_t i;

	said = (struct said) {};
	for (i = 0; i < m->nr_ranges; i += MLOCK_RS_MAX_RANGES) {
		size_t left = m->nr_ranges - i;
		struct mlock_rs_lockv arg = {
			.ranges = (uintptr_t)&m->ranges[i],
			.nr_ranges = left < MLOCK_RS_MAX_RANGES ? left : MLOCK_RS_MAX_RANGES,
			.nr_workers = nr_workers(b),
		};

		if (ioctl(b->dev, MLOCK_RS_LOCKV, &arg))
			return -errno;
		said.helpers += arg.nr_helpers;
	}
	return 0;
}

static const struct contender contenders[] = {
	{ .name = "none", .lock = lock_none },
	{ .name = "mlock", .lock = lock_mlock },
	{ .name = "onfault", .lock = lock_onfault },
	{ .name = "map-populate", .lock = lock_map_populate, .maps = true },
	{ .name = "madvise", .lock = lock_madvise, .marks_last = true },
	{ .name = "lock", .lock = lock_strict, .needs = MLOCK_RS_FEATURE_LOCK },
	{ .name = "lockv", .lock = lock_vector, .needs = MLOCK_RS_FEATURE_VECTOR },
	{ .name = "yield", .lock = lock_yield, .needs = MLOCK_RS_FEATURE_YIELD },
	{ .name = "lock-onfault", .lock = lock_onfault_and_touch,
	  .needs = MLOCK_RS_FEATURE_ONFAULT },
	/* The same as "lock", for a module that never downgrades the lock. */
	{ .name = "write-held", .lock = lock_strict, .needs = MLOCK_RS_FEATURE_LOCK },
};

const struct contender *find_contender(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(contenders); i++)
		if (!strcmp(contenders[i].name, name))
			return &contenders[i];
	return NULL;
}

const char *contender_name(size_t i)
{
	return i < ARRAY_SIZE(contenders) ? contenders[i].name : NULL;
}
