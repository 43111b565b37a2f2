//! Nodes that have the images already rank higher, the more so the larger they are.
use crate::cycle::full_name;
use crate::{Cycle, FULL, NodeInfo, Plugin};

pub(crate) struct ImageLocality;

const LEAST: i64 = 23 << 20;
/// For each container.
const MOST: i64 = 1000 << 20;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }
    fn weight(&self) -> i64 {
        1
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo]) -> Vec<i64> {
        let names: Vec<String> = cycle.pod.images.iter().map(|image| full_name(image)).collect();
        if cycle.image_spread.iter().all(|there| *there == 0) {
            return vec![0; nodes.len()];
        }
        let most = MOST * names.len().max(1) as i64;
        let score = |node: &&NodeInfo| {
            let sizes = names.iter().zip(&cycle.image_spread).map(|(name, there)| {
                let size = node.images.get(name).copied().unwrap_or(0);
                (size as f64 * *there as f64 / cycle.nodes.max(1) as f64) as i64
            });
            let sum = sizes.sum::<i64>().clamp(LEAST, most);
            (sum - LEAST) * FULL / (most - LEAST)
        };
        nodes.iter().map(score).collect()
    }
}
