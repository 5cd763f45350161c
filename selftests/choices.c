// SPDX-License-Identifier: GPL-2.0
/*
 * Random numbers that can be made again, but for some of them: what a test case was made up from is
 * recorded, so that another one can be made that is nearly the same.
 */
#include "choices.h"

#include <string.h>

#include "mlock_rs_test.h"

__u64 choices_next(struct choices *c, __u64 *random)
{
	__u64 value;

	if (c->at < c->nr)
		return c->value[c->at++];
	value = random_number(random);
	if (c->nr < MAX_CHOICES) {
		c->value[c->nr++] = value;
		c->at = c->nr;
	}
	return value;
}

void choices_end(struct choices *c)
{
	c->nr = c->at;
	c->at = 0;
}

void choices_mutate(struct choices *c, const struct choices *other, __u64 *random)
{
	size_t changes = 1 + random_number(random) % 4, at;

	while (changes-- && c->nr) {
		at = random_number(random) % c->nr;
		switch (random_number(random) % 8) {
		case 0:
			/* What comes then is new. */
			c->nr = at;
			break;
		case 1:
			/* What comes then is as in the other one. */
			if (other->nr > at) {
				memcpy(&c->value[at], &other->value[at],
				       (other->nr - at) * sizeof(c->value[0]));
				c->nr = other->nr;
			}
			break;
		case 2:
			c->value[at]++;
			break;
		case 3:
			c->value[at]--;
			break;
		default:
			c->value[at] = random_number(random);
			break;
		}
	}
}
