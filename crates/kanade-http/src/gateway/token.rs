//! The tokens of agents. A server keeps their hashes only, so that its configuration lets nobody in.

use std::{fmt, str::FromStr};

use http::StatusCode;
use kanade_model::PcId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use wildmatch::WildMatch;

use crate::problem::Problem;

const PREFIX: &str = "sha256:";

/// A token, known by its hash, and which agents may come with it.
#[derive(Clone)]
pub struct AgentToken {
    /// What stands in the log for it.
    pub name: String,
    /// The hash of what is sent as `Authorization: Bearer …`.
    pub hash: TokenHash,
    pc_ids: Option<WildMatch>,
}

impl AgentToken {
    /// A token for the agents whose ids are like `pc_ids`, in which `*` is any text, `?` any character, and everything
    /// else is itself, large or small; for every agent when there is no such pattern.
    pub fn new(name: impl Into<String>, hash: TokenHash, pc_ids: Option<&str>) -> Self {
        Self {
            name: name.into(),
            hash,
            pc_ids: pc_ids.map(WildMatch::new),
        }
    }

    fn is_for(&self, pc: &PcId) -> bool {
        self.pc_ids.as_ref().is_none_or(|ids| ids.matches(pc.as_str()))
    }
}

impl fmt::Debug for AgentToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pc_ids = self.pc_ids.as_ref().map(ToString::to_string);
        f.debug_struct("AgentToken")
            .field("name", &self.name)
            .field("pc_ids", &pc_ids)
            .finish_non_exhaustive()
    }
}

/// The SHA-256 of a token; as text `sha256:` and 64 hexadecimal digits. Tokens are long and random, made by a machine:
/// none can be guessed from its hash, so nothing slower and no salt is needed. Comparing takes the same time whatever
/// is compared.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl PartialEq for TokenHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

/// A text that is no [`TokenHash`]. It is not shown, as it may well be the token itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the hash of a token is `sha256:` and 64 hexadecimal digits; `kanade token hash` makes it from a token"
)]
pub struct NoTokenHash;

impl FromStr for TokenHash {
    type Err = NoTokenHash;
    fn from_str(text: &str) -> Result<Self, NoTokenHash> {
        let digits = text.strip_prefix(PREFIX).ok_or(NoTokenHash)?.as_bytes();
        if digits.len() != 64 {
            return Err(NoTokenHash);
        }
        let digit = |digit: u8| char::from(digit).to_digit(16).ok_or(NoTokenHash);
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).expect("two digits are a byte");
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for TokenHash {
    type Error = NoTokenHash;
    fn try_from(text: String) -> Result<Self, NoTokenHash> {
        text.parse()
    }
}

impl From<TokenHash> for String {
    fn from(hash: TokenHash) -> Self {
        hash.to_string()
    }
}

/// The tokens that `given` is; a token may stand in several entries, for different agents.
pub(super) fn known<'a>(tokens: &'a [AgentToken], given: &str) -> Result<Vec<&'a AgentToken>, Problem> {
    let given = TokenHash::of(given);
    let known: Vec<_> = tokens.iter().filter(|token| token.hash == given).collect();
    match known.is_empty() {
        true => Err(Problem::unauthorized(
            "this token is not one of an agent (see `auth.agent_tokens`)",
            Some("invalid_token"),
        )),
        false => Ok(known),
    }
}

/// The one of a caller's tokens that lets him in as `pc`.
pub(super) fn for_agent<'a>(known: &[&'a AgentToken], pc: &PcId) -> Result<&'a AgentToken, Problem> {
    let fitting = known.iter().find(|token| token.is_for(pc));
    fitting.copied().ok_or_else(|| {
        let detail = format!("this token is not for agent `{pc}`; see `pc_ids` in `auth.agent_tokens`");
        Problem::new(StatusCode::FORBIDDEN, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> PcId {
        text.parse().unwrap()
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = TokenHash::of("abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash.clone()));
        assert_eq!(
            text.to_uppercase().replace("SHA", "sha").parse(),
            Ok(hash.clone())
        );
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(serde_json::from_str::<TokenHash>(&json).unwrap(), hash);
        assert_ne!(hash, TokenHash::of("abd"));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_not_shown() {
        let digits = "a".repeat(64);
        for text in [
            String::new(),
            digits.clone(),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{digits}a"),
            format!("sha256:+{}", &digits[1..]),
            format!("sha256:{}é", &digits[2..]),
            "kna_s3cret".to_owned(),
        ] {
            let error = text.parse::<TokenHash>().unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn neither_a_token_nor_its_hash_shows_in_what_is_logged() {
        let token = AgentToken::new("web", TokenHash::of("s3cret"), Some("web-*"));
        let shown = format!("{token:?} {:?}", token.hash);
        assert!(shown.contains("web-*"), "{shown}");
        let digits = &token.hash.to_string()[PREFIX.len()..];
        assert!(
            !shown.contains("s3cret") && !shown.contains(&digits[..8]),
            "{shown}"
        );
    }

    #[test]
    fn a_token_that_stands_in_two_entries_is_good_for_both() {
        let tokens = [
            AgentToken::new("web", TokenHash::of("one"), Some("web-?")),
            AgentToken::new("db", TokenHash::of("one"), Some("db*")),
            AgentToken::new("all", TokenHash::of("two"), None),
        ];
        for (given, pc, name) in [
            ("one", "web-1", Some("web")),
            ("one", "db", Some("db")),
            ("one", "db-7", Some("db")),
            ("one", "web-12", None),
            ("one", "WEB-1", None),
            ("two", "web-12", Some("all")),
        ] {
            let known = known(&tokens, given).unwrap();
            let found = for_agent(&known, &id(pc)).ok().map(|token| token.name.as_str());
            assert_eq!(found, name, "{given} {pc}");
        }
        assert!(known(&tokens, "three").is_err());
        assert!(known(&tokens, "").is_err());
    }
}
