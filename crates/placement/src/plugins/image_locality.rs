//! Nodes that have the images already rank higher, the more so the larger they are.
use super::mark;
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
    fn scores(&self, cycle: &Cycle<'_>) -> bool {
        cycle.pod.images.iter().any(|image| cycle.snapshot.nodes_with_image(image) > 0)
    }
    fn score(&self, cycle: &Cycle<'_>, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let names = &cycle.pod.images;
        let there: Vec<usize> =
            names.iter().map(|image| cycle.snapshot.nodes_with_image(image)).collect();
        let most = MOST * names.len().max(1) as i64;
        let all = cycle.snapshot.len().max(1) as f64;
        mark(nodes, scores, |node| {
            let sizes = names.iter().zip(&there).map(|(name, there)| {
                let size = node.images.get(name).copied().unwrap_or(0);
                (size as f64 * *there as f64 / all) as i64
            });
            let sum = sizes.sum::<i64>().clamp(LEAST, most);
            (sum - LEAST) * FULL / (most - LEAST)
        });
    }
}
