// SPDX-License-Identifier: GPL-2.0
/*
 * mlock(2) and mlock_rs under a race: both lock the same memory again and again, while a second
 * thread replaces one page of it at a random moment of each call. How often do they return success
 * with a page that is not locked?
 *
 * How that is told from a replacement that came after the call: see race.c.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mlock_rs_test.h"
#include "race.h"

enum method {
	MLOCK,
	MLOCK_RS,
	NR_METHODS,
};

static const char *const method_names[NR_METHODS] = { "mlock(2)", "mlock_rs" };

/* A kind of memory to lock: how it is made for a call, and taken away again. */
struct memory {
	const char *name;
	size_t nr_pages;
	/* Anonymous memory only */
	size_t nr_vmas;
	/* A file only, otherwise -1 */
	int fd;
};

/* What the calls with one method on one kind of memory came to. */
struct row {
	unsigned int calls, failed, wrong;
	int error;
	/* One entry per call, for the medians. */
	__u64 *vmlck_kb, *resident, *us;
};

struct demo {
	int dev;
	struct racer *racer;
	/* Whichever ends first, for each kind of memory. */
	unsigned int max_calls;
	__u64 max_ns;
	__u64 seed, random;
	bool json, progress;
	struct memory memory[2];
	size_t nr_memory;
	struct row row[2][NR_METHODS];
};

static void die(const char *what)
{
	fprintf(stderr, "demo: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

static char *map_memory(const struct memory *m)
{
	char *addr;

	if (m->fd < 0) {
		addr = map_stripes(m->nr_pages, m->nr_vmas);
		if (!addr)
			die("cannot map anonymous memory");
		return addr;
	}

	/* A cold page cache: the call has to wait for the disk. */
	posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED);
	write_number("/proc/sys/vm/drop_caches", 1);
	addr = mmap(NULL, m->nr_pages * page_size, PROT_READ, MAP_PRIVATE, m->fd, 0);
	if (addr == MAP_FAILED)
		die("cannot map the file");
	return addr;
}

/* Lock @m once. Without a victim the call only shows how long such a call takes. */
static struct race call(struct demo *d, const struct memory *m, enum method by, size_t victim,
			__u64 delay_ns)
{
	struct race race = {
		.dev = by == MLOCK_RS ? d->dev : -1,
		.addr = map_memory(m),
		.nr_pages = m->nr_pages,
		.victim = victim,
		.delay_ns = delay_ns,
	};

	race_run(d->racer, &race);
	return race;
}

static void count_call(struct demo *d, struct row *row, const struct race *race)
{
	unsigned int i = row->calls++;

	row->vmlck_kb[i] = vmlck() / 1024;
	row->resident[i] = resident_pages(race->addr, race->nr_pages);
	row->us[i] = race->ns / 1000;
	row->wrong += race_wrong_success(d->racer, race);
	if (race->ret) {
		row->failed++;
		row->error = -race->ret;
	}
}

static void show_progress(const struct demo *d, const struct memory *m, const struct row *rows)
{
	if (!d->progress)
		return;
	fprintf(stderr, "\r%s: %u calls with each, wrong: %s %u, %s %u ", m->name,
		rows[MLOCK_RS].calls, method_names[MLOCK], rows[MLOCK].wrong,
		method_names[MLOCK_RS], rows[MLOCK_RS].wrong);
}

static void race_over(struct demo *d, const struct memory *m, struct row *rows)
{
	__u64 typical_ns[NR_METHODS], marking, end = now_ns() + d->max_ns;
	enum method by;
	struct race race;
	unsigned int i;

	for (by = 0; by < NR_METHODS; by++) {
		rows[by].vmlck_kb = calloc(d->max_calls, sizeof(__u64));
		rows[by].resident = calloc(d->max_calls, sizeof(__u64));
		rows[by].us = calloc(d->max_calls, sizeof(__u64));
		if (!rows[by].vmlck_kb || !rows[by].resident || !rows[by].us)
			die("no memory");

		race = call(d, m, by, NO_VICTIM, 0);
		munmap(race.addr, m->nr_pages * page_size);
		typical_ns[by] = race.ns;
	}

	race.addr = map_memory(m);
	marking = marking_ns(race.addr, m->nr_pages);
	munmap(race.addr, m->nr_pages * page_size);

	/* In turn, so that both meet the same moods of the machine. */
	for (i = 0; i < d->max_calls && (!i || now_ns() < end); i++) {
		for (by = 0; by < NR_METHODS; by++) {
			size_t victim = random_number(&d->random) % (m->nr_pages - 1);
			__u64 delay = random_moment(&d->random, marking, typical_ns[by]);

			show_progress(d, m, rows);
			race = call(d, m, by, victim, delay);
			count_call(d, &rows[by], &race);
			munmap(race.addr, m->nr_pages * page_size);
		}
	}
	if (d->progress)
		fprintf(stderr, "\r\033[K");
}

static int compare(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return (x > y) - (x < y);
}

static unsigned long long median(__u64 *values, unsigned int nr)
{
	qsort(values, nr, sizeof(*values), compare);
	return values[nr / 2];
}

static void print_table(struct demo *d)
{
	enum method by;
	size_t i;

	printf("%-9s %-26s %6s %19s %12s %15s %10s\n", "", "", "", "success, but a", "VmLck",
	       "pages", "time per");
	printf("%-9s %-26s %6s %19s %12s %15s %10s\n", "method", "memory", "calls",
	       "page not locked", "afterwards", "resident", "call");
	for (i = 0; i < d->nr_memory; i++) {
		for (by = 0; by < NR_METHODS; by++) {
			struct row *r = &d->row[i][by];

			printf("%-9s %-26s %6u %19u %9llu kB %15llu %7llu ms\n",
			       method_names[by], d->memory[i].name, r->calls, r->wrong,
			       median(r->vmlck_kb, r->calls), median(r->resident, r->calls),
			       median(r->us, r->calls) / 1000);
			if (r->failed)
				printf("          %u of these calls failed: %s\n", r->failed,
				       strerror(r->error));
		}
	}
	printf("\nVmLck, pages and time are medians. A page that was replaced after the call is\n"
	       "new memory, rightly neither locked nor resident: then it is one page less.\n");
}

static void print_json(struct demo *d)
{
	enum method by;
	size_t i;

	printf("{\"seed\": %llu, \"rows\": [", d->seed);
	for (i = 0; i < d->nr_memory; i++) {
		for (by = 0; by < NR_METHODS; by++) {
			struct row *r = &d->row[i][by];

			printf("%s\n  {\"method\": \"%s\", \"memory\": \"%s\", \"pages\": %zu,",
			       i || by ? "," : "", method_names[by], d->memory[i].name,
			       d->memory[i].nr_pages);
			printf(" \"calls\": %u, \"failed\": %u, \"wrong_success\": %u,", r->calls,
			       r->failed, r->wrong);
			printf(" \"vmlck_kb\": %llu, \"resident_pages\": %llu,",
			       median(r->vmlck_kb, r->calls), median(r->resident, r->calls));
			printf(" \"median_us\": %llu}", median(r->us, r->calls));
		}
	}
	printf("\n]}\n");
}

/* What the numbers say, and only that. */
static void print_meaning(struct demo *d)
{
	unsigned int calls[NR_METHODS] = {}, wrong[NR_METHODS] = {};
	enum method by;
	size_t i;

	for (i = 0; i < d->nr_memory; i++) {
		for (by = 0; by < NR_METHODS; by++) {
			calls[by] += d->row[i][by].calls;
			wrong[by] += d->row[i][by].wrong;
		}
	}

	printf("\nIn %u of %u calls mlock(2) returned success although a page of the range had\n"
	       "been replaced during the call by one that is not locked, and in %u of %u calls\n"
	       "mlock_rs did.\n",
	       wrong[MLOCK], calls[MLOCK], wrong[MLOCK_RS], calls[MLOCK_RS]);
	if (wrong[MLOCK_RS])
		printf("So mlock_rs broke its promise, which is a bug: try --seed %llu again.\n",
		       d->seed);
	else if (wrong[MLOCK])
		printf("mlock(2) gives the mmap lock up between marking the range and faulting it\n"
		       "in, and there the second thread got through; mlock_rs holds it until the\n"
		       "last page is there, so that the second thread had to wait.\n");
	else
		printf("So no replacement hit the gap that mlock(2) leaves between marking the\n"
		       "range and faulting it in; more --calls or another --seed may.\n");
}

static void print_usage(FILE *f)
{
	fputs("usage: demo [OPTION]...\n"
	      "  --calls N    calls with each method on each kind of memory, at most (24)\n"
	      "  --seconds N  time for each kind of memory, about (25)\n"
	      "  --anon MiB   size of the anonymous memory (256)\n"
	      "  --vmas N     number of VMAs in it (64)\n"
	      "  --file PATH  a file on a disk, to be locked with a cold page cache\n"
	      "  --seed N     repeat the random numbers of a run\n"
	      "  --json       for scripts\n"
	      "  --quiet      do not show the progress, on a terminal either\n", f);
}

static unsigned long parse_number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 0);

	if (!*text || *end || !n) {
		fprintf(stderr, "demo: not a number above 0: %s\n", text);
		exit(EXIT_FAILURE);
	}
	return n;
}

static struct memory file_memory(const char *path)
{
	struct memory m = { .fd = open(path, O_RDONLY | O_CLOEXEC) };
	static char name[64];
	struct stat st;

	if (m.fd < 0 || fstat(m.fd, &st))
		die(path);
	m.nr_pages = (st.st_size + page_size - 1) / page_size;
	if (m.nr_pages < 2) {
		fprintf(stderr, "demo: %s: too small\n", path);
		exit(EXIT_FAILURE);
	}
	snprintf(name, sizeof(name), "%zu MiB file, cold", (size_t)st.st_size >> 20);
	m.name = name;
	return m;
}

static struct memory anonymous_memory(size_t mib, size_t nr_vmas)
{
	struct memory m = {
		.fd = -1,
		.nr_vmas = nr_vmas,
		.nr_pages = (mib << 20) / page_size,
	};
	static char name[64];

	if (m.nr_pages / nr_vmas < 2) {
		fprintf(stderr, "demo: %zu MiB are too little for %zu VMAs\n", mib, nr_vmas);
		exit(EXIT_FAILURE);
	}
	snprintf(name, sizeof(name), "%zu MiB anonymous", mib);
	m.name = name;
	return m;
}

static void parse_options(struct demo *d, int argc, char **argv)
{
	static const struct option options[] = {
		{ "calls", required_argument, NULL, 'c' },
		{ "anon", required_argument, NULL, 'a' },
		{ "vmas", required_argument, NULL, 'v' },
		{ "file", required_argument, NULL, 'f' },
		{ "seed", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' },
		{ "json", no_argument, NULL, 'j' },
		{ "quiet", no_argument, NULL, 'q' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	size_t anon_mib = 256, nr_vmas = 64;
	const char *file = NULL;
	int opt;

	d->max_calls = 24;
	d->max_ns = 25000000000ULL;
	d->seed = seed();
	d->progress = isatty(STDERR_FILENO);
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			d->max_calls = parse_number(optarg);
			break;
		case 't':
			d->max_ns = parse_number(optarg) * 1000000000ULL;
			break;
		case 'a':
			anon_mib = parse_number(optarg);
			break;
		case 'v':
			nr_vmas = parse_number(optarg);
			break;
		case 'f':
			file = optarg;
			break;
		case 's':
			d->seed = parse_number(optarg);
			break;
		case 'j':
			d->json = true;
			break;
		case 'q':
			d->progress = false;
			break;
		case 'h':
			print_usage(stdout);
			exit(EXIT_SUCCESS);
		default:
			print_usage(stderr);
			exit(EXIT_FAILURE);
		}
	}
	if (optind < argc) {
		print_usage(stderr);
		exit(EXIT_FAILURE);
	}
	d->memory[d->nr_memory++] = anonymous_memory(anon_mib, nr_vmas);
	if (file)
		d->memory[d->nr_memory++] = file_memory(file);
}

int main(int argc, char **argv)
{
	struct rlimit unlimited = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };
	struct demo d = {};
	size_t i;

	parse_options(&d, argc, argv);
	d.random = d.seed;
	/* For root. Anybody else may get by with the limit that there is. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);

	d.dev = mlock_rs_open();
	if (d.dev < 0) {
		errno = -d.dev;
		die(MLOCK_RS_DEVICE);
	}
	d.racer = racer_start();
	if (!d.racer)
		die("no second thread");

	if (!d.json)
		printf("During each call a second thread replaces one page of the range at a\n"
		       "random moment: three times out of four while the kernel marks the range,\n"
		       "else at any time of the call (--seed %llu).\n\n",
		       d.seed);
	fflush(stdout);
	for (i = 0; i < d.nr_memory; i++)
		race_over(&d, &d.memory[i], d.row[i]);
	racer_stop(d.racer);

	if (d.json) {
		print_json(&d);
	} else {
		print_table(&d);
		print_meaning(&d);
	}
	for (i = 0; i < d.nr_memory; i++)
		if (d.row[i][MLOCK_RS].wrong)
			return EXIT_FAILURE;
	return EXIT_SUCCESS;
}
