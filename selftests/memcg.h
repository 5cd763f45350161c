/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A memory control group of the test's own (cgroup v2).
 */
#ifndef MLOCK_RS_MEMCG_H
#define MLOCK_RS_MEMCG_H

struct memcg {
	char dir[64];
};

/* All of them return 0 or -errno. A group of this name that was left behind is used again. */
int memcg_create(struct memcg *g, const char *name);
/* What the calling process faults in from now on counts in the group. */
int memcg_enter(const struct memcg *g);
/* Back to the root group. */
int memcg_leave(void);
/* Writes a file of the group, say "memory.max". */
int memcg_set(const struct memcg *g, const char *file, const char *text);
/* How often the OOM killer of the group has killed; -1 if that is not known. */
long memcg_oom_kills(const struct memcg *g);
void memcg_destroy(struct memcg *g);

#endif /* MLOCK_RS_MEMCG_H */
