/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What another thread is doing, as /proc has it: whether it sleeps, and in which function of the
 * kernel. No look at it takes the mmap lock of the thread that is looked at.
 */
#ifndef MLOCK_RS_THREAD_STATE_H
#define MLOCK_RS_THREAD_STATE_H

#include <stdbool.h>
#include <sys/types.h>

#include "mlock_rs_test.h"

/* Nothing that works takes as long as this. */
#define HANG_MS		20000

/* The letter in /proc/TID/stat: R, S, D, T, t, Z; 0 if there is no such thread. */
char thread_state(pid_t tid);

/* Whether it sleeps, interruptibly or not. */
bool thread_sleeps(pid_t tid);

/*
 * Whether it sleeps and @function is on its kernel stack. The stack may be that of a moment later,
 * and an unwinder that guesses finds functions that are over: good to wait for, not as the only
 * witness.
 */
bool thread_sleeps_in(pid_t tid, const char *function);

/* The number in the line of /proc/PID/status that begins with @field; -1 if there is none. */
long status_number(pid_t pid, const char *field);

/*
 * Waits until @tid has waited for a while: it has slept all the time, or gone to sleep again and
 * again. Returns false if it hangs.
 */
bool wait_waits(pid_t tid);

/* Waits until it sleeps, interruptibly or not. Returns false if it hangs. */
bool wait_asleep(pid_t tid);

/*
 * Waits until it sleeps in a function of the kernel whose name begins so: what the compiler makes
 * of a function may have another ending. Returns false if it hangs.
 */
bool wait_in(pid_t tid, const char *function);

/* For loops: sleeps a little, and returns whether it has gone on since @begin for HANG_MS. */
bool give_up(unsigned long long begin);

/*
 * Waits until @cond holds, and returns whether it does: ASSERT_TRUE(comes_about(...)). To assert
 * !give_up() in a loop without braces would not leave the loop.
 */
#define comes_about(cond) \
	__extension__({ \
		unsigned long long begin__ = now_ns(); \
		bool cond__; \
\
		while (!(cond__ = (cond)) && !give_up(begin__)) \
			; \
		cond__; \
	})

#endif /* MLOCK_RS_THREAD_STATE_H */
