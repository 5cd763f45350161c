// SPDX-License-Identifier: GPL-2.0
/*
 * A memory control group of the test's own (cgroup v2).
 */
#define _GNU_SOURCE
#include "memcg.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define ROOT	"/sys/fs/cgroup"

int memcg_create(struct memcg *g, const char *name)
{
	int ret = write_text(ROOT "/cgroup.subtree_control", "+memory");

	if (ret)
		return ret;
	snprintf(g->dir, sizeof(g->dir), ROOT "/mlock_rs_%s", name);
	return mkdir(g->dir, 0700) && errno != EEXIST ? -errno : 0;
}

int memcg_enter(const struct memcg *g)
{
	return memcg_set(g, "cgroup.procs", "0");
}

int memcg_leave(void)
{
	return write_text(ROOT "/cgroup.procs", "0");
}

int memcg_set(const struct memcg *g, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", g->dir, file);
	return write_text(path, text);
}

long memcg_oom_kills(const struct memcg *g)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/memory.events", g->dir);
	return read_field(path, "oom_kill ");
}

void memcg_destroy(struct memcg *g)
{
	if (g->dir[0])
		rmdir(g->dir);
	g->dir[0] = '\0';
}
