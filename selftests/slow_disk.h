/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A disk that takes as long as the test wants to answer a read, or answers with an error: dm-delay
 * and dm-error over a loop device over memory. It can hold a file system or be swap space.
 */
#ifndef MLOCK_RS_SLOW_DISK_H
#define MLOCK_RS_SLOW_DISK_H

#include <stdbool.h>
#include <stddef.h>

struct slow_disk {
	int memory;
	int loop;
	int control;
	int queue;
	char name[32];
	char loop_path[32];
	/* The device node. */
	char path[32];
	/* That of slow_disk_queue(). */
	char queue_path[32];
	size_t sectors;
	bool swapping, mounted;
	char mountpoint[32];
};

/* Returns 0 or -errno. */
int slow_disk_create(struct slow_disk *d, size_t bytes);
/*
 * How long reads take from now on. What is under way is answered at once: so this ends a read that
 * took too long. Returns 0 or -errno.
 */
int slow_disk_read_ms(struct slow_disk *d, unsigned int ms);
/* From now on whoever reads or writes from @page on gets an I/O error. Returns 0 or -errno. */
int slow_disk_fail_from(struct slow_disk *d, size_t page);

/*
 * Another device over it, at @d->queue_path, that takes only so many requests at a time, as a real
 * one does. Returns 0 or -errno.
 */
int slow_disk_queue(struct slow_disk *d, unsigned int nr_requests);
/* How many reads it has taken and not answered. */
long slow_disk_requests(const struct slow_disk *d);

/* Makes swap space of it and uses it. Returns 0 or -errno. */
int slow_disk_swapon(struct slow_disk *d);
/* Mounts it, with a new ext4 file system, at @d->mountpoint. Returns 0 or -errno. */
int slow_disk_mount(struct slow_disk *d);
/* A file without a name on it, or -errno. */
int slow_disk_file(const struct slow_disk *d);

/* Ends its use as well. */
void slow_disk_destroy(struct slow_disk *d);

#endif /* MLOCK_RS_SLOW_DISK_H */
