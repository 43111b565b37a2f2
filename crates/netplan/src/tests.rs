//! Whole plans as text.
use std::net::Ipv4Addr;

use api::k8s::api::core::v1::Service;
use api::k8s::api::discovery::v1::EndpointSlice;
use expect_test::{Expect, expect};
use serde_json::{Value as Json, json};

use crate::{Config, HostPort, Op, Protocol, Ruleset, ServiceName, State, plan};

mod policies;

fn state() -> State {
    State::new(Config {
        nodes: vec!["here".to_owned()],
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 244, 0, 1),
    })
}

fn service(name: &str, spec: Json) -> Service {
    let meta = json!({"namespace": "ns", "name": name});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn web(extra: Json) -> Service {
    let mut spec = json!({
        "clusterIP": "10.96.0.9",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    service("web", spec)
}

/// An endpoint: its last octet, its node, and more fields.
fn endpoint(last: u8, node: &str, extra: Json) -> Json {
    let mut endpoint = json!({"addresses": [format!("10.244.0.{last}")], "nodeName": node});
    for (key, value) in extra.as_object().unwrap() {
        endpoint[key] = value.clone();
    }
    endpoint
}

fn slice(name: &str, endpoints: &[Json]) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {
            "namespace": "ns", "name": name,
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn two() -> EndpointSlice {
    slice("web-1", &[endpoint(5, "here", json!({})), endpoint(6, "there", json!({}))])
}

/// The plan without the part that is always there.
fn own(state: &State) -> String {
    let ruleset = plan(state);
    let empty = Ruleset::new(ruleset.chains.clone(), Vec::new()).to_string();
    let text = ruleset.to_string().replace(&empty, "");
    // Sets without elements say nothing either.
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        if line == "}" && lines.last().is_some_and(|last| last.ends_with("= {")) {
            lines.pop();
        } else {
            lines.push(line);
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn check(service: Service, slice: EndpointSlice, expected: Expect) {
    let mut state = state();
    state.upsert_service(&service);
    state.upsert_slice(&slice);
    expected.assert_eq(&own(&state));
}

#[test]
fn the_base() {
    expect![[r#"
        map services { ipv4_addr . inet_proto . inet_service } = {
        }
        map node-ports { inet_proto . inet_service } = {
        }
        set hairpin { ipv4_addr . ipv4_addr } = {
        }
        map host-ports { inet_proto . inet_service } = {
        }
        map host-address-ports { ipv4_addr . inet_proto . inet_service } = {
        }
        chain guard {
          type filter hook prerouting priority raw;
          iifname != lo ip daddr 127.0.0.0/8 drop
          iifname != lo ip saddr 127.0.0.0/8 drop
        }
        chain prerouting {
          type nat hook prerouting priority dstnat;
          goto dispatch
        }
        chain output {
          type nat hook output priority dstnat;
          goto dispatch
        }
        chain postrouting {
          type nat hook postrouting priority srcnat;
          oifname lo return
          ct status dnat ip saddr . ip daddr @hairpin snat to 10.244.0.1 fully-random
          meta mark & 0x4000 != 0 goto source-nat
          ip saddr 127.0.0.0/8 goto source-nat
          ip daddr 224.0.0.0/4 return
          ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade fully-random
        }
        chain forward {
          type filter hook forward priority filter;
          ip saddr 10.244.0.0/16 ct state invalid drop
          ip daddr 10.96.0.0/16 goto refuse
        }
        chain filter-output {
          type filter hook output priority filter;
          ip daddr 10.96.0.0/16 goto refuse
        }
        chain dispatch {
          ip saddr != 10.244.0.0/16 ip daddr 10.96.0.0/16 meta mark set mark | 0x4000
          ip daddr . meta l4proto . th dport vmap @services
          fib daddr type local goto node-dispatch
        }
        chain node-dispatch {
          dnat to ip daddr . meta l4proto . th dport map @host-address-ports
          dnat to meta l4proto . th dport map @host-ports
          meta l4proto . th dport vmap @node-ports
        }
        chain source-nat {
          meta mark set mark & ~0x4000
          ip daddr 10.244.0.0/16 snat to 10.244.0.1 fully-random
          masquerade fully-random
        }
        chain refuse {
          meta l4proto tcp reject with tcp reset
          reject with icmp port-unreachable
        }
    "#]]
    .assert_eq(&plan(&state()).to_string());
}

#[test]
fn cluster_ip() {
    check(
        web(json!({})),
        two(),
        expect![[r#"
            map services { ipv4_addr . inet_proto . inet_service } = {
              10.96.0.9 . tcp . 80 : goto cluster/ns/web/tcp/80
            }
            set hairpin { ipv4_addr . ipv4_addr } = {
              10.244.0.5 . 10.244.0.5
            }
            chain cluster/ns/web/tcp/80 {
              dnat to random of { 10.244.0.5:8080, 10.244.0.6:8080 }
            }
        "#]],
    );
}

#[test]
fn without_endpoints_nothing_is_claimed_inside_but_refused_outside() {
    let public = json!({
        "type": "NodePort", "externalIPs": ["192.0.2.1"],
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}],
    });
    check(
        web(public),
        slice("web-1", &[]),
        expect![[r#"
        map services { ipv4_addr . inet_proto . inet_service } = {
          192.0.2.1 . tcp . 80 : goto refuse
        }
        map node-ports { inet_proto . inet_service } = {
          tcp . 30080 : goto refuse
        }
    "#]],
    );
}

#[test]
fn load_balancer_with_local_policy_ranges_and_affinity() {
    let mut balanced = web(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["198.51.100.0/24", "203.0.113.0/25"],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 9}},
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}],
    }));
    balanced.status = Some(
        serde_json::from_value(json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.10", "ipMode": "VIP"}, {"ip": "192.0.2.11", "ipMode": "Proxy"},
        ]}}))
        .unwrap(),
    );
    check(
        balanced,
        two(),
        expect![[r#"
            map services { ipv4_addr . inet_proto . inet_service } = {
              10.96.0.9 . tcp . 80 : goto cluster/ns/web/tcp/80
              192.0.2.10 . tcp . 80 : goto firewall/ns/web/tcp/80
            }
            map node-ports { inet_proto . inet_service } = {
              tcp . 30080 : goto external/ns/web/tcp/80
            }
            set hairpin { ipv4_addr . ipv4_addr } = {
              10.244.0.5 . 10.244.0.5
            }
            map memory/cluster/ns/web/tcp/80/9 { ipv4_addr, timeout 9s }
            map memory/local/ns/web/tcp/80/9 { ipv4_addr, timeout 9s }
            chain cluster/ns/web/tcp/80 {
              dnat to ip saddr map @memory/cluster/ns/web/tcp/80/9 renew 9s
              dnat to random of { 10.244.0.5:8080, 10.244.0.6:8080 } remember
            }
            chain external/ns/web/tcp/80 {
              ip saddr 10.244.0.0/16 goto cluster/ns/web/tcp/80
              fib saddr type local meta mark set mark | 0x4000 goto cluster/ns/web/tcp/80
              goto local/ns/web/tcp/80
            }
            chain firewall/ns/web/tcp/80 {
              ip saddr 198.51.100.0/24 goto external/ns/web/tcp/80
              ip saddr 203.0.113.0/25 goto external/ns/web/tcp/80
              drop
            }
            chain local/ns/web/tcp/80 {
              dnat to ip saddr map @memory/local/ns/web/tcp/80/9 renew 9s
              dnat to 10.244.0.5:8080 remember
            }
        "#]],
    );
}

#[test]
fn internal_traffic_policy_local_without_local_endpoints_drops() {
    let local = web(json!({"internalTrafficPolicy": "Local"}));
    let far = slice("web-1", &[endpoint(6, "there", json!({}))]);
    check(
        local,
        far,
        expect![[r#"
        map services { ipv4_addr . inet_proto . inet_service } = {
          10.96.0.9 . tcp . 80 : drop
        }
    "#]],
    );
}

#[test]
fn draining_endpoints_serve_only_while_nothing_is_ready() {
    let draining = |last| {
        let conditions = json!({"ready": false, "serving": true, "terminating": true});
        endpoint(last, "there", json!({"conditions": conditions}))
    };
    let dead = endpoint(8, "there", json!({"conditions": {"ready": false}}));
    let mut state = state();
    state.upsert_service(&web(json!({})));
    state.upsert_slice(&slice("web-1", &[draining(6), dead.clone()]));
    assert!(own(&state).contains("dnat to 10.244.0.6:8080"), "{}", own(&state));
    state.upsert_slice(&slice("web-2", &[endpoint(7, "there", json!({}))]));
    assert!(own(&state).contains("dnat to 10.244.0.7:8080"), "{}", own(&state));
    state.remove_slice("ns", "web-2");
    state.upsert_slice(&slice("web-1", &[dead]));
    assert_eq!(own(&state), "");
}

#[test]
fn hints_keep_traffic_in_the_zone_only_if_all_endpoints_have_them() {
    let hint = |last, zone: &str| {
        endpoint(last, "there", json!({"hints": {"forZones": [{"name": zone}]}}))
    };
    let mut state = state();
    state.upsert_service(&web(json!({})));
    state.upsert_slice(&slice("web-1", &[hint(5, "a"), hint(6, "b")]));
    assert!(own(&state).contains("random of { 10.244.0.5:8080, 10.244.0.6:8080 }"));
    state.set_zone(Some("a".to_owned()));
    assert!(own(&state).contains("dnat to 10.244.0.5:8080"), "{}", own(&state));
    state.set_zone(Some("c".to_owned()));
    assert!(own(&state).contains("random of { 10.244.0.5:8080, 10.244.0.6:8080 }"));
    state.set_zone(Some("a".to_owned()));
    state.upsert_slice(&slice("web-2", &[endpoint(7, "there", json!({}))]));
    assert!(own(&state).contains("10.244.0.6:8080, 10.244.0.7:8080 }"));
}

#[test]
fn what_has_no_rules() {
    let none = [
        json!({"clusterIP": "None", "ports": [{"port": 80}]}),
        json!({"type": "ExternalName", "externalName": "example.test"}),
        json!({"clusterIP": "fd00::1", "ports": [{"port": 80}]}),
        json!({"clusterIP": "10.96.0.9", "ports": [{"port": 70000}, {"port": 1, "protocol": "X"}]}),
    ];
    for spec in none {
        let mut state = state();
        state.upsert_service(&service("web", spec.clone()));
        state.upsert_slice(&two());
        assert_eq!(own(&state), "", "{spec}");
    }
    let mut foreign = web(json!({}));
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "other".to_owned());
    foreign.metadata.labels = Some([label].into());
    let mut state = state();
    state.upsert_service(&foreign);
    state.upsert_slice(&two());
    assert_eq!(own(&state), "");
}

#[test]
fn host_ports_and_a_service_answered_here() {
    let mut state = state();
    let port = |host_ip: Option<&str>, host_port, protocol| HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port: 80,
        protocol,
    };
    let ports = [port(None, 8080, Protocol::Tcp), port(Some("192.0.2.1"), 53, Protocol::Udp)];
    state.set_host_ports("uid", Ipv4Addr::new(10, 244, 0, 7), &ports);
    let name = ServiceName { namespace: "ns".to_owned(), name: "web".to_owned() };
    state.set_local(name, 80, "10.244.0.1:53".parse().unwrap());
    state.upsert_service(&web(json!({})));
    expect![[r#"
        map services { ipv4_addr . inet_proto . inet_service } = {
          10.96.0.9 . tcp . 80 : goto cluster/ns/web/tcp/80
        }
        set hairpin { ipv4_addr . ipv4_addr } = {
          10.244.0.7 . 10.244.0.7
        }
        map host-ports { inet_proto . inet_service } = {
          tcp . 8080 : 10.244.0.7 . 80
        }
        map host-address-ports { ipv4_addr . inet_proto . inet_service } = {
          192.0.2.1 . udp . 53 : 10.244.0.7 . 80
        }
        chain cluster/ns/web/tcp/80 {
          dnat to 10.244.0.1:53
        }
    "#]]
    .assert_eq(&own(&state));
}

#[test]
fn the_older_claim_of_an_address_does_not_depend_on_the_order_of_events() {
    let claim = |name: &str, ip: &str| {
        let ports = json!([{"name": "http", "port": 80}]);
        service(name, json!({"clusterIP": ip, "externalIPs": ["192.0.2.1"], "ports": ports}))
    };
    let (a, b) = (claim("a", "10.96.0.1"), claim("b", "10.96.0.2"));
    let endpoints = |name: &str, last| {
        let mut slice = slice(&format!("{name}-1"), &[endpoint(last, "there", json!({}))]);
        let label = ("kubernetes.io/service-name".to_owned(), name.to_owned());
        slice.metadata.labels = Some([label].into());
        slice
    };
    let mut texts = Vec::new();
    for order in [[&a, &b], [&b, &a]] {
        let mut state = state();
        let mut ruleset = plan(&state);
        for service in order {
            state.upsert_service(service);
            let last = if service.metadata.name.as_deref() == Some("a") { 5 } else { 6 };
            state.upsert_slice(&endpoints(service.metadata.name.as_ref().unwrap(), last));
            state.plan_changes(&mut ruleset);
        }
        assert!(ruleset.to_string().contains("192.0.2.1 . tcp . 80 : goto external/ns/a/tcp/80"));
        texts.push(ruleset.to_string());
        // When the winner goes, the other takes its place.
        let name = ServiceName { namespace: "ns".to_owned(), name: "a".to_owned() };
        state.remove_service(&name);
        let changes = state.plan_changes(&mut ruleset);
        assert!(!changes.is_empty());
        assert!(ruleset.to_string().contains("192.0.2.1 . tcp . 80 : goto external/ns/b/tcp/80"));
    }
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn changes_lead_where_a_new_plan_would_and_touch_only_what_changed() {
    let mut state = state();
    let mut ruleset = plan(&state);
    state.upsert_service(&web(json!({})));
    state.upsert_slice(&two());
    state.plan_changes(&mut ruleset);
    assert_eq!(ruleset.to_string(), plan(&state).to_string());
    // A settled state has nothing to do, also when told the same again.
    state.upsert_slice(&two());
    state.upsert_service(&web(json!({"externalName": "ignored"})));
    assert!(state.plan_changes(&mut ruleset).is_empty());
    // Another pod takes one's place.
    let other = [endpoint(5, "here", json!({})), endpoint(9, "there", json!({}))];
    state.upsert_slice(&slice("web-1", &other));
    let changes = state.plan_changes(&mut ruleset);
    let [Op::DeleteElements { elements: gone, .. }, Op::AddElements { elements: new, .. }] =
        changes.ops.as_slice()
    else {
        panic!("unexpected operations: {:?}", changes.ops);
    };
    assert_eq!((gone.len(), new.len()), (1, 1));
    state.upsert_slice(&slice("web-2", &[endpoint(7, "there", json!({}))]));
    let changes = state.plan_changes(&mut ruleset);
    let [Op::SetRules { chain, .. }, Op::DeleteElements { .. }, Op::AddElements { .. }] =
        changes.ops.as_slice()
    else {
        panic!("unexpected operations: {:?}", changes.ops);
    };
    assert_eq!(chain, "cluster/ns/web/tcp/80");
    let name = ServiceName { namespace: "ns".to_owned(), name: "web".to_owned() };
    state.remove_service(&name);
    state.plan_changes(&mut ruleset);
    assert_eq!(ruleset.to_string(), plan(&super::tests::state()).to_string());
}
