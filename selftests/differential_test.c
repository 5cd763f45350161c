// SPDX-License-Identifier: GPL-2.0
/*
 * The same program does the same with mlock(2), mlock2(2) and munlock(2) as with LOCK, LOCK on
 * fault and UNLOCK: random programs of mappings, protections, forks, limits and locks run in two
 * processes with the same address layout, one for each. After each step they agree on what it
 * returned, on the VMAs with all their flags, on VmLck, on what is resident and on the flags of the
 * pages. The differences that Documentation/differences.md allows have a name each, in allowed.h;
 * they are foretold, checked on both sides, and counted.
 *
 * To look at the flags of pages means to drain the kernel's batches of pages first. So that the
 * module meets these as well, every eighth program is looked at in full only now and then: after
 * the other steps on what is resident, around those that lock or unlock also on the VMAs and
 * whether they are locked.
 *
 * A program that differs is made as small as possible and printed as a line of text.
 *
 * $DIFF_STEPS is how many steps to run with a full look, $SEED repeats the random numbers, and
 * $REPLAY='map 0+2 anon rw plain 0; lock 0+2 pages' runs this one program, with a full look after
 * each step: what program.c prints and reads.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/resource.h>

#include "compare.h"
#include "mlock_rs_test.h"
#include "shrink.h"

/* Far more than it takes: a world that hangs ends much earlier by itself. */
#define LONG_SECONDS	(7 * 24 * 3600)

#define PROGRAM_STEPS	128
/* One in so many programs has so many steps between two full looks. */
#define RARELY_EVERY	8
#define RARELY		32
/* What a program comes down to that takes one step to fail, and one or two to get there. */
#define FEW_STEPS	5
/* VMAs in an arena where they run out. */
#define CROWD		12

/* The debug kernel is several times slower under emulation. */
static unsigned long nr_steps(void)
{
	const char *steps = getenv("DIFF_STEPS");

	if (steps && *steps)
		return strtoul(steps, NULL, 0);
	return is_debug_kernel() ? 2000 : 100000;
}

/* The worlds move their soft limits below it; without CAP_SYS_RESOURCE it stays as it is. */
static void no_hard_limit(void)
{
	struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_MEMLOCK, &none);
}

struct same_finding {
	struct pair *pair;
	enum finding_kind kind;
};

static bool fails_in_the_same_way(const struct program *p, void *arg)
{
	struct same_finding *same = arg;
	struct finding f;

	return pair_differs(same->pair, p, p->nr > RARELY ? RARELY : 1, &f) &&
	       findings_alike(f.kind, same->kind);
}

/*
 * Makes @p minimal, and @f what it is found to differ in. Returns false if it differed only once.
 */
static bool minimize(struct __test_metadata *_metadata, struct pair *pair, struct program *p,
		     struct finding *f)
{
	struct same_finding same = { .pair = pair };
	unsigned int tries;

	/* With nothing but full looks it may be found earlier. */
	if (!pair_differs(pair, p, 1, f))
		return false;
	if (f->step < p->nr)
		p->nr = f->step + 1;
	same.kind = f->kind;
	tries = shrink(p, fails_in_the_same_way, &same);
	TH_LOG("shrunk to %zu steps in %u runs", p->nr, tries);
	return pair_differs(pair, p, 1, f);
}

static void print_finding(struct __test_metadata *_metadata, const struct program *p,
			  const struct finding *f)
{
	TH_LOG("different: %s: step %zu (%s): %s", finding_name(f->kind), f->step,
	       f->step < p->nr ? step_text(&p->step[f->step]) : "end", f->text);
	TH_LOG("REPLAY='%s'", program_text(p));
}

static void print_tally(struct __test_metadata *_metadata, const struct tally *t)
{
	int i, out;

	TH_LOG("%lu programs, %lu steps, %lu looks at VMAs (%lu full), %lu VMAs each, %llu ms",
	       t->programs, t->steps, t->vma_looks, t->full_looks,
	       t->vmas / (t->vma_looks ? t->vma_looks : 1), t->ns / 1000000);
	for (i = 0; i < NR_OPS; i++) {
		char line[160];
		size_t len = 0;

		for (out = 0; out < NR_OUTCOMES; out++)
			if (t->outcome[i][out])
				len += snprintf(line + len, sizeof(line) - len, " %lu %s",
						t->outcome[i][out], outcome_name(out));
		if (len)
			TH_LOG("%s:%s", op_name(i), line);
	}
	TH_LOG("failed in populating: %lu", t->partly);
	TH_LOG("ended early, VMAs begin and end elsewhere: %lu", t->parted);
	for (i = NO_DIFFERENCE + 1; i < NR_ALLOWED; i++)
		TH_LOG("allowed difference %s: %lu", allowed_name(i), t->allowed[i]);
}

static void print_progress(const struct tally *t, unsigned long steps)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%lu of %lu steps ", t->full_looks, steps);
}

FIXTURE(differential)
{
	struct pair pair;
};

FIXTURE_SETUP(differential)
{
	no_hard_limit();
	pair_init(&self->pair, WORLD_IOCTLS);
}

FIXTURE_TEARDOWN(differential)
{
}

static void replay(struct __test_metadata *_metadata, struct pair *pair, const char *text)
{
	struct program p;
	struct finding f;

	ASSERT_TRUE(program_parse(&p, text)) {
		TH_LOG("not a program: %s", text);
	}
	EXPECT_FALSE(pair_differs(pair, &p, 1, &f)) {
		print_finding(_metadata, &p, &f);
	}
	print_tally(_metadata, &pair->tally);
}

/* Random programs until there were @steps full looks after a step, or something is found. */
static void run_programs(struct __test_metadata *_metadata, struct pair *pair, unsigned long steps)
{
	struct finding f = {};
	struct program p;
	__u64 random = seed();
	struct tally tally;

	TH_LOG("SEED=%llu", random);
	while (pair->tally.full_looks < steps && !f.kind) {
		bool rarely = pair->tally.programs % RARELY_EVERY == RARELY_EVERY - 1;

		program_random(&p, PROGRAM_STEPS, &random);
		pair_differs(pair, &p, rarely ? RARELY : 1, &f);
		print_progress(&pair->tally, steps);
	}
	tally = pair->tally;
	EXPECT_EQ(FOUND_NOTHING, f.kind) {
		print_finding(_metadata, &p, &f);
		if (minimize(_metadata, pair, &p, &f))
			print_finding(_metadata, &p, &f);
		else
			TH_LOG("when it ran again, with full looks, there was no difference");
	}
	print_tally(_metadata, &tally);
	pair->tally = tally;
}

/* That the programs come to what they are to test. */
static void expect_variety(struct __test_metadata *_metadata, const struct tally *t)
{
	int op, i;

	for (op = OP_LOCK; op < NR_OPS; op++) {
		EXPECT_NE(0, t->outcome[op][OUT_OK]);
		EXPECT_NE(0, t->outcome[op][OUT_ENOMEM]);
	}
	EXPECT_NE(0, t->outcome[OP_LOCK][OUT_EPERM]);
	EXPECT_NE(0, t->partly);
	/* Now and then, or the pages of files are not locked at all. */
	EXPECT_GE(t->full_looks / 10, t->allowed[MLOCK_COUNT_LOST]);
	for (i = NO_DIFFERENCE + 1; i < NR_ALLOWED; i++)
		if (i != NO_ROOM_TO_SPLIT && i != MLOCK_COUNT_LOST)
			EXPECT_NE(0, t->allowed[i]) {
				TH_LOG("%s", allowed_name(i));
			}
}

TEST_F_TIMEOUT(differential, same_as_mlock, LONG_SECONDS)
{
	const char *text = getenv("REPLAY");
	const unsigned long steps = nr_steps();

	if (text && *text) {
		replay(_metadata, &self->pair, text);
		return;
	}
	run_programs(_metadata, &self->pair, steps);
	if (steps >= 50000 && !_metadata->exit_code)
		expect_variety(_metadata, &self->pair.tally);
}

/* The same where VMAs run out: vm.max_map_count leaves room for a few in the arena. */
FIXTURE(crowded)
{
	struct pair pair;
	long max_map_count;
};

FIXTURE_SETUP(crowded)
{
	struct program nothing = { .nr = 1, .step = { { .op = OP_REAP } } };
	struct finding f;
	long outside;

	no_hard_limit();
	pair_init(&self->pair, WORLD_IOCTLS);
	ASSERT_FALSE(pair_differs(&self->pair, &nothing, 1, &f));
	self->max_map_count = read_number(MAX_MAP_COUNT_PATH);
	outside = self->max_map_count - self->pair.world[0].journal->max_vmas;
	ASSERT_EQ(0, write_number(MAX_MAP_COUNT_PATH, outside + CROWD));
}

FIXTURE_TEARDOWN_PARENT(crowded)
{
	if (self->max_map_count)
		write_number(MAX_MAP_COUNT_PATH, self->max_map_count);
}

TEST_F_TIMEOUT(crowded, same_as_mlock, LONG_SECONDS)
{
	const unsigned long steps = nr_steps() / 20;

	run_programs(_metadata, &self->pair, steps);
	if (steps >= 200 && !_metadata->exit_code)
		EXPECT_NE(0, self->pair.tally.allowed[NO_ROOM_TO_SPLIT]);
}

/*
 * That it finds something: worlds with a mistake differ, and what remains of a program that shows
 * it is small, and shows it again when it is read back.
 */
FIXTURE(planted)
{
	struct pair pair;
};

FIXTURE_VARIANT(planted)
{
	enum world_kind kind;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(planted, onfault_populates) { .kind = WORLD_ONFAULT_POPULATES };
FIXTURE_VARIANT_ADD(planted, unlock_misses_last_page) { .kind = WORLD_UNLOCK_MISSES_LAST_PAGE };
FIXTURE_VARIANT_ADD(planted, lock_skips_shared) { .kind = WORLD_LOCK_SKIPS_SHARED };
FIXTURE_VARIANT_ADD(planted, limit_off_by_one) { .kind = WORLD_LIMIT_OFF_BY_ONE };
/* clang-format on */

FIXTURE_SETUP(planted)
{
	/* It is this program that is tested, and that takes long there. */
	if (is_debug_kernel())
		SKIP(return, "a kernel without checkers will do");
	no_hard_limit();
	pair_init(&self->pair, variant->kind);
}

FIXTURE_TEARDOWN(planted)
{
}

/* As a rule one of a few dozen shows it; with one seed none of 400 did. */
#define MOST_PROGRAMS	10000

TEST_F_TIMEOUT(planted, is_found_shrunk_and_replayed, 600)
{
	struct finding f, again;
	struct program p, read_back;
	__u64 random = seed();
	int programs = 0, times = 0;

	TH_LOG("SEED=%llu", random);
	/* It takes away step by step, and may be left with more where two go only together. */
	do {
		f = (struct finding) {};
		while (!f.kind && programs++ < MOST_PROGRAMS) {
			program_random(&p, PROGRAM_STEPS / 4, &random);
			pair_differs(&self->pair, &p, RARELY, &f);
		}
		ASSERT_NE(FOUND_NOTHING, f.kind);
		ASSERT_TRUE(minimize(_metadata, &self->pair, &p, &f));
		print_finding(_metadata, &p, &f);
	} while (p.nr > FEW_STEPS && ++times < 3);
	EXPECT_GE(FEW_STEPS, p.nr);

	ASSERT_TRUE(program_parse(&read_back, program_text(&p)));
	EXPECT_TRUE(program_equal(&p, &read_back));
	EXPECT_TRUE(pair_differs(&self->pair, &read_back, 1, &again));
	EXPECT_EQ(f.kind, again.kind);
	EXPECT_EQ(f.step, again.step);
}

TEST(program_is_its_text)
{
	__u64 random = seed();
	struct program p, read_back;
	int i;

	TH_LOG("SEED=%llu", random);
	for (i = 0; i < 100; i++) {
		program_random(&p, PROGRAM_STEPS, &random);
		ASSERT_TRUE(program_parse(&read_back, program_text(&p)));
		ASSERT_TRUE(program_equal(&p, &read_back));
	}
	EXPECT_TRUE(program_parse(&p, "\n lock 63+1 inside;\nreap\n"));
	EXPECT_EQ(2, p.nr);
	EXPECT_FALSE(program_parse(&p, ""));
	EXPECT_FALSE(program_parse(&p, "lock 0+1"));
	EXPECT_FALSE(program_parse(&p, "lock 0+1 pages pages"));
	EXPECT_FALSE(program_parse(&p, "lock 63+2 pages"));
	EXPECT_FALSE(program_parse(&p, "lock 0+0 pages"));
	EXPECT_FALSE(program_parse(&p, "limit 65 exact"));
	EXPECT_FALSE(program_parse(&p, "relock 0+1 pages"));
}

TEST_HARNESS_MAIN
