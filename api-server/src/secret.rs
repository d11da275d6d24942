//! Tokens: drawn, compared without telling by the time it takes, and read for whose they are.

use control::agent::NodeKind;
use std::hint::black_box;
use store::Outside;
use uuid::Uuid;

/// A token nobody can guess: 256 bits.
pub(crate) fn draw(outside: &dyn Outside) -> String {
    let bits = [(); 4].map(|()| outside.random());
    bits.iter().map(|word| format!("{word:016x}")).collect()
}

/// Whether two secrets are the same; takes the same time wherever they differ.
pub(crate) fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let difference = one
        .iter()
        .zip(other)
        .fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    one.len() == other.len() && difference == 0
}

/// A node's own token: says whose it is, so that it can be looked up.
pub(crate) fn draw_agent_token(outside: &dyn Outside, kind: NodeKind, id: Uuid) -> String {
    format!("{}.{id}.{}", kind_text(kind), draw(outside))
}

/// Whose it claims to be. What it claims is true only if the whole token is the one in the node's record.
pub(crate) fn claimed_by(token: &str) -> Option<(NodeKind, Uuid)> {
    let mut parts = token.splitn(3, '.');
    let kind = match parts.next()? {
        "d" => NodeKind::DiskNode,
        "c" => NodeKind::ControllerNode,
        _ => return None,
    };
    Some((kind, parts.next()?.parse().ok()?))
}

fn kind_text(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::DiskNode => "d",
        NodeKind::ControllerNode => "c",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Machine;

    #[test]
    fn secrets_are_the_same_only_if_they_are() {
        assert!(same("abc", "abc") && same("", ""));
        for other in ["abd", "xbc", "ab", "abcd", ""] {
            assert!(!same("abc", other) && !same(other, "abc"), "{other}");
        }
        assert_ne!(draw(&Machine), draw(&Machine));
        assert_eq!(draw(&Machine).len(), 64);
    }

    #[test]
    fn a_token_says_whose_it_is() {
        let id = Uuid::new_v4();
        for kind in [NodeKind::DiskNode, NodeKind::ControllerNode] {
            assert_eq!(
                claimed_by(&draw_agent_token(&Machine, kind, id)),
                Some((kind, id))
            );
        }
        for odd in ["", "d", "d.", "x.y.z", "d.no-id.secret"] {
            assert_eq!(claimed_by(odd), None, "{odd}");
        }
    }
}
