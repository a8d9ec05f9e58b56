/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * event.h - the program's eventfds, by which it is told of an end.
 */
#ifndef FL_EVENT_H
#define FL_EVENT_H

/*
 * On an application thread: 0 for an eventfd, and for -1, which is none; -EBADF, or -EINVAL for
 * something else, to which eight bytes would be a loss.
 */
long event_check(int fd);

/* Add 1.  A pager does not wait for room: who reads one that is full is told all the same. */
void event_tell(int fd);

#endif
