//! What may help a pod that fits nowhere: a change that one of the plugins that refused it looks
//! at, and that makes a difference to this pod.
use placement::{PodInfo, Snapshot, concerns, may_go};

pub(crate) enum Help<'a> {
    /// A node is new, has changed or is gone.
    Node(&'a str),
    /// There is more room on a node.
    Room(&'a str),
    /// A pod counts for something on a node, or does not any more on the one that it has left.
    Pod { info: &'a PodInfo, left: Option<&'a str> },
    /// The labels of a namespace.
    Namespace,
}

/// Plugins that look at other nodes' pods, too.
fn near(plugin: &str) -> bool {
    matches!(plugin, "InterPodAffinity" | "PodTopologySpread")
}

fn room(plugin: &str) -> bool {
    matches!(plugin, "NodeResourcesFit" | "NodePorts")
}

impl Help<'_> {
    /// Whether it is of the kind that the plugin looks at.
    pub(crate) fn concerns(&self, plugin: &str) -> bool {
        match self {
            Self::Node(_) => true,
            // Who leaves the room may be in the way of others' terms as well.
            Self::Room(_) | Self::Pod { left: Some(_), .. } => room(plugin) || near(plugin),
            Self::Pod { left: None, .. } => near(plugin),
            Self::Namespace => plugin == "InterPodAffinity",
        }
    }

    /// Whether it may make a difference to the pod, which waits for one of those plugins.
    pub(crate) fn helps(&self, snapshot: &mut Snapshot, pod: &PodInfo) -> bool {
        match self {
            // A node may open, close or fill a domain, and so matter on others.
            Self::Node(node) => pod.spreads() || may_go(snapshot, pod, node),
            Self::Room(node) => may_go(snapshot, pod, node),
            Self::Pod { info, left } => {
                concerns(snapshot, pod, info)
                    || left.is_some_and(|node| may_go(snapshot, pod, node))
            }
            Self::Namespace => true,
        }
    }
}
