/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Twins: two pieces of memory that are alike, of which LOCK gets one and mlock(2) the other. To be
 * included after the harness, whose assertions it makes.
 */
#ifndef MLOCK_RS_TWIN_H
#define MLOCK_RS_TWIN_H

#include "mlock_rs_test.h"

/*
 * Locks the same @nr_pages of both: same answer, same VmLck, same state of every page. Returns the
 * answer.
 */
static int lock_twins(struct __test_metadata *_metadata, int dev, const char *mine,
		      const char *theirs, size_t nr_pages, struct mlock_rs_lock *res)
{
	const size_t len = nr_pages * page_size, before = vmlck();
	const int answer = mlock_2(theirs, len);
	const size_t between = vmlck();

	EXPECT_EQ(answer, mlock_rs(dev, mine, len, res));
	EXPECT_EQ(-answer, (int)res->error);
	EXPECT_EQ(between - before, vmlck() - between);
	EXPECT_EQ(between - before, res->locked);
	if (!answer)
		EXPECT_EQ(len, res->populated);
	EXPECT_STREQ(states(theirs, nr_pages), states(mine, nr_pages));
	return answer;
}

#endif /* MLOCK_RS_TWIN_H */
