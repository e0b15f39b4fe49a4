#!/usr/bin/env bash
# A Slurm of one node, made of Debian's packages, to test profiles/slurm on: no accounting database, no cgroups, no systemd,
# and two device files that pass for GPUs. It installs packages, writes /etc/slurm and starts daemons as root: for a container
# that may be thrown away.
#
#   tests/slurm/cluster.sh start    # returns when the node takes jobs
#   tests/slurm/cluster.sh stop
set -euo pipefail
STATE=/var/lib/adaptbench-slurm
# Not elsewhere under SLURM_CONF: the plugin takes SLURM_* out of its jobs' environment.
CONFIG=/etc/slurm/slurm.conf
MARK="# written by adaptbench's tests/slurm/cluster.sh"

fail() {
    echo "error: $1" >&2
    exit 1
}

configure() {
    local node
    node=$(hostname -s)
    mkdir -p "$STATE"/{state,spool} /etc/slurm
    # More memory than there is, so that jobs may ask for what the profile asks; ended jobs are shown for an hour.
    cat >$CONFIG <<END
$MARK
ClusterName=adaptbench
SlurmctldHost=$node
SlurmUser=root
AuthType=auth/munge
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MinJobAge=3600
GresTypes=gpu
NodeName=$node CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=256000 Gres=gpu:2
PartitionName=test Nodes=ALL Default=YES
END
    printf 'Name=gpu File=%s\n' /dev/null /dev/zero >/etc/slurm/gres.conf
}

start() {
    if [ -e $CONFIG ] && ! grep -qxF "$MARK" $CONFIG; then
        fail "$CONFIG: this machine has a Slurm of its own"
    fi
    export DEBIAN_FRONTEND=noninteractive
    dpkg -s slurm-wlm munge >/dev/null 2>&1 || {
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
    }
    configure
    install -d -o munge -g munge -m 755 /run/munge
    [ -s /etc/munge/munge.key ] || runuser -u munge -- mungekey --create
    munge --no-input >/dev/null 2>&1 || runuser -u munge -- munged
    slurmctld -c # without what an earlier cluster left
    slurmd
    for _ in {1..60}; do
        [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && return
        sleep 0.5
    done
    tail -n 20 "$STATE"/slurm*.log >&2
    fail "the node did not become idle in 30 s"
}

stop() {
    scontrol shutdown
    runuser -u munge -- munged --stop
}

[ "$(id -u)" = 0 ] || fail "must be root"
case ${1-} in
start | stop) "$1" ;;
*) fail "usage: $0 start|stop" ;;
esac
