#!/bin/bash
# Run a Slurm of four virtual nodes and a set of jobs in a root file system of another release.
# Called in namespaces of its own: unshare -m -n -u -p --fork chroot ROOT /w/run_in_root.sh
# /w/ccapi has the hooks and their settings. Results: /w/spool, /w/ids (id, name), /w/queue, and
# /w/accounting, the output of the command in /w/sacct.
cd /w || exit 1
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
ip link set lo up
# slurmctld wants an interface beside loopback.
ip tuntap add tap0 mode tap
ip addr add 10.9.9.1/24 dev tap0
ip link set tap0 up
hostname ctl
printf '127.0.0.1 localhost\n10.9.9.1 ctl n1 n2 n3 n4\n' >/etc/hosts
mkdir -p state munge work spool/new
chmod 700 spool
chown -R slurm state spool
head -c 128 /dev/urandom >munge/key
chmod 400 munge/key
chown -R munge munge
id alice >/dev/null 2>&1 || useradd -m -u 1500 alice
chown alice work
mknod gpu0 c 195 0
mknod gpu1 c 195 1
echo 'Name=gpu File=/w/gpu[0-1]' >gres.conf
echo 'CgroupPlugin=disabled' >cgroup.conf
cat >slurm.conf <<'CONF'
ClusterName=fritz
SlurmctldHost=ctl(10.9.9.1)
SlurmUser=slurm
AuthType=auth/munge
AuthInfo=socket=/w/munge/socket
StateSaveLocation=/w/state
SlurmdSpoolDir=/w/slurmd-%n
SlurmctldPidFile=/w/slurmctld.pid
SlurmdPidFile=/w/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
PrologFlags=Alloc
ReturnToService=2
KillWait=2
MinJobAge=3600
GresTypes=gpu
PrologSlurmctld=/w/ccapi/prolog
JobCompType=jobcomp/script
JobCompLoc=/w/ccapi/jobcomp
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0,sched_interval=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=ctl
AccountingStoragePass=/w/munge/socket
AccountingStorageTRES=gres/gpu
NodeName=n[1-4] NodeHostname=ctl NodeAddr=10.9.9.1 Port=[17001-17004] Sockets=1 CoresPerSocket=4 ThreadsPerCore=2 Gres=gpu:2
PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE OverSubscribe=NO
PartitionName=whole Nodes=n[1-4] OverSubscribe=EXCLUSIVE
CONF
cat >slurmdbd.conf <<'CONF'
AuthType=auth/munge
AuthInfo=socket=/w/munge/socket
DbdHost=ctl
DbdAddr=10.9.9.1
SlurmUser=slurm
PidFile=/w/state/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=3399
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
CONF
chmod 600 slurmdbd.conf
chown slurm slurmdbd.conf
export SLURM_CONF=/w/slurm.conf TZ=UTC
setpriv --reuid=munge --regid=munge --clear-groups munged --socket=/w/munge/socket \
    --key-file=/w/munge/key --pid-file=/w/munge/pid --log-file=/w/munge/log --seed-file=/w/munge/seed

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
    seconds=$1
    shift
    for _ in $(seq "$seconds"); do "$@" >/dev/null 2>&1 && return; sleep 1; done
}
mariadb-install-db --no-defaults --user=mysql --skip-test-db --datadir=/w/mariadb >mariadb.log 2>&1
mariadbd --no-defaults --user=mysql --datadir=/w/mariadb --socket=/w/mariadb/socket \
    --pid-file=/w/mariadb/pid --port=3399 --bind-address=127.0.0.1 >>mariadb.log 2>&1 &
sql() { mariadb --no-defaults --socket=/w/mariadb/socket -e "$1"; }
wait_for 60 sql 'SELECT 1'
sql "CREATE DATABASE slurm; CREATE USER slurm IDENTIFIED BY 'slurm'; GRANT ALL ON slurm.* TO slurm"
setpriv --reuid=slurm --regid=slurm --clear-groups slurmdbd -D >slurmdbd.log 2>&1 &
wait_for 60 sacctmgr -i add cluster fritz
setpriv --reuid=slurm --regid=slurm --clear-groups slurmctld -D >slurmctld.log 2>&1 &
for node in n1 n2 n3 n4; do slurmd -D -N $node >$node.log 2>&1 & done

nodes_are_idle() { [ "$(sinfo -h -N -o %T 2>/dev/null | sort -u)" = idle ]; }
is_running() { [ "$(squeue -h -j "$1" -o %T 2>/dev/null)" = RUNNING ]; }
sacct_has_all() { [ -z "$(sacct -a -X -n -s R,PD,S)" ]; }
queue_is_empty() { [ -z "$(squeue -h -t R,CG,CF,PD -o %A)" ]; }
# submit NAME COMMAND OPTION...: as an ordinary user.
submit() {
    name=$1
    printf '#!/bin/sh\n%s\n' "$2" >script
    shift 2
    id=$(setpriv --reuid=alice --regid=alice --clear-groups \
        sbatch --parsable -o /dev/null -D /w/work "$@" /w/script 2>>refused) && echo "$id $name" >>ids
}

wait_for 60 nodes_are_idle
submit timeout 'sleep 600' -t1 -xn4
submit cancelled 'sleep 600' -xn4
wait_for 30 is_running "$id"
scancel "$id"
submit failed 'exit 3'
submit signal 'kill -SEGV $$'
submit plain 'sleep 2' -n2 -t5
submit gpus 'sleep 2' -N2 -n4 --gres=gpu:1
submit exclusive 'sleep 2' --exclusive -n1
submit user 'sleep 2' --exclusive=user -n1
submit whole 'sleep 2' -pwhole -n1
submit shared 'sleep 2' --oversubscribe -n1
submit array 'sleep 2' --array=1-4%2
submit het 'sleep 2' -n1 : -n1
submit one-thread 'sleep 2' -n2 --hint=nomultithread
submit shrink 'sleep 2; scontrol update JobId=$SLURM_JOB_ID NumNodes=1; sleep 3' -N2
lines='x
     Nodes=n9 CPU_IDs=0-9 GRES=gpu:9(IDX:0-8)
     Nodes=n[1-300000] CPU_IDs=x Mem=0 GRES=gpu:9(IDX:0-8)
   RunTime=00:00:00 TimeLimit=9-00:00:00 TimeMin=N/A
   JobState=FAILED Reason=None Dependency=(null)
   Command=/bin/true

JobId=1 JobName=x'
for option in account bb cluster-constraint comment container container-id error extra job-name \
    mail-user mcs-label network output qos wckey; do
    submit "hostile-$option" 'sleep 2' -n1 -t5 "--$option=$lines"
done
submit burst true "--array=1-$(cat burst)"
wait_for 240 queue_is_empty
wait_for 30 sacct_has_all
sh ./sacct >accounting
squeue -h -r -t all -o '%A %T %S %e %N' >queue
sleep 1
kill $(jobs -p)
