// SPDX-License-Identifier: GPL-2.0
/*
 * Options in, one line of JSON out: the same for all programs of the benchmark.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "mlock_rs_test.h"

static void print_usage(FILE *f)
{
	const char *name;
	size_t i;

	fprintf(f, "usage: %s [OPTION]...\n"
		"  --contender NAME  how to lock:", program_invocation_short_name);
	for (i = 0; (name = contender_name(i)); i++)
		fprintf(f, " %s", name);
	fprintf(f, "\n  --load NAME       what to lock:");
	for (i = 0; (name = load_name(i)); i++)
		fprintf(f, " %s", name);
	fputs("\n"
	      "  --size SIZE       how much of it, say 64K, 16M or 1G (16M)\n"
	      "  --nr N            VMAs, or ranges of the load \"ranges\" (1)\n"
	      "  --workers N       threads that populate; 0 lets the module choose (1)\n"
	      "  --slice US        slice of the contender \"yield\"; 0 is the default (0)\n"
	      "  --file PATH       the file of the loads that are one\n"
	      "  --probe NAME      stall: what another thread or process does\n"
	      "  --calls N         wrong: number of calls (100)\n"
	      "  --delay US        kill: when to do it (10000)\n"
	      "  --repeat N        lock: how often, each time with new memory; the median counts (1)\n"
	      "  --trace           lock: how long the mmap lock is held\n", f);
}

static noreturn void bad_option(const char *option, const char *text)
{
	fprintf(stderr, "%s: %s cannot be %s\n", program_invocation_short_name, option, text);
	exit(EXIT_FAILURE);
}

static unsigned long parse_number(const char *option, const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (!*text || *end)
		bad_option(option, text);
	return n;
}

static size_t parse_size(const char *text)
{
	char *end;
	size_t n = strtoul(text, &end, 10);
	const char *units = "KMG", *unit = *end ? strchr(units, *end) : NULL;

	if (unit) {
		n <<= 10 * (unit - units + 1);
		end++;
	}
	if (!n || *end || n % page_size)
		bad_option("--size", text);
	return n;
}

static void parse_options(struct bench *b, int argc, char **argv)
{
	static const struct option options[] = {
		{ "contender", required_argument, NULL, 'c' },
		{ "load", required_argument, NULL, 'l' },
		{ "size", required_argument, NULL, 's' },
		{ "nr", required_argument, NULL, 'n' },
		{ "workers", required_argument, NULL, 'w' },
		{ "slice", required_argument, NULL, 'i' },
		{ "file", required_argument, NULL, 'f' },
		{ "probe", required_argument, NULL, 'p' },
		{ "calls", required_argument, NULL, 'C' },
		{ "delay", required_argument, NULL, 'd' },
		{ "repeat", required_argument, NULL, 'r' },
		{ "trace", no_argument, NULL, 't' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			b->contender = find_contender(optarg);
			if (!b->contender)
				bad_option("--contender", optarg);
			break;
		case 'l':
			b->load = find_load(optarg);
			if (!b->load)
				bad_option("--load", optarg);
			break;
		case 's':
			b->len = parse_size(optarg);
			break;
		case 'n':
			b->nr = parse_number("--nr", optarg);
			break;
		case 'w':
			b->workers = parse_number("--workers", optarg);
			break;
		case 'i':
			b->slice_us = parse_number("--slice", optarg);
			break;
		case 'f':
			b->file = optarg;
			break;
		case 'p':
			b->probe = optarg;
			break;
		case 'C':
			b->calls = parse_number("--calls", optarg);
			break;
		case 'd':
			b->delay_us = parse_number("--delay", optarg);
			break;
		case 'r':
			b->repeat = parse_number("--repeat", optarg);
			break;
		case 't':
			b->trace = true;
			break;
		case 'h':
			print_usage(stdout);
			exit(EXIT_SUCCESS);
		default:
			print_usage(stderr);
			exit(EXIT_FAILURE);
		}
	}
	if (optind < argc || !b->nr || !b->calls || !b->repeat || (b->trace && b->repeat > 1)) {
		print_usage(stderr);
		exit(EXIT_FAILURE);
	}
}

static void open_module(struct bench *b)
{
	struct mlock_rs_abi abi = {};

	b->dev = mlock_rs_open();
	if (b->dev < 0)
		return;
	if (ioctl(b->dev, MLOCK_RS_ABI, &abi))
		bench_die("MLOCK_RS_ABI", errno);
	b->features = abi.features;
}

void bench_init(struct bench *b, int argc, char **argv)
{
	struct rlimit unlimited = { .rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY };

	b->contender = find_contender("mlock");
	b->load = find_load("anon");
	b->len = 16 << 20;
	b->nr = 1;
	b->workers = 1;
	b->calls = 100;
	b->delay_us = 10000;
	b->repeat = 1;
	parse_options(b, argc, argv);

	open_module(b);
	if (b->contender->needs && b->dev < 0)
		bench_skip(b, "the module is not loaded");
	if (b->contender->needs & ~b->features)
		bench_skip(b, "the module cannot do that");
	if (b->contender->needs && b->workers != 1 && !(b->features & MLOCK_RS_FEATURE_WORKERS))
		bench_skip(b, "the module has no workers");
	if (b->contender->maps && !b->load->one_mmap)
		bench_skip(b, "one mmap(2) cannot make this memory");
	if (b->contender->maps && b->nr != 1)
		bench_skip(b, "one mmap(2) makes one VMA");

	/* For root. Anybody else may get by with the limit that there is. */
	setrlimit(RLIMIT_MEMLOCK, &unlimited);
	/* Huge pages only where they are asked for, whatever the machine's default is. */
	if (strcmp(b->load->name, "thp"))
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

void bench_die(const char *what, int error)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(error));
	exit(EXIT_FAILURE);
}

void bench_skip(const struct bench *b, const char *why)
{
	result_begin(b);
	printf(", \"skipped\": \"%s\"", why);
	result_end();
	exit(EXIT_SUCCESS);
}

void result_begin(const struct bench *b)
{
	printf("{\"program\": \"%s\", \"contender\": \"%s\", \"workers\": %u, \"load\": \"%s\"",
	       program_invocation_short_name, b->contender->name, b->workers, b->load->name);
	printf(", \"bytes\": %zu, \"nr\": %zu", b->len, b->nr);
	if (b->probe)
		printf(", \"probe\": \"%s\"", b->probe);
}

void result_number(const char *name, unsigned long long value)
{
	printf(", \"%s\": %llu", name, value);
}

void result_numbers(const char *name, const __u64 *values, size_t nr)
{
	size_t i;

	printf(", \"%s\": [", name);
	for (i = 0; i < nr; i++)
		printf("%s%llu", i ? ", " : "", values[i]);
	printf("]");
}

void result_end(void)
{
	printf("}\n");
	fflush(stdout);
}
