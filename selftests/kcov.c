// SPDX-License-Identifier: GPL-2.0
/*
 * What code of the module a call runs through, as KCOV says: only the module is
 * instrumented. See Documentation/dev-tools/kcov.rst in the kernel.
 */
#define _GNU_SOURCE
#include "kcov.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <linux/types.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* Words of the area that the kernel writes to. What a call does after that is not recorded. */
#define AREA_WORDS	65536UL
#define AREA_BYTES	(AREA_WORDS * sizeof(unsigned long))

/* Steps are told apart by a number that is theirs with high probability. */
#define STEPS		16384UL
#define BUCKETS		8

struct kcov {
	int fd;
	/* First how many addresses there are, then these. */
	unsigned long *area;
	size_t features, blocks;
	bool step_seen[STEPS][BUCKETS];
	bool block_seen[STEPS];
	/* How often each step was taken in this call, and which ones were. */
	unsigned short count[STEPS];
	unsigned short taken[STEPS];
};

struct kcov *kcov_open(void)
{
	struct kcov *k = calloc(1, sizeof(*k));
	int error;

	if (!k)
		return NULL;
	k->area = MAP_FAILED;
	k->fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (k->fd < 0 || ioctl(k->fd, KCOV_INIT_TRACE, AREA_WORDS))
		goto fail;
	k->area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (k->area == MAP_FAILED)
		goto fail;
	return k;

fail:
	error = errno;
	kcov_close(k);
	errno = error;
	return NULL;
}

void kcov_close(struct kcov *k)
{
	if (k->area != MAP_FAILED)
		munmap(k->area, AREA_BYTES);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
}

int kcov_enable(struct kcov *k)
{
	return ioctl(k->fd, KCOV_ENABLE, KCOV_TRACE_PC) ? -errno : 0;
}

void kcov_begin(struct kcov *k)
{
	__atomic_store_n(&k->area[0], 0, __ATOMIC_RELAXED);
}

static size_t number_of(unsigned long word)
{
	return (__u64)word * 0x9e3779b97f4a7c15ULL >> 50;
}

/* 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, more. */
static size_t bucket(unsigned short count)
{
	static const unsigned short from[BUCKETS] = { 1, 2, 3, 4, 8, 16, 32, 128 };
	size_t i = BUCKETS - 1;

	while (count < from[i])
		i--;
	return i;
}

size_t kcov_end(struct kcov *k)
{
	const unsigned long nr = __atomic_load_n(&k->area[0], __ATOMIC_RELAXED);
	const size_t before = k->features;
	unsigned long i, last = 0;
	size_t taken = 0;

	for (i = 1; i <= nr; i++) {
		size_t step = number_of(k->area[i] ^ last << 1);
		size_t block = number_of(k->area[i]);

		last = k->area[i];
		k->blocks += !k->block_seen[block];
		k->block_seen[block] = true;
		if (!k->count[step])
			k->taken[taken++] = step;
		if (k->count[step] < 0xffff)
			k->count[step]++;
	}
	while (taken--) {
		size_t step = k->taken[taken];
		bool *seen = &k->step_seen[step][bucket(k->count[step])];

		k->features += !*seen;
		*seen = true;
		k->count[step] = 0;
	}
	return k->features - before;
}

size_t kcov_features(const struct kcov *k)
{
	return k->features;
}

size_t kcov_blocks(const struct kcov *k)
{
	return k->blocks;
}
