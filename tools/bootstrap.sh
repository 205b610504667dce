#!/bin/sh
# Prepares a machine for the Makefile:
#
#   bootstrap.sh boot               a small virtual environment with pip and, for speed, uv     -> .boot
#   bootstrap.sh install FOLDER...  third-party packages by constraints.txt, ours as editable   -> .venv
#   bootstrap.sh lock FOLDER...     newest allowed third-party versions with hashes             -> constraints.txt
#   bootstrap.sh broker             a RabbitMQ that can be started
#   bootstrap.sh database           a PostgreSQL that can be started
#   bootstrap.sh broker4            RabbitMQ 4 beside it                                        -> .rabbitmq4
set -eu
cd "$(dirname "$0")/.."
unset VIRTUAL_ENV PYTHONPATH

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }
can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_updated=
apt_install() {
    if [ -z "$apt_updated" ]; then
        apt-get update -q >&2 || fail "apt-get update failed (is there a network?)"
        apt_updated=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -q -y --no-install-recommends "$@" \
        </dev/null >&2
}

find_python() {
    for candidate in python3.11 python3.12 python3.13 python3.14 python3; do
        # Run it: a version manager's shim may exist for a Python that does not.
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and none of python3.11 to python3.14 and python3 is one"
}

boot() {
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
        if ! { can_install && apt_install "$package"; }; then
            fail "$python cannot make virtual environments: install its venv package (apt-get install $package)"
        fi
    fi
    rm -rf .boot
    "$python" -m venv .boot
    # The one entry of uv, with its hashes; without a lock file (make lock makes it) the newest.
    awk '/^uv==/ { found = 1 } found { print } found && !/\\$/ { exit }' constraints.txt >.boot/uv.txt 2>/dev/null || true
    if [ -s .boot/uv.txt ]; then set -- --require-hashes --requirement .boot/uv.txt; else set -- uv; fi
    .boot/bin/pip install --quiet --disable-pip-version-check "$@" \
        || say "note: uv cannot be had here; pip does its work, more slowly"
}

# Both check the hashes of what they download. uv goes first: it needs seconds where pip needs a minute.
# pip is the fall-back also where uv is there but fails: pip knows the machine's own package mirror.
packages() {
    if [ -x .boot/bin/uv ] && .boot/bin/uv pip install --quiet --python .venv/bin/python "$@"; then
        return
    fi
    .boot/bin/pip --python .venv/bin/python --disable-pip-version-check install --quiet "$@"
}

install() {
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        rm -rf .venv
        .boot/bin/python -m venv --without-pip .venv
    fi
    packages --require-hashes --requirement constraints.txt
    # Editable packages have no hash, so they come second, built by the hatchling of the first step.
    for folder; do
        shift
        set -- "$@" --editable "$folder"
    done
    packages --no-deps --no-build-isolation "$@"
    say "installed into .venv ($(.venv/bin/python -V))"
}

lock() {
    [ -x .boot/bin/uv ] || fail "this needs uv, which could not be installed (try: make clean lock)"
    for folder; do
        shift
        name=$(sed -n 's/^name = "\(.*\)"$/\1/p' "$folder/pyproject.toml" | head -n 1)
        set -- "$@" "$folder/pyproject.toml" --no-emit-package "$name"
    done
    # hatchling and editables build our own packages; uv installs.
    printf '%s\n' 'hatchling>=1.27' editables uv \
        | .boot/bin/uv pip compile --quiet - "$@" --group dev --group bench --universal --python-version 3.11 --upgrade \
            --generate-hashes --no-header --no-annotate --output-file constraints.txt
}

have_server() {
    command -v erl >/dev/null || return 1
    for script in "${EVENTBUS_RABBITMQ_HOME:-/nonexistent}/sbin/rabbitmq-server" \
        /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server; do
        [ -x "$script" ] && return 0
    done
    command -v rabbitmq-server >/dev/null
}

have_docker() { command -v docker >/dev/null && docker info >/dev/null 2>&1 </dev/null; }

# Installing a server must not start it: tests start their own, and port 5672 may be taken.
install_server() {
    policy=/usr/sbin/policy-rc.d
    trap 'if [ -e $policy.eventbus ]; then mv -f $policy.eventbus $policy; else rm -f $policy; fi' EXIT
    trap 'exit 1' HUP INT TERM
    if [ -e $policy ]; then mv -f $policy $policy.eventbus; fi
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
    apt_install "$@"
}

broker() {
    if have_server; then
        say "RabbitMQ: the installed server"
    elif have_docker; then
        say "RabbitMQ: a container, by Docker"
    elif can_install; then
        say "RabbitMQ: installing rabbitmq-server"
        install_server rabbitmq-server || fail "apt-get could not install rabbitmq-server"
        have_server || fail "rabbitmq-server was installed, but its scripts are not where they should be"
    else
        fail "no RabbitMQ: neither an installed rabbitmq-server nor a running Docker engine, and it cannot be
installed from here. Do one of these and try again:
  - on Debian or Ubuntu, as root: apt-get install rabbitmq-server
  - start Docker
  - unpack RabbitMQ and Erlang, and set EVENTBUS_RABBITMQ_HOME to RabbitMQ's folder"
    fi
}

have_postgres() {
    for script in "${EVENTBUS_POSTGRES_HOME:-/nonexistent}/bin/initdb" /usr/lib/postgresql/*/bin/initdb; do
        [ -x "$script" ] && return 0
    done
    command -v initdb >/dev/null
}

database() {
    if have_postgres; then
        say "PostgreSQL: the installed server"
    elif can_install; then
        say "PostgreSQL: installing postgresql"
        install_server postgresql || fail "apt-get could not install postgresql"
        have_postgres || fail "postgresql was installed, but its programs are not where they should be"
    else
        fail "no PostgreSQL, and it cannot be installed from here. Do one of these and try again:
  - on Debian or Ubuntu, as root: apt-get install postgresql
  - install PostgreSQL 12 or newer, and set EVENTBUS_POSTGRES_HOME to the folder that has its bin/"
    fi
}

# RabbitMQ 4 beside the machine's own: Debian 13's, in a folder, which tests enter by chroot.
broker4() {
    if [ -e .rabbitmq4/ready ]; then return; fi
    can_install || fail "RabbitMQ 4 for tests needs root on Debian or Ubuntu: it is unpacked from Debian 13 by debootstrap"
    command -v debootstrap >/dev/null || apt_install debootstrap || fail "apt-get could not install debootstrap"
    say "RabbitMQ 4: unpacking Debian 13 into .rabbitmq4 (a minute)"
    rm -rf .rabbitmq4
    debootstrap --variant=minbase --include=rabbitmq-server trixie .rabbitmq4 >.rabbitmq4.log 2>&1 \
        || { tail -n 5 .rabbitmq4.log >&2; fail "debootstrap failed (is there a network?)"; }
    rm -f .rabbitmq4.log
    touch .rabbitmq4/ready
}

task=${1:-}
[ $# = 0 ] || shift
case $task in
    boot | install | lock | broker | broker4 | database) "$task" "$@" ;;
    *) fail "usage: tools/bootstrap.sh boot | install FOLDER... | lock FOLDER... | broker | broker4 | database" ;;
esac
