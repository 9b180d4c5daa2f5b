//! Subjects and patterns of the bus: tokens separated by dots, `*` for one token, `>` for the rest.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ExecId, GroupName, Invalid, PcId, RequestId};

/// Where a message goes. No empty token, no wildcard, no white space.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

impl Subject {
    /// Every agent's commands.
    pub fn commands_all() -> Self {
        Self("commands.all".into())
    }

    /// One agent's commands.
    pub fn commands_pc(pc: &PcId) -> Self {
        Self(format!("commands.pc.{pc}").into())
    }

    /// The commands of a group, where the group has a name that can stand in a subject. Only servers of 0.30 use it.
    pub fn commands_group(group: &GroupName) -> Option<Self> {
        format!("commands.group.{group}").parse().ok()
    }

    /// The kill of one execution.
    pub fn kill(exec: &ExecId) -> Self {
        Self(format!("kill.{exec}").into())
    }

    /// The result of one request.
    pub fn result(request: RequestId) -> Self {
        Self(format!("results.{request}").into())
    }

    /// A run has started.
    pub fn started(exec: &ExecId, pc: &PcId) -> Self {
        Self(format!("events.started.{exec}.{pc}").into())
    }

    /// An agent did not start what it was told to.
    pub fn skipped(exec: &ExecId, pc: &PcId) -> Self {
        Self(format!("events.skipped.{exec}.{pc}").into())
    }

    /// A kill has reached an agent.
    pub fn kill_delivered(exec: &ExecId, pc: &PcId) -> Self {
        Self(format!("events.kill.{exec}.{pc}").into())
    }

    /// What a run prints, while it does.
    pub fn output(exec: &ExecId, pc: &PcId) -> Self {
        Self(format!("output.{exec}.{pc}").into())
    }

    /// A sign of life.
    pub fn heartbeat(pc: &PcId) -> Self {
        Self(format!("heartbeat.{pc}").into())
    }

    /// A request for an agent's log.
    pub fn logs_fetch(pc: &PcId) -> Self {
        Self(format!("logs.fetch.{pc}").into())
    }

    /// A request for a heartbeat at once. Old agents do not listen; they are waited for.
    pub fn ping(pc: &PcId) -> Self {
        Self(format!("ping.{pc}").into())
    }

    /// An entry of the audit trail. What of it cannot stand in a subject is left out.
    pub fn audit(actor: &str, action: &str, target: Option<&str>) -> Self {
        let whole = target.and_then(|target| format!("audit.{actor}.{action}.{target}").parse().ok());
        whole
            .or_else(|| format!("audit.{actor}.{action}").parse().ok())
            .unwrap_or_else(|| Self("audit.unnamed".into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Which subjects a subscriber wants.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Arc<str>);

impl Pattern {
    /// Whether `subject` is wanted.
    pub fn matches(&self, subject: &Subject) -> bool {
        let mut tokens = subject.as_str().split('.');
        for wanted in self.0.split('.') {
            match (wanted, tokens.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Subject> for Pattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

impl std::str::FromStr for Subject {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let valid = !text.is_empty()
            && text.split('.').all(|token| {
                !token.is_empty()
                    && !token
                        .chars()
                        .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>'))
            });
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "subject",
                text,
                "tokens separated by dots, without white space, `*` or `>`",
            ))
        }
    }
}

impl std::str::FromStr for Pattern {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let last = text.split('.').count() - 1;
        let valid = text.split('.').enumerate().all(|(at, token)| match token {
            "" => false,
            ">" => at == last,
            "*" => true,
            token => !token
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || matches!(c, '*' | '>')),
        });
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(Invalid::new(
                "pattern",
                text,
                "tokens separated by dots; `*` for one token, `>` at the end for the rest",
            ))
        }
    }
}

impl TryFrom<String> for Subject {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl TryFrom<String> for Pattern {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0.as_ref().to_owned()
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.0.as_ref().to_owned()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.0)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_token_by_token() {
        for (pattern, subject, matches) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*", "a.b", false),
            ("heartbeat.>", "heartbeat.pc.with.dots", true),
        ] {
            let got = pattern
                .parse::<Pattern>()
                .unwrap()
                .matches(&subject.parse().unwrap());
            assert_eq!(got, matches, "{pattern} {subject}");
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in ["", ".", "a..b", "a b", "a.>.b", "a>", "a.*x"] {
            assert!(text.parse::<Pattern>().is_err(), "{text:?}");
        }
        for text in ["", "a.", "a.*", "a.>", "a b"] {
            assert!(text.parse::<Subject>().is_err(), "{text:?}");
        }
    }
}
