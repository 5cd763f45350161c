// SPDX-License-Identifier: GPL-2.0
/*
 * A thread that changes memory while the kernel reads it: word by word between two values, and its
 * mapping as well.
 */
#define _GNU_SOURCE
#include "scribbler.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mlock_rs_test.h"

struct scribbler {
	pthread_t thread;
	pthread_barrier_t begin, end;
	atomic_bool rest;
	bool quit;
	__u64 random;
	void *page;
	void (*restore)(void *arg);
	void *arg;
	struct scribble *what;
	size_t nr;
};

static void scribble(struct scribbler *s)
{
	struct scribble *what = &s->what[random_number(&s->random) % s->nr];
	size_t word = random_number(&s->random) % what->nr_words;
	int which = random_number(&s->random) & 1;

	what->last[word] = what->value[which][word];
	__atomic_store_n(&what->words[word], what->last[word], __ATOMIC_RELAXED);
}

static void change_mapping(struct scribbler *s)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };

	if (random_number(&s->random) % 4)
		mprotect(s->page, page_size, prots[random_number(&s->random) % 3]);
	else if (random_number(&s->random) & 1)
		munmap(s->page, page_size);
	else
		s->restore(s->arg);
}

static void *scribble_until_the_end(void *arg)
{
	struct scribbler *s = arg;

	for (;;) {
		pthread_barrier_wait(&s->begin);
		if (s->quit)
			return NULL;
		while (!atomic_load(&s->rest)) {
			if (random_number(&s->random) % 16)
				scribble(s);
			else
				change_mapping(s);
		}
		s->restore(s->arg);
		pthread_barrier_wait(&s->end);
	}
}

struct scribbler *scribbler_start(__u64 seed, void *page, void (*restore)(void *arg), void *arg)
{
	struct scribbler *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->random = seed;
	s->page = page;
	s->restore = restore;
	s->arg = arg;
	if (pthread_barrier_init(&s->begin, NULL, 2) || pthread_barrier_init(&s->end, NULL, 2) ||
	    pthread_create(&s->thread, NULL, scribble_until_the_end, s)) {
		free(s);
		return NULL;
	}
	return s;
}

void scribbler_scribble(struct scribbler *s, struct scribble *what, size_t nr)
{
	s->what = what;
	s->nr = nr;
	atomic_store(&s->rest, false);
	pthread_barrier_wait(&s->begin);
}

void scribbler_rest(struct scribbler *s)
{
	atomic_store(&s->rest, true);
	pthread_barrier_wait(&s->end);
}

void scribbler_stop(struct scribbler *s)
{
	s->quit = true;
	pthread_barrier_wait(&s->begin);
	pthread_join(s->thread, NULL);
	free(s);
}
