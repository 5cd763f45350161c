// SPDX-License-Identifier: GPL-2.0
/*
 * The ABI under calls made up at random (fuzz_call.c), each of which is checked to the last byte
 * against what the header promises; and under arguments that change while the kernel reads them,
 * where only so much is certain that nothing else is harmed.
 *
 * Where the kernel has KCOV a third test is guided by it: a call that ran through the module in a
 * new way is kept, and others are made that are nearly the same.
 *
 * $FUZZ_CALLS is how many calls to make, $SEED repeats them.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/ioctl.h>
#include <sys/resource.h>

#include "fuzz_call.h"
#include "history.h"
#include "kcov.h"
#include "mlock_rs_test.h"
#include "scribbler.h"

/* Far more than any number of calls takes: only a hang gets here. */
#define HANG_SECONDS	3600

/* How many calls there are between two looks at all VMAs. */
#define ROUND_CALLS	20000

FIXTURE(fuzz)
{
	struct fuzz_memory f;
	struct snapshot now;
	/* How often each errno came, success as 0. */
	unsigned long count[256];
	/* NULL if the kernel has none. */
	struct kcov *kcov;
};

static unsigned long nr_calls(void)
{
	const char *calls = getenv("FUZZ_CALLS");

	if (calls && *calls)
		return strtoul(calls, NULL, 10);
	return is_debug_kernel() ? 50000 : 1000000;
}

/* The soft limit, which needs no privilege to rise again. */
static void set_limit(struct __test_metadata *_metadata, struct fuzz_memory *f, size_t pages)
{
	const struct rlimit limit = {
		.rlim_cur = pages == NO_LIMIT ? RLIM_INFINITY : pages * page_size,
		.rlim_max = RLIM_INFINITY,
	};

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	f->arena.limit_pages = pages;
}

FIXTURE_SETUP(fuzz)
{
	self->f.dev = mlock_rs_open();
	ASSERT_LE(0, self->f.dev);
	ASSERT_EQ(0, vmlck());
	ASSERT_EQ(0, fuzz_memory_map(&self->f));
	set_limit(_metadata, &self->f, NO_LIMIT);
	/* Nobody else may open that. */
	self->kcov = kcov_open();
	/* CAP_IPC_LOCK knows no limit. */
	ASSERT_EQ(0, drop_privileges(0));
	self->f.random = seed();
	TH_LOG("SEED=%llu", self->f.random);
}

FIXTURE_TEARDOWN(fuzz)
{
	if (self->kcov)
		kcov_close(self->kcov);
	close(self->f.dev);
}

static void change_limit(struct __test_metadata *_metadata, struct fuzz_memory *f)
{
	const size_t limits[] = { NO_LIMIT, NO_LIMIT, 0, 4, ARENA_PAGES / 2 };

	set_limit(_metadata, f, limits[fuzz_below(f, ARRAY_SIZE(limits))]);
}

/* Other calls make the pages what they are, and the model follows. */
static void change_mappings(struct __test_metadata *_metadata, struct fuzz_memory *f)
{
	static const enum call_kind kinds[] = { CALL_MUNMAP, CALL_MMAP, CALL_MMAP, CALL_MPROTECT };
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	struct call call = {
		.kind = kinds[fuzz_below(f, ARRAY_SIZE(kinds))],
		.prot = prots[fuzz_below(f, ARRAY_SIZE(prots))],
		.nr_ranges = 1,
	};
	size_t most = call.kind == CALL_MMAP ? ARENA_PAGES : 2, nr = 1 + fuzz_below(f, most);
	size_t first = fuzz_below(f, ARENA_PAGES - nr + 1);
	struct answer expected;

	call.range[0].addr = f->arena.start + first * page_size;
	call.range[0].len = nr * page_size;
	call_on_kernel(&call, f->dev);
	call_on_model(&call, &f->arena, &expected);
	ASSERT_TRUE(answer_allows(&expected, &call.answer));
}

/* The kernel's witnesses against each other: nothing but the arena is locked, and VmLck says so. */
static size_t locked_in_arena(struct __test_metadata *_metadata, FIXTURE_DATA(fuzz) * self)
{
	const char *pages = states((void *)(uintptr_t)self->f.arena.start, ARENA_PAGES);
	size_t locked = count(pages, 'l') + count(pages, 'L') + count(pages, 'f') +
			count(pages, 'F');

	take_snapshot(&self->now);
	EXPECT_EQ(locked_bytes(&self->now), self->now.vmlck);
	EXPECT_EQ(locked * page_size, self->now.vmlck);
	return locked;
}

static void start_afresh(struct __test_metadata *_metadata, FIXTURE_DATA(fuzz) * self)
{
	ASSERT_EQ(0, fuzz_memory_map_arena(&self->f));
	EXPECT_EQ(0, vmlck());
}

static void end_round(struct __test_metadata *_metadata, FIXTURE_DATA(fuzz) * self)
{
	const char *seen = states((void *)(uintptr_t)self->f.arena.start, ARENA_PAGES);
	char pages[MODEL_PAGES + 1];

	model_states_like(&self->f.arena, seen, pages);
	EXPECT_STREQ(pages, seen);
	EXPECT_EQ(model_locked_pages(&self->f.arena), locked_in_arena(_metadata, self));
	start_afresh(_metadata, self);
}

/* With an errno that never came a part of the ABI would not have been tested. */
static void expect_all(struct __test_metadata *_metadata, FIXTURE_DATA(fuzz) * self,
		       const int *errors, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		TH_LOG("%8lu %s", self->count[errors[i]],
		       errors[i] ? strerror(errors[i]) : "Success");
		EXPECT_LT(0, self->count[errors[i]]);
	}
}

/* Call number @i, perhaps on other memory and with another limit than the one before it. */
static void any_call(struct __test_metadata *_metadata, FIXTURE_DATA(fuzz) * self, unsigned long i)
{
	struct fuzz_memory *f = &self->f;
	struct fuzz_call c;
	const char *wrong;

	if (!fuzz_below(f, 64))
		change_limit(_metadata, f);
	if (!fuzz_below(f, 16))
		change_mappings(_metadata, f);
	fuzz_make_call(f, &c);
	wrong = fuzz_check_call(f, &c);
	ASSERT_EQ(NULL, wrong) {
		TH_LOG("call %lu: %s", i, wrong);
		fuzz_print_call(f, &c);
	}
	self->count[c.got]++;
}

TEST_F_TIMEOUT(fuzz, every_byte_is_as_promised, HANG_SECONDS)
{
	static const int errors[] = { 0, E2BIG, EFAULT, EINVAL, ENOMEM, ENOTTY, EPERM };
	const unsigned long nr = nr_calls();
	__u64 begin = now_ns();
	unsigned long i;

	for (i = 1; i <= nr; i++) {
		any_call(_metadata, self, i);
		if (i % ROUND_CALLS == 0 || i == nr)
			end_round(_metadata, self);
	}
	TH_LOG("%lu calls in %llu ms", nr, (now_ns() - begin) / 1000000);
	expect_all(_metadata, self, errors, ARRAY_SIZE(errors));
}

/* Calls that came where none had been. */
#define MAX_KEPT	4096

struct kept {
	struct choices call[MAX_KEPT];
	size_t nr;
	/* The number of the last one. */
	unsigned long last;
};

/* One in four is all new. @kept may be NULL. */
static void choose(struct fuzz_memory *f, const struct kept *kept)
{
	f->choices->nr = 0;
	f->choices->at = 0;
	if (!kept || !kept->nr || !(random_number(&f->random) % 4))
		return;
	*f->choices = kept->call[random_number(&f->random) % kept->nr];
	choices_mutate(f->choices, &kept->call[random_number(&f->random) % kept->nr], &f->random);
}

/* With NULL for @kept it is not guided, only recorded. */
static void recorded_call(struct __test_metadata *_metadata, FIXTURE_DATA(fuzz) * self,
			  struct kept *kept, unsigned long i)
{
	struct fuzz_memory *f = &self->f;

	choose(f, kept);
	kcov_begin(self->kcov);
	any_call(_metadata, self, i);
	if (kcov_end(self->kcov) && kept && kept->nr < MAX_KEPT) {
		choices_end(f->choices);
		kept->call[kept->nr++] = *f->choices;
		kept->last = i;
	}
}

TEST_F_TIMEOUT(fuzz, guided_by_kcov, HANG_SECONDS)
{
	static const int errors[] = { 0, E2BIG, EFAULT, EINVAL, ENOMEM, ENOTTY, EPERM };
	const unsigned long nr = nr_calls(), blind = nr / 4;
	static struct choices choices;
	static struct kept kept;
	struct kcov *kcov = self->kcov;
	__u64 begin = now_ns();
	size_t features;
	unsigned long i;

	if (!kcov)
		SKIP(return, "no KCOV in this kernel (KERNEL=kcsan has it)");
	self->f.choices = &choices;
	ASSERT_EQ(0, kcov_enable(kcov));
	/* First as many as it takes for what is easy to come by. */
	for (i = 1; i <= blind; i++)
		recorded_call(_metadata, self, NULL, i);
	features = kcov_features(kcov);
	TH_LOG("%lu calls at random: %zu features, %zu blocks", blind, features,
	       kcov_blocks(kcov));
	for (; i <= nr; i++) {
		recorded_call(_metadata, self, &kept, i);
		if (i % ROUND_CALLS == 0 || i == nr)
			end_round(_metadata, self);
	}
	TH_LOG("%lu calls, guided: %zu features, %zu blocks; %zu kept, the last one is call %lu",
	       nr - blind, kcov_features(kcov), kcov_blocks(kcov), kept.nr, kept.last);
	TH_LOG("%lu calls in %llu ms", nr, (now_ns() - begin) / 1000000);
	/* A module that is not instrumented has none. */
	EXPECT_LT(0, features);
	EXPECT_LT(0, kept.nr);
	expect_all(_metadata, self, errors, ARRAY_SIZE(errors));
}

/*
 * An argument that changes while it is read, and that comes and goes. What it was when the kernel
 * read it nobody can tell, so any answer will do that the call can give at all; but the kernel
 * writes nothing but results, and nothing outside of the arena is locked by what it believed to
 * have checked.
 */

/* How many calls there are with the same two arguments. */
#define BATCH_CALLS	20

enum { ASKED_FOR, TAIL, RANGES, NR_SCRIBBLES };

struct batch {
	const struct fuzz_command *command;
	size_t at, size;
	struct scribble scribble[NR_SCRIBBLES];
	size_t nr_scribbles;
};

static void restore_view(void *arg)
{
	if (fuzz_memory_map_view(arg))
		abort();
}

static struct scribble *add_scribble(struct batch *b, void *words, size_t nr_words)
{
	struct scribble *s = &b->scribble[b->nr_scribbles];

	if (nr_words > SCRIBBLER_WORDS)
		nr_words = SCRIBBLER_WORDS;
	s->words = words;
	s->nr_words = nr_words;
	b->nr_scribbles += nr_words > 0;
	return s;
}

/* The two values of the words that are there now, and of @other. */
static void set_values(struct scribble *s, const void *other)
{
	memcpy(s->value[0], s->words, s->nr_words * sizeof(__u64));
	memcpy(s->value[1], other, s->nr_words * sizeof(__u64));
	memcpy(s->last, s->words, s->nr_words * sizeof(__u64));
}

/* Two values of the argument, a tail that is zero or not, and two arrays of ranges. */
static void prepare_batch(struct fuzz_memory *f, struct batch *b)
{
	static struct mlock_rs_range ranges[SCRIBBLER_WORDS / 2];
	static const __u64 tail = 1;
	struct fuzz_call one, other;
	size_t nr_ranges = 0;
	unsigned char *arg;

	b->command = &fuzz_commands[fuzz_below(f, NR_FUZZ_COMMANDS)];
	/* With 8 bytes of tail, within the page that comes and goes or across its end. */
	b->size = b->command->size + sizeof(tail);
	b->at = fuzz_below(f, 2) ? page_size - 8 * fuzz_below(f, b->size / 8) : 64;
	b->nr_scribbles = 0;
	arg = f->alias + b->at;
	one.command = b->command;
	other.command = b->command;
	fuzz_fill_value(f, &one);
	if (b->command->vector) {
		nr_ranges = one.readable_ranges;
		if (nr_ranges > ARRAY_SIZE(ranges))
			nr_ranges = ARRAY_SIZE(ranges);
		memcpy(ranges, (void *)(uintptr_t)one.value.lockv.ranges,
		       nr_ranges * sizeof(*ranges));
	}
	fuzz_fill_value(f, &other);

	memset(f->alias, 0xa5, 2 * page_size);
	memcpy(arg, &one.value, b->command->size);
	memset(arg + b->command->size, 0, sizeof(tail));
	set_values(add_scribble(b, arg, b->command->result / 8), &other.value);
	set_values(add_scribble(b, arg + b->command->size, 1), &tail);
	/* The ranges of the first value; what the second one has left there are their others. */
	if (nr_ranges)
		set_values(add_scribble(b, (void *)(uintptr_t)one.value.lockv.ranges,
					2 * nr_ranges), ranges);
}

static bool is_one_of(int error, const int *errors, size_t nr)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (errors[i] == error)
			return true;
	return false;
}

/* Nobody has written to what the kernel only reads: not even what was there a moment before. */
static void expect_only_scribbles(struct __test_metadata *_metadata, const struct batch *b)
{
	size_t i;

	for (i = 0; i < b->nr_scribbles; i++) {
		const struct scribble *s = &b->scribble[i];

		EXPECT_EQ(0, memcmp(s->last, s->words, s->nr_words * sizeof(__u64)));
	}
}

static void expect_canaries(struct __test_metadata *_metadata, const struct fuzz_memory *f,
			    const struct batch *b)
{
	size_t i;

	for (i = 0; i < 2 * page_size; i++)
		if (i < b->at || i >= b->at + b->size)
			ASSERT_EQ(0xa5, f->alias[i]);
}

TEST_F_TIMEOUT(fuzz, arguments_that_change, HANG_SECONDS)
{
	static const int errors[] = { 0, E2BIG, EFAULT, EINVAL, ENOMEM };
	/* Two threads that change mappings of the same memory cost far more than one. */
	const unsigned long nr = (nr_calls() / 20 / BATCH_CALLS + 1) * BATCH_CALLS;
	struct fuzz_memory *f = &self->f;
	struct scribbler *scribbler;
	__u64 begin = now_ns();
	static struct batch b;
	unsigned long i;

	scribbler = scribbler_start(random_number(&f->random), f->view, restore_view, f);
	ASSERT_NE(NULL, scribbler);
	for (i = 1; i <= nr; i++) {
		unsigned long cmd;
		int error;

		if (i % BATCH_CALLS == 1) {
			change_limit(_metadata, f);
			prepare_batch(f, &b);
			scribbler_scribble(scribbler, b.scribble, b.nr_scribbles);
		}
		cmd = (b.command->cmd & ~IOCSIZE_MASK) | b.size << IOCSIZE_SHIFT;
		error = ioctl(f->dev, cmd, f->view + b.at) ? errno : 0;
		EXPECT_TRUE(is_one_of(error, b.command->errors, ARRAY_SIZE(b.command->errors))) {
			TH_LOG("call %lu, %s: %s", i, b.command->name, strerror(error));
		}
		self->count[error & 0xff]++;
		if (i % BATCH_CALLS == 0) {
			scribbler_rest(scribbler);
			expect_only_scribbles(_metadata, &b);
			expect_canaries(_metadata, f, &b);
		}
		if (i % ROUND_CALLS == 0 || i == nr) {
			locked_in_arena(_metadata, self);
			start_afresh(_metadata, self);
		}
		if (_metadata->exit_code)
			break;
	}
	TH_LOG("%lu calls in %llu ms", nr, (now_ns() - begin) / 1000000);
	expect_all(_metadata, self, errors, ARRAY_SIZE(errors));
}

TEST_HARNESS_MAIN
