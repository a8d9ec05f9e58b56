# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
#
# What scripts/demo and scripts/test share: packages, and the build below
# ./build.  Sourced, with the top of the checkout as working directory.

# shellcheck disable=SC2034
build_packages="gcc make autoconf automake libtool pkg-config libc6-dev linux-libc-dev
	liburing-dev libxxhash-dev libfuse3-dev libseccomp-dev liblz4-dev libzstd-dev
	libncurses-dev"

die() {
	echo "faultline: $*" >&2
	exit 1
}

say() {
	echo "==> $*"
}

# End before anything is installed where the kernel is too old.
need_kernel() {
	release=$(uname -r)
	major=${release%%.*}
	minor=${release#*.}
	minor=${minor%%[!0-9]*}
	[ "$major" -gt 6 ] || { [ "$major" -eq 6 ] && [ "$minor" -ge 8 ]; } ||
		die "Linux 6.8 or later is needed, this is $release; README.md tells how Debian 12 gets it"
}

# Go on as root: packages are to be installed and /dev/userfaultfd to be opened.
become_root() {
	[ "$(id -u)" -eq 0 ] && return
	command -v sudo >/dev/null || die "run this as root; there is no sudo"
	say "going on as root, by sudo"
	exec sudo -- "$@"
}

# What is built belongs to whom the checkout belongs to, whoever runs us.
owner=$(stat -c %U .)
as_owner() {
	if [ "$(id -u)" -eq 0 ] && [ "$owner" != root ] && [ "$owner" != UNKNOWN ]; then
		runuser -u "$owner" -- "$@"
	else
		"$@"
	fi
}

give_back() {
	if [ -d build ]; then
		chown -R --reference=. build
	fi
}

# apt COMMAND...: what it says is left in $said, for apt_failed
apt() {
	said=$(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 \
		--no-install-recommends "$@" </dev/null 2>&1)
}

# It can say a line for each of a hundred packages.
apt_failed() {
	echo "$said" | tail -n 5 >&2
	die "$@"
}

# Whether apt-get has lists: without a network it has none, and 'update' calls that a success.
apt_lists() {
	find /var/lib/apt/lists -name '*_Packages*' | grep -q .
}

# Install those of the packages that are not there yet.
need_packages() {
	missing=
	for package in "$@"; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	command -v apt-get >/dev/null ||
		die "these Debian packages are needed and there is no apt-get:$missing"
	say "installing$missing"
	apt_lists || apt update || true
	apt_lists || apt_failed "apt-get could not get its lists of packages; is there a network?"
	# When the first try fails, the lists may name versions that the mirror has dropped.
	# shellcheck disable=SC2086
	apt install $missing || { apt update && apt install $missing; } ||
		apt_failed "apt-get could not install$missing"
}

# quietly LOG COMMAND...: the end of LOG is shown only if the command fails
quietly() {
	log=$1
	shift
	"$@" >>"$log" 2>&1 || {
		tail -n 40 "$log" >&2
		die "'$*' failed; all it said is in $log"
	}
}

# build_tree DIRECTORY [CONFIGURE OPTION...]: bring a build below ./build up to date
build_tree() {
	tree=$1
	shift
	as_owner mkdir -p "$tree"
	log=$tree/build.log
	as_owner rm -f "$log"
	as_owner touch "$log"
	if [ ! -e configure ] || [ ! -e build-aux/ltmain.sh ]; then
		say "making configure"
		quietly "$log" as_owner autoreconf -i
	fi
	if [ ! -e "$tree/config.status" ]; then
		say "configuring $tree"
		quietly "$log" as_owner env -C "$tree" "$PWD/configure" --silent "$@"
	fi
	say "building $tree"
	quietly "$log" as_owner make -C "$tree" -j"$(nproc)"
}

# need_machine TREE DIRECTORY: end, with the table of what is missing, where faultline cannot run
need_machine() {
	told=$("$1/src/cli/faultline" doctor --swap-dir "$2") || {
		echo "$told" >&2
		die "this machine cannot run faultline; the table says what mends it"
	}
}
