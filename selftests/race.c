// SPDX-License-Identifier: GPL-2.0
/*
 * One thread locks a range while another one replaces a page of it, once, at a chosen moment; and
 * the judgement whether the locking call has returned success although it should not have.
 *
 * The difficult part is to tell a replacement during the call from one right after it. A program
 * cannot do that with a clock: the replacing thread may get the mmap lock after the locking call
 * has given it up, and still be done before that call is back in user space. Nothing is wrong then.
 * So two things count that cannot happen after the call:
 *
 *  - The new page is resident. Nobody but the call itself, populating the range, can have
 *    brought it in: it was mapped before the call was through.
 *  - When the replacement was complete, another page of the range was not resident yet: the call
 *    was not through.
 *
 * If on top of that the new page is not locked, and the call returned success, then there was no
 * moment at which all of the range was locked and resident. If it is locked, it was there before
 * the call marked the VMAs, which is fine.
 */
#define _GNU_SOURCE
#include "race.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define PAGEMAP_PRESENT		0x8000000000000000ULL
/* Waits that are shorter are spun: a timer would come too late. */
#define SPIN_NS			2000000
#define MAX_PAGES		65536

struct racer {
	pthread_t thread;
	atomic_int tid;
	int pagemap;
	sem_t run, done;
	struct race *race;
	/* The call begins now; 0 before that. */
	atomic_ullong begin;
	atomic_bool ready;
};

static bool is_resident(const struct racer *r, const char *addr)
{
	__u64 entry = 0;
	off_t offset = (uintptr_t)addr / page_size * sizeof(entry);

	return pread(r->pagemap, &entry, sizeof(entry), offset) == sizeof(entry) &&
	       entry & PAGEMAP_PRESENT;
}

/* Whether all pages are resident but the one that was replaced, and one that nobody locks. */
static bool others_are_resident(const struct racer *r, const struct race *race)
{
	static __u64 entries[MAX_PAGES];
	const off_t offset = (uintptr_t)race->addr / page_size * sizeof(*entries);
	const size_t size = race->nr_pages * sizeof(*entries);
	size_t i;

	if (race->nr_pages > MAX_PAGES || pread(r->pagemap, entries, size, offset) != (ssize_t)size)
		abort();
	for (i = 0; i < race->nr_pages; i++)
		if (i != race->victim && !(race->left_out && i == race->left_out) &&
		    !(entries[i] & PAGEMAP_PRESENT))
			return false;
	return true;
}

/* POSIX: EBUSY if there is a memory lock. With MS_ASYNC it does nothing else. */
static bool is_locked(char *addr)
{
	return msync(addr, page_size, MS_ASYNC | MS_INVALIDATE) && errno == EBUSY;
}

static void wait_until(__u64 ns)
{
	struct timespec at;

	if (ns > now_ns() + SPIN_NS) {
		ns -= SPIN_NS;
		at.tv_sec = ns / 1000000000;
		at.tv_nsec = ns % 1000000000;
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		ns += SPIN_NS;
	}
	while (now_ns() < ns)
		;
}

static void *replace_pages(void *arg)
{
	struct racer *r = arg;

	atomic_store(&r->tid, gettid());
	sem_post(&r->done);
	for (;;) {
		struct race *race;
		__u64 begin;

		while (sem_wait(&r->run))
			;
		race = r->race;
		if (!race)
			return NULL;

		/* Awake and on a CPU before the call begins, or short delays would mean nothing. */
		atomic_store(&r->ready, true);
		do
			begin = atomic_load(&r->begin);
		while (!begin);
		if (race->victim != NO_VICTIM) {
			wait_until(begin + race->delay_ns);
			if (mmap(race->addr + race->victim * page_size, page_size,
				 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				 -1, 0) == MAP_FAILED)
				abort();
			race->before_end = !others_are_resident(r, race);
		}
		sem_post(&r->done);
	}
}

struct racer *racer_start(void)
{
	struct racer *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	sem_init(&r->run, 0, 0);
	sem_init(&r->done, 0, 0);
	r->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (r->pagemap < 0)
		goto free;
	errno = pthread_create(&r->thread, NULL, replace_pages, r);
	if (errno)
		goto close;
	while (sem_wait(&r->done))
		;
	return r;

close:
	close(r->pagemap);
free:
	free(r);
	return NULL;
}

pid_t racer_tid(const struct racer *r)
{
	return atomic_load(&r->tid);
}

void racer_stop(struct racer *r)
{
	r->race = NULL;
	sem_post(&r->run);
	pthread_join(r->thread, NULL);
	close(r->pagemap);
	free(r);
}

void race_run(struct racer *r, struct race *race)
{
	struct mlock_rs_lock arg = {
		.addr = (uintptr_t)race->addr,
		.len = race->nr_pages * page_size,
		.flags = race->flags,
		.nr_workers = race->nr_workers,
		.slice_us = race->slice_us,
	};
	__u64 begin;

	race->before_end = false;
	r->race = race;
	atomic_store(&r->ready, false);
	atomic_store(&r->begin, 0);
	sem_post(&r->run);
	while (!atomic_load(&r->ready))
		sched_yield();

	begin = now_ns();
	atomic_store(&r->begin, begin);
	if (race->lock)
		race->ret = race->lock(race);
	else if (race->dev < 0)
		race->ret = mlock_2(race->addr, arg.len);
	else
		race->ret = mlock_rs_parts(race->dev, &arg, race->left_out);
	race->ns = now_ns() - begin;
	race->fail_addr = race->lock || race->dev < 0 ? 0 : arg.fail_addr;

	while (sem_wait(&r->done))
		;
}

static char *victim(const struct race *race)
{
	return race->addr + race->victim * page_size;
}

bool race_victim_is_locked(const struct race *race)
{
	return race->victim != NO_VICTIM && is_locked(victim(race));
}

bool race_wrong_success(struct racer *r, const struct race *race)
{
	if (race->victim == NO_VICTIM || race->ret || is_locked(victim(race)))
		return false;
	return is_resident(r, victim(race)) || race->before_end;
}

__u64 marking_ns(const char *addr, size_t nr_pages)
{
	__u64 least = -1ULL, begin, ns;
	int i;

	/* The first times are slow: caches are cold, and under emulation code is translated. */
	for (i = 0; i < 8; i++) {
		begin = now_ns();
		mlock_onfault(addr, nr_pages * page_size);
		ns = now_ns() - begin;
		munlock(addr, nr_pages * page_size);
		if (ns < least)
			least = ns;
	}
	return least;
}

__u64 random_moment(__u64 *state, __u64 marking_ns, __u64 ns)
{
	return random_number(state) % ((random_number(state) & 3 ? marking_ns : ns) + 1);
}

char *map_stripes(size_t nr_pages, size_t nr_vmas)
{
	size_t len = nr_pages * page_size, stripe = nr_pages / nr_vmas * page_size, i;
	char *addr = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	no_huge_pages(addr, len);
	for (i = 1; i < nr_vmas; i += 2) {
		if (madvise(addr + i * stripe, stripe, MADV_DONTDUMP)) {
			munmap(addr, len);
			return NULL;
		}
	}
	return addr;
}
