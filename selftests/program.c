// SPDX-License-Identifier: GPL-2.0
/*
 * Programs for the differential test: the table of their operations, from which the random number
 * generator, the printer and the parser all work.
 */
#define _GNU_SOURCE
#include "program.h"

#include "kselftest.h"
#include "mlock_rs_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WORDS	16
#define MAX_RANGE	16

/* An argument: one of these words, or a number below @below. */
struct argument {
	const char *word[MAX_WORDS];
	unsigned int below;
};

static const struct argument kind = { .word = { "anon", "shared", "file", "droppable" } };
static const struct argument prot = { .word = { "rw", "r", "none", "w", "x", "rx" } };
static const struct argument how = { .word = { "plain", "locked", "populate" } };
static const struct argument page = { .below = ARENA_PAGES };
static const struct argument pages = { .below = ARENA_PAGES + 1 };
static const struct argument move_how = { .word = { "plain", "dontunmap" } };
/* In the order of advices[] in world.c. */
static const struct argument advice = { .word = {
	"dontneed", "dontneed_locked", "free", "dontfork", "dofork", "wipeonfork", "keeponfork",
	"guard", "unguard", "populate_read", "populate_write", "sequential", "normal", "remove",
} };
static const struct argument all_how = { .word = { "none", "future", "future_onfault" } };
static const struct argument bytes = { .word = { "exact", "more" } };
static const struct argument off_on = { .word = { "off", "on" } };
static const struct argument child = { .word = { "exits", "stays" } };
/* In the order of enum lock_edge. */
static const struct argument edge = { .word = {
	"pages", "inside", "corners", "empty", "no_byte", "rounds_to_0", "wraps",
} };

static const struct operation {
	const char *name;
	bool has_range;
	const struct argument *arg[NR_ARGS];
	/* How often, in relation to the others. */
	unsigned int weight;
} operations[NR_OPS] = {
	[OP_MAP] = { "map", true, { &kind, &prot, &how, &page }, 14 },
	[OP_UNMAP] = { "unmap", true, {}, 3 },
	[OP_PROTECT] = { "protect", true, { &prot }, 8 },
	[OP_MOVE] = { "move", true, { &page, &move_how }, 4 },
	[OP_RESIZE] = { "resize", true, { &pages }, 3 },
	[OP_ADVISE] = { "advise", true, { &advice }, 9 },
	[OP_READ] = { "read", true, {}, 3 },
	[OP_WRITE] = { "write", true, {}, 5 },
	[OP_TRUNCATE] = { "truncate", false, { &pages }, 2 },
	[OP_PUNCH] = { "punch", true, {}, 1 },
	[OP_ALL] = { "all", false, { &all_how }, 1 },
	[OP_LIMIT] = { "limit", false, { &pages, &bytes }, 2 },
	[OP_UNLIMITED] = { "unlimited", false, {}, 5 },
	[OP_CAPABLE] = { "capable", false, { &off_on }, 2 },
	[OP_FORK] = { "fork", false, { &child }, 1 },
	[OP_REAP] = { "reap", false, {}, 1 },
	[OP_LOCK] = { "lock", true, { &edge }, 18 },
	[OP_ONFAULT] = { "onfault", true, { &edge }, 9 },
	[OP_UNLOCK] = { "unlock", true, { &edge }, 11 },
};

const char *op_name(enum op op)
{
	return operations[op].name;
}

bool step_has_range(const struct step *s)
{
	return operations[s->op].has_range;
}

size_t step_nr_args(const struct step *s)
{
	size_t nr = 0;

	while (nr < NR_ARGS && operations[s->op].arg[nr])
		nr++;
	return nr;
}

static unsigned int nr_values(const struct argument *arg)
{
	unsigned int nr = 0;

	if (arg->below)
		return arg->below;
	while (nr < MAX_WORDS && arg->word[nr])
		nr++;
	return nr;
}

/* At random. */

static unsigned int below(__u64 *random, unsigned int nr)
{
	return random_number(random) % nr;
}

static bool one_in(__u64 *random, unsigned int nr)
{
	return below(random, nr) == 0;
}

static enum op random_op(__u64 *random)
{
	unsigned int sum = 0, at;
	int op;

	for (op = 0; op < NR_OPS; op++)
		sum += operations[op].weight;
	at = below(random, sum);
	for (op = 0; at >= operations[op].weight; op++)
		at -= operations[op].weight;
	return op;
}

/* Most ranges are small, so that there are many VMAs, and many ranges are within one. */
static void random_range(struct step *s, __u64 *random)
{
	s->nr = 1 + below(random, one_in(random, 3) ? MAX_RANGE : 4);
	if (one_in(random, 40))
		s->nr = ARENA_PAGES / 2 + below(random, ARENA_PAGES / 2 + 1);
	s->first = below(random, ARENA_PAGES - s->nr + 1);
}

/* What is drawn evenly would be nonsense most of the time. */
static void steer(struct step *s, __u64 *random)
{
	switch (s->op) {
	case OP_MAP:
		if (!one_in(random, 3))
			s->arg[1] = PROT_IS_RW;
		if (!one_in(random, 6))
			s->arg[2] = HOW_PLAIN;
		/* Neighbours in the file too, so that VMAs can merge. */
		if (!one_in(random, 3))
			s->arg[3] = s->first;
		break;
	case OP_PROTECT:
		if (one_in(random, 2))
			s->arg[0] = PROT_IS_RW;
		break;
	case OP_LIMIT:
		if (one_in(random, 4))
			s->arg[0] = 0;
		break;
	case OP_TRUNCATE:
		if (one_in(random, 2))
			s->arg[0] = ARENA_PAGES;
		break;
	case OP_LOCK:
	case OP_ONFAULT:
	case OP_UNLOCK:
		if (!one_in(random, 6))
			s->arg[0] = EDGE_PAGES;
		break;
	}
}

static struct step random_step(__u64 *random)
{
	struct step s = { .op = random_op(random) };
	size_t i;

	if (step_has_range(&s))
		random_range(&s, random);
	for (i = 0; i < step_nr_args(&s); i++)
		s.arg[i] = below(random, nr_values(operations[s.op].arg[i]));
	steer(&s, random);
	return s;
}

void program_random(struct program *p, size_t nr, __u64 *random)
{
	p->nr = 0;
	/* Mostly with something to work on. */
	if (nr && !one_in(random, 8))
		p->step[p->nr++] = (struct step){
			.op = OP_MAP, .nr = ARENA_PAGES,
			.arg = { below(random, 3), PROT_IS_RW, HOW_PLAIN, 0 },
		};
	while (p->nr < nr)
		p->step[p->nr++] = random_step(random);
}

/* As text. */

static size_t print_step(char *text, size_t size, const struct step *s)
{
	const struct operation *o = &operations[s->op];
	size_t i, len = snprintf(text, size, "%s", o->name);

	if (o->has_range)
		len += snprintf(text + len, size - len, " %u+%u", s->first, s->nr);
	for (i = 0; i < step_nr_args(s); i++) {
		if (o->arg[i]->below)
			len += snprintf(text + len, size - len, " %u", s->arg[i]);
		else
			len += snprintf(text + len, size - len, " %s", o->arg[i]->word[s->arg[i]]);
	}
	return len;
}

const char *step_text(const struct step *s)
{
	static char text[80];

	print_step(text, sizeof(text), s);
	return text;
}

const char *program_text(const struct program *p)
{
	static char text[MAX_STEPS * 80];
	size_t i, len = 0;

	text[0] = '\0';
	for (i = 0; i < p->nr; i++) {
		len += snprintf(text + len, sizeof(text) - len, "%s", i ? "; " : "");
		len += print_step(text + len, sizeof(text) - len, &p->step[i]);
	}
	return text;
}

/* From text. */

static bool parse_argument(__u8 *value, const struct argument *arg, const char *word)
{
	unsigned int i;
	char *end;

	if (arg->below) {
		unsigned long number = strtoul(word, &end, 10);

		*value = number;
		return end != word && !*end && number < arg->below;
	}
	for (i = 0; i < nr_values(arg); i++)
		if (!strcmp(word, arg->word[i])) {
			*value = i;
			return true;
		}
	return false;
}

static bool parse_range(struct step *s, const char *word)
{
	unsigned int first, nr;
	char end;

	if (sscanf(word, "%u+%u%c", &first, &nr, &end) != 2)
		return false;
	s->first = first;
	s->nr = nr;
	return nr && nr <= ARENA_PAGES && first <= ARENA_PAGES - nr;
}

static bool parse_op(struct step *s, const char *word)
{
	int op;

	for (op = 0; op < NR_OPS; op++)
		if (!strcmp(word, operations[op].name)) {
			s->op = op;
			return true;
		}
	return false;
}

static bool parse_step(struct step *s, char *text)
{
	const char *blank = " \t";
	char *rest, *word = strtok_r(text, blank, &rest);
	size_t i;

	*s = (struct step){};
	if (!word || !parse_op(s, word))
		return false;
	if (step_has_range(s)) {
		word = strtok_r(NULL, blank, &rest);
		if (!word || !parse_range(s, word))
			return false;
	}
	for (i = 0; i < step_nr_args(s); i++) {
		word = strtok_r(NULL, blank, &rest);
		if (!word || !parse_argument(&s->arg[i], operations[s->op].arg[i], word))
			return false;
	}
	return !strtok_r(NULL, blank, &rest);
}

static bool is_blank(const char *text)
{
	return !text[strspn(text, " \t")];
}

bool program_parse(struct program *p, const char *text)
{
	static char copy[MAX_STEPS * 80];
	char *rest = copy, *line;

	p->nr = 0;
	if (snprintf(copy, sizeof(copy), "%s", text) >= (int)sizeof(copy))
		return false;
	while ((line = strsep(&rest, ";\n"))) {
		if (is_blank(line))
			continue;
		if (p->nr == MAX_STEPS || !parse_step(&p->step[p->nr], line))
			return false;
		p->nr++;
	}
	return p->nr > 0;
}

bool program_equal(const struct program *a, const struct program *b)
{
	return a->nr == b->nr && !memcmp(a->step, b->step, a->nr * sizeof(a->step[0]));
}
