/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the programs of the benchmark share: one contender locks one load of memory, once, in a
 * process of its own, and one line of JSON says what came of it.
 */
#ifndef MLOCK_RS_BENCH_H
#define MLOCK_RS_BENCH_H

#include <linux/mlock_rs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* The memory that is locked. */
struct memory {
	char *addr;
	size_t len;
	/* For mmap(); @fd is -1 without a file. */
	int prot, flags, fd;
	/* What of it is locked: all of it, or many small ranges. */
	struct mlock_rs_range *ranges;
	size_t nr_ranges;
	struct mlock_rs_range all;
	/* The ranges are smaller than pages and touch every one. */
	bool every_page;
};

struct bench;

/* A kind of memory. */
struct load {
	const char *name;
	/* Whether one mmap() says all about it, so that MAP_POPULATE can make it. */
	bool one_mmap;
	void (*map)(const struct bench *b, struct memory *m);
};

/* A way to lock memory. */
struct contender {
	const char *name;
	/* MLOCK_RS_FEATURE_* bits that the module needs; 0 if it goes without the module. */
	__u64 needs;
	/* Makes the mapping itself, as a part of what is measured. */
	bool maps;
	/* Marks the VMAs as locked when all is resident, not before. */
	bool marks_last;
	/* Returns 0 or -errno. */
	int (*lock)(const struct bench *b, struct memory *m);
};

struct bench {
	const struct contender *contender;
	const struct load *load;
	/* Threads, the caller among them; 0 lets the module choose. */
	unsigned int workers;
	/* MLOCK_RS_LOCK_YIELD only; 0 for the default. */
	unsigned int slice_us;
	size_t len;
	/* VMAs of the load, or ranges. */
	size_t nr;
	const char *file;
	/* The rest means something to some of the programs only, see there. */
	const char *probe;
	unsigned int calls;
	unsigned int delay_us;
	unsigned int repeat;
	bool trace;
	/* -1 without the module */
	int dev;
	__u64 features;
};

/* Reads the options. Says what is wrong with them, or what the module lacks, and exits. */
void bench_init(struct bench *b, int argc, char **argv);

/* Says why on one line, and exits. */
noreturn void bench_die(const char *what, int error);
noreturn void bench_skip(const struct bench *b, const char *why);

/* The line of the result: begin, any number of fields, end. */
void result_begin(const struct bench *b);
void result_number(const char *name, unsigned long long value);
void result_numbers(const char *name, const __u64 *values, size_t nr);
void result_end(void);

/* Maps the load. */
void memory_map(const struct bench *b, struct memory *m);
/* And takes it away again, with its locks. */
void memory_unmap(struct memory *m);
/* Has each page of a part of it faulted in, as by a program that uses it. */
void memory_touch(const struct memory *m, char *addr, size_t len);
/* Bytes that are to be locked. */
size_t memory_locked_bytes(const struct memory *m);
/* Exits if not all of it is locked and resident: then nothing was measured. */
void memory_check(const struct bench *b, const struct memory *m);

/* What the module has said about the last call. */
struct said {
	unsigned int helpers, gaps;
};

extern struct said said;

const struct contender *find_contender(const char *name);
const struct load *find_load(const char *name);
/* The names, for the usage. */
const char *contender_name(size_t i);
const char *load_name(size_t i);

#endif /* MLOCK_RS_BENCH_H */
