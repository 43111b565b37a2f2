//! A client library that operators are made with finds what it expects: kube and its runtime.
use e2e::Cluster;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{
    Api, AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, verbs};
use kube::runtime::controller::Action;
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::runtime::{Controller, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(60);

async fn client(cluster: &Cluster) -> Client {
    let path = cluster.data_dir().join("admin.kubeconfig");
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Waits for a condition, but not for ever.
async fn wait<K>(api: Api<K>, name: &str, condition: impl Condition<K>)
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    tokio::time::timeout(PATIENCE, await_condition(api, name, condition)).await.unwrap().unwrap();
}

fn pod(name: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{
            "name": "main", "image": "kybern.local/toolbox", "args": ["toolbox", "serve"],
        }]},
    }))
    .unwrap()
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"a": "1"}})).unwrap()
}

#[tokio::test]
async fn a_client_library_finds_what_it_expects() {
    let Some(cluster) = Cluster::up(&[]) else { return };
    let client = client(&cluster).await;
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
    discovers(&client).await;
    changes_objects(&client).await;
    streams(&client).await;
    reconciles(&client).await;
}

async fn discovers(client: &Client) {
    for discovery in [
        Discovery::new(client.clone()).run().await.unwrap(),
        Discovery::new(client.clone()).run_aggregated().await.unwrap(),
    ] {
        let apps = discovery.get("apps").unwrap();
        assert_eq!(apps.preferred_version_or_latest(), "v1");
        let (resource, capabilities) = apps.recommended_kind("Deployment").unwrap();
        assert_eq!(resource.plural, "deployments");
        assert!(capabilities.supports_operation(verbs::WATCH));
        assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural == "scale"));
    }
}

async fn changes_objects(client: &Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let post = PostParams::default();
    let made = maps.create(&post, &map("one")).await.unwrap();
    let taken = maps.create(&post, &map("one")).await.unwrap_err();
    assert!(matches!(taken, kube::Error::Api(status) if status.reason == "AlreadyExists"));
    // Each kind of patch; what is applied belongs to who applied it.
    let params = PatchParams::default();
    let merge = Patch::Merge(json!({"data": {"b": "2"}}));
    assert_eq!(maps.patch("one", &params, &merge).await.unwrap().data.unwrap().len(), 2);
    let strategic = Patch::Strategic(json!({"data": {"b": null}}));
    assert_eq!(maps.patch("one", &params, &strategic).await.unwrap().data.unwrap().len(), 1);
    let config = |value: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"},
            "data": {"c": value},
        }))
    };
    maps.patch("one", &PatchParams::apply("first"), &config("1")).await.unwrap();
    let clash = maps.patch("one", &PatchParams::apply("second"), &config("2")).await.unwrap_err();
    assert!(matches!(&clash, kube::Error::Api(status) if status.code == 409), "{clash}");
    let forced = PatchParams::apply("second").force();
    let applied = maps.patch("one", &forced, &config("2")).await.unwrap();
    assert!(applied.managed_fields().iter().any(|f| f.manager.as_deref() == Some("second")));
    // A write from what is old is refused.
    let stale = maps.replace("one", &post, &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.reason == "Conflict"));
    // Pages and selectors.
    for index in 0..7 {
        maps.create(&post, &map(&format!("page-{index}"))).await.unwrap();
    }
    let mut page = ListParams::default().limit(3);
    let mut names = Vec::new();
    loop {
        let list = maps.list(&page).await.unwrap();
        names.extend(list.items.iter().map(ResourceExt::name_any));
        let next = list.metadata.continue_.clone().filter(|token| !token.is_empty());
        let Some(token) = next else { break };
        page = page.continue_token(&token);
    }
    assert_eq!(names.iter().filter(|name| name.starts_with("page-")).count(), 7);
    let named = ListParams::default().fields("metadata.name=one");
    assert_eq!(maps.list_metadata(&named).await.unwrap().items.len(), 1);
    let all = DeleteParams::default();
    maps.delete_collection(&all, &ListParams::default()).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert!(namespaces.get_opt("none").await.unwrap().is_none());
}

async fn streams(client: &Client) {
    let pods: Api<Pod> = Api::default_namespaced(client.clone());
    pods.create(&PostParams::default(), &pod("web")).await.unwrap();
    wait(pods.clone(), "web", conditions::is_pod_running()).await;
    let log = LogParams { follow: true, ..LogParams::default() };
    let mut lines =
        futures_util::AsyncBufReadExt::lines(pods.log_stream("web", &log).await.unwrap());
    let line = tokio::time::timeout(PATIENCE, lines.try_next()).await.unwrap().unwrap().unwrap();
    assert!(line.contains("serving HTTP"), "{line}");
    // Exec: what goes in comes out, and the code of its end is told.
    let params = AttachParams::default().stdin(true).stderr(true);
    let mut process =
        pods.exec("web", ["toolbox", "sh", "-c", "cat; exit 3"], &params).await.unwrap();
    let mut input = process.stdin().unwrap();
    input.write_all(b"through and through").await.unwrap();
    input.shutdown().await.unwrap();
    drop(input);
    let mut output = String::new();
    process.stdout().unwrap().read_to_string(&mut output).await.unwrap();
    assert_eq!(output, "through and through");
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"), "{status:?}");
    process.join().await.unwrap();
    // Port forwarding.
    let mut forward = pods.portforward("web", &[8080]).await.unwrap();
    let mut stream = forward.take_stream(8080).unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("Hostname: web"), "{answer}");
    drop(stream);
    // The library calls it an error that the server is the first to close.
    let _ = forward.join().await;
    let uid = pods.get("web").await.unwrap().uid().unwrap();
    pods.evict("web", &kube::api::EvictParams::default()).await.unwrap();
    wait(pods, "web", conditions::is_deleted(&uid)).await;
}

/// A controller that writes a Deployment for every ConfigMap, and owns it.
async fn reconciles(client: &Client) {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let deployments: Api<Deployment> = Api::default_namespaced(client.clone());
    let streaming = watcher::Config::default().streaming_lists().labels("wants=deployment");
    let controller = Controller::new(maps.clone(), streaming)
        .owns(deployments.clone(), watcher::Config::default())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::new(client.clone()))
        .for_each(|outcome| async move { drop(outcome) });
    let controller = tokio::spawn(controller);
    let mut wanted = map("app");
    wanted.labels_mut().insert("wants".into(), "deployment".into());
    maps.create(&PostParams::default(), &wanted).await.unwrap();
    wait(deployments.clone(), "app", conditions::is_deployment_completed()).await;
    // What is deleted under it comes back; what it owns goes with its owner.
    let first = deployments.get("app").await.unwrap().uid().unwrap();
    deployments.delete("app", &DeleteParams::foreground()).await.unwrap();
    wait(deployments.clone(), "app", |object: Option<&Deployment>| {
        object.is_some_and(|object| object.uid().as_ref() != Some(&first))
    })
    .await;
    let second = deployments.get("app").await.unwrap().uid().unwrap();
    maps.delete("app", &DeleteParams::background()).await.unwrap();
    wait(deployments, "app", conditions::is_deleted(&second)).await;
    controller.abort();
}

async fn reconcile(map: Arc<ConfigMap>, client: Arc<Client>) -> Result<Action, kube::Error> {
    let name = map.name_any();
    let deployments: Api<Deployment> = Api::default_namespaced(client.as_ref().clone());
    let owner = kube::Resource::controller_owner_ref(map.as_ref(), &());
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod(&name).spec},
        },
    });
    let params = PatchParams::apply("maker").force();
    deployments.patch(&name, &params, &Patch::Apply(&deployment)).await?;
    Ok(Action::await_change())
}
