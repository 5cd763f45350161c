// SPDX-License-Identifier: GPL-2.0
/*
 * What another thread is doing, as /proc has it: whether it sleeps, and in which function of the
 * kernel. No look at it takes the mmap lock of the thread that is looked at.
 */
#define _GNU_SOURCE
#include "thread_state.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mlock_rs_test.h"

/* The contents of /proc/@tid/@name. Good until the next call; "" if there is no such thread. */
static const char *proc_text(pid_t tid, const char *name)
{
	static char text[8192];
	char path[48];
	ssize_t n, len = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
			len += n;
		close(fd);
	}
	text[len] = '\0';
	return text;
}

char thread_state(pid_t tid)
{
	const char *comm_end = strrchr(proc_text(tid, "stat"), ')');

	return comm_end && comm_end[1] ? comm_end[2] : 0;
}

bool thread_sleeps(pid_t tid)
{
	char state = thread_state(tid);

	/* vma_start_write() sets state D before it checks for readers, and may find none. */
	return (state == 'D' || state == 'S') && strcmp(proc_text(tid, "wchan"), "0");
}

bool thread_sleeps_in(pid_t tid, const char *function)
{
	char frame[64];

	/* "[<0>] function+0x12/0x34" */
	snprintf(frame, sizeof(frame), "] %s", function);
	return thread_sleeps(tid) && strstr(proc_text(tid, "stack"), frame);
}

long status_number(pid_t pid, const char *field)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return read_field(path, field);
}

bool give_up(unsigned long long begin)
{
	usleep(1000);
	return now_ns() - begin > HANG_MS * 1000000ULL;
}

/* How many looks, a millisecond apart. */
#define A_WHILE		20

bool wait_waits(pid_t tid)
{
	long before = status_number(tid, "voluntary_ctxt_switches:"), last = before, now;
	unsigned long long begin = now_ns();
	int looks = 0;
	char state;

	while (looks < A_WHILE) {
		if (give_up(begin))
			return false;
		state = thread_state(tid);
		now = status_number(tid, "voluntary_ctxt_switches:");
		if (now >= before + 3)
			return true;
		looks = now == last && (state == 'D' || state == 'S') ? looks + 1 : 0;
		last = now;
	}
	return true;
}

bool wait_asleep(pid_t tid)
{
	unsigned long long begin = now_ns();

	while (!thread_sleeps(tid))
		if (give_up(begin))
			return false;
	return true;
}

bool wait_in(pid_t tid, const char *function)
{
	unsigned long long begin = now_ns();

	do {
		if (!strncmp(proc_text(tid, "wchan"), function, strlen(function)))
			return true;
	} while (!give_up(begin));
	return false;
}
