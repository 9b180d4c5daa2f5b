//! Who wants which subject: a tree of tokens, so that a publish costs the length of its subject and the number of
//! those who want it, however many others listen.

use std::collections::{BTreeMap, HashMap};

use kanade_model::{Pattern, Subject};

/// Values by pattern. Each stands at one node, so a subject finds it at most once.
pub(super) struct Routes<T>(Node<T>);

struct Node<T> {
    /// Who wants exactly the tokens that lead here.
    here: BTreeMap<u64, T>,
    /// Who wants one token or more after those (`>`).
    rest: BTreeMap<u64, T>,
    by_token: HashMap<Box<str>, Node<T>>,
    /// After any one token (`*`).
    any: Option<Box<Node<T>>>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            here: BTreeMap::new(),
            rest: BTreeMap::new(),
            by_token: HashMap::new(),
            any: None,
        }
    }
}

impl<T> Routes<T> {
    pub(super) fn new() -> Self {
        Self(Node::default())
    }

    /// Adds `value` under `pattern`; `id` is for removing it.
    pub(super) fn add(&mut self, pattern: &Pattern, id: u64, value: T) {
        let mut node = &mut self.0;
        for token in pattern.as_str().split('.') {
            node = match token {
                ">" => {
                    node.rest.insert(id, value);
                    return;
                }
                "*" => node.any.get_or_insert_default(),
                token => node.by_token.entry(token.into()).or_default(),
            };
        }
        node.here.insert(id, value);
    }

    pub(super) fn remove(&mut self, pattern: &Pattern, id: u64) {
        let tokens: Vec<&str> = pattern.as_str().split('.').collect();
        self.0.remove(&tokens, id);
    }

    /// Calls `each` for everybody who wants `subject`.
    pub(super) fn matching(&self, subject: &Subject, mut each: impl FnMut(&T)) {
        let tokens: Vec<&str> = subject.as_str().split('.').collect();
        self.0.matching(&tokens, &mut each);
    }
}

impl<T> Node<T> {
    fn remove(&mut self, tokens: &[&str], id: u64) {
        match tokens {
            [] => {
                self.here.remove(&id);
            }
            [">"] => {
                self.rest.remove(&id);
            }
            ["*", rest @ ..] => {
                if let Some(node) = &mut self.any {
                    node.remove(rest, id);
                }
                self.any.take_if(|node| node.is_empty());
            }
            [token, rest @ ..] => {
                if let Some(node) = self.by_token.get_mut(*token) {
                    node.remove(rest, id);
                    // Subjects hold ids that come and go; what is left empty would stay for good.
                    if node.is_empty() {
                        self.by_token.remove(*token);
                    }
                }
            }
        }
    }

    fn matching(&self, tokens: &[&str], each: &mut impl FnMut(&T)) {
        let [token, rest @ ..] = tokens else {
            self.here.values().for_each(each);
            return;
        };
        self.rest.values().for_each(&mut *each);
        if let Some(node) = self.by_token.get(*token) {
            node.matching(rest, each);
        }
        if let Some(node) = &self.any {
            node.matching(rest, each);
        }
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty() && self.rest.is_empty() && self.by_token.is_empty() && self.any.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATTERNS: [&str; 10] = ["a", "a.b", "a.*", "a.*.c", "a.>", "*", "*.b", ">", "*.*", "b.>"];

    fn routes() -> Routes<&'static str> {
        let mut routes = Routes::new();
        for (id, pattern) in (0..).zip(PATTERNS) {
            routes.add(&pattern.parse().unwrap(), id, pattern);
        }
        routes
    }

    fn found(routes: &Routes<&'static str>, subject: &Subject) -> Vec<&'static str> {
        let mut found = Vec::new();
        routes.matching(subject, |pattern| found.push(*pattern));
        found.sort_unstable();
        found
    }

    #[test]
    fn the_tree_finds_whom_each_pattern_by_itself_matches() {
        let routes = routes();
        for subject in [
            "a", "b", "a.b", "a.c", "a.b.c", "a.b.d", "b.a", "c.b", "x.y.z", "a.b.c.d",
        ] {
            let subject: Subject = subject.parse().unwrap();
            let mut wanted: Vec<_> = PATTERNS
                .into_iter()
                .filter(|pattern| pattern.parse::<Pattern>().unwrap().matches(&subject))
                .collect();
            wanted.sort_unstable();
            assert_eq!(found(&routes, &subject), wanted, "{subject}");
        }
    }

    #[test]
    fn what_is_removed_leaves_nothing_behind() {
        let mut routes = routes();
        for (id, pattern) in (0..).zip(PATTERNS) {
            let pattern = pattern.parse().unwrap();
            routes.remove(&pattern, 99);
            assert!(
                !routes.0.is_empty(),
                "removing a stranger under {pattern} removes nobody"
            );
            routes.remove(&pattern, id);
        }
        assert!(routes.0.is_empty(), "no node is left");
    }
}
