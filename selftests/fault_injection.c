// SPDX-License-Identifier: GPL-2.0
/*
 * failslab and fail_page_alloc, with fail-nth for the first failure. After that one the kernel asks
 * the settings of the two, by which each allocation fails of a task that has make-it-fail set.
 */
#define _GNU_SOURCE
#include "fault_injection.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kselftest.h"
#include "mlock_rs_test.h"

static const struct setting {
	const char *path, *on, *off;
} settings[] = {
	{ "/sys/kernel/debug/failslab/task-filter", "Y", "N" },
	{ "/sys/kernel/debug/failslab/ignore-gfp-wait", "N", "Y" },
	{ "/sys/kernel/debug/failslab/verbose", "0", "2" },
	{ "/sys/kernel/debug/failslab/times", "-1", "1" },
	{ "/sys/kernel/debug/failslab/probability", "100", "0" },
	{ "/sys/kernel/debug/fail_page_alloc/task-filter", "Y", "N" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N", "Y" },
	{ "/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem", "N", "Y" },
	{ "/sys/kernel/debug/fail_page_alloc/min-order", "0", "1" },
	{ "/sys/kernel/debug/fail_page_alloc/verbose", "0", "2" },
	{ "/sys/kernel/debug/fail_page_alloc/times", "-1", "1" },
	{ "/sys/kernel/debug/fail_page_alloc/probability", "100", "0" },
};

/* Of this thread, open since fault_injection_on(): to open a file takes memory. */
static int fail_nth = -1, make_it_fail = -1;

int fault_injection_on(void)
{
	size_t i;
	int ret;

	fail_nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	make_it_fail = open("/proc/thread-self/make-it-fail", O_RDWR | O_CLOEXEC);
	if (fail_nth < 0 || make_it_fail < 0)
		return -errno;
	for (i = 0; i < ARRAY_SIZE(settings); i++) {
		ret = write_text(settings[i].path, settings[i].on);
		if (ret)
			return ret;
	}
	return 0;
}

void fault_injection_off(void)
{
	size_t i;

	/* Backwards: the probability goes first, the filter last. */
	for (i = ARRAY_SIZE(settings); i--; )
		write_text(settings[i].path, settings[i].off);
}

static void set(int fd, unsigned int number)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", number);

	if (pwrite(fd, text, len, 0) != len) {
		perror("fault injection");
		abort();
	}
}

void fault_arm(unsigned int nth, enum fault_extent extent)
{
	set(make_it_fail, extent == FAULT_ALL_FROM);
	set(fail_nth, nth);
}

bool fault_disarm(void)
{
	char text[16] = "";
	bool failed;

	set(make_it_fail, 0);
	failed = pread(fail_nth, text, sizeof(text) - 1, 0) > 0 && !strtoul(text, NULL, 10);
	set(fail_nth, 0);
	return failed;
}
