/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A disk that takes as long as the test wants to answer a read: dm-delay over a loop device over
 * memory.
 */
#ifndef MLOCK_RS_SLOW_DISK_H
#define MLOCK_RS_SLOW_DISK_H

#include <stddef.h>

struct slow_disk {
	int memory;
	int loop;
	int control;
	char name[32];
	char loop_path[32];
	/* The device node. */
	char path[32];
	size_t sectors;
};

/* Returns 0 or -errno. */
int slow_disk_create(struct slow_disk *d, size_t bytes);
/*
 * How long reads take from now on. What is under way is answered at once: so this ends a read that
 * took too long. Returns 0 or -errno.
 */
int slow_disk_read_ms(struct slow_disk *d, unsigned int ms);
void slow_disk_destroy(struct slow_disk *d);

#endif /* MLOCK_RS_SLOW_DISK_H */
