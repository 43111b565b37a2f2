//! What a node does to pods that want more than they may have.
use e2e::{Cluster, until};

#[test]
fn a_pod_that_keeps_too_much_is_evicted() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: hoarder}\nspec:\n  \
         volumes: [{name: data, emptyDir: {sizeLimit: 1Mi}}]\n  containers:\n  \
         - name: c\n    image: kybern.local/toolbox\n    \
         command: [sh, -c, 'dd if=/dev/zero of=/data/big bs=1048576 count=4; sleep 3600']\n    \
         volumeMounts: [{name: data, mountPath: /data}]\n",
    );
    let failed = "--for=jsonpath={.status.phase}=Failed";
    cluster.kubectl(&["wait", failed, "pod/hoarder", "--timeout=40s"]);
    let status = &cluster.get(&["pod", "hoarder"])["status"];
    let message = "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ";
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(status["message"], message);
    let conditions = status["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|c| c["type"] == "DisruptionTarget").unwrap();
    assert_eq!(target["reason"], "TerminationByKubelet");
    until("the event", || {
        let told = cluster.kubectl(&["describe", "pod", "hoarder"]);
        (told.contains("Evicted") && told.contains(message.trim())).then_some(())
    });
}

#[test]
fn what_the_node_cannot_do_is_refused() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let pod = |name: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  \
             containers: [{{name: c, image: kybern.local/toolbox, command: [sleep, '99']}}]\n"
        )
    };
    for (name, more, reason) in [
        ("users", "hostUsers: false", "UserNamespaces"),
        ("claims", "resourceClaims: [{name: gpu, resourceClaimName: gpu}]", "DynamicResources"),
        ("armor", "securityContext: {appArmorProfile: {type: RuntimeDefault}}", "AppArmor"),
    ] {
        cluster.apply(&pod(name, more));
        let pod = format!("pod/{name}");
        cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Failed", &pod, "--timeout=40s"]);
        let status = &cluster.get(&["pod", name])["status"];
        assert_eq!(status["reason"], reason, "{status}");
        assert!(!status["message"].as_str().unwrap_or_default().is_empty(), "{status}");
    }
}
