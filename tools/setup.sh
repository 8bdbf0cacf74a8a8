#!/bin/sh
# Installs what the tests start: redis-server, valkey-server, prometheus with its
# promtool, and chromium. For Debian and its like, as root. Does nothing where all are there;
# starts no service, the tests start their own servers on ports of their own.
set -eu

say() { echo "setup: $*"; }
die() {
	echo "setup: $*" >&2
	exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

versions() {
	say "$(redis-server --version | cut -d' ' -f1-3), $(valkey-server --version | cut -d' ' -f1-3)," \
		"$(prometheus --version 2>&1 | head -n 1 | cut -d' ' -f1-3)," \
		"$(chromium --version 2>/dev/null | cut -d' ' -f1-2)"
}

# What is missing, by the names of the packages. Each has a program of its name;
# promtool comes with prometheus.
missing=
have redis-server || missing="$missing redis-server"
have valkey-server || missing="$missing valkey-server"
{ have prometheus && have promtool; } || missing="$missing prometheus"
have chromium || missing="$missing chromium"
if [ -z "$missing" ]; then
	versions
	exit 0
fi

have apt-get || die "install$missing with this system's package manager"
[ "$(id -u)" = 0 ] || die "install$missing as root: sudo sh tools/setup.sh"

export DEBIAN_FRONTEND=noninteractive

# A policy of "101" keeps packages from starting their services.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

apt() {
	apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

# Whether apt knows a version of the package to install.
known() { apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [0-9]'; }

# update asks for package lists, for one .list file when named. A source of the
# machine's own that doesn't answer isn't our failure: the install will tell.
update() {
	if [ $# -gt 0 ]; then
		apt -o Dir::Etc::sourcelist="$1" -o Dir::Etc::sourceparts=- \
			-o APT::Get::List-Cleanup=0 update || say "apt-get update of $1 failed"
	else
		apt update || say "apt-get update failed"
	fi
}

# install tries three times: the package lists may be old, the network flaky.
install() {
	for pause in 0 5 15; do
		if [ "$pause" != 0 ]; then
			say "installing again in $pause s"
			sleep "$pause"
			update
		fi
		apt install -y --no-install-recommends "$@" && return
	done
	return 1
}

# add_backports adds Debian's backports unless some source names them already.
add_backports() {
	if ! grep -rhsE --include='*.list' --include='*.sources' "^(deb |Suites:).*[ /]$1" \
		/etc/apt/sources.list /etc/apt/sources.list.d >/dev/null; then
		list=/etc/apt/sources.list.d/$1.list
		echo "deb http://deb.debian.org/debian $1 main" >"$list"
		update "$list"
	fi
}

# shellcheck source=/dev/null
codename=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
for package in $missing; do
	say "installing $package"
	release=
	if [ "$package" = valkey-server ] && [ "$codename" = bookworm ]; then
		release=bookworm-backports # later releases have it in main
		add_backports "$release"
	fi
	known "$package" || update
	# A postinst may fail over the service that it wasn't let to start; the
	# program is what we came for.
	install ${release:+-t "$release"} "$package" || have "$package" || die "$package was not installed"
done

versions
