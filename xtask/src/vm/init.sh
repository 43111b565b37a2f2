#!/bin/busybox sh
# The first process of the virtual machine: a machine that has cgroup v2 and nothing else.
# Each check says `ok` or `not ok`; the last line tells how it went.
export PATH=/bin HOME=/root KUBECONFIG=/root/.kube/config
if [ "$1" != second ]; then
    /bin/busybox --install -s /bin
    mount -t proc proc /proc
    mount -t tmpfs -o size=90% root /mnt
    # The kernel's first root file system cannot be left by pivot_root: containers need another.
    cp -a /bin /lib /etc /init /root /mnt/
    mkdir /mnt/proc /mnt/sys /mnt/dev /mnt/run /mnt/tmp /mnt/var
    umount /proc
    exec switch_root /mnt /init second
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname vm
ip link set lo up
# The kernel gets its modules itself, as on any machine.
echo /bin/modprobe > /proc/sys/kernel/modprobe

failed=0
ok() {
    name=$1
    shift
    if "$@"; then echo "ok - $name"; else echo "not ok - $name"; failed=1; fi
}
is() { [ "$1" = "$2" ] || { echo "    $1, not $2"; false; }; }
finish() {
    if [ "$failed" = 0 ]; then echo "vm: passed"; else echo "vm: failed"; fi
    poweroff -f
}
groups() { find /sys/fs/cgroup -mindepth 1 -type d | sort; }
value() { cat "/sys/fs/cgroup$1"; }
pod_uid() { kubectl get pod "$1" -o 'jsonpath={.metadata.uid}'; }
pod_group() { find /sys/fs/cgroup -type d -name "pod$(pod_uid "$1")" | sed 's,^/sys/fs/cgroup,,'; }
container_group() {
    id=$(kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].containerID}')
    echo "$(pod_group "$1")/${id#kybern://}"
}
terminated() {
    kubectl get pod "$1" -o 'jsonpath={.status.containerStatuses[0].state.terminated.reason}'
}

# As on a host with a service manager: started from a group of its own that holds processes.
mkdir -p /sys/fs/cgroup/system.slice/kybern.service
in_service() { sh -c 'echo $$ > /sys/fs/cgroup/system.slice/kybern.service/cgroup.procs; exec "$@"' sh "$@"; }
before=$(groups)
if ! in_service kybern up --data-dir /var/kybern; then
    cat /var/kybern/logs/*
    failed=1
    finish
fi
# Emulated, the schema for the validation takes longer than kubectl waits.
kubectl apply --validate=false -f /etc/workloads.yaml
ok "a deployment with limits runs" kubectl rollout status deployment/limited --timeout=300s
pod=$(kubectl get pods -l app=limited -o 'jsonpath={.items[0].metadata.name}')
group=$(container_group "$pod")
ok "cpu.max" is "$(value "$group/cpu.max")" "25000 100000"
ok "cpu.weight" is "$(value "$group/cpu.weight")" "$(value "$(pod_group "$pod")/cpu.weight")"
ok "memory.max" is "$(value "$group/memory.max")" 67108864
ok "memory.oom.group" is "$(value "$group/memory.oom.group")" 1
ok "the pod's memory.max" is "$(value "$(pod_group "$pod")/memory.max")" 67108864
ok "controllers of the container" grep -q pids "/sys/fs/cgroup$group/cgroup.controllers"
ok "pids are counted" [ "$(value "$group/pids.current")" -ge 1 ]
inner() { for folder in $(groups); do
    [ -n "$(cat "$folder/cgroup.subtree_control")" ] && [ -s "$folder/cgroup.procs" ] \
        && grep -q . "$folder/cgroup.procs" && echo "$folder"
done; }
ok "no inner group holds processes" is "$(inner)" ""
ok "a container sees its own group as the root" \
    is "$(kubectl exec "$pod" -- cat /proc/self/cgroup)" "0::/"
ok "and its own limit" is "$(kubectl exec "$pod" -- cat /sys/fs/cgroup/memory.max)" 67108864
ok "devices are kept away" \
    sh -c "! kubectl exec '$pod' -- sh -c 'mknod /tmp/d b 1 0 && cat /tmp/d' 2>/dev/null"

ok "a container beyond its memory ends" \
    kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/hungry --timeout=300s
ok "OOMKilled" is "$(terminated hungry)" OOMKilled
ok "exit code" \
    is "$(kubectl get pod hungry -o 'jsonpath={.status.containerStatuses[0].state.terminated.exitCode}')" 137
ok "a child beyond the memory takes its container along" \
    kubectl wait --for=jsonpath='{.status.phase}'=Failed pod/parent --timeout=300s
ok "OOMKilled too" is "$(terminated parent)" OOMKilled
ok "memory.events" [ "$(sed -n 's/^oom_kill //p' "/sys/fs/cgroup$(pod_group "$pod")/memory.events")" = 0 ]
node=/api/v1/nodes/kybern/proxy
metrics=$(kubectl get --raw "$node/metrics/resource")
ok "memory is measured" \
    sh -c "echo '$metrics' | grep -q '^pod_memory_working_set_bytes{[^}]*$pod\"} [1-9]'"
ok "processor time is measured" \
    sh -c "echo '$metrics' | grep -q '^container_cpu_usage_seconds_total{[^}]*$pod\"} 0*[.0-9]*[1-9]'"
kubectl patch pod "$pod" --subresource=resize --type=merge -p \
    '{"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"500m","memory":"128Mi"}}}]}}' \
    > /dev/null
ok "limits change in place" sh -c "for i in \$(seq 100); do
    [ \"\$(cat /sys/fs/cgroup$group/cpu.max)\" = '50000 100000' ] && exit; usleep 100000; done; false"
ok "memory.max after it" is "$(value "$group/memory.max")" 134217728

# A cluster inside a container: the root that it sees is a group which holds processes.
ok "a privileged pod runs" \
    kubectl wait --for=condition=Ready pod/box --timeout=300s
ok "a cluster inside of it" \
    kubectl exec box -- /host/kybern up --data-dir /data/kybern --listen 127.0.0.1:7443
inside() { kubectl exec box -- /host/kubectl --kubeconfig /data/kybern/admin.kubeconfig "$@"; }
inside create deployment inner --image=kybern.local/toolbox -- toolbox serve
ok "and pods inside of that" inside rollout status deployment/inner --timeout=300s
inside get pods -o wide
inside describe pods | sed -n '/^Events/,$p'
inner_pod=$(find "/sys/fs/cgroup$(container_group box)" -mindepth 1 -type d -name 'pod*' | head -n 1)
ok "with controllers" grep -q memory "$inner_pod/cgroup.controllers"
ok "it ends" kubectl exec box -- /host/kybern down --wipe --data-dir /data/kybern

ok "down" kybern down --wipe --data-dir /var/kybern
ok "down leaves no cgroup" is "$(groups)" "$before"
finish
