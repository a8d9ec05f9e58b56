# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Each example is one file that shows one thing, against the public header
# and library alone.  tests/live/test-examples.sh runs them: an example ends
# with 0 when what it shows is so.

examples = \
	examples/hello-paging \
	examples/kv-store \
	examples/page-state \
	examples/poison-handler \
	examples/register \
	examples/set-limit \
	examples/snapshot \
	examples/source-packed \
	examples/source-remote \
	examples/source-sparse \
	examples/stats \
	examples/store \
	examples/swapon \
	examples/two-runtimes
check_PROGRAMS += $(examples)

examples_cppflags = -D_GNU_SOURCE -I$(top_srcdir)/include

examples_hello_paging_CPPFLAGS = $(examples_cppflags)
examples_hello_paging_LDADD = lib/libfaultline.la
examples_kv_store_CPPFLAGS = $(examples_cppflags)
examples_kv_store_LDADD = lib/libfaultline.la
examples_page_state_CPPFLAGS = $(examples_cppflags)
examples_page_state_LDADD = lib/libfaultline.la
examples_poison_handler_CPPFLAGS = $(examples_cppflags)
examples_poison_handler_LDADD = lib/libfaultline.la
examples_register_CPPFLAGS = $(examples_cppflags)
examples_register_LDADD = lib/libfaultline.la
examples_set_limit_CPPFLAGS = $(examples_cppflags)
examples_set_limit_LDADD = lib/libfaultline.la
examples_snapshot_CPPFLAGS = $(examples_cppflags)
examples_snapshot_LDADD = lib/libfaultline.la -lpthread
examples_source_packed_CPPFLAGS = $(examples_cppflags)
examples_source_packed_LDADD = lib/libfaultline.la
examples_source_remote_CPPFLAGS = $(examples_cppflags)
examples_source_remote_LDADD = lib/libfaultline.la
examples_source_sparse_CPPFLAGS = $(examples_cppflags)
examples_source_sparse_LDADD = lib/libfaultline.la -lpthread
examples_stats_CPPFLAGS = $(examples_cppflags)
examples_stats_LDADD = lib/libfaultline.la -lpthread
examples_store_CPPFLAGS = $(examples_cppflags)
examples_store_LDADD = lib/libfaultline.la
examples_swapon_CPPFLAGS = $(examples_cppflags)
examples_swapon_LDADD = lib/libfaultline.la
examples_two_runtimes_CPPFLAGS = $(examples_cppflags)
examples_two_runtimes_LDADD = lib/libfaultline.la
