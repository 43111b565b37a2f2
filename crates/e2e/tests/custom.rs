//! Custom resources, as people use them with kubectl.
use e2e::{Cluster, text, until};

const CRD: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: pies.example.com }
spec:
  group: example.com
  scope: Namespaced
  names: { plural: pies, kind: Pie, shortNames: [pi], categories: [all] }
  versions:
  - name: v1
    served: true
    storage: true
    selectableFields: [{ jsonPath: .spec.size }]
    additionalPrinterColumns:
    - { name: Size, type: string, jsonPath: .spec.size }
    - { name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status' }
    subresources:
      status: {}
      scale: { specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas }
    schema: &schema
      openAPIV3Schema:
        type: object
        description: Pie is a dish.
        properties:
          spec:
            type: object
            properties:
              size: { type: string, enum: [small, large], default: small }
              replicas: { type: integer, default: 1, maximum: 10 }
          status:
            type: object
            properties:
              replicas: { type: integer }
              conditions:
                type: array
                items:
                  type: object
                  properties: { type: { type: string }, status: { type: string } }
  - name: v1beta1
    served: true
    storage: false
    schema: *schema
"#;

fn pie(name: &str, more: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Pie\nmetadata:\n  name: {name}\n{more}\n")
}

#[test]
fn a_custom_resource_from_definition_to_end() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.apply(CRD);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/pies.example.com"]);
    cluster.apply(&pie("a", "spec: { size: small }"));
    let table = cluster.kubectl(&["get", "pi"]);
    assert!(table.starts_with("NAME   SIZE    READY") && table.contains("small"), "{table}");
    assert!(cluster.kubectl(&["get", "all"]).contains("pie.example.com/a"));
    assert!(cluster.kubectl(&["describe", "pie", "a"]).contains("Kind:         Pie"));
    let explained = cluster.kubectl(&["explain", "pies.spec", "--api-version=example.com/v1"]);
    assert!(explained.contains("replicas\t<integer>"), "{explained}");
    let refused = cluster.with_input(&["apply", "-f", "-"], &pie("a", "spec: { size: huge }"));
    assert!(text(&refused.stderr).contains("supported values: \"small\", \"large\""));
    let odd = cluster.with_input(&["create", "-f", "-"], &pie("b", "spec: { bogus: 1 }"));
    assert!(text(&odd.stderr).contains("strict decoding error: unknown field \"spec.bogus\""));
    cluster.kubectl(&["scale", "pie", "a", "--replicas=3"]);
    let ready = r#"{"status":{"replicas":3,"conditions":[{"type":"Ready","status":"True"}]}}"#;
    cluster.kubectl(&["patch", "pie", "a", "--subresource=status", "--type=merge", "-p", ready]);
    cluster.kubectl(&["wait", "--for=jsonpath={.status.replicas}=3", "pie/a"]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pie/a"]);
    let large = cluster.kubectl(&["get", "pies", "--field-selector=spec.size=large"]);
    assert!(!large.contains('a'), "{large}");
    let second = cluster.get(&["pies.v1beta1.example.com", "a"]);
    assert_eq!(
        (&second["apiVersion"], &second["spec"]["replicas"]),
        (&"example.com/v1beta1".into(), &3.into())
    );
    cluster.with_input(
        &["apply", "--server-side", "--field-manager=me", "-f", "-"],
        &pie("a", "spec: { replicas: 3 }"),
    );
    let differs = cluster.with_input(&["diff", "-f", "-"], &pie("a", "spec: { size: large }"));
    assert!(text(&differs.stdout).contains("+  size: large"), "{}", text(&differs.stdout));
    // Everything is there after a restart, and served from the first moment.
    cluster.kybern(&["down"]);
    cluster.kybern(&["up"]);
    assert_eq!(cluster.get(&["pie", "a"])["spec"]["replicas"], 3);
    cluster.kubectl(&["delete", "crd", "pies.example.com", "--timeout=60s"]);
    assert!(
        cluster.kubectl_fails(&["get", "--raw", "/apis/example.com/v1"]).contains("could not find")
    );
}

#[test]
fn owners_and_namespaces_take_custom_resources_with_them() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    cluster.apply(CRD);
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/pies.example.com"]);
    cluster.apply(&pie("owner", ""));
    let uid = cluster.get(&["pie", "owner"])["metadata"]["uid"].as_str().unwrap().to_owned();
    let owned = format!(
        "  ownerReferences: [{{ apiVersion: example.com/v1, kind: Pie, name: owner, uid: {uid} }}]"
    );
    cluster.apply(&pie("slice", &owned));
    cluster.kubectl(&["create", "namespace", "n"]);
    let inside = cluster.with_input(&["-n", "n", "create", "-f", "-"], &pie("a", ""));
    assert!(inside.status.success(), "{}", text(&inside.stderr));
    cluster.kubectl(&["delete", "pie", "owner"]);
    cluster.kubectl(&["wait", "--for=delete", "pie/slice", "--timeout=60s"]);
    cluster.kubectl(&["delete", "namespace", "n", "--timeout=60s"]);
    // A definition waits for objects that wait for somebody.
    cluster.apply(&pie("held", "  finalizers: [example.com/hold]"));
    cluster.kubectl(&["delete", "crd", "pies.example.com", "--wait=false"]);
    until("the definition says what it waits for", || {
        let crd = cluster.get(&["crd", "pies.example.com"]);
        let conditions = crd["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|c| c["reason"] == "InstanceDeletionCheck")
    });
    let refused = cluster.with_input(&["create", "-f", "-"], &pie("late", ""));
    assert!(
        text(&refused.stderr).contains("definition is terminating"),
        "{}",
        text(&refused.stderr)
    );
    let free = r#"{"metadata":{"finalizers":null}}"#;
    cluster.kubectl(&["patch", "pie", "held", "--type=merge", "-p", free]);
    cluster.kubectl(&["wait", "--for=delete", "crd/pies.example.com", "--timeout=60s"]);
}
