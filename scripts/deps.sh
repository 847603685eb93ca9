#!/bin/sh
# Installs what the tests need of Debian, if anything is missing.
set -eu
missing=""
need() { [ -x "$1" ] || missing="$missing $2"; }
need /usr/sbin/sshd openssh-server
need /usr/bin/ssh openssh-client
need /usr/sbin/slapd slapd
need /usr/bin/ldapadd ldap-utils
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
need /usr/bin/rsync rsync
need /usr/bin/plink putty-tools
need /usr/bin/oathtool oathtool
[ -d /usr/lib/python3/dist-packages/pskc ] || missing="$missing python3-pskc"
need /usr/bin/chromium chromium
need /usr/bin/ssh-audit ssh-audit
need /usr/bin/zstd zstd
need /usr/bin/dbclient dropbear-bin
need /usr/bin/tmux tmux
need /usr/bin/expect expect
need /usr/bin/git git
need /usr/bin/curl curl
need /usr/bin/lftp lftp
need /usr/bin/sshfs sshfs
need /usr/bin/fusermount3 fuse3
need /usr/bin/mosh mosh
need /usr/bin/ansible ansible-core
need /usr/bin/radclient freeradius-utils
need /usr/sbin/radsecproxy radsecproxy
need /usr/sbin/freeradius freeradius
need /usr/sbin/ocserv ocserv
ls /usr/lib/*/security/pam_radius_auth.so >/dev/null 2>&1 || missing="$missing libpam-radius-auth"
ls /usr/lib/*/libpam_wrapper.so >/dev/null 2>&1 || missing="$missing libpam-wrapper"
need /usr/bin/setpriv util-linux
need /usr/bin/age age
need /usr/bin/vim vim
need /usr/bin/less less
need /usr/bin/perl perl
need /usr/bin/ps procps
need /usr/bin/ip iproute2
need /usr/bin/systemd-socket-activate systemd
[ -d /usr/lib/python3/dist-packages/paramiko ] || missing="$missing python3-paramiko"
# The S3 server of the tests; internal/testenv/s3.go builds it too if it is not there.
gw="${XDG_CACHE_HOME:-$HOME/.cache}/sallyport-test/versitygw-v1.8.0"
[ -x "$gw/versitygw" ] || (cd / && GOBIN="$gw" GOFLAGS="" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)
[ -n "$missing" ] || exit 0
echo "installing:$missing"
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq
# Servers are started by the tests themselves, never by the system.
printf '#!/bin/sh\nexit 101\n' | $sudo tee /usr/sbin/policy-rc.d >/dev/null
$sudo chmod 755 /usr/sbin/policy-rc.d
trap '$sudo rm -f /usr/sbin/policy-rc.d' EXIT
# shellcheck disable=SC2086
$sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
